// The columns of the instruction table: every row is reached, and flags, privilege and LOCK agree with Zydis.
#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "cpu/isa/encoding.h"
#include "generator.h"

namespace vg::cpu {

namespace {

constexpr unsigned kTriesPerRow = 200;

/// An instruction that decodes to the row, if one is found.
bool find_sample(Random& random, u16 index, Sample& sample, Insn& insn) {
    for (unsigned n = 0; n < kTriesPerRow; ++n) {
        sample = generate_row(random, index);
        if (decode(sample.bytes, sample.mode, insn) == DecodeStatus::Ok && insn.row == index) return true;
    }
    return false;
}

std::string flag_letters(unsigned flags) {
    std::string out;
    constexpr std::pair<char, unsigned> kLetters[] = {{'o', 11}, {'d', 10}, {'s', 7}, {'z', 6},
                                                      {'a', 4},  {'p', 2},  {'c', 0}};
    for (const auto& [letter, bit] : kLetters)
        if ((flags >> bit & 1) != 0) out += letter;
    return out;
}

std::string our_flags(const Row& r) {
    return fmt::format("{};{};{}", flag_letters(r.flags_read),
                       flag_letters(static_cast<unsigned>(r.flags_written & ~r.flags_undefined)),
                       flag_letters(r.flags_undefined));
}

std::string zydis_flags(const ZydisDecodedInstruction& z) {
    constexpr unsigned kDf = 1u << 10;
    constexpr unsigned kFlags = 0x8d5 | kDf;
    const auto& f = *z.cpu_flags;
    const unsigned changed = (f.modified | f.set_0 | f.set_1) & kFlags & ~kDf;
    return fmt::format("{};{};{}", flag_letters(f.tested & kFlags), flag_letters(changed & ~f.undefined),
                       flag_letters(f.undefined & kFlags));
}

struct KnownFlags {
    std::set<Op> ops;
    std::string_view ours, zydis, why;
};

const KnownFlags kKnownFlags[] = {
    {{Op::SHL, Op::SHR, Op::SAR}, ";oszpc;a", ";szpc;oa", "OF is defined for a count of 1"},
    {{Op::ROL, Op::ROR}, ";oc;", ";c;o", "OF is defined for a count of 1"},
    {{Op::RCL, Op::RCR}, "c;oc;", "c;c;o", "OF is defined for a count of 1"},
    {{Op::BEXTR}, ";ozc;sap", ";z;osapc", "SDM \"BEXTR\": CF and OF are cleared"},
    {{Op::SBB}, "c;oszapc;", "c;oszpc;a", "SDM \"SBB\": AF is set according to the result"},
    {{Op::VPTEST, Op::VTESTPS, Op::VTESTPD}, ";oszapc;", ";zc;", "SDM \"PTEST\": OF, AF, PF and SF are cleared"},
    {{Op::CMPS, Op::SCAS}, "d;oszapc;", "dz;oszapc;", "REPE tests the ZF that it just wrote"},
    {{Op::MOV_CR, Op::MOV_DR}, ";;oszapc", ";;", "SDM \"MOV - Move to/from Control Registers\": undefined"},
    {{Op::VMCALL}, ";;", ";oszapc;", "a hypercall preserves RFLAGS (H-04); VMX results are written by the body"},
    {{Op::SYSCALL}, "odszapc;oszapc;", ";oszapc;", "R11 gets RFLAGS"},
    {{Op::INT, Op::INT1, Op::INT3, Op::INTO}, "odszapc;;", "", "the frame gets RFLAGS"},
};

bool are_known(Op op, std::string_view ours, std::string_view zydis) {
    return std::any_of(std::begin(kKnownFlags), std::end(kKnownFlags), [&](const KnownFlags& k) {
        return k.ops.contains(op) && k.ours == ours && (k.zydis.empty() || k.zydis == zydis);
    });
}

/// SDM 3C and APM 3: these are #GP(0) outside CPL 0; Zydis does not say so.
bool is_privileged_for_us_only(Op op) {
    constexpr Op kOps[] = {Op::LGDT, Op::SKINIT, Op::STGI, Op::CLGI, Op::VMLOAD, Op::VMSAVE, Op::VMRUN};
    return std::find(std::begin(kOps), std::end(kOps), op) != std::end(kOps);
}

/// The body checks CPL: #UD in real and virtual-8086 mode (SDM "LLDT", "LTR"), without CR4.OSXSAVE ("XSETBV") or without
/// EFER.SCE ("SYSRET") ranks before #GP(0); outside CPL 0 most others are #UD ("MONITOR", "MWAIT", "CLAC", "STAC"). In
/// guests, VMX instructions exit, and MOV DR may ("Relative Priority of Faults and VM Exits"); INVPCID may not exist.
bool checks_privilege_itself(Op op) {
    constexpr Op kOps[] = {Op::LLDT,    Op::LTR,     Op::XSETBV,  Op::SYSRET, Op::SYSEXIT, Op::MONITOR,  Op::MWAIT,
                           Op::CLAC,    Op::STAC,    Op::MOV_DR,  Op::INVPCID, Op::VMXON,  Op::VMXOFF,   Op::VMCLEAR,
                           Op::VMPTRLD, Op::VMPTRST, Op::VMREAD,  Op::VMWRITE, Op::INVEPT, Op::VMLAUNCH, Op::VMRESUME,
                           Op::INVVPID, Op::VMFUNC,  Op::VMRUN,   Op::VMLOAD, Op::VMSAVE,  Op::STGI,     Op::CLGI,
                           Op::SKINIT,  Op::INVLPGA};
    return std::find(std::begin(kOps), std::end(kOps), op) != std::end(kOps);
}

ZydisDecodedInstruction zydis_reading(const Sample& s) {
    constexpr std::pair<ZydisMachineMode, ZydisStackWidth> kModes[] = {
        {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
    const auto& [mode, width] = kModes[static_cast<unsigned>(s.mode)];
    ZydisDecoder d;
    ZydisDecoderInit(&d, mode, width);
    for (const auto off : {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_CLDEMOTE})
        ZydisDecoderEnableMode(&d, off, ZYAN_FALSE);
    ZydisDecodedInstruction z{};
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, s.bytes.data(), s.bytes.size(), &z, operands))) z.length = 0;
    return z;
}

}  // namespace

