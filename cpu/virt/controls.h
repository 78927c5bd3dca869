// Guest mode, whoever asks for it: what a level intercepts, and what an exit says.
//
// Owners come in two kinds. hv answers where it is asked: the instruction goes on with what the owner gave it. VMX and SVM
// switch worlds: the exit replaces the processor's whole state (Action::Switch), and the engine goes on in the host's.
#pragma once

#include <bitset>
#include <memory>
#include <span>

#include "base/types.h"
#include "cpu/fault.h"
#include "mmu/walk.h"

namespace vg::cpu {

class Vp;
struct Insn;

namespace virt {

enum class ExitReason : u8 {
    None, Io, Msr, Cpuid, Hypercall, Memory, Halt, Cr, Dr, DescriptorTable, Exception, Rdtsc, Rdpmc, Pause, Mwait,
    Monitor, Invlpg, Invpcid, Wbinvd, Xsetbv, InterruptWindow, NmiWindow, TripleFault, TaskSwitch, Vmx, Svm,
    // asked for only by owners that switch worlds
    ExternalInterrupt, Nmi, Init, Sipi, Invd, Random, ApicAccess, Xsaves, StackedFlags
};
inline constexpr unsigned kExitReasons = static_cast<unsigned>(ExitReason::StackedFlags) + 1;

/// Which instruction touches a control register.
enum class CrAccess : u8 { MovTo, MovFrom, Clts, Lmsw };

/// What asked for a task switch; values as in a VMX exit qualification.
enum class TaskSource : u8 { Call, Iret, Jmp, Gate };

/// What happened, in full. One struct for all owners; a field is meaningful only for the reasons named.
struct Exit {
    ExitReason reason = ExitReason::None;
    u8 insn_length = 0;        ///< 0: no instruction was executing
    bool write = false;        ///< Io, Msr, Memory, Cr, Dr: direction
    bool string = false, rep = false;  ///< Io
    u8 size = 0;               ///< Io: 1, 2, 4; Memory: bytes (0 for a walk of paging structures)
    u16 port = 0;              ///< Io
    u32 msr = 0;               ///< Msr
    u64 value = 0;             ///< Io, Msr, Memory, Cr: value written; filled in by the owner for reads
    u64 data[8] = {};          ///< Memory accesses wider than 8 bytes
    u32 leaf = 0, subleaf = 0; ///< Cpuid
    u32 regs[4] = {};          ///< Cpuid: default EAX, EBX, ECX, EDX; the owner changes them
    Gpa gpa;                   ///< Memory, ApicAccess
    Gva gva;                   ///< Memory, Invlpg, ApicAccess, string Io (first byte)
    mmu::SlatFault slat;       ///< Memory
    bool gva_valid = true;     ///< Memory: false if no linear address is behind it (a load of PDPTEs)
    u8 reg = 0;                ///< Cr, Dr: number
    CrAccess cr_access = CrAccess::MovTo;      ///< Cr
    TaskSource task_source = TaskSource::Call; ///< TaskSwitch
    u16 selector = 0;          ///< TaskSwitch: of the new TSS
    Fault fault;               ///< Exception; and what to inject when the owner answers Inject
    /// The instruction that is executing, for owners that describe it to their own; null for events. Not to be kept.
    const Insn* insn = nullptr;
};

/// The owner's answer, given synchronously at the point of the exit.
enum class Action : u8 {
    Complete,  ///< done: results are in the Exit, the processor finishes the instruction with them
    Skip,      ///< done, the owner also changed registers itself: finish by advancing rip only
    Inject,    ///< deliver exit.fault instead of completing
    Default,   ///< not intercepted after all: do what the processor does without a level
    Leave,     ///< unwind to Engine::run's caller with the instruction not executed
    Switch     ///< the owner has put another world's state in place: nothing of the instruction or event follows
};

/// Who runs guests at a level: cpu/vmx, cpu/svm or hv.
class ExitOwner {
  public:
    virtual ~ExitOwner() = default;
    /// Called in the middle of the instruction, before any of its side effects, on the VP's thread.
    virtual Action on_exit(Vp& vp, Exit& exit) = 0;
};

/// What a level intercepts. Everything is off by default. Where an owner's own structures decide (I/O and MSR bitmaps,
/// masks of control registers), the control says that it wants to be asked, and it answers Default to let pass.
struct Controls {
    bool cpuid = false, hypercall = false, halt = false, rdtsc = false, pause = false, invlpg = false, wbinvd = false,
         descriptor_tables = false, triple_fault = false, io_all = false;
    const std::bitset<65536>* io_bitmap = nullptr;   ///< a set bit intercepts the port
    /// MSRs that exit, as ranges (hv) or all of them.
    struct MsrRange {
        u32 first, last;
    };
    std::span<const MsrRange> msr_ranges;
    bool msr_all = false;
    u32 exceptions = 0;       ///< bitmap by vector
    u64 cr0_mask = 0, cr4_mask = 0;  ///< writes that change a bit of the mask exit
    bool cr3_write = false, cr8 = false;
    mmu::SlatMode slat;

    // ---- for owners that switch worlds
    /// VM exits and entries: string I/O is offered before memory is touched, second-level faults where they are found.
    bool switches_worlds = false;
    bool invd = false, xsetbv = false, rdpmc = false, mwait = false, monitor = false, rdrand = false, rdseed = false,
         xsaves = false, task_switch = false;
    bool extension = false;   ///< the instructions of VMX or SVM themselves
    bool cr_all = false;      ///< every MOV to or from CR0, CR3, CR4, CR8, CLTS and LMSW
    bool cr_reads = false;    ///< with cr_all: every MOV from a control register and SMSW, and MOV to CR2
    bool dr = false;          ///< every MOV to or from a debug register, before any of its checks
    bool stacked_flags = false;  ///< PUSHF, POPF, IRET, INT n and INT1, before any of their checks
    /// Bits of a register that belong to the owner: reads give the shadow's, writes leave them as they are.
    struct CrView {
        u64 mask = 0, shadow = 0;
        [[nodiscard]] u64 read(u64 value) const { return (value & ~mask) | (shadow & mask); }
        [[nodiscard]] u64 write(u64 old, u64 value) const { return (old & mask) | (value & ~mask); }
    };
    CrView cr0_view, cr4_view;
    /// External interrupts and NMIs exit. Whether or not they do, the former are also taken while IF is clear, with
    /// `interrupts_ignore_if`, or not at all, with `interrupts_blocked`.
    bool external_interrupt = false, interrupts_ignore_if = false, interrupts_blocked = false, nmi = false;
    bool virtual_nmis = false;  ///< VpState::nmi_blocked is the guest's own; real NMIs are never blocked
    bool init = false, sipi = false;
    bool interrupt_window = false, nmi_window = false;  ///< exit as soon as one could be taken
    /// Instructions that do not exist in the guest.
    bool no_rdtscp = false, no_invpcid = false, no_xsaves = false;
};

/// One level of the stack: the innermost is last.
struct Level {
    Controls controls;
    ExitOwner* owner = nullptr;
};

}  // namespace virt
}  // namespace vg::cpu
