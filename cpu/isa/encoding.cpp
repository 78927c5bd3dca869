// The opcode maps, compiled into rows.
#include "cpu/isa/encoding.h"

#include <iterator>

namespace vg::cpu {

namespace {

using namespace where;
using namespace attr;

// ---- operand letters

constexpr Size V{SizeRule::V}, Z{SizeRule::Z}, Y{SizeRule::Y}, Nat{SizeRule::Nat}, X{SizeRule::X};
constexpr Size Half{SizeRule::Half}, Quarter{SizeRule::Quarter}, Eighth{SizeRule::Eighth};
constexpr Size Far{SizeRule::Far}, Table{SizeRule::Table}, Pair{SizeRule::Pair};
constexpr Size size_of(Size s) { return s; }
constexpr Size size_of(int bytes) { return {SizeRule::Fixed, static_cast<u8>(bytes)}; }

constexpr OperandSpec kOperandSpecs[] = {
    {},
#define OPERAND(name, source, file, register_size, memory_size) \
    {OperandSource::source, RegisterFile::file, size_of(register_size), size_of(memory_size)},
#include "cpu/isa/operands.def"
#undef OPERAND
};
static_assert(std::size(kOperandSpecs) == static_cast<std::size_t>(OperandType::Count));

constexpr const OperandSpec& spec(OperandType type) { return kOperandSpecs[static_cast<unsigned>(type)]; }

// ---- columns of a row

struct Flags {
    u16 read = 0, written = 0, undefined = 0;
};

constexpr u16 flag_bits(const char* letters) {
    unsigned bits = 0;
    for (; *letters != 0; ++letters) {
        switch (*letters) {
            case 'c':
                bits |= 1u << 0;
                break;
            case 'p':
                bits |= 1u << 2;
                break;
            case 'a':
                bits |= 1u << 4;
                break;
            case 'z':
                bits |= 1u << 6;
                break;
            case 's':
                bits |= 1u << 7;
                break;
            case 'd':
                bits |= 1u << 10;
                break;
            case 'o':
                bits |= 1u << 11;
                break;
            default:
                bits |= 1u << 16;
                break;  // does not fit: rejected by the narrowing below
        }
    }
    return u16{bits < 0x10000 ? static_cast<u16>(bits) : throw "unknown flag letter"};
}

/// Flags tested; given a defined value; left undefined.
constexpr Flags flags(const char* read, const char* written, const char* undefined = "") {
    return {flag_bits(read), flag_bits(written), flag_bits(undefined)};
}
constexpr Flags none{};
constexpr Flags arith = flags("", "oszapc");
constexpr Flags logic = flags("", "oszpc", "a");

struct Operands {
    OperandType type[4] = {};
    u8 count = 0;
};
template <class... T>
constexpr Operands operands_of(T... types) {
    return {{types...}, sizeof...(types)};
}

constexpr u32 RW = ReadsDest;        // the first operand is read and written
constexpr u32 RO = NoWriteDest;      // the first operand is only read
constexpr u32 Unaligned = 1u << 31;  // a legacy SSE form without alignment check; does not leave this file
constexpr u32 Plain = 0;

constexpr u32 attributes_of(OpcodeMap map, u8 opcode, Set set, const Operands& operands) {
    u32 out = 0;
    const bool vex = map >= OpcodeMap::Vex0F;
    for (unsigned n = 0; n < operands.count; ++n) {
        const OperandSpec& s = spec(operands.type[n]);
        const bool xmm = s.file == RegisterFile::Xmm || s.file == RegisterFile::Ymm || s.file == RegisterFile::Vector;
        if (xmm) out |= vex ? Avx : Sse;
        if (s.file == RegisterFile::Mm) out |= Mmx;
        if (s.source == OperandSource::RmVsib) out |= Vsib;
        if (s.source == OperandSource::StringSource || s.source == OperandSource::StringDestination) out |= String;
    }
    switch (operands.count == 0 ? OperandSource::None : spec(operands.type[0]).source) {
        case OperandSource::Immediate:
        case OperandSource::SignedByte:
        case OperandSource::Relative:
        case OperandSource::FarPointer:
            out |= NoWriteDest;
            break;
        default:
            break;
    }
    if (map == OpcodeMap::One && opcode >= 0xd8 && opcode <= 0xdf) out |= X87;
    if ((set & IN64) != 0) out |= Only64;
    if ((set & NOT64) != 0) out |= No64;
    // SDM 1 "Memory Alignment Requirements": 128-bit operands of legacy SSE, unless the instruction says otherwise.
    if ((out & Sse) != 0)
        for (unsigned n = 0; n < operands.count; ++n) {
            const Size size = spec(operands.type[n]).memory_size;
            if (size.bytes == 16 || size.rule == SizeRule::X) out |= AlignedMem;
        }
    return out;
}

constexpr Encoding make(OpcodeMap map, u8 opcode, Set set, Op op, How how, const Operands& operands, const Flags& f,
                        u32 attributes, Feature feature) {
    Encoding e;
    u32 all = attributes | attributes_of(map, opcode, set, operands);
    if ((all & Unaligned) != 0) all &= ~(Unaligned | AlignedMem);
    e.row = {op, how, feature, map, opcode, all, f.read, f.written, f.undefined};
    constexpr Set kModrmFields = MEM | REG | Set{0xffff} << 8;
    e.has_modrm = (set & kModrmFields) != 0;
    for (unsigned n = 0; n < operands.count; ++n) {
        e.operands[n] = operands.type[n];
        switch (spec(operands.type[n]).source) {
            case OperandSource::RmRegister:
                set |= REG;
                e.has_modrm = true;
                break;
            case OperandSource::RmMemory:
            case OperandSource::RmVsib:
                set |= MEM;
                e.has_modrm = true;
                break;
            case OperandSource::Reg:
            case OperandSource::Rm:
                e.has_modrm = true;
                break;
            case OperandSource::RmAlways:
                e.register_only = e.has_modrm = true;
                break;
            case OperandSource::Vvvv:
                e.uses_vvvv = true;
                break;
            default:
                break;
        }
    }
    e.operand_count = operands.count;
    constexpr Set kPrefixes = NP | P66 | PF3 | PF2;
    e.consumes_66 = (set & kPrefixes) == P66;
    e.where = set;
    return e;
}

namespace hows {
#define OP_BODY(name) constexpr How name = How::Body;
#define OP_FAMILY(name)
#define OP_AS(name, body) constexpr How name = How::Body;
#define OP_HOST(name) constexpr How name = How::Host;
#include "cpu/isa/ops.def"
#undef OP_BODY
#undef OP_FAMILY
#undef OP_AS
#undef OP_HOST
}  // namespace hows

using enum OperandType;

#define ROW(map, opcode, set, op, operands, flags, attributes, feature) \
    make(OpcodeMap::map, opcode, set, Op::op, hows::op, operands_of operands, flags, attributes, Feature::feature),

#define INSN_256(opcode, set, op, operands, flags, attributes)     \
    INSN(opcode, (set) | L0, op, operands, flags, attributes, Avx) \
    INSN(opcode, (set) | L1, op, operands, flags, attributes, Avx2)

constexpr Encoding kEncodings[] = {
    Encoding{},
#define INSN(...) ROW(One, __VA_ARGS__)
#include "cpu/isa/one_byte.def"
#include "cpu/isa/x87.def"
#undef INSN
#define INSN(...) ROW(M0F, __VA_ARGS__)
#include "cpu/isa/map_0f.def"
#include "cpu/isa/map_0f_simd.def"
#undef INSN
#define INSN(...) ROW(M0F38, __VA_ARGS__)
#include "cpu/isa/map_0f38.def"
#undef INSN
#define INSN(...) ROW(M0F3A, __VA_ARGS__)
#include "cpu/isa/map_0f3a.def"
#undef INSN
#define INSN(...) ROW(Vex0F, __VA_ARGS__)
#include "cpu/isa/vex_0f.def"
#undef INSN
#define INSN(...) ROW(Vex0F38, __VA_ARGS__)
#include "cpu/isa/vex_0f38.def"
#undef INSN
#define INSN(...) ROW(Vex0F3A, __VA_ARGS__)
#include "cpu/isa/vex_0f3a.def"
#undef INSN
};
static_assert(std::size(kEncodings) < 0x10000);

}  // namespace

std::span<const OperandSpec> operand_specs() { return kOperandSpecs; }
std::span<const Encoding> encodings() { return kEncodings; }
const Row& row(u16 index) { return kEncodings[index < std::size(kEncodings) ? index : 0].row; }
u16 row_count() { return static_cast<u16>(std::size(kEncodings)); }

}  // namespace vg::cpu