TEST_CASE("isa: every row is reached by some instruction", "[isa]") {
    Random random(1);
    for (u16 index = 1; index < row_count(); ++index) {
        Sample s;
        Insn i;
        INFO("row " << index << " " << op_name(row(index).op));
        CHECK(find_sample(random, index, s, i));
    }
}

TEST_CASE("isa: flags, privilege and LOCK agree with Zydis", "[isa]") {
    Random random(2);
    for (u16 index = 1; index < row_count(); ++index) {
        Sample s;
        Insn i;
        if (!find_sample(random, index, s, i)) continue;
        ZydisDecodedInstruction z = zydis_reading(s);
        while (z.length == 0 && find_sample(random, index, s, i)) z = zydis_reading(s);  // coinciding VSIB registers
        const Row& r = row(index);
        INFO("row " << index << " " << op_name(r.op) << " flags " << our_flags(r) << " zydis " << zydis_flags(z));
        CHECK((our_flags(r) == zydis_flags(z) || are_known(r.op, our_flags(r), zydis_flags(z))));
        const bool privileged = (z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0;
        if (checks_privilege_itself(r.op))
            CHECK_FALSE(r.has(attr::Privileged));
        else
            CHECK((r.has(attr::Privileged) == privileged || is_privileged_for_us_only(r.op)));
        const bool takes_lock = r.has(attr::Lockable) && i.memory_operand() != nullptr;
        CHECK(takes_lock == ((z.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK) != 0));
    }
}

TEST_CASE("isa: every operation has a row and a name of its own", "[isa]") {
    std::set<Op> used;
    for (u16 index = 1; index < row_count(); ++index) {
        used.insert(row(index).op);
        CHECK(row(index).how == how(row(index).op));
        CHECK(row(index).feature < Feature::Count);
    }
    std::set<std::string_view> names;
    for (u16 op = 1; op < static_cast<u16>(Op::Count); ++op) {
        INFO(op_name(static_cast<Op>(op)));
        CHECK(used.contains(static_cast<Op>(op)));
        CHECK(names.insert(op_name(static_cast<Op>(op))).second);
    }
    CHECK(mnemonic(Op::MOV_CR) == "MOV");
    CHECK(op_name(Op::MOV_CR) == "MOV_CR");
    CHECK(feature_name(Feature::Avx2) == "Avx2");
    CHECK(row(0).op == Op::Invalid);
    CHECK(row(0xffff).op == Op::Invalid);
}

}  // namespace vg::cpu
