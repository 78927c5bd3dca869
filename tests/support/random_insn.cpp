#include "tests/support/random_insn.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/bits.h"
#include "cpu/decode.h"
#include "cpu/isa/encoding.h"
#include "cpu/ops/fpu.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;

namespace {

/// Instructions that the operating system, the clock or the machine takes part in.
bool excluded(Op op) {
    switch (op) {
        case Op::MOV_SREG: case Op::PUSH_SREG: case Op::POP_SREG: case Op::LDS: case Op::LES: case Op::LFS: case Op::LGS:
        case Op::LSS: case Op::LAR: case Op::LSL: case Op::VERR: case Op::VERW: case Op::ARPL: case Op::SGDT:
        case Op::SIDT: case Op::SLDT: case Op::STR: case Op::SMSW: case Op::CALL_FAR: case Op::JMP_FAR:
        case Op::RET_FAR: case Op::INT: case Op::INT1: case Op::INT3: case Op::INTO: case Op::IRET: case Op::IRETD:
        case Op::IRETQ: case Op::SYSCALL: case Op::SYSRET: case Op::SYSENTER: case Op::SYSEXIT: case Op::UD0:
        case Op::UD1: case Op::UD2: case Op::POPF: case Op::POPFD: case Op::POPFQ: case Op::PUSHF: case Op::PUSHFD:
        case Op::PUSHFQ: case Op::IN: case Op::OUT: case Op::INS: case Op::OUTS: case Op::CPUID: case Op::RDTSC:
        case Op::RDTSCP: case Op::RDPID: case Op::RDPMC: case Op::RDRAND: case Op::RDSEED: case Op::RDPKRU:
        case Op::WRPKRU: case Op::RDFSBASE: case Op::RDGSBASE: case Op::WRFSBASE: case Op::WRGSBASE:
        case Op::XGETBV: case Op::FXSAVE: case Op::FXSAVE64: case Op::FXRSTOR: case Op::FXRSTOR64: case Op::XSAVE:
        case Op::XSAVE64: case Op::XSAVEOPT: case Op::XSAVEOPT64: case Op::XSAVEC: case Op::XSAVEC64:
        case Op::XRSTOR: case Op::XRSTOR64: case Op::FNSTENV: case Op::FNSAVE: case Op::CLI: case Op::STI:
        case Op::LMSW: case Op::RSM: case Op::MONITOR: case Op::MWAIT: case Op::SERIALIZE:
        case Op::CLAC: case Op::STAC: case Op::LLDT: case Op::LTR: case Op::XSETBV: case Op::MOV_DR: case Op::INVPCID:
            return true;
        default: return false;
    }
}

bool usable(const Encoding& e, const CpuModel& model) {
    const Row& r = e.row;
    if (r.op == Op::Invalid || excluded(r.op)) return false;
    if ((r.attributes & (attr::Privileged | attr::Hypervisor | attr::No64)) != 0) return false;
    if ((e.where & where::NOT64) != 0 || (e.where & where::A16) != 0) return false;
    // 0F 0D with a register: Intel's NOP, AMD's invalid opcode.
    if (r.op == Op::NOP && r.opcode == 0x0d) return false;
    return r.feature == Feature::Base || model.has(r.feature) || r.has(attr::ElseBase);
}

/// A random member of the set bits [first, first+count) of `set`, or of all if none is set.
unsigned pick(Random& random, where::Set set, unsigned first, unsigned count) {
    unsigned members[16], n = 0;
    for (unsigned k = 0; k < count; ++k)
        if (((set >> (first + k)) & 1) != 0) members[n++] = k;
    return n == 0 ? static_cast<unsigned>(random.below(count)) : members[random.below(n)];
}

constexpr unsigned kPrefixShift = 0, kFormShift = 4, kRegShift = 8, kRmShift = 16, kWShift = 24, kLShift = 26,
                   kBShift = 40;

class Builder {
  public:
    Builder(Random& r, const Encoding& e) : random(r), encoding(e) {}

