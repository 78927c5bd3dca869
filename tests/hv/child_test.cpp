// A guest parent's child as it runs: suspension, intercept messages, registers, ports. Rows K-134..K-176, S-51..S-78,
// R-60..R-69.
#include <catch2/catch.hpp>

#include "tests/hv/root_fixture.h"

using namespace vg;
using namespace vg::hv;
using hv::test::Fixture;
using hv::test::RootFixture;

namespace {

constexpr u32 kRw = map_flag::kRead | map_flag::kWrite | map_flag::kKernelExecute;

/// Messages in a slot of the root's SIMP; taken out, as the root does it.
struct Slot {
    RootFixture& f;
    u64 simp;
    unsigned sint = 0;
    MessageHeader take() {
        const auto header = f.memory.read<MessageHeader>(Spa(simp + 256 * sint));
        f.memory.write<u32>(Spa(simp + 256 * sint), 0);
        if ((header.flags & kMessagePending) != 0) f.wrmsr(msr::EOM, 0);
        return header;
    }
    template <class T>
    T payload() {
        return f.memory.read<T>(Spa(simp + 256 * sint + kMessagePayloadOffset));
    }
};

}  // namespace

TEST_CASE("child: a port access suspends the VP, with the message in its page and word of it in SINT 0 (R-61, S-72)",
          "[hv][child]") {
    RootFixture f;
    const u64 simp = f.enable_synic();
    const u64 id = f.make_child();
    Slot slot{f, simp};
    f.code({0xb0, 0x5a, 0xe6, 0x80, 0xb0, 0x77, 0xed, 0xf4});  // mov al,5a; out 80,al; mov al,77; in eax... ; hlt
    CHECK(f.child_vp(id).processor().held());
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.get(id, 0, reg::kInterceptSuspend) == 1);
    CHECK(f.child_vp(id).processor().held());
    CHECK(f.message_type() == MessageType::IoPortIntercept);
    CHECK(f.memory.read<MessageHeader>(Spa(f.message_page)).origin == id);
    const auto io = f.message<IoPortIntercept>();
    CHECK(io.header.vp_index == 0);
    CHECK((io.header.length_and_cr8 & 0xf) == 2);
    CHECK(io.header.access == static_cast<u8>(InterceptAccess::Write));
    CHECK(io.header.rip == 0x102);  // S-78: at the instruction
    CHECK(io.port == 0x80);
    CHECK(io.access_info == 1);
    CHECK((io.rax & 0xff) == 0x5a);
    const u8 bytes[] = {0xe6, 0x80};
    CHECK(io.instruction_bytes == 2);
    CHECK(std::memcmp(io.instruction, bytes, 2) == 0);
    // exactly one opaque message, from the child
    CHECK(slot.payload<OpaqueIntercept>().vp_index == 0);
    MessageHeader header = slot.take();
    CHECK(header.type == static_cast<u32>(MessageType::OpaqueIntercept));
    CHECK(header.origin == id);
    CHECK(header.payload_size == 4);
    CHECK(slot.take().type == 0);
    CHECK(f.apic_requested(0xf3));
    // the parent emulates, and lets it go on behind the instruction
    CHECK(f.set(id, 0, reg::kRip, 0x104) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().header.rip == 0x106);
    CHECK(f.message<IoPortIntercept>().access_info == 2);
    CHECK(f.message<IoPortIntercept>().header.access == static_cast<u8>(InterceptAccess::Read));
}

TEST_CASE("child: an instruction that met no memory runs again once there is some (S-71, R-65)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0xa1, 0x00, 0x80, 0xf4});  // mov ax, [0x8000]; hlt
    MapGpaHeader region{id, 8, map_flag::kNoAccess, 0};
    f.memory.write(Spa(RootFixture::kInput), region);
    REQUIRE(f.reps_of(0x4b, 4) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::GpaIntercept);
    auto message = f.message<MemoryIntercept>();
    CHECK(message.gpa == 0x8000);
    CHECK(message.gva == 0x8000);
    CHECK(message.access_info == 3);
    CHECK(message.instruction_bytes == 3);
    CHECK((message.header.length_and_cr8 & 0xf) == 3);
    CHECK(message.header.rip == 0x100);
    f.memory.write<u16>(Spa(0x900000), 0xbeef);
    REQUIRE(f.map(id, 8, kRw, {0x900}) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Halt);
    CHECK((f.get(id, 0, reg::kRax) & 0xffff) == 0xbeef);
    // outside every region: the other type
    f.set(id, 0, reg::kInternalActivity, 0);
    f.set(id, 0, reg::kRip, 0x100);
    REQUIRE(f.unmap(id, 8, 4) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::UnmappedGpa);
}

