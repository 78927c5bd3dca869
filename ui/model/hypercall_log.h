// Hypercalls, explained and counted. Fed with events; bounded.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "ui/model/decoded.h"
#include "ui/model/event_record.h"

namespace vg::model {

/// "Success", "InvalidParameter"...; "0x1234" for a status without a name. H-60..H-63.
[[nodiscard]] std::string hypercall_status_name(u16 status);

/// A completed call: its name, arguments, and result. The event's kind is Hypercall.
[[nodiscard]] Decoded decode_hypercall(const EventRecord& event);

class HypercallLog {
  public:
    static constexpr TapMask kKinds = tap_bit(TapKind::Hypercall);
    struct Entry {
        u64 number = 0;  ///< from 1
        EventRecord event;
        Decoded decoded;
    };
    /// Of one code of one partition.
    struct Count {
        u64 calls = 0, failures = 0;
        VTime first = 0, last = 0;
        std::map<u16, u64> statuses;  ///< other than Success
    };

    explicit HypercallLog(std::size_t capacity = 100'000) : capacity_(capacity) {}
    /// Null: an event of another kind. Valid until the next call.
    const Entry* add(EventRecord event);
    [[nodiscard]] const std::deque<Entry>& entries() const { return entries_; }
    /// By partition and code.
    [[nodiscard]] const std::map<std::pair<u64, u16>, Count>& counts() const { return counts_; }

  private:
    std::size_t capacity_;
    u64 next_ = 1;
    std::deque<Entry> entries_;
    std::map<std::pair<u64, u16>, Count> counts_;
};

[[nodiscard]] Json hypercall_json(const HypercallLog::Entry& entry);

}  // namespace vg::model
