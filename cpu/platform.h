// What a VP needs from the machine around it when no level intercepts: ports, and who hears about it.
#pragma once

#include "base/types.h"

namespace vg::cpu {

class Vp;

/// What a board does about FERR#, the signal of an x87 error with CR0.NE=0. SDM 1 "MS-DOS Compatibility Sub-mode".
enum class FerrAnswer : u8 {
    Exception,  ///< there is no such wire: #MF, as where CR0.NE is always set (VMX operation requires it)
    Freeze,     ///< an interrupt was asked for: the processor waits for one in front of the instruction
    Ignore      ///< IGNNE# is asserted: the instruction executes
};

/// The board as a VP sees it. Called from the VP's thread.
class Platform {
  public:
    virtual ~Platform() = default;
    /// Port input of 1, 2 or 4 bytes. Unclaimed ports read as all-ones.
    virtual u32 port_read(Vp& vp, u16 port, unsigned size) = 0;
    virtual void port_write(Vp& vp, u16 port, unsigned size, u32 value) = 0;
    /// The interrupt acknowledge cycle of an external controller (8259): vector, or -1.
    virtual int acknowledge_external(Vp& vp) = 0;
    /// The VP shut down (triple fault).
    virtual void shutdown(Vp& vp) = 0;
    /// FERR# of the VP: `active` when a waiting x87 instruction meets an unmasked error, inactive when the next one
    /// finds none. The answer counts for `active` only.
    virtual FerrAnswer ferr(Vp&, bool) { return FerrAnswer::Exception; }
    /// The VP has carried out an INIT: what belongs to it outside the processor resets too.
    virtual void init_done(Vp&) {}
    /// A level-triggered interrupt of the VP is over.
    virtual void level_eoi(Vp&, u8) {}
    /// An interrupt became deliverable, or an NMI, INIT or SIPI arrived. From any code of the machine's thread.
    virtual void event_arrived(Vp&) {}
    /// The guest wrote the local APIC's EOI register, by whichever of its ways.
    virtual void eoi_done(Vp&) {}
    /// Whether VM entries of the VP take an enlightened VMCS now, and then its address in the VP's physical space: what its VP
    /// assist page says (row S-104). Read at each use: the page is the guest's.
    [[nodiscard]] virtual bool enlightened_vmcs(Vp&, u64&) { return false; }
};

}  // namespace vg::cpu