    std::vector<u8> build() {
        legacy_prefixes();
        if (encoding.row.map >= OpcodeMap::Vex0F)
            vex();
        else
            rex_and_escapes();
        bytes.push_back(encoding.row.opcode);
        if (encoding.has_modrm) modrm();
        for (int n = 0; n < 8; ++n) bytes.push_back(random.chance(30) ? random.byte() & 0x1f : random.byte());
        bytes.resize(std::max<std::size_t>(bytes.size(), kMaxInsnLength));
        return bytes;
    }

  private:
    [[nodiscard]] bool any(unsigned shift, unsigned count) const { return ((encoding.where >> shift) & low_mask(count)) == 0; }
    [[nodiscard]] bool vex_map() const { return encoding.row.map >= OpcodeMap::Vex0F; }

    void legacy_prefixes() {
        const Row& r = encoding.row;
        if (random.chance(6) || (encoding.where & where::A32) != 0) bytes.push_back(0x67);
        segment();
        if (vex_map()) return;
        const bool o16 = (encoding.where & where::O16) != 0;
        unsigned prefix = 0;
        if (!any(kPrefixShift, 4))
            prefix = pick(random, encoding.where, kPrefixShift, 4);
        else if (r.has(attr::String))
            prefix = random.chance(50) ? 2 + static_cast<unsigned>(random.below(2)) : 0;
        else if (random.chance(20))
            prefix = 1;
        // AMD truncates the target of a near branch with 66 in 64-bit mode, Intel ignores the prefix.
        if (r.has(attr::Force64) && prefix == 1) prefix = 0;
        if (o16 || prefix == 1 || (r.has(attr::String) && random.chance(20))) bytes.push_back(0x66);
        if (prefix >= 2) bytes.push_back(prefix == 2 ? 0xf3 : 0xf2);
        if (r.has(attr::Lockable) && random.chance(20)) bytes.push_back(0xf0);
    }

    /// FS and GS count; the others change nothing in 64-bit mode, behind FS or GS too.
    void segment() {
        static constexpr u8 kCounting[] = {0x64, 0x65}, kOthers[] = {0x26, 0x2e, 0x36, 0x3e};
        if (random.chance(8)) bytes.push_back(kCounting[random.below(std::size(kCounting))]);
        // Before a conditional jump they are hints, before an indirect one 3E is NOTRACK: nothing either.
        if (random.chance(4)) bytes.push_back(kOthers[random.below(std::size(kOthers))]);
    }

    void rex_and_escapes() {
        u8 rex = 0;
        const bool o64 = (encoding.where & where::O64) != 0;
        if (o64 || !any(kWShift, 2) || !any(kBShift, 2) || random.chance(60)) {
            rex = static_cast<u8>(0x40 | random.below(16));
            if (o64) rex |= 8;
            if (!any(kWShift, 2)) rex = static_cast<u8>((rex & ~8u) | pick(random, encoding.where, kWShift, 2) << 3);
            if (!any(kBShift, 2)) rex = static_cast<u8>((rex & ~1u) | pick(random, encoding.where, kBShift, 2));
        }
        if (rex != 0) bytes.push_back(rex);
        if (encoding.row.map != OpcodeMap::One) bytes.push_back(0x0f);
        if (encoding.row.map == OpcodeMap::M0F38) bytes.push_back(0x38);
        if (encoding.row.map == OpcodeMap::M0F3A) bytes.push_back(0x3a);
    }

