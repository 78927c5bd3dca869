#include "roms/parent/interrupts.h"

#include "base/assert.h"
#include "devices/pic8259.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

namespace vg::parent {

namespace {

/// What entry.S leaves on the stack, lowest first.
struct Frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

struct [[gnu::packed]] Gate {  // SDM 3A "64-Bit IDT Gate Descriptors"
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
};
static_assert(sizeof(Gate) == 16);
struct [[gnu::packed]] TablePointer {
    u16 limit;
    u64 base;
};

constexpr u32 kFirstDevice = 0x30, kSpurious = 0xff;
constexpr u64 kApic = 0xfee00000, kApicId = kApic + 0x20, kApicEoi = kApic + 0xb0, kApicSpurious = kApic + 0xf0;

struct Owner {
    InterruptHandler handler;
    void* context;
};
Gate gates[256];                 // tidy: the processor's table
Owner owners[256];               // tidy: of one processor
u32 next_vector = kFirstDevice;  // tidy: of one processor

[[noreturn]] void report_fault(const Frame& f) {
    u64 cr2;
    asm volatile("movq %%cr2, %0" : "=r"(cr2));
    panic(fmt::format(
        "exception {} (error {:#x}) at {:#x}, rsp {:#x}, cr2 {:#x}\n  rax {:#x} rcx {:#x} rdx {:#x} rbx {:#x} rbp "
        "{:#x} rsi {:#x} rdi {:#x}\n  r8 {:#x} r9 {:#x} r10 {:#x} r11 {:#x} r12 {:#x} r13 {:#x} r14 {:#x} r15 {:#x}",
        f.vector, f.error, f.rip, f.rsp, cr2, f.rax, f.rcx, f.rdx, f.rbx, f.rbp, f.rsi, f.rdi, f.r8, f.r9, f.r10, f.r11,
        f.r12, f.r13, f.r14, f.r15));
}

}  // namespace

extern "C" {
extern const u8 vector_stubs[];
/// Called by entry.S. Handlers only set flags; faults end the system.
void on_vector(const Frame* frame) {
    if (frame->vector < 32) report_fault(*frame);
    const Owner& owner = owners[frame->vector];
    if (frame->vector == kSpurious) return;
    if (owner.handler != nullptr) owner.handler(owner.context);
    mmio_write<u32>(kApicEoi, 0);
}
}

u8 allocate_vector(InterruptHandler handler, void* context) {
    VG_ASSERT(next_vector < 0xf0);
    owners[next_vector] = {handler, context};
    return static_cast<u8>(next_vector++);
}

u64 msi_address() { return kApic | u64{mmio_read<u32>(kApicId) >> 24} << 12; }

void start_interrupts() {
    constexpr u16 kCode = 0x08;
    constexpr u8 kInterruptGate = 0x8e, kFaultStack = 1;
    for (u32 vector = 0; vector < 256; ++vector) {
        const u64 stub = physical(vector_stubs) + u64{vector} * 16;
        gates[vector] = {static_cast<u16>(stub),
                         kCode,
                         vector < 32 ? kFaultStack : u8{0},
                         kInterruptGate,
                         static_cast<u16>(stub >> 16),
                         static_cast<u32>(stub >> 32),
                         0};
    }
    const TablePointer pointer{sizeof gates - 1, physical(gates)};
    asm volatile("lidt %0" : : "m"(pointer));
    // A PC's firmware leaves the 8259s as a virtual wire to this processor: the IOAPIC has their inputs too.
    constexpr u16 kMasterMask = devices::PicPair::kMasterPort + 1, kSlaveMask = devices::PicPair::kSlavePort + 1;
    out8(kMasterMask, 0xff);
    out8(kSlaveMask, 0xff);
    mmio_write<u32>(kApicSpurious, 0x100 | kSpurious);
}

}  // namespace vg::parent
