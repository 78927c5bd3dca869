#include "tests/support/random_sequence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu/decode.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace cpu;

namespace {

constexpr u32 kMaxBytes = 0x380;  // of a sequence; it begins below the last quarter of the code page

/// Not in the middle of a sequence: what hosts and manuals disagree on (differential.cpp), and what makes every path
/// behind it a fault.
bool unsuitable(const Insn& i) {
    if (op_name(i.op).starts_with("SHA")) return true;
    switch (i.op) {
        case Op::LDMXCSR: case Op::VLDMXCSR: case Op::MASKMOVQ: case Op::MASKMOVDQU: case Op::VMASKMOVDQU: case Op::ENTER:
        case Op::STD: case Op::HLT: return true;
        case Op::MOVSXD: return i.op_size == 2;
        case Op::DPPS: case Op::DPPD: case Op::VDPPS: case Op::VDPPD: return true;
        default: return row(i.row).has(attr::Branch | attr::System | attr::Vsib);
    }
}

/// Instructions whose only memory operand is the one that ModRM names.
bool has_modrm_memory(const Insn& i) { return i.has_modrm && (i.modrm >> 6) != 3 && i.memory_operand() != nullptr; }

/// The register through which an instruction accesses memory without naming it, or -1.
int implicit_pointer(const Insn& i, bool second) {
    switch (i.op) {
        case Op::PUSH: case Op::POP: case Op::CALL: case Op::RET: case Op::LEAVE: return i.op == Op::LEAVE ? RBP : RSP;
        case Op::XLAT: return RBX;
        default: break;
    }
    if (!row(i.row).has(attr::String)) return -1;
    switch (i.op) {
        case Op::STOS: case Op::SCAS: return RDI;
        case Op::LODS: return RSI;
        default: return second ? RDI : RSI;
    }
}

constexpr bool fits_byte(s64 value) { return value >= -128 && value <= 127; }
constexpr bool fits_dword(s64 value) { return value == static_cast<s32>(value); }

}  // namespace

const Insn* Sequence::find(u64 rip) const {
    for (const At& at : insns)
        if (state.rip + at.offset == rip) return &at.insn;
    return nullptr;
}

void SequenceGenerator::choose_registers() {
    unsigned free[] = {RBX, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15};
    for (unsigned n = std::size(free) - 1; n > 0; --n) std::swap(free[n], free[random_.below(n + 1)]);
    const auto low = std::find_if(std::begin(free), std::end(free), [](unsigned reg) { return reg < 8; });
    std::swap(free[0], *low);  // one that every encoding reaches
    pointers_ = {free[0], free[1], free[2]};
    index_ = free[3];
    counter_ = random_.chance(30) ? static_cast<unsigned>(RCX) : free[4];
    parts_.random_state(state_);
    state_.fs_base = random_.below(0x20000);
    state_.gs_base = random_.below(0x20000);
    for (const unsigned reg : {static_cast<unsigned>(RSI), static_cast<unsigned>(RDI), static_cast<unsigned>(RBX)})
        if (random_.chance(70)) state_.gpr[reg] = NativeRunner::kData + random_.below(2 * kPageSize - 64);
    state_.gpr[RCX] = random_.below(24);
    if (random_.chance(80)) state_.gpr[RSP] = NativeRunner::kData + 0x1800 - (random_.next() & 0x7f8);
    if (random_.chance(70)) state_.rflags &= ~flag::DF;
    for (const unsigned reg : pointers_) {
        const u64 page = NativeRunner::kData + random_.below(2) * kPageSize;
        state_.gpr[reg] = random_.chance(30) ? NativeRunner::kData + kPageSize - random_.below(64) : page + random_.below(kPageSize);
    }
    state_.gpr[index_] = random_.below(0x80) - 0x40;
    state_.gpr[counter_] = 1 + random_.below(10);
}

bool SequenceGenerator::acceptable(const Insn& insn) {
    if (unsuitable(insn)) return false;
    const Row& r = row(insn.row);
    if (!all_flags_ && r.flags_undefined != 0) return false;
    if (r.has(attr::String) && (counter_ == RCX || counter_ == RSI || counter_ == RDI)) return false;
    if (insn.op == Op::LEAVE && counter_ == RBP) return false;
    const auto written = [&](const Operand& o) {
        if (o.kind != OperandKind::Gpr || o.high) return false;
        return o.reg == RSP || o.reg == index_ || o.reg == counter_ ||
               std::find(pointers_.begin(), pointers_.end(), o.reg) != pointers_.end();
    };
    const auto counts = [&](const Operand& o) { return o.kind == OperandKind::Gpr && o.reg == counter_; };
    const bool both = insn.op == Op::XCHG || insn.op == Op::XADD;
    bool touched = insn.operand_count > 0 && !r.has(attr::NoWriteDest) && written(insn[0]);
    touched |= insn.operand_count > 1 && both && written(insn[1]);
    // Whatever changes the loop's counter could make the loop endless.
    for (unsigned n = 0; n < insn.operand_count; ++n)
        if (counts(insn[n]) && (n == 0 || both || insn.vex != 0)) return false;
    return !touched || random_.chance(5);
}