    void vex() {
        const unsigned map = static_cast<unsigned>(encoding.row.map) - static_cast<unsigned>(OpcodeMap::Vex0F) + 1;
        const unsigned w = pick(random, encoding.where, kWShift, 2), l = pick(random, encoding.where, kLShift, 2);
        const unsigned pp = pick(random, encoding.where, kPrefixShift, 4);
        const unsigned vvvv = encoding.uses_vvvv ? static_cast<unsigned>(random.below(16)) : 15;
        const u8 last = static_cast<u8>(vvvv << 3 | l << 2 | pp);
        if (map == 1 && w == 0 && random.chance(50)) {
            bytes.insert(bytes.end(), {0xc5, static_cast<u8>(last | (random.byte() & 0x80))});
            return;
        }
        bytes.insert(bytes.end(), {0xc4, static_cast<u8>((random.byte() & 0xe0) | map), static_cast<u8>(last | w << 7)});
    }

    void modrm() {
        const unsigned form = pick(random, encoding.where, kFormShift, 2);
        const unsigned mod = form == 0 ? static_cast<unsigned>(random.below(3)) : 3;
        const unsigned reg = pick(random, encoding.where, kRegShift, 8), rm = pick(random, encoding.where, kRmShift, 8);
        bytes.push_back(static_cast<u8>(mod << 6 | reg << 3 | rm));
        if (mod != 3 && rm == 4) bytes.push_back(random.byte());
    }

    Random& random;
    const Encoding& encoding;
    std::vector<u8> bytes;
};

bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

bool is_float_like(u64 choice) { return choice < 50; }

u64 segment_base(const UserState& s, const Insn& i) {
    return i.seg == Seg::FS ? s.fs_base : i.seg == Seg::GS ? s.gs_base : 0;
}

}  // namespace

CaseGenerator::CaseGenerator(const CpuModel& model, u64 seed, const char* only) : random_(seed) {
    const auto all = encodings();
    for (u16 n = 1; n < all.size(); ++n)
        if (usable(all[n], model) && (*only == 0 || op_name(all[n].row.op) == only)) rows_.push_back(n);
}

u64 CaseGenerator::random_value() {
    const u64 raw = random_.next();
    switch (random_.below(8)) {
        case 0: return raw & 0xf;
        case 1: return raw & 0xff;
        case 2: return 0 - (raw & 0xff);
        case 3: return raw & 0xffffffff;
        case 4: return u64{1} << (raw & 63);
        case 5: return (u64{1} << (raw & 63)) - 1;
        case 6: return 0;
        default: return raw;
    }
}

/// An element of a vector or of memory: integers and all kinds of floating-point numbers.
void CaseGenerator::random_element(u8* at, unsigned size) {
    u64 value = random_value();
    const u64 choice = random_.below(100);
    if (size == 4 && is_float_like(choice)) {
        const u32 sign = static_cast<u32>(random_.next()) & 0x80000000;
        const u32 fraction = random_.chance(30) ? 0 : static_cast<u32>(random_.next()) & 0x7fffff;
        const u32 exponents[] = {0, 0xff, 1, 0xfe, 127, static_cast<u32>(100 + random_.below(56)),
                                 static_cast<u32>(random_.below(256))};
        value = sign | exponents[random_.below(std::size(exponents))] << 23 | fraction;
    } else if (size == 8 && is_float_like(choice)) {
        const u64 sign = random_.next() & (u64{1} << 63);
        const u64 fraction = random_.chance(30) ? 0 : random_.next() & low_mask(52);
        const u64 exponents[] = {0, 0x7ff, 1, 0x7fe, 1023, 990 + random_.below(66), random_.below(2048)};
        value = sign | exponents[random_.below(std::size(exponents))] << 52 | fraction;
    }
    std::memcpy(at, &value, size);
}

void CaseGenerator::fill(u8* data, std::size_t size) {
    for (std::size_t n = 0; n < size; n += 8) {
        const bool wide = random_.chance(50);
        random_element(data + n, wide ? 8 : 4);
        if (!wide) random_element(data + n + 4, 4);
    }
}

