#include "ui/model/control_host.h"

#include <poll.h>

#include "ui/model/json_text.h"

namespace vg::model {
namespace {

Json reply_to(const Json& id, const Result<Json>& result) {
    Json reply = {{"id", id}, {"ok", result.has_value()}};
    if (result) reply["result"] = *result;
    else reply["error"] = result.error().text;
    return reply;
}

}  // namespace

std::string ControlHost::answer(std::string_view line) {
    const auto request = parse_json(line);
    if (!request) return json_line(reply_to(nullptr, Unexpected{request.error()}));
    Json id;
    if (request->is_object() && request->contains("id")) id = (*request)["id"];
    if (!id.is_number() && !id.is_string()) {
        return json_line(reply_to(nullptr, fail(Error::Code::Usage, "a request is an object with an \"id\", a number or a text")));
    }
    return json_line(reply_to(id, call(*request)));
}

unsigned ControlHost::listen(std::function<void(const Json& notice)> listener) {
    listeners_[next_listener_] = std::move(listener);
    return next_listener_++;
}

void ControlHost::notify(const Json& notice) const {
    for (const auto& [number, listener] : listeners_) listener(notice);
}

LocalLink::LocalLink(ControlHost& host, bool drives)
    : host_(host), drives_(drives), listener_(host.listen([this](const Json& notice) {
          if (notices_.size() >= kMaxNotices) notices_.erase(notices_.begin());
          notices_.push_back(notice);
      })) {}

LocalLink::~LocalLink() { host_.remove(listener_); }

Result<Json> LocalLink::call(const Json& request) {
    auto result = host_.call(request);
    host_.tell_due();
    return result;
}

std::optional<Json> LocalLink::notice(int wait_ms) {
    if (notices_.empty() && drives_) host_.proceed(wait_ms);
    else if (notices_.empty() && wait_ms > 0) ::poll(nullptr, 0, wait_ms);
    if (notices_.empty()) return std::nullopt;
    Json first = std::move(notices_.front());
    notices_.erase(notices_.begin());
    return first;
}

}  // namespace vg::model
