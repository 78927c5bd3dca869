// Controls that change what a guest's memory and time are: page-modification logging, virtualization exceptions, mode-based
// execute control, TSC scaling. SDM 3C, the sections of these names.
#include "tests/cpu/vmx_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::VmxStage;
using namespace vg::cpu::vmx;
using enum vmx::Field;
namespace why = vmx::reason;

namespace {

/// A stage whose guest's first 2 MiB are small pages of EPT, one to one.
struct EptStage : VmxStage {
    static constexpr u64 kPml4 = 0x40000, kPdpt = 0x41000, kPd = 0x42000, kPt = 0x43000;

    explicit EptStage(u64 pointer_bits = 0) {
        prepare();
        mmu::PhysicalMemory& memory = machine.memory;
        constexpr u64 kAll = 0x407;  // with execute for users
        memory.write<u64>(Spa(kPml4), kPdpt | kAll);
        memory.write<u64>(Spa(kPdpt), kPd | kAll);
        for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kPd + 8 * n), n << 21 | 0xb0 | kAll);
        memory.write<u64>(Spa(kPd), kPt | kAll);
        for (u64 n = 0; n < 512; ++n) memory.write<u64>(Spa(kPt + 8 * n), n << 12 | 0x30 | kAll);
        add(proc2_controls, proc2::kEpt);
        write(ept_pointer, kPml4 | 0x1e | pointer_bits);
    }
    [[nodiscard]] u64 page(u64 at) { return machine.memory.read<u64>(Spa(kPt + 8 * (at >> 12))); }
    void set_page(u64 at, u64 entry) {
        machine.memory.write<u64>(Spa(kPt + 8 * (at >> 12)), entry);
        vp().tlb().flush_all();
    }
};

/// mov [address],al
std::vector<u8> store_to(u32 address) {
    return {0x88, 0x04, 0x25, static_cast<u8>(address), static_cast<u8>(address >> 8), static_cast<u8>(address >> 16), 0};
}
std::vector<u8> operator+(std::vector<u8> a, const std::vector<u8>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
const std::vector<u8> kHlt = {0xf4};

}  // namespace

TEST_CASE("vmx: pages that a guest makes dirty are logged downwards, each once, and a full log exits", "[cpu][vmx]") {
    constexpr u64 kLog = 0x60000;
    EptStage t(eptp::kAccessedDirty);
    // With accessed and dirty flags, reads of the guest's tables and of segments' descriptors count as writes: they are marked first.
    for (u64 page = 0x100000; page < 0x110000; page += kPageSize) t.set_page(page, t.page(page) | 0x300);
    t.add(proc2_controls, proc2::kPml);
    t.write(pml_address, kLog);
    t.write(pml_index, 1);
    CHECK(t.exit_of(store_to(0x7008) + store_to(0x7010) + kHlt) == why::kHlt);
    CHECK(t.machine.memory.read<u64>(Spa(kLog + 8)) == 0x7000);
    CHECK(t.read(pml_index) == 0);
    CHECK(t.exit_of(store_to(0xa000) + store_to(0xb123) + kHlt) == why::kPageModificationLogFull);
    CHECK(t.machine.memory.read<u64>(Spa(kLog)) == 0xa000);
    CHECK(t.read(pml_index) == 0xffff);
    CHECK(t.read(guest_rip) == VmxStage::kGuestCode + 7);
    CHECK(t.read(exit_qualification) == 0);
    CHECK((t.page(0xb000) & 0x200) == 0);
    CHECK((t.page(0xa000) & 0x200) != 0);
}

TEST_CASE("vmx: without dirty flags in the EPT pointer nothing is logged", "[cpu][vmx]") {
    EptStage t;
    t.add(proc2_controls, proc2::kPml);
    t.write(pml_address, 0x60000);
    t.write(pml_index, 511);
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kHlt);
    CHECK(t.read(pml_index) == 511);
}

