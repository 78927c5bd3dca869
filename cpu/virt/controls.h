// Guest mode, whoever asks for it: what a level intercepts, and what an exit says.
#pragma once

#include <bitset>
#include <memory>
#include <span>

#include "base/types.h"
#include "cpu/fault.h"
#include "mmu/walk.h"

namespace vg::cpu {

class Vp;

namespace virt {

enum class ExitReason : u8 {
    None, Io, Msr, Cpuid, Hypercall, Memory, Halt, Cr, Dr, DescriptorTable, Exception, Rdtsc, Rdpmc, Pause, Mwait,
    Monitor, Invlpg, Invpcid, Wbinvd, Xsetbv, InterruptWindow, NmiWindow, TripleFault, TaskSwitch, Vmx, Svm
};

/// What happened, in full. One struct for all owners; a field is meaningful only for the reasons named.
struct Exit {
    ExitReason reason = ExitReason::None;
    u8 insn_length = 0;
    bool write = false;        ///< Io, Msr, Memory, Cr, Dr: direction
    bool string = false, rep = false;  ///< Io
    u8 size = 0;               ///< Io: 1, 2, 4; Memory: bytes (0 for a walk of paging structures)
    u16 port = 0;              ///< Io
    u32 msr = 0;               ///< Msr
    u64 value = 0;             ///< Io, Msr, Memory, Cr: value written; filled in by the owner for reads
    u64 data[8] = {};          ///< Memory accesses wider than 8 bytes
    u32 leaf = 0, subleaf = 0; ///< Cpuid
    u32 regs[4] = {};          ///< Cpuid: default EAX, EBX, ECX, EDX; the owner changes them
    Gpa gpa;                   ///< Memory
    Gva gva;                   ///< Memory
    mmu::SlatFault slat;       ///< Memory
    u8 reg = 0;                ///< Cr, Dr: number
    Fault fault;               ///< Exception; and what to inject when the owner answers Inject
};

/// The owner's answer, given synchronously at the point of the exit.
enum class Action : u8 {
    Complete,  ///< done: results are in the Exit, the processor finishes the instruction with them
    Skip,      ///< done, the owner also changed registers itself: finish by advancing rip only
    Inject,    ///< deliver exit.fault instead of completing
    Default,   ///< not intercepted after all: do what the processor does without a level
    Leave      ///< unwind to Engine::run's caller with the instruction not executed
};

/// Who runs guests at a level: cpu/vmx, cpu/svm or hv.
class ExitOwner {
  public:
    virtual ~ExitOwner() = default;
    /// Called in the middle of the instruction, before any of its side effects, on the VP's thread.
    virtual Action on_exit(Vp& vp, Exit& exit) = 0;
};

/// What a level intercepts. Everything is off by default.
struct Controls {
    bool cpuid = false, hypercall = false, halt = false, rdtsc = false, pause = false, invlpg = false, wbinvd = false,
         descriptor_tables = false, triple_fault = false, io_all = false;
    const std::bitset<65536>* io_bitmap = nullptr;   ///< a set bit intercepts the port
    /// MSRs that exit: the two architectural bitmap ranges are the owner's business; hv uses this range list.
    struct MsrRange {
        u32 first, last;
    };
    std::span<const MsrRange> msr_ranges;
    u32 exceptions = 0;       ///< bitmap by vector
    u64 cr0_mask = 0, cr4_mask = 0;
    bool cr3_write = false, cr8 = false;
    mmu::SlatMode slat;
};

/// One level of the stack: the innermost is last.
struct Level {
    Controls controls;
    ExitOwner* owner = nullptr;
};

}  // namespace virt
}  // namespace vg::cpu
