// Puts the boot processor into a kernel's entry state.
#include "cpu/vp.h"
#include "machine/loader.h"

namespace vg::machine {

bool enter(GuestMemory& memory, cpu::Vp& vp, const EntryState& entry) {
    const auto r = prepare_entry(memory, entry);
    if (!r) return false;
    const auto flat = [](u16 selector, u16 attributes) { return cpu::SegmentReg{0, 0xffffffff, selector, attributes}; };
    cpu::VpState& s = vp.state();
    s.gdtr = {r->gdt_base, r->gdt_limit, 0};
    s.idtr = {0, 0, 0};
    s.segment(cpu::Seg::CS) = flat(r->code_selector, r->code_attributes);
    for (const cpu::Seg seg : {cpu::Seg::DS, cpu::Seg::ES, cpu::Seg::SS, cpu::Seg::FS, cpu::Seg::GS}) {
        s.segment(seg) = flat(r->data_selector, r->data_attributes);
    }
    s.cpl = 0;
    s.cr0 = r->cr0;
    if ((r->cr0 & cpu::cr0::PG) != 0) {
        s.cr3 = r->cr3;
        s.cr4 = r->cr4;
        s.efer = r->efer;
    }
    s.rip = r->rip;
    s.rflags = r->rflags;
    s.gpr[cpu::RAX] = r->rax;
    s.gpr[cpu::RBX] = r->rbx;
    s.gpr[cpu::RSI] = r->rsi;
    s.gpr[cpu::RSP] = r->rsp;
    constexpr u16 kAllMasked = 0x37f;
    if (entry.x87_ready) {
        s.x87.fcw = kAllMasked;
        s.x87.fsw = 0;
        s.x87.ftw = 0;  // all empty, which they are not behind a reset
    }
    s.activity = cpu::Activity::Active;
    vp.update_context();
    return true;
}

}  // namespace vg::machine