TEST_CASE("child: a write to memory that may only be read is an intercept with the region's type", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0xa3, 0x00, 0xa0, 0xf4});  // mov [0xa000], ax
    REQUIRE(f.map(id, 10, map_flag::kRead, {0x900}) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::GpaIntercept);
    CHECK(f.message<MemoryIntercept>().header.access == static_cast<u8>(InterceptAccess::Write));
}

TEST_CASE("child: without an intercept page the whole message goes into the slot", "[hv][child]") {
    RootFixture f;
    const u64 simp = f.enable_synic();
    const u64 id = f.make_child();
    UnmapStatePageIn page{};
    page.partition_id = id;
    page.type = 1;
    CHECK(f.call(0xe2, page) == HvStatus::Success);
    CHECK(f.call(0xe2, page) == HvStatus::NotFound);
    CHECK_FALSE(f.root_address(f.message_page));
    f.code({0xe4, 0x60});
    CHECK(f.run(id) == cpu::Stop::Leave);
    Slot slot{f, simp};
    CHECK(slot.payload<IoPortIntercept>().port == 0x60);
    CHECK(slot.take().type == static_cast<u32>(MessageType::IoPortIntercept));
}

TEST_CASE("child: messages wait while the root takes none, and go with the child (S-03, R-49)", "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    f.code({0xe4, 0x60});
    CHECK(f.run(id) == cpu::Stop::Leave);  // the SynIC is off
    const u64 simp = f.enable_synic();
    Slot slot{f, simp};
    CHECK(slot.take().type == static_cast<u32>(MessageType::OpaqueIntercept));
    // one that is still queued when its partition is finalized never comes
    f.memory.write<u32>(Spa(simp), 1);  // occupied
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.vp->synic().queued(0) == 1);
    CHECK(f.finalize(id) == HvStatus::Success);
    CHECK(f.vp->synic().queued(0) == 0);
}

TEST_CASE("child: the register page is fresh at an intercept, and what is dirty is taken back (S-102, S-103)",
          "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0xb8, 0x34, 0x12, 0xe7, 0x80, 0xe7, 0x81});  // mov ax,1234; out 80,ax; out 81,ax
    CHECK(f.run(id) == cpu::Stop::Leave);
    auto page = f.memory.read<RegisterPage>(Spa(f.register_page));
    CHECK(page.version == 1);
    CHECK(page.is_valid == 1);
    CHECK(page.dirty == 0);
    CHECK((page.gpr[0] & 0xffff) == 0x1234);
    CHECK(page.rip == 0x103);
    CHECK(page.segment[1].limit == 0xffff);
    page.gpr[0] = 0x5678;
    page.gpr[3] = 0x9999;
    page.rip = 0x105;
    page.dirty = register_page_dirty::kGprs | register_page_dirty::kRip;
    page.rflags = 0xffff;  // not marked
    f.memory.write(Spa(f.register_page), page);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().port == 0x81);
    CHECK(f.message<IoPortIntercept>().rax == 0x5678);
    CHECK(f.get(id, 0, reg::kRax + 3) == 0x9999);
    CHECK((f.get(id, 0, reg::kRflags) & 0xd5) == 0);
}

TEST_CASE("child: HLT stays inside for a partition with a local APIC, else it is the parent's (R-66)", "[hv][child]") {
    const bool lapic = GENERATE(true, false);
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child(16, create_flag::kExo | (lapic ? create_flag::kLapic : 0));
    f.code({0xf4});
    CHECK(f.run(id) == (lapic ? cpu::Stop::Halt : cpu::Stop::Leave));
    CHECK(f.get(id, 0, reg::kInterceptSuspend) == (lapic ? 0 : 1));
    if (!lapic) CHECK(f.message_type() == MessageType::Halt);
}

TEST_CASE("child: a triple fault is an unrecoverable exception (S-77)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.set(id, 0, reg::kIdtr, u64{0} << 48);  // limit 0
    f.code({0xcd, 0x80});
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::UnrecoverableException);
}

