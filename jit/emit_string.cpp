// String instructions: single ones as ordinary loads and stores, repeated ones through fixed code.
#include <bit>

#include "cpu/spec/bits.h"
#include "jit/translator.h"

namespace vg::jit {

using cpu::Op;

namespace {

constexpr HostMem kStashed{.base = kBank, .disp = kStash};

Encoding load_of(unsigned size) {
    return size < 4 ? Encoding{.map = 1, .opcode = static_cast<u8>(size == 1 ? 0xb6 : 0xb7)}
                    : Encoding{.opcode = 0x8b, .w = size == 8};
}
/// MOV or CMP between a register and memory, as the opcode of its 32-bit form says.
Encoding sized(u8 opcode, unsigned size) {
    return {.opcode = static_cast<u8>(size == 1 ? opcode - 1 : opcode),
            .size16 = size == 2,
            .w = size == 8,
            .force_rex = size == 1};
}
constexpr u8 kStore = 0x89, kLoad = 0x8b, kCompare = 0x3b;

}  // namespace

/// One element. The direction is a question for run time, and upwards the only answer that is emitted.
bool Translator::emit_string() {
    const unsigned size = (opcode() & 1) != 0 ? cur_->op_size : 1;
    if (cur_->addr_size != 8 || cur_->seg == cpu::Seg::FS || cur_->seg == cpu::Seg::GS) return false;
    if (cur_->rep != cpu::Rep::None) return emit_repeated(static_cast<unsigned>(std::countr_zero(size)));
    keep_flags();
    flags_.hardware = false;
    a_.modrm({.opcode = 0xf6}, 0, HostMem{.base = kBank, .disp = VG_STATE_DISP(rflags) + 1});
    a_.byte(static_cast<u8>(cpu::flag::DF >> 8));
    cold_thunk(a_.jcc_later(kNe), thunks_.execute, new_site());

    const bool from_rsi = cur_->op == Op::MOVS || cur_->op == Op::CMPS || cur_->op == Op::LODS;
    HostMem m;
    if (from_rsi) m = check({.base = cpu::RSI}, size, false);
    if (cur_->op == Op::LODS) {
        a_.modrm(sized(kLoad, size), kRax, m);
    } else {
        if (from_rsi) {
            a_.modrm(load_of(size), kT0, m);
            a_.mov(kStashed, kT0);
        }
        m = check({.base = cpu::RDI}, size, cur_->op == Op::MOVS || cur_->op == Op::STOS);
        u8 value = kRax;
        if (from_rsi) a_.mov(value = free_scratch(m), kStashed);
        const bool stores = cur_->op == Op::MOVS || cur_->op == Op::STOS;
        a_.modrm(sized(stores ? kStore : kCompare, size), value, m);
    }
    const s32 step = static_cast<s32>(size);
    if (from_rsi) a_.lea(kRsi, {.base = kRsi, .disp = step});
    if (cur_->op != Op::LODS) a_.lea(kRdi, {.base = kRdi, .disp = step});
    wrote_flags();
    return true;
}

bool Translator::emit_repeated(unsigned log_size) {
    const StringThunks& t = thunks_.strings;
    const bool equal = cur_->rep == cpu::Rep::Repe;
    u32 thunk = 0;
    switch (cur_->op) {
        case Op::MOVS:
            thunk = t.movs[log_size];
            break;
        case Op::STOS:
            thunk = t.stos[log_size];
            break;
        case Op::CMPS:
            thunk = (equal ? t.repe_cmps : t.repne_cmps)[log_size];
            break;
        case Op::SCAS:
            thunk = (equal ? t.repe_scas : t.repne_scas)[log_size];
            break;
        default:
            return false;
    }
    // A recipe must not name registers that are half changed when the repetition is given up.
    settle_flags();
    emit_trace_repeated(1u << log_size);
    a_.mov_imm(kT0, new_site());
    a_.call(thunk);
    flags_in_slot();
    return true;
}

}  // namespace vg::jit
