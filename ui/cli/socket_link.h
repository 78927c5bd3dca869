// A client of the control protocol on a unix socket: a machine in another process.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "base/types.h"
#include "ui/model/control_link.h"

namespace vg::cli {

class SocketLink final : public model::ControlLink {
  public:
    /// @param address "unix:PATH" as `--control` of the other side has it. Error (Usage): nobody listens there, or who does
    ///                speaks something else.
    static Result<std::unique_ptr<SocketLink>> connect(const std::string& address);
    ~SocketLink() override;
    SocketLink(const SocketLink&) = delete;
    SocketLink& operator=(const SocketLink&) = delete;

    /// Error (Host) also if there is no answer for kAnswerMs.
    [[nodiscard]] Result<model::Json> call(const model::Json& request) override;
    [[nodiscard]] std::optional<model::Json> notice(int wait_ms) override;
    /// Readable also for half a notice; one that came with an answer is returned by notice(0) without it.
    [[nodiscard]] int descriptor() const override { return fd_; }

  private:
    static constexpr int kAnswerMs = 60'000;
    static constexpr std::size_t kMaxLine = 64 << 20;
    explicit SocketLink(int fd) : fd_(fd) {}
    /// The next line as an object, if one comes within so long.
    Result<std::optional<model::Json>> receive(int wait_ms);

    int fd_;
    std::string in_;
    std::deque<model::Json> notices_;
    u64 next_id_ = 1;
    bool broken_ = false;
};

}  // namespace vg::cli
