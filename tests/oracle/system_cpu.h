// Processors with their system registers, as a differential test sees them: one state and one memory that are loaded into
// our engine and into Unicorn. Neither delivers a fault: both name it.
#pragma once

#include <unicorn/unicorn.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "cpu/interp.h"
#include "cpu/vp.h"
#include "mmu/physical_memory.h"

namespace vg::test {

enum class Width : u8 { Bits32, Bits64 };

/// One physical memory, and linear addresses that lead to it. Unicorn walks page tables but takes the linear address for
/// the physical one; so it has the memory at every linear address that a translation may start from.
///
/// kGdt to kTss system tables; kTables page tables; kPrologue a supervisor's page, kCode the page of the case's
/// instruction, both at code_base(); kStack; kWindow what cases access, at every data base.
namespace system_memory {
inline constexpr u64 kSize = 0x800000, kLow = 0x52000;
inline constexpr u64 kGdt = 0x1000, kLdt = 0x1800, kIdt = 0x2000, kTss = 0x3000, kTss2 = 0x4000;
inline constexpr u64 kTables = 0x10000, kTablesEnd = 0x20000, kPrologue = 0x30000, kCode = 0x40000, kStack = 0x50000;
inline constexpr u64 kWindow = 0x400000, kWindowSize = 0x400000;
inline constexpr u16 kGdtLimit = 0xff, kLdtLimit = 0x1f;
[[nodiscard]] constexpr u64 code_base(Width w) { return w == Width::Bits32 ? 0x80000000 : 0x100'0000'0000; }
/// Multiples of 1 GiB.
inline constexpr u64 kDataBases[] = {0, 0x40000000, 0xc0000000, 0x7fff'c000'0000, 0xffff'8000'0000'0000, 0xffff'ffff'c000'0000};
}  // namespace system_memory

namespace system_selector {
inline constexpr u16 Code = 0x08, Data = 0x10, UserCode = 0x1b, UserData = 0x23, Tss = 0x28, Tss2 = 0x38, Ldt = 0x48;
}

/// Model-specific registers that cases touch: those that both sides keep.
inline constexpr u32 kComparedMsrs[] = {0x174, 0x175, 0x176, 0x277, 0xc0000080, 0xc0000081, 0xc0000082,
                                        0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};
inline constexpr std::size_t kMsrEfer = 4;

struct SystemState {
    std::array<u64, 16> gpr{};
    u64 rip = 0, rflags = 2;
    u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;
    std::array<u64, 8> dr{0, 0, 0, 0, 0, 0, 0xffff0ff0, 0x400};
    std::array<u16, 6> selector{};
    u64 gdt_base = system_memory::kGdt, idt_base = system_memory::kIdt;
    u16 gdt_limit = system_memory::kGdtLimit, idt_limit = 0x7ff, ldtr = 0, tr = system_selector::Tss;
    std::array<u64, std::size(kComparedMsrs)> msr{};
    bool operator==(const SystemState&) const = default;
};

struct SystemCase {
    Width width = Width::Bits32;
    bool user = false;       ///< starts at CPL 3
    SystemState state;       ///< segments are flat ones of the CPL, whatever `selector` says
    std::string name;
};

struct SystemOutcome {
    int vector = -1;
    u32 error = 0;
    bool unmodelled = false;
    SystemState state;       ///< before delivery if there is a vector; cr2 of a page fault included
};

/// Tables of descriptors for flat segments and two tasks; everything else zero.
void write_system_tables(u8* memory, Width width);

class SystemEngine {
  public:
    SystemEngine();
    [[nodiscard]] u8* memory() { return memory_.ram(Spa(0)); }
    [[nodiscard]] SystemOutcome run(const SystemCase& c);

  private:
    /// Takes every exception before it is delivered.
    class Catcher final : public cpu::virt::ExitOwner {
      public:
        cpu::virt::Action on_exit(cpu::Vp&, cpu::virt::Exit& exit) override {
            fault = exit.fault;
            return cpu::virt::Action::Leave;
        }
        cpu::Fault fault;
    };
    class NoPlatform final : public cpu::Platform {
      public:
        u32 port_read(cpu::Vp&, u16, unsigned) override { return 0; }
        void port_write(cpu::Vp&, u16, unsigned, u32) override {}
        int acknowledge_external(cpu::Vp&) override { return -1; }
        void shutdown(cpu::Vp&) override {}
    };
    void load(const SystemCase& c);
    [[nodiscard]] SystemState store() const;

    ManualClock clock_;
    EventQueue events_{clock_};
    Log log_;
    mmu::PhysicalMemory memory_;
    cpu::CpuModel model_;
    cpu::ApicBus apic_bus_;
    NoPlatform platform_;
    Catcher catcher_;
    std::unique_ptr<cpu::Vp> vp_;
    cpu::StepEngine engine_;
};

class SystemUnicorn {
  public:
    explicit SystemUnicorn(Width width);
    ~SystemUnicorn();
    SystemUnicorn(const SystemUnicorn&) = delete;
    SystemUnicorn& operator=(const SystemUnicorn&) = delete;
    [[nodiscard]] u8* memory() { return memory_; }
    [[nodiscard]] SystemOutcome run(const SystemCase& c);

  private:
    static void on_interrupt(uc_engine* uc, u32 vector, void* self);
    void map(u64 linear, u64 physical, u64 size);
    bool enter(const SystemCase& c);
    void find_error_code();
    [[nodiscard]] std::size_t find_efer();
    [[nodiscard]] std::vector<std::size_t> places_of(u32 value, const std::vector<std::size_t>& among);
    [[nodiscard]] u32 context_word(std::size_t at) const;
    [[nodiscard]] SystemState store();
    void write(int reg, u64 value);
    [[nodiscard]] u64 read(int reg);

    Width width_;
    uc_engine* uc_ = nullptr;
    uc_context *start_ = nullptr, *now_ = nullptr;
    std::vector<u8> storage_;
    u8* memory_;
    std::size_t error_at_ = 0, efer_at_ = 0;  ///< in a saved context
    int vector_ = -1;
};

}  // namespace vg::test