TEST_CASE("vmx: convertible EPT violations are #VE, while the information area is free", "[cpu][vmx]") {
    constexpr u64 kArea = 0x60000;
    EptStage t;
    t.add(proc2_controls, proc2::kVirtualizationException);
    t.write(virtualization_exception_address, kArea);
    t.write(eptp_index, 7);
    t.set_page(0x7000, 0x7000 | 0x35);
    mmu::PhysicalMemory& memory = t.machine.memory;
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kHlt);
    CHECK(t.read(guest_rip) == VmxStage::handler(20));
    CHECK(memory.read<u32>(Spa(kArea)) == why::kEptViolation);
    CHECK(memory.read<u32>(Spa(kArea + 4)) == 0xffffffff);
    CHECK(memory.read<u64>(Spa(kArea + 8)) == (0x182 | 5 << 3));
    CHECK(memory.read<u64>(Spa(kArea + 16)) == 0x7008);
    CHECK(memory.read<u64>(Spa(kArea + 24)) == 0x7008);
    CHECK(memory.read<u16>(Spa(kArea + 32)) == 7);

    t.write(guest_rsp, VmxStage::kGuestStack);
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kEptViolation);  // the area is taken
    memory.write<u32>(Spa(kArea + 4), 0);
    t.set_page(0x7000, 0x7000 | 0x35 | u64{1} << 63);  // suppressed
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kEptViolation);
    t.set_page(0x7000, 0x7000 | 0x36);
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kEptMisconfiguration);
    t.set_page(0x7000, 0x7000 | 0x35);
    t.write(exception_bitmap, 1u << kVirtualization);
    CHECK(t.exit_of(store_to(0x7008) + kHlt) == why::kExceptionOrNmi);
    CHECK((t.read(exit_interruption) & 0xff) == kVirtualization);
}

TEST_CASE("vmx: with mode-based execute control supervisors and users have rights of their own", "[cpu][vmx]") {
    EptStage t;
    t.add(proc2_controls, proc2::kModeBasedExecute);
    CHECK(t.exit_of(kHlt) == why::kHlt);
    t.set_page(VmxStage::kGuestCode, VmxStage::kGuestCode | 0x433);  // users only; the guest's pages are supervisor pages
    CHECK(t.exit_of(kHlt) == why::kEptViolation);
    CHECK(t.read(exit_qualification) == (0x184 | 0xb << 3));
    t.set_page(VmxStage::kGuestCode, VmxStage::kGuestCode | 0x37);
    CHECK(t.exit_of(kHlt) == why::kHlt);
    // Without the control bit 10 means nothing.
    t.write(proc2_controls, proc2::kEpt);
    t.set_page(VmxStage::kGuestCode, VmxStage::kGuestCode | 0x433);
    CHECK(t.exit_of(kHlt) == why::kEptViolation);
    CHECK(t.read(exit_qualification) == (0x184 | 3 << 3));
}

TEST_CASE("vmx: with TSC scaling a guest's TSC is the host's times the multiplier, plus the offset", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.add(proc_controls, proc::kTscOffset);
    t.add(proc2_controls, proc2::kTscScaling | proc2::kRdtscp);
    t.write(tsc_multiplier, u64{3} << 48);
    t.write(tsc_offset, u64{1} << 40);
    // mov r8, rax; mov r9, rdx: the host behind the exit uses RAX itself.
    const std::vector<u8> keep{0x49, 0x89, 0xc0, 0x49, 0x89, 0xd1};
    const auto value = [&t] { return t.s().gpr[R9] << 32 | (t.s().gpr[R8] & 0xffffffff); };
    for (const std::vector<u8>& code : {std::vector<u8>{0x0f, 0x31}, {0x0f, 0x01, 0xf9}}) {
        const u64 before = t.vp().tsc();
        CHECK(t.exit_of(code + keep + kHlt) == why::kHlt);
        const u64 after = t.vp().tsc();
        CHECK(value() >= 3 * before + (u64{1} << 40));
        CHECK(value() <= 3 * after + (u64{1} << 40));
        CHECK((value() - (u64{1} << 40)) % 3 == 0);
    }
    t.write(proc_controls, t.read(proc_controls) & ~u64{proc::kTscOffset});  // then there is no multiplier either
    CHECK(t.exit_of(std::vector<u8>{0x0f, 0x31} + keep + kHlt) == why::kHlt);
    CHECK(value() <= t.vp().tsc());
}
