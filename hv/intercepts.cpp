#include "hv/intercepts.h"

#include <algorithm>
#include <cstring>

#include "cpu/decode.h"
#include "cpu/spec/bits.h"
#include "hv/partition.h"
#include "hv/vp.h"
#include "hv/vp_control.h"

namespace vg::hv {
namespace {

using cpu::virt::Action;
using cpu::virt::Exit;

constexpr u32 kCacheWriteBack = 6;  ///< memory type encoding of the architecture
constexpr u8 kMaxMessageInstruction = 15;

struct InstructionBytes {
    u8 length = 0;  ///< of the instruction; 0: not decodable here
    u8 count = 0;
    u8 bytes[16] = {};
};

/// The instruction at the VP's RIP, as far as it can be read without side effects.
InstructionBytes fetch_instruction(Vp& vp) {
    cpu::Vp& processor = vp.processor();
    const cpu::VpState& state = processor.state();
    InstructionBytes out;
    u64 address = state.rip;
    if (processor.code_mode() != cpu::CodeMode::Bits64)
        address = static_cast<u32>(state.segment(cpu::Seg::CS).base + state.rip);
    const u64 in_page = kPageSize - (address & kPageMask);
    out.count = static_cast<u8>(std::min<u64>(kMaxMessageInstruction, in_page));
    if (!processor.memory().peek(address, out.bytes, out.count)) out.count = 0;
    if (out.count != 0 && out.count < kMaxMessageInstruction) {
        const u8 rest = kMaxMessageInstruction - out.count;
        if (processor.memory().peek(address + out.count, out.bytes + out.count, rest))
            out.count = kMaxMessageInstruction;
    }
    cpu::Insn insn;
    if (out.count != 0 && cpu::decode({out.bytes, out.count}, processor.code_mode(), insn) == cpu::DecodeStatus::Ok) {
        out.length = insn.length;
        // Only the instruction itself: what is behind it is none of the parent's business.
        std::fill(out.bytes + insn.length, out.bytes + sizeof out.bytes, u8{0});
        out.count = insn.length;
    }
    return out;
}

u16 execution_state_of(const cpu::VpState& state) {
    u16 value = state.cpl & 3;
    if ((state.cr0 & cpu::cr0::PE) != 0) value |= execution_state::kProtected;
    if ((state.cr0 & cpu::cr0::AM) != 0) value |= execution_state::kAlignmentMask;
    if ((state.efer & cpu::efer::LMA) != 0) value |= execution_state::kLongMode;
    if ((state.dr[7] & 0xff) != 0) value |= execution_state::kDebugActive;
    if (state.acknowledged != 0) value |= execution_state::kInterruptionPending;
    if (state.interrupt_shadow != 0) value |= execution_state::kInterruptShadow;
    return value;
}

InterceptHeader header_of(Vp& vp, u8 length, InterceptAccess access) {
    const cpu::VpState& state = vp.processor().state();
    InterceptHeader header{};
    header.vp_index = vp.index();
    header.length_and_cr8 = static_cast<u8>((length & 0xf) | (vp.processor().apic().tpr() & 0xf0));
    header.access = static_cast<u8>(access);
    header.execution_state = execution_state_of(state);
    header.cs = segment_value(state.segment(cpu::Seg::CS));
    header.rip = state.rip;
    header.rflags = state.rflags;
    return header;
}

InterceptAccess direction(bool write) { return write ? InterceptAccess::Write : InterceptAccess::Read; }

template <class T>
Action send(Vp& vp, MessageType type, const T& payload) {
    u8 bytes[sizeof payload];
    std::memcpy(bytes, &payload, sizeof payload);
    vp.control().send_intercept(type, bytes);
    return Action::Leave;
}

}  // namespace

SegmentValue segment_value(const cpu::SegmentReg& reg) { return {reg.base, reg.limit, reg.selector, reg.attributes}; }

Action intercept_io(Vp& vp, const Exit& exit) {
    const cpu::VpState& state = vp.processor().state();
    const InstructionBytes instruction = fetch_instruction(vp);
    IoPortIntercept message{};
    message.header = header_of(vp, exit.insn_length, direction(exit.write));
    message.port = exit.port;
    message.access_info =
        static_cast<u8>(exit.size | (exit.string ? io_access::kString : 0) | (exit.rep ? io_access::kRep : 0));
    message.instruction_bytes = instruction.count;
    message.rax = state.gpr[cpu::RAX];
    std::memcpy(message.instruction, instruction.bytes, sizeof message.instruction);
    message.ds = segment_value(state.segment(cpu::Seg::DS));
    message.es = segment_value(state.segment(cpu::Seg::ES));
    message.rcx = state.gpr[cpu::RCX];
    message.rsi = state.gpr[cpu::RSI];
    message.rdi = state.gpr[cpu::RDI];
    return send(vp, MessageType::IoPortIntercept, message);
}

Action intercept_memory(Vp& vp, const Exit& exit) {
    const bool fetch = exit.slat.access == mmu::Access::Fetch;
    const InstructionBytes instruction = fetch ? InstructionBytes{} : fetch_instruction(vp);
    MemoryIntercept message{};
    const bool write = exit.write || exit.slat.access == mmu::Access::Write;
    message.header = header_of(vp, instruction.length, fetch ? InterceptAccess::Execute : direction(write));
    message.cache_type = kCacheWriteBack;
    message.instruction_bytes = instruction.count;
    message.access_info =
        static_cast<u8>(memory_access::kGvaValid | (exit.slat.during_walk ? 0 : memory_access::kGvaGpaValid));
    message.tpr = vp.processor().apic().tpr();
    message.gva = exit.gva.value;
    message.gpa = exit.gpa.value;
    std::memcpy(message.instruction, instruction.bytes, sizeof message.instruction);
    // inside what the parent mapped, with or without access, it is the kernel's; outside the VMM's.
    const bool known = vp.partition().contains(exit.gpa);
    return send(vp, known ? MessageType::GpaIntercept : MessageType::UnmappedGpa, message);
}

Action intercept_msr(Vp& vp, const Exit& exit) {
    const cpu::VpState& state = vp.processor().state();
    MsrIntercept message{};
    message.header = header_of(vp, exit.insn_length, direction(exit.write));
    message.msr = exit.msr;
    message.rdx = state.gpr[cpu::RDX];
    message.rax = state.gpr[cpu::RAX];
    return send(vp, MessageType::MsrIntercept, message);
}

Action intercept_cpuid(Vp& vp, const Exit& exit, std::span<const u32, 4> shown) {
    const cpu::VpState& state = vp.processor().state();
    CpuidIntercept message{};
    message.header = header_of(vp, exit.insn_length, InterceptAccess::Execute);
    message.rax = state.gpr[cpu::RAX];
    message.rcx = state.gpr[cpu::RCX];
    message.rdx = state.gpr[cpu::RDX];
    message.rbx = state.gpr[cpu::RBX];
    message.default_rax = shown[0];
    message.default_rbx = shown[1];
    message.default_rcx = shown[2];
    message.default_rdx = shown[3];
    return send(vp, MessageType::CpuidIntercept, message);
}

Action intercept_exception(Vp& vp, const Exit& exit) {
    const cpu::VpState& state = vp.processor().state();
    const InstructionBytes instruction = fetch_instruction(vp);
    ExceptionIntercept message{};
    message.header = header_of(vp, instruction.length, InterceptAccess::Execute);
    message.vector = exit.fault.vector;
    constexpr u8 kErrorValid = 1, kSoftware = 2;
    message.info = static_cast<u8>((exit.fault.has_error ? kErrorValid : 0) |
                                   (exit.fault.type == cpu::EventType::SoftException ? kSoftware : 0));
    message.instruction_bytes = instruction.count;
    message.error_code = exit.fault.error_code;
    message.parameter = exit.fault.vector == cpu::kPageFault ? exit.fault.cr2 : exit.fault.dr6_bits;
    std::memcpy(message.instruction, instruction.bytes, sizeof message.instruction);
    message.ds = segment_value(state.segment(cpu::Seg::DS));
    message.ss = segment_value(state.segment(cpu::Seg::SS));
    std::copy(std::begin(state.gpr), std::end(state.gpr), message.gpr);
    return send(vp, MessageType::ExceptionIntercept, message);
}

Action intercept_hypercall(Vp& vp, const Exit& exit) {
    const cpu::VpState& state = vp.processor().state();
    HypercallIntercept message{};
    message.header = header_of(vp, exit.insn_length, InterceptAccess::Execute);
    message.rax = state.gpr[cpu::RAX];
    message.rbx = state.gpr[cpu::RBX];
    message.rcx = state.gpr[cpu::RCX];
    message.rdx = state.gpr[cpu::RDX];
    message.r8 = state.gpr[cpu::R8];
    message.rsi = state.gpr[cpu::RSI];
    message.rdi = state.gpr[cpu::RDI];
    for (unsigned i = 0; i < std::size(message.xmm); ++i) std::memcpy(message.xmm[i], state.ymm[i], 16);
    return send(vp, MessageType::HypercallIntercept, message);
}

Action intercept_plain(Vp& vp, MessageType type, u8 instruction_length) {
    return send(vp, type, HaltIntercept{header_of(vp, instruction_length, InterceptAccess::Execute)});
}

}  // namespace vg::hv
