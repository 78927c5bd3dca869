// A partition whose processor has VMX: a guest of its own over two second levels, and the enlightened VMCS. Rows C-70, C-79,
// K-056, S-104, S-105.
#include <catch2/catch.hpp>

#include "cpu/interp.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/unit.h"
#include "tests/hv/fixture.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::cpu::vmx;
using hv::test::Fixture;
using hv::test::RecordingSink;
namespace why = vg::cpu::vmx::reason;

namespace {

struct Place {
    u16 offset;
    Field field;
    u8 bytes;
};
constexpr Place kPlaces[] = {
#define ENLIGHTENED_FIELD(offset, name, bytes, group) {offset, Field::name, bytes},
#include "cpu/vmx/enlightened_fields.def"
#undef ENLIGHTENED_FIELD
};

/// The partition's processor in 64-bit code with VMX on; its guest runs in a space of its own behind EPT.
struct Nested : Fixture {
    static constexpr u64 kCode = 0x1000, kHostCode = 0x3000, kPointer = 0x4000, kTables = 0x10000, kVmxon = 0x40000, kVmcs = 0x41000,
                         kAssist = 0x42000, kEpt = 0x50000, kTss = 0x60000;
    static constexpr u64 kGuestCode = 0x2000, kShifted = 0x7000, kShiftedTo = 0x9000, kDevice = 0x8000;
    static constexpr u32 kCleanOffset = 824;

    Nested() : Fixture({}, 1, "verdigris-v3-vmx") {
        cpu::VpState& s = state();
        s.cr0 = cpu::cr0::PE | cpu::cr0::NE | cpu::cr0::PG | cpu::cr0::ET;
        s.cr4 = cpu::cr4::PAE | cpu::cr4::VMXE;
        s.cr3 = kTables;
        s.efer = cpu::efer::LME | cpu::efer::LMA;
        guest_write<u64>(kTables, (kTables + 0x1000) | 7);
        guest_write<u64>(kTables + 0x1000, (kTables + 0x2000) | 7);
        guest_write<u64>(kTables + 0x2000, 0x83);  // 2 MiB, one to one
        for (unsigned n = 0; n < 6; ++n) s.seg[n] = {0, 0xffffffff, 0x10, 0xc093};
        s.segment(cpu::Seg::CS) = {0, 0xffffffff, 0x08, 0xa09b};
        s.segment(cpu::Seg::TR) = {kTss, 0x67, 0x18, 0x8b};
        s.gpr[cpu::RBX] = kPointer;
        s.rip = kCode;
        s.rflags = cpu::flag::Always1;
        // The guest's guest-physical space: one to one, but for a page that lies elsewhere and one that is the parent's device.
        guest_write<u64>(kEpt, (kEpt + 0x1000) | 7);
        guest_write<u64>(kEpt + 0x1000, (kEpt + 0x2000) | 7);
        guest_write<u64>(kEpt + 0x2000, (kEpt + 0x3000) | 7);
        for (u64 n = 0; n < 512; ++n) set_page(n << 12, n << 12 | 0x37);
        set_page(kShifted, kShiftedTo | 0x37);
        set_page(kDevice, RecordingSink::kMmioPage | 0x37);
        guest_write<u32>(kVmxon, kRevision);
        guest_write<u64>(kPointer, kVmxon);
        vp->processor().update_context();
    }
    cpu::VpState& state() { return vp->processor().state(); }
    Unit& unit() { return *unit_of(vp->processor()); }
    void set_page(u64 page, u64 entry) { guest_write<u64>(kEpt + 0x3000 + 8 * (page >> 12), entry); }
    void code(u64 at, const std::vector<u8>& bytes) {
        for (const u8 byte : bytes) guest_write<u8>(at++, byte);
    }
    void step(unsigned count = 1) {
        cpu::Vp& processor = vp->processor();
        processor.begin_slice(clock.now(), clock.now() + 100000);
        for (unsigned n = 0; n < count; ++n) (void)engine.step(processor);
    }
    static const Place& place(Field field) {
        for (const Place& each : kPlaces)
            if (each.field == field) return each;
        throw std::runtime_error("not in an enlightened VMCS");
    }
    void put(Field field, u64 value) {
        const Place& where = place(field);
        for (unsigned n = 0; n < where.bytes; ++n) guest_write<u8>(kVmcs + where.offset + n, static_cast<u8>(value >> 8 * n));
    }
    u64 get(Field field) {
        const Place& where = place(field);
        u64 value = 0;
        for (unsigned n = 0; n < where.bytes; ++n) value |= u64{guest_read<u8>(kVmcs + where.offset + n)} << 8 * n;
        return value;
    }
    /// A state that enters, in the page that the assist page points at.
    void write_enlightened() {
        using enum Field;
        using cpu::vmx::operator+;
        const Capabilities& caps = unit().capabilities();
        const cpu::VpState& s = state();
        guest_write<u32>(kVmcs, 1);
        put(pin_controls, caps.pin.must);
        put(proc_controls, caps.proc.must | proc::kSecondary | proc::kHlt);
        put(proc2_controls, proc2::kEpt | proc2::kVpid);
        put(vpid, 5);
        put(ept_pointer, kEpt | 0x1e);
        put(exit_controls, caps.exit.must | exits::kHost64);
        put(entry_controls, caps.entry.must | entries::kGuest64);
        put(vmcs_link_pointer, kNoVmcs);
        for (const auto& [field, value] : {std::pair{guest_cr0, s.cr0}, {guest_cr3, s.cr3}, {guest_cr4, s.cr4}, {host_cr0, s.cr0},
                                           {host_cr3, s.cr3}, {host_cr4, s.cr4}})
            put(field, value);
        for (unsigned n = 0; n < 6; ++n) {
            put(guest_es_selector + n, s.seg[n].selector);
            put(guest_es_limit + n, s.seg[n].limit);
            put(guest_es_rights + n, s.seg[n].attributes);
        }
        put(guest_ldtr_rights, kUnusable);
        put(guest_tr_selector, 0x18);
        put(guest_tr_base, kTss);
        put(guest_tr_limit, 0x67);
        put(guest_tr_rights, 0x8b);
        put(guest_dr7, 0x400);
        put(guest_rflags, cpu::flag::Always1);
        put(guest_rip, kGuestCode);
        put(host_cs_selector, 0x08);
        put(host_ss_selector, 0x10);
        put(host_tr_selector, 0x18);
        put(host_tr_base, kTss);
        put(host_rip, kHostCode);
    }
    void enlighten() {
        REQUIRE(wrmsr(msr::VP_ASSIST_PAGE, kAssist | 1));
        guest_write<u8>(kAssist + 40, 1);
        guest_write<u64>(kAssist + 48, kVmcs);
    }
    /// VMXON, and VMLAUNCH of what the enlightened VMCS says; runs the guest until it exits.
    void launch(const std::vector<u8>& guest) {
        code(kGuestCode, guest);
        if (!unit().in_operation()) {
            state().rip = kCode;
            code(kCode, {0xf3, 0x0f, 0xc7, 0x33});
            step();
            REQUIRE(unit().in_operation());
        }
        state().rip = kCode + 8;
        code(kCode + 8, {0x0f, 0x01, 0xc2});
        step();
        INFO((unit().last_violation() ? unit().last_violation()->text : "no rule"));
        for (unsigned n = 0; n < 50 && vp->processor().guest_mode(); ++n) step();
        REQUIRE_FALSE(vp->processor().guest_mode());
    }
    cpu::StepEngine engine;
};

/// mov eax,[0x7000]; add eax,1; mov [0x7004],eax; mov ecx,[0x8010]; hlt
const std::vector<u8> kTouches = {0x8b, 0x04, 0x25, 0x00, 0x70, 0, 0, 0x83, 0xc0, 0x01, 0x89, 0x04, 0x25, 0x04,
                                  0x70, 0,    0,    0x8b, 0x0c, 0x25, 0x10, 0x80, 0, 0, 0xf4};

}  // namespace