bool SequenceGenerator::plain(Item& item) {
    const auto& rows = parts_.rows();
    const bool integer = random_.chance(60);
    for (unsigned attempt = 0; attempt < 200; ++attempt) {
        const u16 index = rows[random_.below(rows.size())];
        const Row& r = row(index);
        if (integer && r.has(attr::Sse | attr::Avx | attr::X87 | attr::Mmx)) continue;
        item = Item{};
        if (!parts_.encode(index, item.insn) || !acceptable(item.insn)) continue;
        if (has_modrm_memory(item.insn)) {
            if (place(item, parts_.random_target(item.insn.memory_operand()->size))) return true;
            continue;
        }
        if (item.insn.memory_operand() != nullptr && item.insn.base == kNoReg) continue;  // moffs
        item.pointer = implicit_pointer(item.insn, random_.chance(50));
        return true;
    }
    return false;
}

/// Gives the instruction's memory operand a form in which it addresses `target`.
bool SequenceGenerator::place(Item& item, u64 target) {
    const Insn& i = item.insn;
    const u64 segment = i.seg == Seg::FS ? state_.fs_base : i.seg == Seg::GS ? state_.gs_base : 0;
    const bool high = i.rex == 0 && i.vex == 0;  // no bit for the upper registers
    const auto reachable = [&](unsigned reg) { return reg < 8 || !(high || i.vex == 2); };
    unsigned base = pointers_[random_.below(pointers_.size())];
    if (!reachable(base)) base = pointers_[0];
    const u64 choice = random_.below(100);
    const unsigned scale = static_cast<unsigned>(random_.below(4));
    const u64 scaled = state_.gpr[index_] << scale;
    item.placed = true;
    const auto at = [&](u64 sum, unsigned mod, unsigned reg, unsigned index) {
        item.sum = segment + sum;
        const s64 disp = static_cast<s64>(target - item.sum);
        if (!fits_dword(disp)) return false;
        if (mod == 1 && !fits_byte(disp)) mod = 2;
        return address(item, mod, reg, index, scale, static_cast<u32>(disp));
    };
    constexpr unsigned kNone = 16, kRip = 17;
    if (choice < 12) {
        item.address = target - segment;
        item.sum = segment;
        return address(item, 0, kRip, kNone, 0, 0);
    }
    if (choice < 20) return at(0, 0, kNone, kNone);
    if (choice < 26 && reachable(index_)) return at(scaled, 0, kNone, index_);
    if (choice < 31) return at(state_.gpr[RSP], 1, RSP, kNone);
    if (choice < 50 && reachable(index_)) return at(state_.gpr[base] + scaled, random_.chance(50) ? 1 : 2, base, index_);
    // Near the pointer more often than not: such accesses can be checked together.
    if (random_.chance(60) && i.memory_operand()->size != 0) {
        const u64 near = state_.gpr[base] + segment + random_.below(0x60) - 0x20;
        if (near - NativeRunner::kData < 2 * kPageSize - 0x80) target = near;
    }
    return at(state_.gpr[base], random_.chance(75) ? 1 : 2, base, kNone);
}