TEST_CASE("child: an unknown MSR faults, or reads zero if the parent wants that (K-262)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0x66, 0xb9, 0x34, 0x12, 0x00, 0x00, 0x66, 0xb8, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x32, 0xe6, 0x80});
    f.memory.write<u32>(Spa(RootFixture::kChildRam + 4 * 13), 0x0000'0200);  // #GP handler at 0:200: out 90
    f.code({0xe6, 0x90}, 0x200);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().port == 0x90);
    CHECK(f.call(0x45, SetPropertyIn{id, 0x50017, 0, 1}) == HvStatus::Success);
    f.set(id, 0, reg::kRip, 0x100);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().port == 0x80);
    CHECK(f.message<IoPortIntercept>().rax == 0);
    // and is the parent's if it asked (K-136)
    InstallInterceptIn in{id, intercept_access::kRead, static_cast<u32>(InterceptType::MsrIndex), 0x1234};
    CHECK(f.call(0x4d, in) == HvStatus::Success);
    f.set(id, 0, reg::kRip, 0x100);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::MsrIntercept);
    CHECK(f.message<MsrIntercept>().msr == 0x1234);
}

TEST_CASE("child: CPUID as the parent wants it (K-137, K-138)", "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    InterceptResultIn in{};
    in.partition_id = id;
    in.vp_index = kVpAny;
    in.type = 2;
    in.eax = 0x40000000;
    in.result[1] = {0x11223344, 0xffffffff};
    in.result[2] = {0x0000ff00, 0x0000ff00};
    CHECK(f.call(0x91, in) == HvStatus::Success);
    const CpuidValuesHeader header{id, 0, 2, 0};
    CHECK(f.reps(0xf4, header, std::vector<CpuidQuery>{{0x40000000, 0, 0, 0}, {1, 0, 0, 0}}) == HvStatus::Success);
    const auto leaf = f.output<CpuidRegs>();
    CHECK(leaf.eax == 0x4000000c);
    CHECK(leaf.ebx == 0x11223344);
    CHECK((leaf.ecx & 0xff00) == 0xff00);
    CHECK((f.output<CpuidRegs>(16).ecx >> 31) == 1);
    CHECK(f.call(0x92, in) == HvStatus::Success);
    CHECK(f.call(0x92, in) == HvStatus::NotFound);
}

TEST_CASE("child: interrupts are asserted, also into a halted VP (K-220)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.child_vp(id).processor().apic().mmio_write(0xf0, 0x1ff);
    f.code({0xfb, 0xf4, 0xe6, 0x81});  // sti; hlt; out 81
    f.memory.write<u32>(Spa(RootFixture::kChildRam + 4 * 0x50), 0x200);
    f.code({0xe6, 0x80}, 0x200);
    CHECK(f.run(id) == cpu::Stop::Halt);
    AssertInterruptIn in{};
    in.partition_id = id;
    in.vector = 8;
    CHECK(f.call(0x94, in) == HvStatus::InvalidParameter);
    in.vector = 0x50;
    in.destination = 9;
    CHECK(f.call(0x94, in) == HvStatus::InvalidParameter);  // no such APIC
    in.destination = 0;
    CHECK(f.call(0x94, in) == HvStatus::Success);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().port == 0x80);
}

TEST_CASE("child: the end of a level interrupt is told, that of an edge interrupt is not (R-67)", "[hv][child]") {
    RootFixture f;
    const u64 simp = f.enable_synic();
    Slot slot{f, simp};
    const u64 id = f.make_child();
    cpu::Apic& apic = f.child_vp(id).processor().apic();
    apic.mmio_write(0xf0, 0x1ff);
    AssertInterruptIn in{};
    in.partition_id = id;
    in.vector = 0x51;
    for (const bool level : {false, true}) {
        in.control = level ? interrupt_control::kLevel : 0;
        REQUIRE(f.call(0x94, in) == HvStatus::Success);
        CHECK(apic.acknowledge() == 0x51);
        apic.eoi();
        CHECK(slot.payload<ApicEoiMessage>().vector == (level ? 0x51 : 0));
        const MessageHeader header = slot.take();
        CHECK(header.type == (level ? static_cast<u32>(MessageType::ApicEoi) : 0));
        CHECK(header.origin == (level ? id : 0));
    }
    CHECK_FALSE(f.child_vp(id).control().intercept_suspend());
}

