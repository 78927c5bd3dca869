#include "zydis_compare.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "cpu/isa/encoding.h"
#include "insn_text.h"

namespace vg::cpu {

namespace {

struct Reading {
    bool ok = false;
    ZyanStatus status = 0;
    ZydisDecodedInstruction insn{};
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT]{};
};

ZydisDecoder make_decoder(CodeMode mode) {
    ZydisDecoder d;
    if (mode == CodeMode::Bits64)
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (mode == CodeMode::Bits32)
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    // MPX, CET and CLDEMOTE live in reserved-NOP space: without them those opcodes are NOPs.
    ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    return d;
}

Reading read(std::span<const u8> bytes, CodeMode mode) {
    static const ZydisDecoder kDecoders[3] = {make_decoder(CodeMode::Bits16), make_decoder(CodeMode::Bits32),
                                              make_decoder(CodeMode::Bits64)};
    Reading r;
    r.status = ZydisDecoderDecodeFull(&kDecoders[static_cast<unsigned>(mode)], bytes.data(), bytes.size(), &r.insn,
                                      r.operands);
    r.ok = ZYAN_SUCCESS(r.status);
    return r;
}

/// Instruction sets that this processor does not have: their encodings are Invalid.
bool is_absent(ZydisISASet set) {
    switch (set) {
        case ZYDIS_ISA_SET_AMD3DNOW:
        case ZYDIS_ISA_SET_AMD_INVLPGB:
        case ZYDIS_ISA_SET_AMX_BF16:
        case ZYDIS_ISA_SET_AMX_INT8:
        case ZYDIS_ISA_SET_AMX_TILE:
        case ZYDIS_ISA_SET_AVX512BW_KOP:
        case ZYDIS_ISA_SET_AVX512DQ_KOP:
        case ZYDIS_ISA_SET_AVX512F_KOP:
        case ZYDIS_ISA_SET_AVX_GFNI:
        case ZYDIS_ISA_SET_AVX_VNNI:
        case ZYDIS_ISA_SET_CET:
        case ZYDIS_ISA_SET_CLZERO:
        case ZYDIS_ISA_SET_ENQCMD:
        case ZYDIS_ISA_SET_FMA4:
        case ZYDIS_ISA_SET_GFNI:
        case ZYDIS_ISA_SET_HRESET:
        case ZYDIS_ISA_SET_KEYLOCKER:
        case ZYDIS_ISA_SET_KEYLOCKER_WIDE:
        case ZYDIS_ISA_SET_KNCJKBR:
        case ZYDIS_ISA_SET_KNCV:
        case ZYDIS_ISA_SET_LWP:
        case ZYDIS_ISA_SET_MCOMMIT:
        case ZYDIS_ISA_SET_MONITORX:
        case ZYDIS_ISA_SET_MOVDIR:
        case ZYDIS_ISA_SET_PADLOCK_ACE:
        case ZYDIS_ISA_SET_PADLOCK_PHE:
        case ZYDIS_ISA_SET_PADLOCK_PMM:
        case ZYDIS_ISA_SET_PADLOCK_RNG:
        case ZYDIS_ISA_SET_PCONFIG:
        case ZYDIS_ISA_SET_PT:
        case ZYDIS_ISA_SET_RDPRU:
        case ZYDIS_ISA_SET_RTM:
        case ZYDIS_ISA_SET_SGX:
        case ZYDIS_ISA_SET_SGX_ENCLV:
        case ZYDIS_ISA_SET_SMX:
        case ZYDIS_ISA_SET_SNP:
        case ZYDIS_ISA_SET_TBM:
        case ZYDIS_ISA_SET_TDX:
        case ZYDIS_ISA_SET_TSX_LDTRK:
        case ZYDIS_ISA_SET_UINTR:
        case ZYDIS_ISA_SET_WAITPKG:
        case ZYDIS_ISA_SET_XOP:
            return true;
        default:
            return false;
    }
}

bool is_evex(const Reading& z) {
    return z.insn.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || z.insn.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX;
}

std::string zydis_mnemonic(const Reading& z) {
    std::string s = ZydisMnemonicGetString(z.insn.mnemonic);
    std::transform(s.begin(), s.end(), s.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
    return s;
}

std::string register_name(ZydisRegister reg) {
    if (reg == ZYDIS_REGISTER_NONE) return "";
    return ZydisRegisterGetString(reg);
}

/// `ours` gives the width to which immediates are extended: Zydis keeps the encoded one for some instructions.
std::string operand_text(const ZydisDecodedOperand& o, const Operand& ours, const Insn& i) {
    switch (o.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            return register_name(o.reg.value);
        case ZYDIS_OPERAND_TYPE_MEMORY: {
            MemoryText m;
            // Areas and address-only operands have no size with us; LEA has no segment.
            m.size = ours.kind == OperandKind::Mem && ours.size == 0 ? 0 : o.size / 8;
            if (i.op != Op::LEA) m.segment = register_name(o.mem.segment);
            m.base = register_name(o.mem.base);
            m.index = register_name(o.mem.index);
            if (o.mem.type == ZYDIS_MEMOP_TYPE_VSIB) m.index = "v" + m.index.substr(3);
            if (!m.index.empty()) m.scale = o.mem.scale;
            m.displacement = truncated(static_cast<u64>(o.mem.disp.value), 8u * i.addr_size);
            return memory_text(m);
        }
        case ZYDIS_OPERAND_TYPE_POINTER:
            return fmt::format("far {:#x}:{:#x}", o.ptr.segment, o.ptr.offset);
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            if (o.imm.is_relative) return fmt::format("rel {:#x}", static_cast<u64>(o.imm.value.s));
            return fmt::format("imm{} {:#x}", ours.size, truncated(o.imm.value.u, 8u * ours.size));
        default:
            return "?";
    }
}

std::string describe(std::span<const u8> bytes, CodeMode mode, const Insn& i, const Reading& z) {
    std::string out = fmt::format("mode {} [", mode == CodeMode::Bits64 ? 64 : mode == CodeMode::Bits32 ? 32 : 16);
    for (const u8 b : bytes.first(std::min<std::size_t>(bytes.size(), 16))) out += fmt::format("{:02x} ", b);
    out += fmt::format("]\n  ours  {} {}", i.length, insn_text(i));
    if (!z.ok) return out + fmt::format("\n  zydis status {:#x}\n", z.status);
    out += fmt::format("\n  zydis {} {} [{}]", z.insn.length, zydis_mnemonic(z),
                       ZydisISASetGetString(z.insn.meta.isa_set));
    for (unsigned n = 0; n < z.insn.operand_count_visible; ++n) {
        const Operand none{};
        out += fmt::format(", {}", operand_text(z.operands[n], n < i.operand_count ? i[n] : none, i));
    }
    return out + "\n";
}

/// Zydis hides the operands of string instructions and XLAT; each of ours must be among them. Where there are two
/// memory operands our descriptor is the source's.
std::string compare_hidden(const Insn& i, const Reading& z) {
    if (z.insn.operand_count_visible != 0) return "operand count";
    unsigned memory_operands = 0;
    for (const Operand& o : i.operands) memory_operands += o.kind == OperandKind::Mem;
    for (unsigned n = 0; n < i.operand_count; ++n) {
        bool found = memory_operands == 2;
        for (unsigned k = 0; k < z.insn.operand_count; ++k)
            if (operand_text(z.operands[k], i[n], i) == operand_text(i, i[n])) found = true;
        if (!found) return fmt::format("hidden operand {}", n);
    }
    return {};
}

std::string compare_operands(const Insn& i, const Reading& z) {
    if (row(i.row).has(attr::String) || i.op == Op::XLAT) return compare_hidden(i, z);
    if (i.op == Op::NOP && i.has_modrm) return {};  // Zydis gives hint NOPs various operands
    unsigned ours = 0;
    unsigned theirs = 0;
    // "FCOM ST(i)" in the SDM, "fcom st0, st1" in Zydis.
    if (row(i.row).has(attr::X87) && z.insn.operand_count_visible == i.operand_count + 1u) theirs = 1;
    while (ours < i.operand_count && theirs < z.insn.operand_count_visible) {
        if (operand_text(i, i[ours]) != operand_text(z.operands[theirs], i[ours], i))
            return fmt::format("operand {}", ours);
        ++ours;
        ++theirs;
    }
    if (ours != i.operand_count || theirs != z.insn.operand_count_visible) return "operand count";
    return {};
}

/// Where no operand has the operand size, Zydis reports a width of its own choice.
bool depends_on_operand_size(const Insn& i) {
    const Encoding& e = encodings()[i.row];
    if (i.op == Op::NOP) return false;
    bool any = e.row.has(attr::Default64 | attr::Force64);
    for (unsigned n = 0; n < e.operand_count; ++n) {
        const OperandSpec& s = operand_spec(e.operands[n]);
        for (const Size size : {s.register_size, s.memory_size})
            any |= size.rule == SizeRule::V || size.rule == SizeRule::Far || size.rule == SizeRule::Pair;
    }
    return any;
}

/// Where the parts are that the translator patches: REX or VEX, opcode.
bool is_layout_equal(const Insn& i, const Reading& z) {
    const auto& raw = z.insn.raw;
    if (i.has_modrm && i.opcode_offset + 1 != i.modrm_offset) return false;
    if (i.bytes[i.opcode_offset] != z.insn.opcode) return false;
    if (z.insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        const unsigned rex = 0x40u | unsigned{raw.vex.W} << 3;
        return i.vex == raw.vex.size && i.prefix_count == raw.vex.offset && (i.rex & 0x48) == rex &&
               i.opcode_offset == i.prefix_count + i.vex && i.vex_l == raw.vex.L;
    }
    if (i.vex != 0 || i.vex_l != 0) return false;
    if ((z.insn.attributes & ZYDIS_ATTRIB_HAS_REX) == 0) return i.rex == 0;
    const unsigned rex = 0x40u | unsigned{raw.rex.W} << 3 | unsigned{raw.rex.R} << 2 | unsigned{raw.rex.X} << 1 | raw.rex.B;
    return i.rex == rex && i.prefix_count == raw.rex.offset;
}

std::string compare_fields(const Insn& i, const Reading& z) {
    const auto& raw = z.insn.raw;
    if (i.length != z.insn.length) return "length";
    if (mnemonic_text(i) != zydis_mnemonic(z) && op_name(i.op) != zydis_mnemonic(z)) return "mnemonic";
    if (std::string w = compare_operands(i, z); !w.empty()) return w;
    if (i.addr_size * 8 != z.insn.address_width) return "address size";
    if (i.has_modrm && i.modrm_offset != raw.modrm.offset) return "modrm offset";
    if (i.disp_size * 8 != raw.disp.size || (i.disp_size != 0 && i.disp_offset != raw.disp.offset)) return "disp";
    if (i.imm_size * 8 != raw.imm[0].size || (i.imm_size != 0 && i.imm_offset != raw.imm[0].offset)) return "imm";
    if (!is_layout_equal(i, z)) return "layout";
    if (i.lock != ((z.insn.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0)) return "lock";
    if (depends_on_operand_size(i) && i.op_size * 8 != z.insn.operand_width) return "operand size";
    return {};
}

// ---- where Zydis differs, and why we do not follow

struct Known {
    Op op;
    std::string_view what;
    bool (*when)(const Insn&);
    std::string_view why;
};

constexpr bool always(const Insn&) { return true; }
constexpr bool wide(const Insn& i) { return (i.rex & 8) != 0; }
constexpr bool small(const Insn& i) { return i.op_size == 2; }
constexpr bool rex_b(const Insn& i) { return (i.rex & 1) != 0; }
constexpr bool no_operands(const Insn& i) { return i.operand_count == 0; }

constexpr std::string_view kXmm0 = "SDM lists <XMM0> as an operand";
constexpr std::string_view kLine = "SDM \"CLFLUSH\": m8; Zydis gives the size of a cache line";
constexpr std::string_view kMask = "SDM: r32 or r64, the upper bits are zero: the same instruction";
constexpr std::string_view kRax = "SDM 3C and APM 3 name the registers, no operand is encoded";

constexpr Known kKnown[] = {
    {Op::PBLENDVB, "operand count", always, kXmm0},
    {Op::BLENDVPS, "operand count", always, kXmm0},
    {Op::BLENDVPD, "operand count", always, kXmm0},
    {Op::SHA256RNDS2, "operand count", always, kXmm0},
    {Op::CLFLUSH, "operand 0", always, kLine},
    {Op::CLFLUSHOPT, "operand 0", always, kLine},
    {Op::CLWB, "operand 0", always, kLine},
    {Op::MOVMSKPS, "operand 0", wide, kMask},
    {Op::MOVMSKPD, "operand 0", wide, kMask},
    {Op::PMOVMSKB, "operand 0", wide, kMask},
    {Op::PEXTRW, "operand 0", wide, kMask},
    {Op::VMOVMSKPS, "operand 0", wide, kMask},
    {Op::VMOVMSKPD, "operand 0", wide, kMask},
    {Op::VPMOVMSKB, "operand 0", wide, kMask},
    {Op::VPEXTRW, "operand 0", wide, kMask},
    {Op::VMRUN, "operand count", no_operands, kRax},
    {Op::VMLOAD, "operand count", no_operands, kRax},
    {Op::VMSAVE, "operand count", no_operands, kRax},
    {Op::SKINIT, "operand count", no_operands, kRax},
    {Op::INVLPGA, "operand count", no_operands, kRax},
    {Op::MOVSXD, "operand 1", small, "SDM \"MOVSX/MOVSXD\": with 16-bit operands r16, r/m16"},
    {Op::XCHG, "mnemonic", rex_b, "F3 41 90 exchanges (SDM \"XCHG\": 90+r with REX.B names R8); processors agree"},
};

/// SDM 2A "32-Bit Addressing Forms with the SIB Byte": base 101B with mod 00B is a displacement and no base, R13
/// included. Zydis 4.0 gives R13D for it with a 67 prefix.
bool is_r13d_base(const Insn& i, std::string_view what) {
    return what.starts_with("operand ") && i.mode == CodeMode::Bits64 && i.addr_size == 4 && rex_b(i) &&
           (i.modrm & 0xc7) == 4 && (i.bytes[i.modrm_offset + 1] & 7) == 5;
}

bool is_known(const Insn& i, std::string_view what) {
    return std::any_of(std::begin(kKnown), std::end(kKnown),
                       [&](const Known& k) { return k.op == i.op && k.what == what && k.when(i); });
}

/// Zydis refuses VSIB instructions whose registers coincide; for us that is the executor's #UD.
bool vsib_registers_coincide(const Insn& i) {
    if (!row(i.row).has(attr::Vsib)) return false;
    return i[0].reg == i[2].reg || i[0].reg == i.index || i[2].reg == i.index;
}

}  // namespace

Difference compare_with_zydis(std::span<const u8> bytes, CodeMode mode) {
    Insn i;
    const DecodeStatus status = decode(bytes, mode, i);
    const Reading z = read(bytes, mode);
    const bool ok = status == DecodeStatus::Ok;
    std::string what;
    if (!ok && z.ok) {
        if (is_evex(z) || is_absent(z.insn.meta.isa_set)) return {};
        what = status == DecodeStatus::Invalid ? "we say invalid" : "we say too long";
    } else if (ok && !z.ok) {
        if (!vsib_registers_coincide(i)) what = "zydis says invalid";
    } else if (ok) {
        what = compare_fields(i, z);
    }
    if (what.empty() || is_known(i, what) || is_r13d_base(i, what)) return {};
    return {what, describe(bytes, mode, i, z)};
}

}  // namespace vg::cpu
