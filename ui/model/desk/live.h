// A value read from the machine and kept up to date: asked for when it is shown and may be old, one request at a time.
#pragma once

#include <functional>
#include <memory>

#include "ui/model/desk/session.h"

namespace vg::desk {

/// What `Value` a reply means is decided by `parse`, which must accept any JSON.
template <class Value>
class Live {
  public:
    using Parse = std::function<Value(const Json&)>;
    explicit Live(Parse parse) : parse_(std::move(parse)) {}

    /// Call while the value is shown. @param version  when it changes, the value is read again; 0: the session's epoch
    void update(Session& session, const Json& request, u64 version = 0) {
        const u64 wanted = version != 0 ? version : session.epoch();
        std::string key = key_of(request);
        if (state_->asking || !session.ready()) return;
        if (state_->asked && key == state_->key && wanted == state_->version) return;
        state_->asked = state_->asking = true;
        state_->key = std::move(key);
        state_->version = wanted;
        session.ask(request, [weak = std::weak_ptr<State>(state_), parse = parse_](Result<Json> answer) {
            const auto state = weak.lock();
            if (!state) return;
            state->asking = false;
            ++state->answers;
            state->answered_key = state->key;
            state->answered_version = state->version;
            if (answer) {
                state->value = parse(*answer);
                state->error.clear();
            } else {
                state->value.reset();
                state->error = shown(answer.error().text, 400);
            }
        });
    }
    /// The last value; null before the first, and after an error.
    [[nodiscard]] const Value* value() const { return state_->value ? &*state_->value : nullptr; }
    [[nodiscard]] const std::string& error() const { return state_->error; }
    /// A newer value is on its way.
    [[nodiscard]] bool waiting() const { return state_->asking || !state_->asked; }
    [[nodiscard]] u64 answers() const { return state_->answers; }
    /// Whether the value answers this very request.
    [[nodiscard]] bool answers_to(const Json& request) const { return state_->answered_key == key_of(request); }
    /// Which request the value answers.
    [[nodiscard]] const std::string& key() const { return state_->answered_key; }
    [[nodiscard]] u64 version() const { return state_->answered_version; }
    /// Forget the value; what is on its way is not taken.
    void reset() { state_ = std::make_shared<State>(); }

  private:
    static std::string key_of(const Json& request) { return request.dump(-1, ' ', false, Json::error_handler_t::replace); }
    struct State {
        std::optional<Value> value;
        std::string error, key, answered_key;
        u64 version = 0, answered_version = 0, answers = 0;
        bool asking = false, asked = false;
    };
    Parse parse_;
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace vg::desk