TEST_CASE("child: a hypercall that nobody knows is the parent's if it asked (K-136, S-76)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    Vp& vp = f.child_vp(id);
    Fixture::enter_long_mode(vp);
    f.set(id, 0, reg::kGuestOsId, Fixture::kOsId);
    cpu::virt::Exit exit;
    exit.reason = cpu::virt::ExitReason::Hypercall;
    exit.insn_length = 3;
    vp.processor().state().gpr[cpu::RCX] = 0x7e;
    CHECK(vp.on_exit(vp.processor(), exit) == cpu::virt::Action::Skip);
    CHECK((vp.processor().state().gpr[cpu::RAX] & 0xffff) == 2);
    const InstallInterceptIn in{id, intercept_access::kExecute, static_cast<u32>(InterceptType::Hypercall), 0};
    CHECK(f.call(0x4d, in) == HvStatus::Success);
    CHECK(vp.on_exit(vp.processor(), exit) == cpu::virt::Action::Leave);
    CHECK(f.message_type() == MessageType::HypercallIntercept);
    CHECK(f.message<HypercallIntercept>().rcx == 0x7e);
    CHECK((f.message<HypercallIntercept>().header.length_and_cr8 & 0xf) == 3);
    InstallInterceptIn bad{id, 8, 8, 0};
    CHECK(f.call(0x4d, bad) == HvStatus::InvalidParameter);
    bad = {id, 1, 0x99, 0};
    CHECK(f.call(0x4d, bad) == HvStatus::InvalidParameter);
}

TEST_CASE("child: addresses are translated as the VP would (K-139)", "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    TranslateIn in{};
    in.partition_id = id;
    in.control = translate_flag::kRead;
    in.gva_page = 3;
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().code == 0);
    CHECK(f.output<TranslateOut>().gpa_page == 3);
    in.gva_page = 0x40;  // no memory there
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().code == static_cast<u32>(TranslateResult::GpaUnmapped));
    // 32-bit paging: page 5 is read-only at GPA page 7, page 6 not there
    f.memory.write<u32>(Spa(RootFixture::kChildRam + 0x8000), 0x9003);
    f.memory.write<u32>(Spa(RootFixture::kChildRam + 0x9000 + 4 * 5), 0x7001);
    f.set(id, 0, reg::kCr3, 0x8000);
    f.set(id, 0, reg::kCr0, cpu::cr0::PE | cpu::cr0::PG | cpu::cr0::WP | cpu::cr0::ET);
    in.gva_page = 5;
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().gpa_page == 7);
    in.control = translate_flag::kWrite;
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().code == static_cast<u32>(TranslateResult::Privilege));
    in.control |= translate_flag::kPrivilegeExempt;
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().code == 0);
    in.gva_page = 6;
    CHECK(f.call(0x52, in) == HvStatus::Success);
    CHECK(f.output<TranslateOut>().code == static_cast<u32>(TranslateResult::NotPresent));
}

TEST_CASE("child: an event that the parent injects is delivered first (K-194)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0xe6, 0x81});
    f.memory.write<u32>(Spa(RootFixture::kChildRam + 4 * 6), 0x200);
    f.code({0xe6, 0x80}, 0x200);
    const u64 undefined_opcode = 1 | 3 << 1 | u64{6} << 16;
    CHECK(f.set(id, 0, reg::kPendingInterruption, undefined_opcode) == HvStatus::Success);
    CHECK(f.get(id, 0, reg::kPendingInterruption) == undefined_opcode);
    CHECK(f.set(id, 0, reg::kPendingInterruption, 1 | 1 << 1) == HvStatus::InvalidRegisterValue);
    f.set(id, 0, reg::kPendingInterruption, undefined_opcode);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message<IoPortIntercept>().port == 0x80);
    CHECK(f.get(id, 0, reg::kPendingInterruption) == 0);
}