void CaseGenerator::random_x87(UserState& s) {
    X87State& x = s.x87;
    x = X87State{};
    const u16 masks = random_.chance(85) ? 0x3f : static_cast<u16>(random_.below(64));
    u16 status = static_cast<u16>(random_.next() & 0x4700);
    status = static_cast<u16>(status | random_.below(8) << 11);
    if (random_.chance(30)) status = static_cast<u16>(status | (random_.below(64) & masks));
    ops::set_x87_control(x, static_cast<u16>(masks | (random_.next() & 0xf00)), status);
    x.ftw = random_.chance(60) ? 0xff : random_.byte();
    for (auto& st : x.st) {
        const u64 sign = random_.next() & 0x8000;
        const u64 exponents[] = {0, 0x7fff, 0x3fff, 0x3fff + random_.below(70) - 5, random_.below(0x8000), 1, 0x7ffe};
        u64 significand = random_.chance(30) ? 0 : random_value();
        if (random_.chance(90)) significand |= u64{1} << 63;
        const u16 top = static_cast<u16>(sign | exponents[random_.below(std::size(exponents))]);
        if (random_.chance(5)) significand = 0;
        std::memcpy(st, &significand, 8);
        std::memcpy(st + 8, &top, 2);
    }
}

void CaseGenerator::random_state(UserState& s) {
    for (u64& r : s.gpr) r = random_value();
    s.rflags = 0x202 | (random_.next() & 0xcd5);
    for (auto& ymm : s.ymm)
        for (unsigned n = 0; n < 32; n += 8) {
            const bool wide = random_.chance(50);
            random_element(ymm + n, wide ? 8 : 4);
            if (!wide) random_element(ymm + n + 4, 4);
        }
    s.mxcsr = 0x1f80;
    if (random_.chance(60)) s.mxcsr |= static_cast<u32>(random_.next()) & 0xe07f;
    if (random_.chance(12)) s.mxcsr = static_cast<u32>(random_.next()) & 0xffff;
    random_x87(s);
    s.gpr[RSP] = random_.chance(85) ? NativeRunner::kData + 0x1000 + (random_.next() & 0x7f8) : random_target(8);
    if (!canonical(s.gpr[RSP])) s.gpr[RSP] = NativeRunner::kData;
}

u64 CaseGenerator::bad_target(unsigned size) {
    const u64 choice = random_.below(100);
    // Not canonical, with any segment base of a user program: Zen gives #GP for an offset that is not, whatever the sum.
    if (choice < 10) return (random_.chance(50) ? 0x800000000000 : 0xff7f000000000000) + random_.below(kPageSize);
    constexpr u64 kFirstBad = 2;  // page: read-only; then none, and behind all of them
    if (choice < 60) return NativeRunner::kData + kFirstBad * kPageSize + random_.below(2 * kPageSize);
    const u64 border = kFirstBad + random_.below(std::size(NativeRunner::kPages) - kFirstBad + 1);
    return NativeRunner::kData + border * kPageSize - random_.below(size + 1);
}

u64 CaseGenerator::random_target(unsigned size) {
    constexpr u64 kGood = 2 * kPageSize;  // of the data, at its start
    const u64 choice = random_.below(100);
    u64 offset = random_.below(kGood - std::max(size, 1u) + 1);
    if (choice < 45) offset &= ~u64{63};
    else if (choice < 57) offset = kPageSize - random_.below(size + 1);
    else if (choice < 62) offset = NativeRunner::kDataSize - kPageSize + random_.below(kPageSize - size + 1);
    else if (choice < 74) return bad_target(size);
    return NativeRunner::kData + offset;
}

bool CaseGenerator::encode(u16 row_index, Insn& out) {
    const std::vector<u8> bytes = Builder(random_, encodings()[row_index]).build();
    return decode(bytes, CodeMode::Bits64, out) == DecodeStatus::Ok && out.row == row_index;
}