TEST_CASE("nested: a child with VMX is told of the enlightened VMCS, others are not", "[hv][nested]") {
    Nested f;
    CHECK((f.cpuid(0x40000004)[0] & 1 << 14) != 0);
    CHECK(f.cpuid(0x4000000a) == std::array<u32, 4>{0x000c0101, 0, 0, 0});
    Fixture plain;
    CHECK((plain.cpuid(0x40000004)[0] & 1 << 14) == 0);
    CHECK(plain.cpuid(0x4000000a) == std::array<u32, 4>{});
}

TEST_CASE("nested: a child's guest reaches memory through both levels, and the parent's devices through the child", "[hv][nested]") {
    Nested f;
    f.write_enlightened();
    f.enlighten();
    f.guest_write<u32>(Nested::kShiftedTo, 41);
    f.launch(kTouches);
    CHECK(f.get(Field::exit_reason) == why::kHlt);
    CHECK(f.get(Field::guest_rip) == Nested::kGuestCode + kTouches.size() - 1);
    CHECK(f.guest_read<u32>(Nested::kShiftedTo + 4) == 42);
    CHECK(f.state().gpr[cpu::RCX] == 0x55667788);
    REQUIRE(f.sink.mmio.size() == 1);
    CHECK(f.sink.mmio[0] == RecordingSink::Access{false, RecordingSink::kMmioPage + 0x10, 4, 0});
    CHECK(f.state().rip == Nested::kHostCode);
}