TEST_CASE("registers: every name of the interface reads, and writes back what it read (K-190..K-210, R-81)",
          "[hv][child]") {
    RootFixture f;
    const u64 id = f.make_child();
    std::vector<u32> names = {reg::kExplicitSuspend,
                              reg::kInterceptSuspend,
                              reg::kInternalActivity,
                              reg::kRip,
                              reg::kRflags,
                              reg::kCr0,
                              reg::kCr2,
                              reg::kCr3,
                              reg::kCr4,
                              reg::kCr8,
                              reg::kXfem,
                              reg::kDr6,
                              reg::kDr7,
                              reg::kIntermediateCr0,
                              reg::kIntermediateCr3,
                              reg::kIntermediateCr4,
                              reg::kIntermediateCr8,
                              reg::kIdtr,
                              reg::kGdtr,
                              reg::kEfer,
                              reg::kKernelGsBase,
                              reg::kApicBase,
                              reg::kPat,
                              reg::kSysenterCs,
                              reg::kSysenterEip,
                              reg::kSysenterEsp,
                              reg::kStar,
                              reg::kLstar,
                              reg::kCstar,
                              reg::kSfmask,
                              reg::kMtrrCap,
                              reg::kMtrrDefType,
                              reg::kTscAux,
                              reg::kBndcfgs,
                              reg::kDebugCtl,
                              reg::kSpecCtrl,
                              reg::kXss,
                              reg::kUCet,
                              reg::kSCet,
                              reg::kSsp,
                              reg::kTscDeadline,
                              reg::kTscAdjust,
                              reg::kMiscEnable,
                              reg::kHypercall,
                              reg::kGuestOsId,
                              reg::kVpAssistPage,
                              reg::kReferenceTsc,
                              reg::kScontrol,
                              reg::kSiefp,
                              reg::kSimp,
                              reg::kFpControl,
                              reg::kXmmControl,
                              reg::kPendingInterruption,
                              reg::kInterruptState,
                              reg::kPendingEvent0};
    for (u32 i = 0; i < 16; ++i) {
        names.push_back(reg::kRax + i);
        names.push_back(reg::kXmm0 + i);
        names.push_back(reg::kSint0 + i);
    }
    for (u32 i = 0; i < 8; ++i) {
        names.push_back(reg::kFp0 + i);
        names.push_back(reg::kEs + i);
        names.push_back(reg::kMtrrPhysBase0 + i);
        names.push_back(reg::kMtrrPhysMask0 + i);
        names.push_back(reg::kStimer0Config + i);
    }
    for (u32 i = 0; i < 11; ++i) names.push_back(reg::kMtrrFix64k + i);
    for (const u32 name : names) {
        CAPTURE(name);
        RegisterValue value{};
        REQUIRE(f.get(id, 0, name, value) == HvStatus::Success);
        CHECK(f.set(id, 0, name, value.low, value.high) == HvStatus::Success);
        RegisterValue again{};
        CHECK(f.get(id, 0, name, again) == HvStatus::Success);
        CHECK(again.low == value.low);
        CHECK(again.high == value.high);
    }
    for (const u32 name : {0x7fffffffu, 0x99999u, 0x60008u}) {
        RegisterValue value{};
        CHECK(f.get(id, 0, name, value) == HvStatus::UnknownRegisterName);
        CHECK(f.set(id, 0, name, 0) == HvStatus::UnknownRegisterName);
    }
    // K-135: up to the bad one
    const std::vector<RegisterAssignment> list{
        {reg::kRax, {}, {1, 0}}, {reg::kCr0, {}, {~u64{0}, 0}}, {reg::kRax + 3, {}, {2, 0}}};
    CHECK(f.reps(0x51, VpRegistersHeader{id, 0, 0, {}}, list) == HvStatus::InvalidRegisterValue);
    CHECK(f.completed == 1);
    CHECK(f.get(id, 0, reg::kRax) == 1);
    CHECK(f.get(id, 0, reg::kRax + 3) == 0);
}

TEST_CASE("registers: values that exclude each other stop the VP when it is to run (S-54)", "[hv][child]") {
    RootFixture f;
    f.enable_synic();
    const u64 id = f.make_child();
    f.code({0xf4});
    f.set(id, 0, reg::kCr0, cpu::cr0::PG | cpu::cr0::ET);
    CHECK(f.run(id) == cpu::Stop::Leave);
    CHECK(f.message_type() == MessageType::InvalidVpRegister);
    f.set(id, 0, reg::kCr0, cpu::cr0::ET);
    CHECK(f.run(id) == cpu::Stop::Halt);
}
