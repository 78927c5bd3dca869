// Whoever answers the control protocol (docs/control.md) in this process, and a link to it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ui/model/control_link.h"

namespace vg::model {

/// Answers requests of any number of clients and tells all of them notices. One thread.
class ControlHost {
  public:
    virtual ~ControlHost() = default;
    /// One request, as docs/control.md has it, with or without `id`. Error (Usage): the text of the reply's `error`.
    [[nodiscard]] virtual Result<Json> call(const Json& request) = 0;
    /// Tells the notice that a request asked for (`stop`), once its reply is on its way.
    virtual void tell_due() {}
    /// Goes on with what it was asked to do, for about so long; waits if there is nothing.
    virtual void proceed(int max_host_ms) = 0;

    /// One line from a client to one line back, without their ends. Whatever is in the line, there is an answer.
    [[nodiscard]] std::string answer(std::string_view line);

    /// Who hears notices. The listener must not add or remove listeners.
    unsigned listen(std::function<void(const Json& notice)> listener);
    void remove(unsigned listener) { listeners_.erase(listener); }

  protected:
    void notify(const Json& notice) const;

  private:
    std::map<unsigned, std::function<void(const Json&)>> listeners_;
    unsigned next_listener_ = 1;
};

/// A client in this process and thread.
class LocalLink final : public ControlLink {
  public:
    /// @param drives  notice() makes the host go on; otherwise somebody else does
    LocalLink(ControlHost& host, bool drives);
    ~LocalLink() override;
    [[nodiscard]] Result<Json> call(const Json& request) override;
    [[nodiscard]] std::optional<Json> notice(int wait_ms) override;

  private:
    static constexpr std::size_t kMaxNotices = 256;  ///< kept for a client that does not ask; the oldest go
    ControlHost& host_;
    bool drives_;
    unsigned listener_;
    std::vector<Json> notices_;
};

}  // namespace vg::model
