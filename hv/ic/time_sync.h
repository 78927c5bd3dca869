// Time synchronization: the guest's wall clock. Rows D-09, D-106.
#pragma once

#include "hv/ic/ic_service.h"

namespace vg::hv::ic {

/// The host's clocks.
class HostTime {
  public:
    virtual ~HostTime() = default;
    /// 100 ns since 1601-01-01 UTC.
    [[nodiscard]] virtual u64 now_100ns() const = 0;
    /// The partition's reference counter.
    [[nodiscard]] virtual u64 reference() const = 0;
    /// The wall clock at virtual time 0, in seconds since 1970.
    [[nodiscard]] virtual u64 start_seconds() const = 0;
};

/// Sets the guest's clock when it connects, when the host's has been set otherwise (a machine that was restored with
/// another `machine.clock`), and when it is told to; in between it sends samples, every five seconds as long as the
/// guest takes them.
class TimeSyncService final : public IcService {
  public:
    static constexpr u64 kPeriodNs = 5'000'000'000;

    explicit TimeSyncService(const HostTime& time);
    /// Sets the guest's clock with the next message.
    void synchronize() { sync_ = due_ = true; }
    [[nodiscard]] u64 tick_after_ns() const override;
    void tick() override;
    void fields(StateVisitor& v) override;

    [[nodiscard]] u64 samples() const { return samples_; }
    [[nodiscard]] u64 synchronizations() const { return synchronizations_; }

  private:
    void ready() override { synchronize(); }
    u32 request(std::span<u8> body) override;
    void requested() override;
    void answered(u32, std::span<const u8>) override {}

    const HostTime& time_;
    bool sync_ = false, due_ = false;
    u64 told_start_ = 0;  ///< HostTime::start_seconds when the guest's clock was set
    u64 samples_ = 0, synchronizations_ = 0;
};

}  // namespace vg::hv::ic
