#include "jit/classify.h"

#include <array>

#include "base/assert.h"

namespace vg::jit {

namespace {

using cpu::Insn;
using Table = std::array<Class, 256>;

constexpr Class rm(Role reg, Role r_m, u8 reg_size = 0, u8 rm_size = 0) {
    return {.emit = Emit::ModRm, .reg = reg, .rm = r_m, .reg_size = reg_size, .rm_size = rm_size};
}

constexpr Table make_one_byte() {
    using enum Role;
    Table t{};
    for (unsigned group = 0; group < 8; ++group) {
        const Role to = group == 7 ? Read : Both;
        const unsigned base = group * 8;
        t[base + 0] = rm(Read, to, 1, 1);
        t[base + 1] = rm(Read, to);
        t[base + 2] = rm(to, Read, 1, 1);
        t[base + 3] = rm(to, Read);
        t[base + 4] = {.emit = Emit::Plain};
        t[base + 5] = {.emit = Emit::Plain};
    }
    for (unsigned r = 0; r < 8; ++r) {
        t[0x50 + r] = {.emit = Emit::Push};
        t[0x58 + r] = {.emit = Emit::Pop};
        t[0x90 + r] = {.emit = Emit::XchgAcc};
        t[0xb0 + r] = {.emit = Emit::MovImm, .rm_size = 1};
        t[0xb8 + r] = {.emit = Emit::MovImm};
    }
    for (unsigned c = 0; c < 16; ++c) t[0x70 + c] = {.emit = Emit::Jcc};
    t[0x63] = rm(Write, Read, 0, 4);
    t[0x68] = t[0x6a] = {.emit = Emit::PushImm};
    t[0x69] = t[0x6b] = rm(Write, Read);
    t[0x80] = rm(None, Both, 0, 1);
    t[0x81] = t[0x83] = rm(None, Both);
    t[0x84] = rm(Read, Read, 1, 1);
    t[0x85] = rm(Read, Read);
    t[0x86] = rm(Both, Both, 1, 1);
    t[0x87] = rm(Both, Both);
    t[0x86].registers_only = t[0x87].registers_only = true;
    t[0x88] = rm(Read, Write, 1, 1);
    t[0x89] = rm(Read, Write);
    t[0x8a] = rm(Write, Read, 1, 1);
    t[0x8b] = rm(Write, Read);
    t[0x8d] = {.emit = Emit::Lea};
    t[0x98] = t[0x99] = t[0xa8] = t[0xa9] = {.emit = Emit::Plain};
    t[0xa0] = t[0xa2] = {.emit = Emit::MovAbs, .rm_size = 1};
    t[0xa1] = t[0xa3] = {.emit = Emit::MovAbs};
    t[0xc0] = rm(None, Both, 0, 1);
    t[0xc1] = rm(None, Both);
    t[0xc2] = t[0xc3] = {.emit = Emit::Ret};
    t[0xc6] = rm(None, Write, 0, 1);
    t[0xc7] = rm(None, Write);
    t[0xc9] = {.emit = Emit::Leave};
    t[0xd0] = t[0xd2] = rm(None, Both, 0, 1);
    t[0xd1] = t[0xd3] = rm(None, Both);
    t[0xd2].reads_flags_if_cl = t[0xd3].reads_flags_if_cl = true;
    t[0xe8] = {.emit = Emit::Call};
    t[0xe9] = t[0xeb] = {.emit = Emit::Jmp};
    t[0xf5] = t[0xf8] = t[0xf9] = {.emit = Emit::Plain};
    t[0xf6] = rm(None, Both, 0, 1);
    t[0xf7] = rm(None, Both);
    t[0xfe] = rm(None, Both, 0, 1);
    t[0xff] = rm(None, Both);
    return t;
}

constexpr Table make_two_byte() {
    using enum Role;
    Table t{};
    for (unsigned c = 0; c < 16; ++c) {
        t[0x40 + c] = rm(Both, Read);
        t[0x80 + c] = {.emit = Emit::Jcc};
        t[0x90 + c] = rm(None, Write, 0, 1);
    }
    for (unsigned r = 0; r < 8; ++r) t[0xc8 + r] = {.emit = Emit::Bswap};
    t[0x0d] = {.emit = Emit::Nothing};
    for (unsigned o = 0x18; o <= 0x1f; ++o) t[o] = {.emit = Emit::Nothing};
    // Bit strings in memory reach beyond the operand; in a register the offset is taken modulo its size.
    t[0xa3] = rm(Read, Read);
    t[0xab] = t[0xb3] = t[0xbb] = rm(Read, Both);
    for (const unsigned o : {0xa3u, 0xabu, 0xb3u, 0xbbu}) t[o].bit_string = t[o].registers_only = true;
    t[0xa4] = t[0xac] = rm(Read, Both);
    t[0xa5] = t[0xad] = rm(Read, Both);
    t[0xa5].reads_flags_if_cl = t[0xad].reads_flags_if_cl = true;
    t[0xaf] = rm(Both, Read);
    t[0xb0] = rm(Read, Both, 1, 1);
    t[0xb1] = rm(Read, Both);
    t[0xb6] = t[0xbe] = rm(Write, Read, 0, 1);
    t[0xb7] = t[0xbf] = rm(Write, Read, 0, 2);
    t[0xb8] = rm(Write, Read);
    t[0xba] = rm(None, Both);
    t[0xbc] = t[0xbd] = rm(Both, Read);
    t[0xc0] = rm(Both, Both, 1, 1);
    t[0xc1] = rm(Both, Both);
    t[0xc0].registers_only = t[0xc1].registers_only = true;
    t[0xc3] = rm(Read, Write);
    return t;
}

constexpr Table kOneByte = make_one_byte();
constexpr Table kTwoByte = make_two_byte();

Class group(Class c, const Insn& i, u8 map, u8 opcode) {
    const unsigned digit = (i.modrm >> 3) & 7;
    if (map == 0) {
        switch (opcode) {
            case 0x80:
            case 0x81:
            case 0x83:
                if (digit == 7) c.rm = Role::Read;
                break;
            case 0xc6:
            case 0xc7:
                if (digit != 0) c.emit = Emit::Helper;
                break;
            case 0xf6:
            case 0xf7:
                if (digit < 2 || digit == 4 || digit == 5) c.rm = Role::Read;
                if (digit >= 6) c.emit = Emit::Divide;
                break;
            case 0xff:
                if (digit == 2) c.emit = Emit::CallRm;
                if (digit == 4) c.emit = Emit::JmpRm;
                if (digit == 6) c.emit = Emit::PushRm;
                if (digit == 3 || digit == 5) c.emit = Emit::Helper;
                break;
            default:
                break;
        }
    } else if (opcode == 0xba && digit == 4) {
        c.rm = Role::Read;
    }
    return c;
}

Class classify_vector(const cpu::Row& r) {
    constexpr u32 kVector = cpu::attr::Sse | cpu::attr::Avx;
    constexpr u32 kOther = cpu::attr::X87 | cpu::attr::HostDependent | cpu::attr::Vsib;
    if (r.how != cpu::How::Host || !r.has(kVector | cpu::attr::Mmx) || r.has(kOther)) return {};
    return {.emit = Emit::Vector, .uses_vectors = r.has(kVector), .uses_x87 = r.has(cpu::attr::Mmx)};
}

Class classify_x87(const Insn& i) {
    using cpu::Op;
    switch (i.op) {
        case Op::FWAIT:
        case Op::FENI8087_NOP:
        case Op::FDISI8087_NOP:
        case Op::FSETPM287_NOP:
            return {.emit = Emit::Nothing, .uses_x87 = true};
        case Op::FNSTENV:
        case Op::FLDENV:
        case Op::FNSAVE:
        case Op::FRSTOR:
            return {};
        default:
            return {.emit = Emit::X87, .uses_x87 = true};
    }
}

Class classify_0f38(const Insn& i, const cpu::Row& r) {
    using enum Role;
    const u8 opcode = i.bytes[i.opcode_offset];
    switch (i.op) {
        case cpu::Op::MOVBE:
            return opcode == 0xf0 ? rm(Write, Read) : rm(Read, Write);
        case cpu::Op::CRC32:
            return rm(Both, Read, i[0].size, i[1].size);
        case cpu::Op::ADCX:
        case cpu::Op::ADOX:
            return rm(Both, Read);
        default:
            return classify_vector(r);
    }
}

bool is_vex_gpr(cpu::Op op) {
    using cpu::Op;
    switch (op) {
        case Op::ANDN:
        case Op::BEXTR:
        case Op::BLSI:
        case Op::BLSMSK:
        case Op::BLSR:
        case Op::BZHI:
        case Op::MULX:
        case Op::PDEP:
        case Op::PEXT:
        case Op::RORX:
        case Op::SARX:
        case Op::SHLX:
        case Op::SHRX:
            return true;
        default:
            return false;
    }
}

bool may_be_unaligned(cpu::Op op) {
    switch (op) {
        case cpu::Op::MOVUPS:
        case cpu::Op::MOVUPD:
        case cpu::Op::MOVDQU:
        case cpu::Op::LDDQU:
        case cpu::Op::PCMPESTRI:
        case cpu::Op::PCMPESTRM:
        case cpu::Op::PCMPISTRI:
        case cpu::Op::PCMPISTRM:
            return true;
        default:
            return false;
    }
}

}  // namespace

unsigned vector_alignment(const Insn& i) {
    const cpu::Operand* operand = i.memory_operand();
    if (operand == nullptr) return 1;
    const bool aligned = cpu::row(i.row).has(cpu::attr::AlignedMem) ||
                         (i.vex == 0 && operand->size == 16 && !may_be_unaligned(i.op));
    return aligned ? operand->size : 1;
}

u8 opcode_map(const cpu::Row& row) {
    using cpu::OpcodeMap;
    switch (row.map) {
        case OpcodeMap::One:
            return 0;
        case OpcodeMap::M0F:
        case OpcodeMap::Vex0F:
            return 1;
        case OpcodeMap::M0F38:
        case OpcodeMap::Vex0F38:
            return 2;
        case OpcodeMap::M0F3A:
        case OpcodeMap::Vex0F3A:
            return 3;
        case OpcodeMap::Count:
            break;
    }
    VG_UNREACHABLE();
}

Class classify(const Insn& i, const cpu::Row& r) {
    if (i.vex != 0) return is_vex_gpr(i.op) ? Class{.emit = Emit::VexGpr} : classify_vector(r);
    if (r.has(cpu::attr::X87)) return classify_x87(i);
    if (r.how == cpu::How::Host) return classify_vector(r);
    switch (i.op) {
        case cpu::Op::CLI:
            return {.emit = Emit::Cli};
        case cpu::Op::STI:
            return {.emit = Emit::Sti};
        case cpu::Op::SERIALIZE:  // stores to code have their effect at once
            return {.emit = Emit::Nothing};
        case cpu::Op::PAUSE:
            return {.emit = Emit::Pause};
        case cpu::Op::RDTSC:
        case cpu::Op::RDTSCP:
            return {.emit = Emit::ReadTime};
        case cpu::Op::MOV_CR:
            return {.emit = i[0].kind == cpu::OperandKind::Gpr ? Emit::ReadCr : Emit::Helper};
        case cpu::Op::CLD:
        case cpu::Op::STD:
            return {.emit = Emit::DirectionFlag};
        case cpu::Op::PUSHFQ:
            return {.emit = Emit::Pushf};
        case cpu::Op::SWAPGS:
            return {.emit = Emit::Swapgs};
        case cpu::Op::MOVS:
        case cpu::Op::STOS:
        case cpu::Op::LODS:
        case cpu::Op::SCAS:
        case cpu::Op::CMPS:
            return {.emit = Emit::String};
        case cpu::Op::LFENCE:
        case cpu::Op::MFENCE:
        case cpu::Op::SFENCE:
            return {.emit = Emit::Plain};
        case cpu::Op::CMPXCHG16B:
            return rm(Role::None, Role::Both, 0, 16);
        case cpu::Op::CMPXCHG8B:
            return rm(Role::None, Role::Both, 0, 8);
        default:
            break;
    }
    const u8 opcode = i.bytes[i.opcode_offset];
    switch (opcode_map(r)) {
        case 0: {
            if (opcode == 0x90 && (i.rex & 1) == 0) return {.emit = Emit::Nothing};
            return group(kOneByte[opcode], i, 0, opcode);
        }
        case 1: {
            if (opcode == 0xb8 && i.op != cpu::Op::POPCNT) return {};
            if (opcode >= 0x18 && opcode <= 0x1f && i.op != cpu::Op::NOP && i.op != cpu::Op::PREFETCHNTA &&
                i.op != cpu::Op::PREFETCHT0 && i.op != cpu::Op::PREFETCHT1 && i.op != cpu::Op::PREFETCHT2)
                return {};
            Class c = group(kTwoByte[opcode], i, 1, opcode);
            // TZCNT and LZCNT always write their destination; BSF and BSR of zero keep it.
            if (i.op == cpu::Op::TZCNT || i.op == cpu::Op::LZCNT) c.reg = Role::Write;
            return c;
        }
        case 2:
            return classify_0f38(i, r);
        default:
            return classify_vector(r);
    }
}

}  // namespace vg::jit
