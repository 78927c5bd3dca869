// The four synthetic timers of one VP. Rows S-80..S-86, M-22, M-23; TLFS 6.0b "Timers".
#pragma once

#include <array>

#include "base/events.h"
#include "base/types.h"
#include "hv/spec/synic.h"
#include "hv/spec/vp_state.h"

namespace vg::hv {

class Vp;

class SyntheticTimers {
  public:
    /// Registers its timers with the event queue; they are cancelled when this is destroyed.
    explicit SyntheticTimers(Vp& vp);
    ~SyntheticTimers();
    SyntheticTimers(const SyntheticTimers&) = delete;
    SyntheticTimers& operator=(const SyntheticTimers&) = delete;

    [[nodiscard]] u64 config(unsigned index) const { return timers_[index].config; }
    [[nodiscard]] u64 count(unsigned index) const { return timers_[index].count; }
    /// False for #GP(0): reserved bits, or direct mode that the partition was not given (C-57).
    [[nodiscard]] bool set_config(unsigned index, u64 value);
    void set_count(unsigned index, u64 value);

    /// Tries again to deliver expirations that found their message slot busy (S-85).
    void retry_pending();
    /// Reference time stopped, or goes on: timers stand still with it (S-87).
    void time_changed();
    /// Image for the parent (K-176), and back. load: false for a configuration that no guest could have written.
    [[nodiscard]] SyntheticTimersState save() const;
    [[nodiscard]] bool load(const SyntheticTimersState& state);
    void reset();
    void fields(StateVisitor& v);

  private:
    struct Timer {
        u64 config = 0, count = 0;
        u64 expiry = 0;        ///< reference time of the next or the undelivered expiration
        bool pending = false;  ///< expired, message not delivered yet
        EventQueue::TimerId event = 0;
    };

    /// Starts counting from now, if enabled with a count.
    void start(unsigned index);
    void stop(unsigned index);
    /// Waits for timer.expiry; expires at once if it is past.
    void wait(unsigned index);
    void fired(unsigned index, VTime due);
    void expire(unsigned index);
    /// After a delivered expiration: one-shots end, periodic timers go on.
    void finish(unsigned index);
    [[nodiscard]] bool deliver_message(unsigned index);
    [[nodiscard]] u64 now_100ns() const;

    Vp& vp_;
    std::array<Timer, kStimerCount> timers_;
};

}  // namespace vg::hv