/// Segment bases for an instruction that names FS or GS: anything a user program may have, or, where only the low half of
/// an address can be chosen, something below the data.
void CaseGenerator::random_segment_bases(UserState& s, const Insn& i) {
    if (i.seg != Seg::FS && i.seg != Seg::GS) return;
    s.own_bases = true;
    constexpr unsigned kUserBits = 46;
    const bool near = i.addr_size == 4 || random_.chance(40);
    for (u64* base : {&s.fs_base, &s.gs_base})
        *base = near ? random_.below(NativeRunner::kData) : random_.next() & low_mask(kUserBits);
}

/// The elements of a gather, around the middle of the data or, to fault, around its end.
bool CaseGenerator::aim_vector_index(Case& c) {
    const Insn& i = c.insn;
    UserState& s = c.state;
    if (i.base == kNoReg || i.base == kRipBase) return false;
    const u64 middle = NativeRunner::kData + (random_.chance(80) ? 0x1000 : 0x1f00);
    s.gpr[i.base] = middle - static_cast<u64>(i.disp) - segment_base(s, i);
    if (i.addr_size == 4) s.gpr[i.base] = static_cast<u32>(s.gpr[i.base]);
    const bool wide = i.op == Op::VGATHERQPS || i.op == Op::VGATHERQPD || i.op == Op::VPGATHERQD || i.op == Op::VPGATHERQQ;
    for (unsigned n = 0; n < 32; n += wide ? 8 : 4) {
        const s64 index = (static_cast<s64>(random_.below(0x1e00)) - 0xf00) / i.scale;
        std::memcpy(s.ymm[i.index] + n, &index, wide ? 8 : 4);
    }
    return true;
}

/// Makes the memory operand lie in the data area, through a register or the displacement.
bool CaseGenerator::aim(Case& c, std::vector<u8>& bytes) {
    const Insn& i = c.insn;
    const Operand* m = i.memory_operand();
    if (m == nullptr) return true;
    UserState& s = c.state;
    if (row(i.row).has(attr::Vsib)) return aim_vector_index(c);
    const u64 target = random_target(m->size) - segment_base(s, i);
    if (i.base == kRipBase || (i.base == kNoReg && i.index == kNoReg)) {
        if (i.disp_size < 4) return i.disp_size != 0;
        u64 disp = target;
        if (i.base == kRipBase) disp -= s.rip + i.length;
        if (i.disp_size == 4 && static_cast<u64>(static_cast<s64>(static_cast<s32>(disp))) != disp) return false;
        std::memcpy(bytes.data() + i.disp_offset, &disp, i.disp_size);
        return true;
    }
    const u64 index = i.index == kNoReg ? 0 : s.gpr[i.index] * i.scale;
    if (i.base != kNoReg && i.base != i.index)
        s.gpr[i.base] = target - index - static_cast<u64>(i.disp);
    else if (i.base == kNoReg)
        s.gpr[i.index] = (target - static_cast<u64>(i.disp)) / i.scale;
    else
        s.gpr[i.base] = (target - static_cast<u64>(i.disp)) / (1u + i.scale);
    if (i.addr_size == 4 && random_.chance(80)) {
        if (i.base != kNoReg) s.gpr[i.base] = static_cast<u32>(s.gpr[i.base]);
        if (i.index != kNoReg && i.base == kNoReg) s.gpr[i.index] = static_cast<u32>(s.gpr[i.index]);
    }
    return true;
}

/// Registers that instructions address memory with without naming them.
void CaseGenerator::aim_implicit(Case& c) {
    UserState& s = c.state;
    const Insn& i = c.insn;
    const auto into = [&](Gpr reg, bool segment) { s.gpr[reg] = random_target(8) - (segment ? segment_base(s, i) : 0); };
    if (row(i.row).has(attr::String)) {
        into(RSI, true);
        into(RDI, false);
        if (random_.chance(20)) s.gpr[RDI] = s.gpr[RSI] + random_.below(16);
        s.gpr[RCX] = random_.chance(10) ? random_value() & 0xfff : random_.below(40);
        if (random_.chance(50)) s.rflags &= ~flag::DF;
        return;
    }
    switch (i.op) {
        case Op::XLAT: into(RBX, true); break;
        case Op::MASKMOVQ: case Op::MASKMOVDQU: case Op::VMASKMOVDQU: into(RDI, true); break;
        case Op::ENTER: case Op::LEAVE: s.gpr[RBP] = random_target(8); break;
        default: break;
    }
}

