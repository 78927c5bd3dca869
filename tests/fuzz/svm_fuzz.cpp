// VMRUN near the border of what it accepts: a VMCB that is valid, some fields of which the input replaces, and a guest
// of the input's bytes. VMRUN refuses exactly what a rule forbids, and a host that was left comes back at its own RIP.
#include <cstdlib>

#include "cpu/svm/unit.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/test_vp.h"

using namespace vg;
using namespace vg::cpu;

namespace {

constexpr u64 kVmcb = 0x11000, kCode = 0x1000, kGuestCode = 0x2000;
constexpr unsigned kSteps = 200;

void put(test::TestVp& machine, svm::Field field, u64 value) {
    const svm::FieldRow& row = svm::field_row(field);
    machine.memory.write(Spa(kVmcb + row.offset), &value, row.bytes);
}

void put_segment(test::TestVp& machine, svm::Field selector, const SegmentReg& segment) {
    using svm::operator+;
    put(machine, selector, segment.selector);
    put(machine, selector + 1, (segment.attributes & 0xffu) | (segment.attributes >> 4 & 0xf00u));
    put(machine, selector + 2, segment.limit);
    put(machine, selector + 3, segment.base);
}

void write_valid(test::TestVp& machine) {
    using enum svm::Field;
    const VpState s = machine.vp->state();
    for (u64 at = 0; at < kPageSize; at += 8) machine.memory.write<u64>(Spa(kVmcb + at), 0);
    put(machine, intercept_3, 1u << 24 | 1u << 31);  // HLT, shutdown
    put(machine, intercept_4, 1);
    put(machine, guest_asid, 1);
    put_segment(machine, es_selector, s.segment(Seg::ES));
    put_segment(machine, cs_selector, s.segment(Seg::CS));
    put_segment(machine, ss_selector, s.segment(Seg::SS));
    put_segment(machine, ds_selector, s.segment(Seg::DS));
    put(machine, gdtr_base, s.gdtr.base);
    put(machine, gdtr_limit, s.gdtr.limit);
    put(machine, idtr_base, s.idtr.base);
    put(machine, idtr_limit, s.idtr.limit);
    put(machine, guest_efer, s.efer);
    put(machine, guest_cr0, s.cr0);
    put(machine, guest_cr3, s.cr3);
    put(machine, guest_cr4, s.cr4);
    put(machine, guest_rip, kGuestCode);
    put(machine, guest_rsp, 0x9000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static test::TestVp machine("verdigris-v3-amd-svm");
    test::InputBytes input({data, size});
    machine.enter_long_mode(0);
    Vp& vp = *machine.vp;
    VpState& s = vp.state();
    s.efer |= efer::SVME;
    s.rflags = flag::Always1;
    s.rip = kCode;
    vp.update_context();
    write_valid(machine);
    for (u8 changes = input.take<u8>() & 7; changes > 0; --changes) {
        const auto field = static_cast<svm::Field>(input.take<u8>() % svm::kFieldCount);
        put(machine, field, input.take<u64>());
    }
    const auto code = input.span(256);
    machine.write(kGuestCode, {code.begin(), code.end()});
    machine.write(kCode, {0x0f, 0x01, 0xd8, 0xf4});
    s.gpr[RAX] = kVmcb;
    StepEngine engine;
    vp.begin_slice(machine.clock.now(), machine.clock.now() + 100000);
    (void)engine.step(vp);
    const svm::Unit& unit = *svm::unit_of(vp);
    if (vp.guest_mode() && unit.last_violation()) std::abort();
    for (unsigned n = 0; n < kSteps && vp.guest_mode(); ++n) (void)engine.step(vp);
    if (!vp.guest_mode() && vp.activity() == Activity::Active && (s.rip != kCode + 3 || unit.global_interrupts()))
        std::abort();
    return 0;
}
