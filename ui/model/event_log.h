// The last events of a machine's tap, kept for who asks later.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/tap.h"
#include "machine/machine.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// A bounded ring of events. The machine outlives it; the machine's thread only.
class EventLog {
  public:
    static constexpr std::size_t kMaxRows = 1'000'000, kDefaultRows = 10'000;
    static constexpr std::size_t kPayloadBytes = 4096;  ///< of one event (a ring packet's end names the command); what is longer is cut
    static constexpr std::size_t kPayloadsBytes = 64 << 20;  ///< of all

    explicit EventLog(machine::Machine& machine) : machine_(machine) {}
    ~EventLog() { listen(0); }
    EventLog(const EventLog&) = delete;
    EventLog& operator=(const EventLog&) = delete;

    /// From now on these kinds, `capacity` rows at most; what was kept before stays as far as there is room.
    void watch(TapMask kinds, std::size_t capacity);
    [[nodiscard]] TapMask kinds() const { return kinds_; }
    /// {rows, next, lost}: rows with a sequence number above `after`, oldest first, at most `limit`.
    [[nodiscard]] Json rows(u64 after, std::size_t limit) const;

  private:
    struct Row {
        u64 seq;
        VTime time;
        u64 instructions;
        TapKind kind;
        u64 partition;
        u32 vp;
        u64 values[4];
        u32 payload_size;  ///< before it was cut
        std::string payload;
    };
    void listen(TapMask kinds);
    void keep(const TapEvent& event);
    void trim();
    [[nodiscard]] static Json json(const Row& row);

    machine::Machine& machine_;
    std::deque<Row> rows_;
    std::size_t capacity_ = kDefaultRows, payload_bytes_ = 0;
    TapMask kinds_ = 0;
    unsigned listener_ = 0;
    u64 next_seq_ = 1;
};

}  // namespace vg::model