/// Values that make the interesting path likely.
void CaseGenerator::prepare_operands(Case& c, const u8* data) {
    UserState& s = c.state;
    const Insn& i = c.insn;
    const Operand* m = i.memory_operand();
    switch (i.op) {
        case Op::BT: case Op::BTS: case Op::BTR: case Op::BTC:
            if (m != nullptr && i[1].kind == OperandKind::Gpr && i[1].reg != i.base && i[1].reg != i.index)
                s.gpr[i[1].reg] = random_.below(0x4000) - 0x2000;
            break;
        case Op::DIV: case Op::IDIV:
            if (random_.chance(70)) s.gpr[RDX] = random_.chance(50) ? 0 : ~u64{0};
            if (random_.chance(30)) s.gpr[RAX] &= 0xff;
            break;
        case Op::CMPXCHG:
            if (random_.chance(50) && i[0].kind == OperandKind::Gpr && !i[0].high) s.gpr[RAX] = s.gpr[i[0].reg];
            break;
        case Op::CMPXCHG8B: case Op::CMPXCHG16B:
            if (random_.chance(50) && i.base != kNoReg && i.base != kRipBase && i.index == kNoReg) {
                const u64 offset = s.gpr[i.base] + static_cast<u64>(i.disp) - NativeRunner::kData;
                if (offset > NativeRunner::kDataSize - 16) break;
                const unsigned half = i.op == Op::CMPXCHG8B ? 4 : 8;
                std::memcpy(&s.gpr[RAX], data + offset, half);
                std::memcpy(&s.gpr[RDX], data + offset + half, half);
            }
            break;
        default: break;
    }
    if (i[0].kind == OperandKind::Gpr && row(i.row).has(attr::Branch))
        s.gpr[i[0].reg] = NativeRunner::kCode + random_.below(0x400);  // not the instruction itself
    if (i.op == Op::JCXZ || i.op == Op::JECXZ || i.op == Op::JRCXZ || i.op == Op::LOOP || i.op == Op::LOOPE ||
        i.op == Op::LOOPNE)
        if (random_.chance(50)) s.gpr[RCX] = random_.below(3);
}

Case CaseGenerator::next(const u8* data) {
    while (true) {
        Case c;
        const u64 rip = NativeRunner::kCode + 0x400 + random_.below(0x800);
        const u16 row_index = rows_[random_.below(rows_.size())];
        if (!encode(row_index, c.insn)) continue;
        random_state(c.state);
        c.state.rip = rip;
        random_segment_bases(c.state, c.insn);
        aim_implicit(c);
        std::vector<u8> bytes(c.insn.bytes, c.insn.bytes + c.insn.length);
        if (!aim(c, bytes)) continue;
        const Operand& first = c.insn[0];
        if (first.kind == OperandKind::Rel && c.insn.imm_size == 4) {
            const u32 distance = static_cast<u32>(random_.below(0x800) - 0x400);
            std::memcpy(bytes.data() + c.insn.imm_offset, &distance, sizeof distance);
        }
        if (decode(bytes, CodeMode::Bits64, c.insn) != DecodeStatus::Ok) continue;
        if (first.kind == OperandKind::Rel && c.insn.imm + c.insn.length < c.insn.length) continue;  // into itself
        prepare_operands(c, data);
        // Not every host can return to a user program whose stack pointer is not canonical.
        if (!canonical(c.state.gpr[RSP])) continue;
        return c;
    }
}

}  // namespace vg::test