/// Writes ModRM, SIB and displacement. Base 16: none; 17: RIP. Index 16: none.
bool SequenceGenerator::address(Item& item, unsigned mod, unsigned base, unsigned index, unsigned scale, u32 disp) {
    constexpr unsigned kNone = 16, kRip = 17;
    const Insn& i = item.insn;
    std::vector<u8> bytes(i.bytes, i.bytes + i.modrm_offset);
    const u8 reg = i.modrm & 0x38;
    unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    std::vector<u8> form;
    if (base == kRip) {
        form = {static_cast<u8>(reg | 5)};
        disp_size = 4;
    } else if (base == kNone) {
        form = {static_cast<u8>(reg | 4), static_cast<u8>(scale << 6 | (index == kNone ? 4 : index & 7) << 3 | 5)};
        disp_size = 4;
    } else if (index == kNone && (base & 7) != 4) {
        form = {static_cast<u8>(mod << 6 | reg | (base & 7))};
    } else {
        form = {static_cast<u8>(mod << 6 | reg | 4), static_cast<u8>(scale << 6 | (index == kNone ? 4 : index & 7) << 3 | (base & 7))};
    }
    const unsigned b = base < 16 ? base >> 3 : 0, x = index < 16 ? index >> 3 : 0;
    if (i.vex == 3)
        bytes[i.opcode_offset - 2u] = static_cast<u8>((bytes[i.opcode_offset - 2u] & 0x9f) | (b ^ 1) << 5 | (x ^ 1) << 6);
    else if (i.vex == 0 && i.rex != 0)
        bytes[i.prefix_count] = static_cast<u8>((bytes[i.prefix_count] & 0xfc) | b | x << 1);
    bytes.insert(bytes.end(), form.begin(), form.end());
    for (unsigned n = 0; n < disp_size; ++n) bytes.push_back(static_cast<u8>(disp >> (8 * n)));
    const unsigned imm = i.disp_size != 0 ? i.disp_offset + i.disp_size : i.modrm_offset + ((i.modrm & 7) == 4 ? 2u : 1u);
    bytes.insert(bytes.end(), i.bytes + imm, i.bytes + i.length);
    if (bytes.size() > kMaxInsnLength) return false;
    Insn made;
    if (decode(bytes, CodeMode::Bits64, made) != DecodeStatus::Ok || made.row != i.row || made.length != bytes.size()) return false;
    item.insn = made;
    return true;
}

/// The same form of operand, but addressing something else.
bool SequenceGenerator::move(Item& item, u64 target) {
    const Insn& i = item.insn;
    if (i.base == kRipBase) {
        item.address = target - item.sum;
        return true;
    }
    const s64 disp = static_cast<s64>(target - item.sum);
    if (!fits_dword(disp)) return false;
    unsigned scale = 0;
    while ((1u << scale) < i.scale) ++scale;
    constexpr unsigned kNone = 16;
    return address(item, i.base == kNoReg ? 0 : 2, i.base == kNoReg ? kNone : i.base, i.index == kNoReg ? kNone : i.index, scale,
                   static_cast<u32>(disp));
}

bool SequenceGenerator::raw(Item& item, std::initializer_list<u8> bytes) {
    std::vector<u8> padded(bytes);
    padded.resize(kMaxInsnLength, 0x90);
    item = Item{};
    return decode(padded, CodeMode::Bits64, item.insn) == DecodeStatus::Ok;
}

/// A jump forward to an item that will be there.
void SequenceGenerator::branch(Items& items, std::size_t length) {
    Item item;
    const bool near = random_.chance(50);
    const u8 condition = static_cast<u8>(random_.below(16));
    bool ok;
    switch (random_.below(12)) {
        case 0: ok = near ? raw(item, {0xe9, 0, 0, 0, 0}) : raw(item, {0xeb, 0}); break;
        case 1: ok = raw(item, {0xe3, 0}); break;  // JRCXZ
        default:
            ok = near ? raw(item, {0x0f, static_cast<u8>(0x80 | condition), 0, 0, 0, 0})
                      : raw(item, {static_cast<u8>(0x70 | condition), 0});
            break;
    }
    if (!ok) return;
    item.target = static_cast<int>(std::min(length, items.size() + 1 + random_.below(4)));
    items.push_back(item);
}

/// Items of a sequence: the main part, up to `ends`, and behind it subroutines that it calls.
bool SequenceGenerator::make(Items& items) {
    choose_registers();
    const std::size_t length = 3 + random_.below(10);
    const bool loop = random_.chance(35), calls = random_.chance(30);
    const std::size_t start = random_.below(length - 1);
    Item item;
    while (items.size() < length) {
        if (calls && random_.chance(12)) {
            if (!raw(item, {0xe8, 0, 0, 0, 0})) return false;
            item.target = -2;  // the subroutine, below
            item.pointer = RSP;
            items.push_back(item);
        } else if (random_.chance(15)) {
            branch(items, length);
        } else {
            if (!plain(item)) return false;
            items.push_back(item);
        }
    }
    if (loop) {
        const u8 b = static_cast<u8>(counter_ >> 3), low = static_cast<u8>(counter_ & 7);
        if (counter_ == RCX && random_.chance(50)) {
            if (!raw(item, {0xe2, 0})) return false;  // LOOP
        } else {
            if (!raw(item, {static_cast<u8>(0x48 | b), 0xff, static_cast<u8>(0xc8 | low)})) return false;  // DEC
            items.push_back(item);
            if (!raw(item, {0x0f, 0x8f, 0, 0, 0, 0})) return false;  // JG: a counter that went wrong ends it, too
        }
        item.target = static_cast<int>(start);
        items.push_back(item);
    }
    items.back().ends = true;
    if (!calls) return true;
    const int subroutine = static_cast<int>(items.size());
    for (Item& each : items)
        if (each.target == -2) each.target = subroutine;
    for (u64 n = random_.below(3); n > 0; --n) {
        if (!plain(item)) return false;
        items.push_back(item);
    }
    if (!raw(item, {0xc3})) return false;
    item.pointer = RSP;
    item.ends = true;
    items.push_back(item);
    return true;
}

