// What executing one instruction led to: the contract between instruction bodies and both engines.
#pragma once

#include "base/types.h"

namespace vg::cpu {

/// Returned by every instruction body.
///
/// Contract: a body is entered with rip at the instruction itself and `budget` not yet charged for it. On Next the
/// *engine* adds the length to rip; on Branch the body has set rip. The engine charges one instruction for Next,
/// Branch, Resync and Switch. On Fault and Leave architectural state is as before the instruction (rip included), except what
/// the architecture says; nothing is charged.
enum class Exec : u8 {
    Next,    ///< completed; continue behind it
    Branch,  ///< completed; rip was set by the body
    Resync,  ///< completed, rip was set by the body (or advanced by it): mode, mappings, interruptibility, activity or
             ///< pending events may have changed, so the engine re-evaluates everything
    Repeat,  ///< a string instruction used up the budget between iterations: rip unchanged, the body has charged the
             ///< iterations done, RF is set
    Fault,   ///< vp.fault() is set: the engine delivers it
    Switch,  ///< a VM exit or entry replaced the VP's state: nothing of the instruction follows, rip is the other world's
    Leave    ///< vp.exit() is set and its owner asked to unwind: the engine returns to its caller
};

/// The instruction is done, and is charged.
[[nodiscard]] constexpr bool completes(Exec result) {
    return result == Exec::Next || result == Exec::Branch || result == Exec::Resync;
}

/// Why Engine::run came back.
enum class Stop : u8 {
    Budget,    ///< the slice is used up
    Halt,      ///< not running: HLT, wait-for-SIPI, shutdown; see Vp::activity
    Leave,     ///< an exit that the level's owner wants handled outside
    Request,   ///< somebody asked for the VP (debugger, power-off, other request)
    Breakpoint ///< a debugger's breakpoint at rip, before executing it
};

}  // namespace vg::cpu
