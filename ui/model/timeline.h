// A recording that can be gone through in both directions: the control protocol over key frames.
#pragma once

#include <sys/types.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "machine/machine.h"
#include "machine/recording.h"
#include "ui/model/control_host.h"
#include "ui/model/message_channel.h"

namespace vg::model {

/// The machine runs in a process of its own (timeline_worker.h). On its way it leaves key frames: copies of that process,
/// from which any later instant is a short run away. Going back is branching from the last one before the instant; the host
/// shares the memory of all of them as long as they do not write it. Hostile guests and damaged recordings cannot hurt this
/// process.
///
/// Answers the whole control protocol for replays: requests that look are handed to the worker; those that go somewhere
/// answer at once, and a notice `stopped` follows, or `progress` notices in between: {"event": "progress", "part": 0.42}.
class Timeline final : public ControlHost {
  public:
    /// Starts the worker. Error (Host, or what building the machine says). This process must not have other threads yet.
    static Result<std::unique_ptr<Timeline>> start(std::shared_ptr<const machine::Recording> recording,
                                                   machine::MachineOptions::EngineKind engine);
    ~Timeline() override;
    Timeline(const Timeline&) = delete;
    Timeline& operator=(const Timeline&) = delete;

    [[nodiscard]] Result<Json> call(const Json& request) override;
    void proceed(int max_host_ms) override;
    void tell_due() override { take_pending(); }
    /// Readable when proceed() has something to do.
    [[nodiscard]] int descriptor() const { return worker_.descriptor(); }
    /// proceed() has something to do that was read already.
    [[nodiscard]] bool waiting() const { return !pending_.empty(); }
    [[nodiscard]] bool busy() const { return errand_ != nullptr || running_; }
    [[nodiscard]] std::size_t frames() const { return frames_.size(); }

  private:
    /// Copies kept at a time. Each costs what the machine wrote until the next one.
    static constexpr std::size_t kMaxFrames = 20;
    static constexpr u64 kFrameInterval = 100'000'000;
    /// Going back leaves a frame so many instructions in front of the target: the next step back is a short run.
    static constexpr u64 kNear = 4'000'000;

    struct Frame {
        machine::Position position;
        MessageChannel channel;
    };
    /// Something that takes several runs: told what the worker's last run found, it says whether there is more to do.
    struct Errand;
    struct GotoErrand;
    struct BackErrand;

    Timeline(std::shared_ptr<const machine::Recording> recording, MessageChannel worker);
    /// One request to the worker and its reply. Notices that come before it wait for take_pending.
    Result<Json> ask(const Json& request);
    /// The same for what takes a while: its end is a notice with the number of the task.
    Result<void> begin_task(Json request);
    void take_pending();
    Result<Json> forward(const Json& request);
    Result<Json> hello();
    Result<Json> status();
    Result<Json> add_rule(const Json& request);
    Result<Json> change_rule(const Json& request, bool remove);
    Result<Json> list_rules();
    Result<Json> go_to(const Json& request);
    Result<Json> go_back(const Json& request);
    Result<Json> last_write(const Json& request);
    Result<Json> stop();
    Result<void> begin(std::unique_ptr<Errand> errand);

    void take(MessageChannel::Message message);
    void keep_frame(const machine::Position& position, int file);
    void thin_frames();
    /// The worker is at `target` or before it, as near as key frames allow. Error (Host): no copy could be made.
    Result<void> branch_before(const machine::Position& target);
    /// The worker becomes a copy of this frame.
    Result<void> branch(std::size_t frame);
    Result<void> send_rules(const Json& rules);
    void arrive(Json stop);
    void fail_errand(const std::string& why);

    std::shared_ptr<const machine::Recording> recording_;
    MessageChannel worker_;
    std::vector<Frame> frames_;  ///< in order of position; the first is the beginning
    machine::Position position_;
    Json rules_ = Json::array();  ///< rows of `breaks`
    u32 next_rule_ = 1;
    Json watched_;                ///< the last watch_events request
    Json last_stop_;
    std::unique_ptr<Errand> errand_;
    u64 task_ = 0;                ///< the last one
    std::deque<Json> pending_;    ///< notices of the present worker
    bool running_ = false;        ///< the worker runs forwards because it was asked to
};

}  // namespace vg::model