/// Puts the items at addresses. A jump to the end of the main part leads to the INT3 there.
bool SequenceGenerator::assemble(const Items& items, Sequence& out) {
    out = Sequence{};
    out.state = state_;
    std::vector<u32> starts;
    u32 main_end = 0, offset = 0;
    for (const Item& item : items) {
        starts.push_back(offset);
        offset += item.insn.length;
        if (!item.ends) continue;
        if (main_end == 0) main_end = offset;
        offset += 4;  // INT3
    }
    if (offset > kMaxBytes) return false;
    out.bytes.assign(offset, 0xcc);
    for (std::size_t n = 0; n < items.size(); ++n) {
        const Item& item = items[n];
        Insn insn = item.insn;
        const u32 next = starts[n] + insn.length;
        if (item.target >= 0) {
            const std::size_t target = static_cast<std::size_t>(item.target);
            const s64 distance = static_cast<s64>(target < items.size() ? starts[target] : main_end) - next;
            if (insn.imm_size == 1 && !fits_byte(distance)) return false;
            std::memcpy(insn.bytes + insn.imm_offset, &distance, insn.imm_size);
        } else if (item.placed && insn.base == kRipBase) {
            const s64 disp = static_cast<s64>(item.address - (state_.rip + next));
            if (!fits_dword(disp)) return false;
            std::memcpy(insn.bytes + insn.disp_offset, &disp, 4);
        }
        std::memcpy(out.bytes.data() + starts[n], insn.bytes, insn.length);
        Insn made;
        if (decode(std::span(insn.bytes, insn.length), CodeMode::Bits64, made) != DecodeStatus::Ok) return false;
        out.insns.push_back({starts[n], made});
        out.state.own_bases |= made.seg == Seg::FS || made.seg == Seg::GS;
    }
    return true;
}

std::vector<Sequence> SequenceGenerator::next() {
    while (true) {
        Items items;
        if (!make(items)) continue;
        state_.rip = NativeRunner::kCode + random_.below(0xc00);
        std::vector<Sequence> all(1);
        if (!assemble(items, all.front())) continue;
        all.front().what = "as it is";
        for (std::size_t n = 0; n < items.size(); ++n) {
            const Item& item = items[n];
            const Operand* const m = item.placed ? item.insn.memory_operand() : nullptr;
            if (m == nullptr && item.pointer < 0) continue;
            Items changed = items;
            const u64 target = parts_.bad_target(m != nullptr ? std::max<unsigned>(m->size, 1) : 8);
            const bool by_displacement = m != nullptr && move(changed[n], target);
            if (!by_displacement) {
                // A pointer is spoilt just before: MOV reg, imm64.
                const int reg = m == nullptr ? item.pointer : item.insn.base < 16 ? item.insn.base : -1;
                if (reg < 0) continue;
                const u64 value = m == nullptr ? target : state_.gpr[reg] + target - item.sum - static_cast<u64>(item.insn.disp);
                std::vector<u8> bytes = {static_cast<u8>(0x48 | reg >> 3), static_cast<u8>(0xb8 | (reg & 7))};
                for (unsigned k = 0; k < 8; ++k) bytes.push_back(static_cast<u8>(value >> (8 * k)));
                Item load;
                bytes.resize(kMaxInsnLength, 0x90);
                if (decode(bytes, CodeMode::Bits64, load.insn) != DecodeStatus::Ok) continue;
                for (Item& each : changed)
                    if (each.target > static_cast<int>(n)) ++each.target;
                changed.insert(changed.begin() + static_cast<std::ptrdiff_t>(n), load);
            }
            Sequence sequence;
            if (!assemble(changed, sequence)) continue;
            sequence.what = fmt::format("access of instruction {} at {:#x}", n, target);
            all.push_back(std::move(sequence));
        }
        return all;
    }
}

}  // namespace vg::test