TEST_CASE("nested: what the child's EPT withholds exits to the child, and what its parent withholds is a hole", "[hv][nested]") {
    Nested f;
    f.write_enlightened();
    f.enlighten();
    f.set_page(Nested::kShifted, 0);
    f.launch(kTouches);
    CHECK(f.get(Field::exit_reason) == why::kEptViolation);
    CHECK(f.get(Field::guest_physical_address) == Nested::kShifted);
    f.set_page(Nested::kShifted, 0x3000'0000 | 0x37);  // nothing of the partition's
    f.vp->processor().tlb().flush_all();
    f.launch(kTouches);
    CHECK(f.get(Field::exit_reason) == why::kHlt);
    CHECK(f.state().gpr[cpu::RAX] == 0);  // all ones, plus one
    // A table of the child's EPT in a hole reads as all-ones: a misconfiguration.
    f.guest_write<u64>(Nested::kEpt + 0x2000, 0x3000'0007);
    f.vp->processor().tlb().flush_all();
    f.launch(kTouches);
    CHECK(f.get(Field::exit_reason) == why::kEptMisconfiguration);
}

TEST_CASE("nested: pages that the partition loses are lost to its guest at once", "[hv][nested]") {
    Nested f;
    f.write_enlightened();
    f.enlighten();
    f.launch(kTouches);
    CHECK(f.get(Field::exit_reason) == why::kHlt);
    // The assist page moves over the page that the child's guest has in its TLB: it is seen there at once.
    REQUIRE(f.wrmsr(msr::VP_ASSIST_PAGE, Nested::kShiftedTo | 1));
    f.guest_write<u8>(Nested::kShiftedTo + 40, 1);
    f.guest_write<u64>(Nested::kShiftedTo + 48, Nested::kVmcs);
    f.guest_write<u32>(Nested::kShiftedTo, 100);
    f.put(Field::guest_rip, Nested::kGuestCode);
    f.guest_write<u32>(Nested::kVmcs + Nested::kCleanOffset, 0);
    f.launch(kTouches);
    CHECK(f.guest_read<u32>(Nested::kShiftedTo + 4) == 101);
}

TEST_CASE("nested: S-104 an enlightened VMCS: clean fields stay, what is read-only is written, others fail", "[hv][nested]") {
    Nested f;
    f.write_enlightened();
    f.enlighten();
    f.launch({0xf4});
    CHECK(f.unit().enlightened());
    // Guest CR3 is of group 8: with its clean bit the page's value is not looked at.
    f.put(Field::guest_rip, Nested::kGuestCode);
    f.put(Field::guest_cr3, 0x0123'4000);
    f.guest_write<u32>(Nested::kVmcs + Nested::kCleanOffset, 1 << 8);
    f.launch({0x0f, 0xa2});
    CHECK(f.get(Field::exit_reason) == why::kCpuid);
    CHECK(f.get(Field::guest_cr3) == Nested::kTables);
    CHECK(f.get(Field::exit_insn_length) == 2);
    // Another version cannot be used; a VMREAD has nothing to read.
    f.guest_write<u32>(Nested::kVmcs, 2);
    f.state().rip = Nested::kCode + 8;
    f.step();
    CHECK((f.state().rflags & cpu::flag::CF) != 0);
    f.state().rip = Nested::kCode + 16;
    f.code(Nested::kCode + 16, {0x0f, 0x78, 0xc1});
    f.step();
    CHECK((f.state().rflags & cpu::flag::CF) != 0);
    // A broken rule is told in the page.
    f.guest_write<u32>(Nested::kVmcs, 1);
    f.put(Field::vpid, 0);
    f.guest_write<u32>(Nested::kVmcs + Nested::kCleanOffset, 0);
    f.state().rip = Nested::kCode + 8;
    f.step();
    CHECK((f.state().rflags & cpu::flag::ZF) != 0);
    CHECK(f.get(Field::insn_error) == error::kControls);
}

TEST_CASE("nested: K-056 flushes of guest mappings by hypercall", "[hv][nested]") {
    Nested f;
    f.write_enlightened();
    f.enlighten();
    f.guest_write<u32>(Nested::kShiftedTo, 1);
    f.launch(kTouches);
    f.guest_write<u32>(0xb000, 7);
    f.set_page(Nested::kShifted, 0xb037);
    REQUIRE(f.wrmsr(msr::GUEST_OS_ID, Fixture::kOsId));
    f.guest_write<u64>(0x5000, Nested::kEpt | 0x1e);
    f.guest_write<u64>(0x5008, 0);
    CHECK(f.hypercall(0xaf, 0x5000) == 0u);
    f.put(Field::guest_rip, Nested::kGuestCode);
    f.guest_write<u32>(Nested::kVmcs + Nested::kCleanOffset, 0);
    f.launch(kTouches);
    CHECK(f.guest_read<u32>(0xb004) == 8);
    f.guest_write<u64>(0x5008, 1);
    CHECK(f.hypercall(0xaf, 0x5000) == static_cast<u64>(HvStatus::InvalidParameter));
}
