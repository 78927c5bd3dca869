// How a body offers an exit to the levels: a line to describe it, a line to act on the answer.
#pragma once

#include "cpu/interp.h"

namespace vg::cpu::ops {

/// A fresh exit record for this instruction.
inline virt::Exit& begin_exit(Interp& in, const Insn& i, virt::ExitReason reason) {
    virt::Exit& exit = in.vp.exit();
    exit = virt::Exit{};
    exit.reason = reason;
    exit.insn_length = i.length;
    exit.insn = &i;
    return exit;
}

/// Offers the record. Default and Complete leave the rest to the body; for the other answers `out` is what the body
/// returns.
inline virt::Action offer(Interp& in, const Insn& i, Exec& out, Vp::Offer to = Vp::Offer::All) {
    const virt::Action action = in.vp.offer_exit(to);
    switch (action) {
        case virt::Action::Skip:
            in.advance(i);
            in.vp.update_context();
            out = Exec::Resync;
            break;
        case virt::Action::Inject: out = Exec::Fault; break;
        case virt::Action::Leave: out = Exec::Leave; break;
        case virt::Action::Switch: out = Exec::Switch; break;
        default: break;
    }
    return action;
}

/// For exits that carry no result: true if the body returns `out` now (Complete counts as done by the owner).
inline bool taken(Interp& in, const Insn& i, virt::ExitReason reason, Exec& out) {
    if (in.vp.levels().empty()) return false;
    begin_exit(in, i, reason);
    const virt::Action action = offer(in, i, out);
    if (action == virt::Action::Complete) {
        in.advance(i);
        out = Exec::Resync;
    }
    return action != virt::Action::Default;
}

/// Completed, but mode, mappings, interruptibility or pending events may have changed.
inline Exec resync(Interp& in, const Insn& i) {
    in.advance(i);
    return Exec::Resync;
}

inline Exec general_protection(Interp& in) { return in.vp.raise(kGeneralProtection, 0); }
inline Exec undefined(Interp& in) { return in.vp.raise(kInvalidOpcode); }
inline bool in_64_bit(const Interp& in) { return in.vp.code_mode() == CodeMode::Bits64; }
/// Protected mode proper: not real-address, not virtual-8086.
inline bool protected_proper(const Interp& in) { return in.vp.protected_mode() && !in.vp.v8086(); }
inline unsigned iopl(const Interp& in) { return static_cast<unsigned>(in.s.rflags >> 12) & 3; }

}  // namespace vg::cpu::ops
