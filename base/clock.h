// Virtual time: the only clock a guest can see.
#pragma once

#include "base/types.h"

namespace vg {

/// Virtual nanoseconds since the machine was created. One retired guest instruction (and one REP
/// iteration) is one nanosecond of the VP that runs it; when every VP is halted, time jumps to the next event.
using VTime = u64;

inline constexpr VTime kNever = ~VTime{0};
inline constexpr u64 kVTimeHz = 1'000'000'000;

/// Where virtual time is read. Exact at any moment, also in the middle of a VP's slice.
class Clock {
  public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual VTime now() const = 0;
};

/// A clock that is set by hand: tests, and machines that are not running.
class ManualClock final : public Clock {
  public:
    [[nodiscard]] VTime now() const override { return now_; }
    void set(VTime now) { now_ = now; }
    void advance(VTime by) { now_ += by; }

  private:
    VTime now_ = 0;
};

}  // namespace vg
