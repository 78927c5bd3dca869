// Our side: one VP on the step engine, whose faults are delivered to HLTs and taken back.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "cpu/interp.h"
#include "cpu/vp.h"
#include "legacy.h"
#include "mmu/physical_memory.h"

namespace vg::test {

class EngineCpu {
  public:
    EngineCpu();
    [[nodiscard]] u8* memory() { return memory_.ram(Spa(0)); }
    [[nodiscard]] const u8* memory() const { return memory_.ram(Spa(0)); }
    /// Runs the instruction of `c`. After a fault the frame that its delivery pushed is replaced by `pristine`'s bytes,
    /// so that memory is what the instruction itself left; what was pushed is checked first.
    [[nodiscard]] LegacyOutcome run(const LegacyCase& c, const u8* pristine);
    /// What was wrong with a delivered frame, or nothing.
    [[nodiscard]] const std::string& complaint() const { return complaint_; }
    /// Runs real-mode code from CS:IP of `s` until HLT or `limit` instructions.
    [[nodiscard]] LegacyState run_program(const LegacyState& s, u64 limit);

  private:
    class Ports final : public cpu::Platform {
      public:
        u32 port_read(cpu::Vp&, u16 port, unsigned size) override {
            accesses.push_back({port, size, 0, false});
            return port_value(port, size);
        }
        void port_write(cpu::Vp&, u16 port, unsigned size, u32 value) override {
            accesses.push_back({port, size, value, true});
        }
        int acknowledge_external(cpu::Vp&) override { return -1; }
        void shutdown(cpu::Vp&) override {}
        std::vector<PortAccess> accesses;
    };

    void load(Legacy mode, const LegacyState& s);
    [[nodiscard]] LegacyState store() const;
    void take_back(const LegacyCase& c, LegacyOutcome& out, const u8* pristine);

    ManualClock clock_;
    EventQueue events_{clock_};
    Log log_;
    mmu::PhysicalMemory memory_;
    cpu::CpuModel model_;
    cpu::ApicBus apic_bus_;
    Ports ports_;
    std::unique_ptr<cpu::Vp> vp_;
    cpu::StepEngine engine_;
    std::string complaint_;
};

}  // namespace vg::test
