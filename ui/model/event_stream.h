// A machine's events, one after the other, through the control protocol.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ui/model/control_link.h"
#include "ui/model/event_record.h"
#include "ui/model/vmbus_channels.h"

namespace vg::model {

class EventStream {
  public:
    /// Events that the machine's side keeps for us between two looks.
    static constexpr u64 kKept = 200'000;

    /// Asks for these kinds from now on; of a replay, from where it stands, and lets it go on.
    static Result<std::unique_ptr<EventStream>> open(ControlLink& link, TapMask kinds);

    /// Hands out what happened since the last call; waits so long if there was nothing. False: it was the last, since
    /// the machine is gone or the replay at its end. Error (Usage): the other side sends nonsense.
    Result<bool> pump(const std::function<void(EventRecord event)>& take, int wait_ms);
    /// Events that the other side had no room for.
    [[nodiscard]] u64 lost() const { return lost_; }
    [[nodiscard]] bool is_replay() const { return replay_; }
    /// Why a replay is not the recorded run; "": it is.
    [[nodiscard]] const std::string& difference() const { return difference_; }
    /// Guest's wall clock at virtual time 0, and the channels that there were when the stream began.
    [[nodiscard]] s64 start_unix_seconds() const { return start_; }
    [[nodiscard]] const std::vector<VmbusChannel>& channels() const { return channels_; }

  private:
    explicit EventStream(ControlLink& link) : link_(link) {}
    Result<u64> fetch(const std::function<void(EventRecord event)>& take);
    ControlLink& link_;
    bool replay_ = false, over_ = false, gone_ = false;
    u64 after_ = 0, lost_ = 0;
    s64 start_ = 0;
    std::string difference_;
    std::vector<VmbusChannel> channels_;
};

}  // namespace vg::model
