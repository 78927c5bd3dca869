// VMX instructions: which answer comes first. SDM 3C "VMX Instruction Reference".
#include "tests/cpu/vmx_stage.h"

using namespace vg;
using namespace vg::cpu;
using vg::test::VmxStage;
using Answer = VmxStage::Answer;
using vmx::Field;
namespace error = vmx::error;

namespace {

constexpr u8 kUd = 6, kGp = 13;

u32 error_number(VmxStage& t) {
    REQUIRE(t.answer() == Answer::FailValid);
    return static_cast<u32>(t.unit().current()[Field::insn_error]);
}

}  // namespace

TEST_CASE("vmx: VMXON demands its surroundings, each with its own answer", "[cpu][vmx]") {
    SECTION("CR4.VMXE") {
        VmxStage t;
        t.s().cr4 &= ~cr4::VMXE;
        CHECK(t.vmxon() == kUd);
    }
    SECTION("the lock of IA32_FEATURE_CONTROL") {
        VmxStage t;
        t.s().feature_control = 4;
        CHECK(t.vmxon() == kGp);
        t.s().feature_control = 1;
        CHECK(t.vmxon() == kGp);
    }
    SECTION("CR0.NE") {
        VmxStage t;
        t.s().cr0 &= ~cr0::NE;
        CHECK(t.vmxon() == kGp);
    }
    SECTION("an aligned region of this revision within physical addresses") {
        VmxStage t;
        for (const u64 bad : {VmxStage::kVmxon + 8, u64{1} << 46, VmxStage::kPages}) {
            INFO(bad);
            CHECK_FALSE(t.vmxon(bad));
            CHECK(t.answer() == Answer::FailInvalid);
            CHECK_FALSE(t.unit().in_operation());
        }
        CHECK_FALSE(t.vmxon());
        CHECK(t.answer() == Answer::Succeed);
        CHECK(t.unit().in_operation());
        CHECK_FALSE(t.vmxon());
        CHECK(t.answer() == Answer::FailInvalid);  // in root operation, without a current VMCS
    }
}

TEST_CASE("vmx: outside VMX operation its instructions are undefined", "[cpu][vmx]") {
    const std::vector<u8> instructions[] = {{0x0f, 0x01, 0xc2}, {0x0f, 0x01, 0xc3}, {0x0f, 0x01, 0xc4}, {0x0f, 0x78, 0xc1},
                                            {0x0f, 0x79, 0xc1}, {0x66, 0x0f, 0xc7, 0x33}, {0x0f, 0xc7, 0x33}, {0x0f, 0xc7, 0x3b},
                                            {0x66, 0x0f, 0x38, 0x80, 0x03}, {0x66, 0x0f, 0x38, 0x81, 0x03}, {0x0f, 0x01, 0xc1},
                                            {0x0f, 0x01, 0xd4}};
    for (const auto& bytes : instructions) {
        VmxStage t;
        t.s().gpr[RBX] = VmxStage::kPointer;
        CHECK(t.run(bytes) == kUd);
    }
}

TEST_CASE("vmx: VMX operation keeps the fixed bits of CR0 and CR4", "[cpu][vmx]") {
    VmxStage t;
    REQUIRE_FALSE(t.vmxon());
    t.s().gpr[RAX] = t.s().cr0 & ~cr0::NE;
    CHECK(t.run({0x0f, 0x22, 0xc0}) == kGp);
    t.s().gpr[RAX] = t.s().cr4 & ~cr4::VMXE;
    CHECK(t.run({0x0f, 0x22, 0xe0}) == kGp);
    CHECK_FALSE(t.run({0x0f, 0x01, 0xc4}));  // VMXOFF
    t.s().gpr[RAX] = t.s().cr4 & ~cr4::VMXE;
    CHECK_FALSE(t.run({0x0f, 0x22, 0xe0}));
}

TEST_CASE("vmx: VMCLEAR and VMPTRLD refuse wrong pointers, with the manual's numbers", "[cpu][vmx]") {
    VmxStage t;
    REQUIRE_FALSE(t.vmxon());
    CHECK_FALSE(t.vmptrld(VmxStage::kOther + 1));
    CHECK(t.answer() == Answer::FailInvalid);  // no current VMCS to hold a number
    REQUIRE_FALSE(t.vmptrld(VmxStage::kVmcs));
    REQUIRE(t.answer() == Answer::Succeed);
    CHECK_FALSE(t.vmptrld(VmxStage::kOther + 1));
    CHECK(error_number(t) == error::kVmptrldAddress);
    CHECK_FALSE(t.vmptrld(VmxStage::kVmxon));
    CHECK(error_number(t) == error::kVmptrldVmxonPointer);
    CHECK_FALSE(t.vmptrld(VmxStage::kPages));
    CHECK(error_number(t) == error::kVmptrldRevision);
    CHECK_FALSE(t.vmclear(u64{1} << 50));
    CHECK(error_number(t) == error::kVmclearAddress);
    CHECK_FALSE(t.vmclear(VmxStage::kVmxon));
    CHECK(error_number(t) == error::kVmclearVmxonPointer);
    CHECK(t.unit().current_pointer() == VmxStage::kVmcs);
    t.s().gpr[RBX] = VmxStage::kScratch;
    CHECK_FALSE(t.run({0x0f, 0xc7, 0x3b}));  // VMPTRST
    CHECK(t.machine.memory.read<u64>(Spa(VmxStage::kScratch)) == VmxStage::kVmcs);
    CHECK_FALSE(t.vmclear(VmxStage::kVmcs));
    CHECK(t.unit().current_pointer() == vmx::kNoVmcs);
}

