// A recording as the other end of the control protocol, as far as captures need it: it runs the recording again and
// keeps the events.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "machine/recording.h"
#include "ui/model/control_link.h"
#include "ui/model/event_record.h"

namespace vg::cli {

/// Answers `hello`, `vmbus`, `watch_events`, `events` and `continue`; others are an error that says so. The machine
/// runs in notice().
class RecordingLink final : public model::ControlLink {
  public:
    /// Error: Usage or Damaged as Recording::open, or what building its machine says.
    static Result<std::unique_ptr<RecordingLink>> open(const std::string& path);
    ~RecordingLink() override;
    RecordingLink(const RecordingLink&) = delete;
    RecordingLink& operator=(const RecordingLink&) = delete;

    [[nodiscard]] Result<model::Json> call(const model::Json& request) override;
    /// A stretch of the run; `stopped` at its end, with `stop.difference` if it is not the recorded run.
    [[nodiscard]] std::optional<model::Json> notice(int wait_ms) override;

  private:
    explicit RecordingLink(std::shared_ptr<const machine::Recording> recording);
    Result<model::Json> events(const model::Json& request);
    void watch(const model::Json& request);

    std::shared_ptr<const machine::Recording> recording_;
    std::unique_ptr<machine::Replay> feed_;
    std::unique_ptr<machine::Machine> machine_;
    unsigned listener_ = 0;
    bool running_ = false;
    u64 next_seq_ = 1;
    std::deque<model::EventRecord> rows_;
};

}  // namespace vg::cli
