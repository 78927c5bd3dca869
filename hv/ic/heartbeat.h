// Heartbeat: whether the guest's kernel is alive. Rows D-07, D-105.
#pragma once

#include "hv/ic/ic_service.h"

namespace vg::hv::ic {

/// Asks every two seconds. A guest that leaves kMissesUntilLost periods unanswered is not asked again until it answers
/// the last one: a partition in which nothing happens any more has nothing to wake up for.
class HeartbeatService final : public IcService {
  public:
    enum class Health : u8 { Unknown, Alive, Late, Lost };
    static constexpr u64 kPeriodNs = 2'000'000'000;
    static constexpr u32 kMissesUntilLost = 3;

    HeartbeatService();
    [[nodiscard]] u64 tick_after_ns() const override;
    void tick() override;
    void fields(StateVisitor& v) override;

    [[nodiscard]] Health health() const { return health_; }
    [[nodiscard]] u64 sequence() const { return sequence_; }
    /// Periods without an answer since the last one.
    [[nodiscard]] u32 missed() const { return missed_; }

  private:
    void ready() override;
    u32 request(std::span<u8> body) override;
    void requested() override { due_ = false; }
    void answered(u32 status, std::span<const u8> body) override;
    void lost() override;

    Health health_ = Health::Unknown;
    bool due_ = false;
    u64 sequence_ = 0;
    u32 missed_ = 0;
};

}  // namespace vg::hv::ic