TEST_CASE("vmx: a VMCS keeps its fields in its region while another is current", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(Field::guest_rip, 0x1122334455667788);
    t.write_encoding(0x2011, 0xcafe);  // the upper half of the TSC offset
    REQUIRE_FALSE(t.vmptrld(VmxStage::kOther));
    CHECK(t.read(Field::guest_rip) == 0);
    REQUIRE_FALSE(t.vmptrld(VmxStage::kVmcs));
    CHECK(t.read(Field::guest_rip) == 0x1122334455667788);
    CHECK(t.read(Field::tsc_offset) == u64{0xcafe} << 32);
    CHECK(t.read_encoding(0x2011) == 0xcafe);
}

TEST_CASE("vmx: VMREAD and VMWRITE know the fields that exist", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    for (unsigned n = 0; n < vmx::kFieldCount; ++n) {
        const vmx::FieldRow& row = vmx::field_row(static_cast<Field>(n));
        INFO(row.name);
        t.write_encoding(row.encoding, 1);
        const bool exists = t.unit().capabilities().has(row.needs);
        CHECK((t.answer() == Answer::Succeed) == exists);
        t.write_encoding(row.encoding | 1, 1);
        CHECK((t.answer() == Answer::Succeed) == (exists && row.width() == vmx::Width::W64));
    }
    for (const u64 encoding : {u64{0x6828}, u64{0x4000} | 1u << 12, u64{0x8000}, u64{0x1'0000'4000}}) {
        t.write_encoding(encoding, 0);
        CHECK(error_number(t) == error::kUnsupportedField);
    }
    t.write(Field::guest_cs_selector, 0x12345678);
    CHECK(t.read(Field::guest_cs_selector) == 0x5678);
}

TEST_CASE("vmx: launch state and MOV SS decide before the controls", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    t.write(Field::pin_controls, 0);  // wrong
    CHECK_FALSE(t.vmresume());
    CHECK(error_number(t) == error::kResumeNotLaunched);
    CHECK_FALSE(t.vmlaunch());
    CHECK(error_number(t) == error::kControls);
    t.s().interrupt_shadow = shadow::MovSs;
    CHECK_FALSE(t.vmlaunch());
    CHECK(error_number(t) == error::kMovSsBlocking);
    t.s().interrupt_shadow = 0;
    t.write(Field::pin_controls, t.unit().capabilities().pin.must);
    t.write(Field::host_cr4, 0);
    CHECK_FALSE(t.vmlaunch());
    CHECK(error_number(t) == error::kHostState);
    t.write(Field::host_cr4, t.s().cr4);
    CHECK(t.exit_of({0xf4}) == vmx::reason::kHlt);
    CHECK_FALSE(t.vmlaunch());
    CHECK(error_number(t) == error::kLaunchNotClear);
    CHECK_FALSE(t.run({0x0f, 0x01, 0xc1}));
    CHECK(error_number(t) == error::kVmcallInRoot);
}

TEST_CASE("vmx: INVEPT and INVVPID check type and descriptor", "[cpu][vmx]") {
    VmxStage t;
    t.prepare();
    const auto invalidate = [&](u8 opcode, u64 type, u64 low, u64 high) {
        t.machine.memory.write<u64>(Spa(VmxStage::kScratch), low);
        t.machine.memory.write<u64>(Spa(VmxStage::kScratch + 8), high);
        t.s().gpr[RAX] = type;
        t.s().gpr[RBX] = VmxStage::kScratch;
        CHECK_FALSE(t.run({0x66, 0x0f, 0x38, opcode, 0x03}));
        return t.answer() == Answer::Succeed;
    };
    CHECK(invalidate(0x80, 1, 0x20000 | 0x1e, 0));
    CHECK(invalidate(0x80, 2, 0, 0));
    CHECK_FALSE(invalidate(0x80, 0, 0, 0));
    CHECK_FALSE(invalidate(0x80, 3, 0, 0));
    CHECK(invalidate(0x80, 1, 0x20000 | 0x18, 0));        // uncached, 4 levels
    CHECK_FALSE(invalidate(0x80, 1, 0x20000 | 0x06, 0));  // one level
    CHECK(invalidate(0x81, 0, 1, 0x1000));
    CHECK(invalidate(0x81, 1, 1, 0));
    CHECK(invalidate(0x81, 2, 0, 0));
    CHECK(invalidate(0x81, 3, 1, 0));
    CHECK_FALSE(invalidate(0x81, 4, 1, 0));
    CHECK_FALSE(invalidate(0x81, 0, 0, 0x1000));
    CHECK_FALSE(invalidate(0x81, 1, 0, 0));
    CHECK_FALSE(invalidate(0x81, 0, 1, u64{1} << 50));
    CHECK_FALSE(invalidate(0x81, 1, 1 << 16, 0));
}
