#include "unicorn_cpu.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "cpu/decode.h"
#include "cpu/fault.h"
#include "cpu/isa/isa.h"
#include "cpu/spec/bits.h"

namespace vg::test {

using namespace legacy_memory;

namespace {

constexpr int kGprs[] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
                         UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};
constexpr int kSegments[] = {UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS, UC_X86_REG_DS, UC_X86_REG_FS, UC_X86_REG_GS};

void check(uc_err error) { VG_ASSERT(error == UC_ERR_OK); }

}  // namespace

UnicornCpu::UnicornCpu(Legacy mode) : mode_(mode), storage_(kSize + 0x1000) {
    memory_ = storage_.data() + (0x1000 - (reinterpret_cast<std::uintptr_t>(storage_.data()) & 0xfff));
    write_tables(memory_, mode == Legacy::Real);
    check(uc_open(UC_ARCH_X86, mode == Legacy::Real ? UC_MODE_16 : UC_MODE_32, &uc_));
    check(uc_ctl_set_cpu_model(uc_, UC_CPU_X86_HASWELL));
    check(uc_mem_map_ptr(uc_, 0, kSize, UC_PROT_ALL, memory_));
    uc_hook hook;
    check(uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(on_interrupt), this, 1, 0));
    check(uc_hook_add(uc_, &hook, UC_HOOK_INSN, reinterpret_cast<void*>(on_in), this, 1, 0, UC_X86_INS_IN));
    check(uc_hook_add(uc_, &hook, UC_HOOK_INSN, reinterpret_cast<void*>(on_out), this, 1, 0, UC_X86_INS_OUT));
    if (mode != Legacy::Real) enter_protected();
    write(UC_X86_REG_CR4, 0);
    check(uc_context_alloc(uc_, &start_));
    check(uc_context_save(uc_, start_));
    check(uc_context_alloc(uc_, &now_));
    if (mode != Legacy::Real) find_error_code();
}

UnicornCpu::~UnicornCpu() {
    uc_context_free(now_);
    uc_context_free(start_);
    uc_close(uc_);
}

void UnicornCpu::write(int reg, u32 value) {
    u64 wide = value;
    check(uc_reg_write(uc_, reg, &wide));
}

u32 UnicornCpu::read(int reg) {
    u64 wide = 0;
    check(uc_reg_read(uc_, reg, &wide));
    return static_cast<u32>(wide);
}

/// Loads the tables, and CS and SS by an IRET: nothing else enters CPL 3.
void UnicornCpu::enter_protected() {
    uc_x86_mmr gdtr{0, kGdt, kGdtLimit, 0}, idtr{0, kIdt, 0x7ff, 0};
    uc_x86_mmr ldtr{selector::Ldt, kLdt, kLdtLimit, 0x8200}, tr{selector::Tss, kTss, kTssLimit, 0x8900};
    check(uc_reg_write(uc_, UC_X86_REG_GDTR, &gdtr));
    check(uc_reg_write(uc_, UC_X86_REG_IDTR, &idtr));
    check(uc_reg_write(uc_, UC_X86_REG_LDTR, &ldtr));
    check(uc_reg_write(uc_, UC_X86_REG_TR, &tr));
    write(UC_X86_REG_CR0, 0x11);
    write(UC_X86_REG_CS, selector::Code32);
    for (const int seg : {UC_X86_REG_SS, UC_X86_REG_DS, UC_X86_REG_ES, UC_X86_REG_FS, UC_X86_REG_GS})
        write(seg, selector::Data32);
    const u16 cs = mode_ == Legacy::User32 ? selector::UserCode : mode_ == Legacy::Kernel32 ? selector::Code32 : selector::Code16;
    const u16 ss = mode_ == Legacy::User32 ? selector::UserData : mode_ == Legacy::Kernel32 ? selector::Data32 : selector::Data16;
    const u32 frame[] = {0x100 + kCode - segment_base(mode_, cs), cs, 2, 0x100, ss};
    constexpr u32 kAt = kStacks;
    std::memcpy(memory_ + kAt, frame, sizeof frame);
    memory_[kCode] = 0xcf;
    std::memset(memory_ + kCode + 1, 0xf4, 0x200);
    write(UC_X86_REG_ESP, kAt);
    (void)uc_emu_start(uc_, kCode, 0, 0, 1);
    VG_ASSERT(read(UC_X86_REG_CS) == cs);
    if (mode_ != Legacy::User32) write(UC_X86_REG_SS, ss);
    VG_ASSERT(read(UC_X86_REG_SS) == ss);
    std::memset(memory_ + kAt, 0, sizeof frame);
    memory_[kCode] = 0xf4;
    check(uc_ctl_remove_cache(uc_, u64{kCode}, u64{kCode} + 0x200));
}

/// Unicorn keeps the error code of an exception but does not show it: it is the one place of a saved context that holds
/// the selector without its RPL whenever the load of a selector fails.
void UnicornCpu::find_error_code() {
    std::vector<std::size_t> found;
    for (const u32 bad : {0x7ff8u, 0x1238u, 0x5670u}) {
        memory_[kCode] = 0x8e;  // mov ds, ax
        memory_[kCode + 1] = 0xd8;
        check(uc_ctl_remove_cache(uc_, u64{kCode}, u64{kCode} + 16));
        check(uc_context_restore(uc_, start_));
        write(UC_X86_REG_EAX, bad | 3);
        vector_ = -1;
        (void)uc_emu_start(uc_, kCode - segment_base(mode_, static_cast<u16>(read(UC_X86_REG_CS))), 0, 0, 1);
        VG_ASSERT(vector_ == cpu::kGeneralProtection);
        check(uc_context_save(uc_, now_));
        const u8* const bytes = reinterpret_cast<const u8*>(now_);
        const bool first = found.empty();
        std::vector<std::size_t> still;
        for (std::size_t at = 0; at + 4 <= uc_context_size(uc_); at += 4) {
            u32 value;
            std::memcpy(&value, bytes + at, 4);
            if (value == bad && (first || std::find(found.begin(), found.end(), at) != found.end())) still.push_back(at);
        }
        found = std::move(still);
    }
    VG_ASSERT(found.size() == 1);
    error_at_ = found[0];
    memory_[kCode] = memory_[kCode + 1] = 0xf4;
    check(uc_ctl_remove_cache(uc_, u64{kCode}, u64{kCode} + 16));
}

u32 UnicornCpu::error_code() {
    check(uc_context_save(uc_, now_));
    u32 value;
    std::memcpy(&value, reinterpret_cast<const u8*>(now_) + error_at_, 4);
    return value;
}

void UnicornCpu::on_interrupt(uc_engine* uc, u32 vector, void* self) {
    static_cast<UnicornCpu*>(self)->vector_ = static_cast<int>(vector);
    (void)uc_emu_stop(uc);
}

u32 UnicornCpu::on_in(uc_engine*, u32 port, int size, void* self) {
    const u32 bytes = static_cast<u32>(size);
    static_cast<UnicornCpu*>(self)->ports_.push_back({port, bytes, 0, false});
    return port_value(port, bytes);
}

void UnicornCpu::on_out(uc_engine*, u32 port, int size, u32 value, void* self) {
    static_cast<UnicornCpu*>(self)->ports_.push_back({port, static_cast<u32>(size), value, true});
}

void UnicornCpu::load(const LegacyState& s) {
    check(uc_context_restore(uc_, start_));
    for (unsigned n = 0; n < 6; ++n)
        if (mode_ == Legacy::Real || (n != 1 && n != 2)) write(kSegments[n], s.selector[n]);
    for (unsigned n = 0; n < 8; ++n) write(kGprs[n], s.gpr[n]);
    write(UC_X86_REG_EFLAGS, s.eflags);
    write(UC_X86_REG_CR2, s.cr2);
}

LegacyState UnicornCpu::store() {
    LegacyState s;
    for (unsigned n = 0; n < 8; ++n) s.gpr[n] = read(kGprs[n]);
    for (unsigned n = 0; n < 6; ++n) s.selector[n] = static_cast<u16>(read(kSegments[n]));
    s.eip = read(UC_X86_REG_EIP);
    s.eflags = read(UC_X86_REG_EFLAGS);
    s.fs_base = read(UC_X86_REG_FS_BASE);
    s.cr2 = read(UC_X86_REG_CR2);
    return s;
}

u32 UnicornCpu::eip_at_stop() {
    const u16 cs = static_cast<u16>(read(UC_X86_REG_CS));
    const bool segment_is_paragraph = mode_ == Legacy::Real || (read(UC_X86_REG_EFLAGS) & cpu::flag::VM) != 0;
    return read(UC_X86_REG_EIP) - segment_base(segment_is_paragraph ? Legacy::Real : mode_, cs);
}

LegacyOutcome UnicornCpu::run(const LegacyCase& c, u32 iterations) {
    const u64 linear = u64{c.code_base} + c.state.eip;
    std::memcpy(memory_ + linear, c.insn.bytes, c.insn.length);
    check(uc_ctl_remove_cache(uc_, linear, linear + 16));
    load(c.state);
    vector_ = -1;
    ports_.clear();
    const bool repeats = c.insn.rep != cpu::Rep::None && cpu::row(c.insn.row).has(cpu::attr::String);
    constexpr unsigned kMaxIterations = 64;
    LegacyOutcome out;
    bool fetch_failed = false;
    for (unsigned n = 0; n < std::min(iterations, kMaxIterations); ++n) {
        const uc_err error = uc_emu_start(uc_, mode_ == Legacy::Real ? linear : c.state.eip, 0, 0, 1);
        if (error == UC_ERR_INSN_INVALID) vector_ = cpu::kInvalidOpcode;
        else if ((fetch_failed = error == UC_ERR_FETCH_UNMAPPED)) out.unmodelled = read(UC_X86_REG_EIP) == c.state.eip;
        else if (error != UC_ERR_OK) out.unmodelled = true;
        const u32 after = error == UC_ERR_FETCH_UNMAPPED ? read(UC_X86_REG_EIP) : eip_at_stop();
        if (!repeats || vector_ >= 0 || error != UC_ERR_OK || after != c.state.eip) break;
    }
    out.vector = vector_;
    const bool software = c.insn.op == cpu::Op::INT || c.insn.op == cpu::Op::INT3 || c.insn.op == cpu::Op::INTO;
    if (mode_ != Legacy::Real && !software && has_error_code(vector_)) out.error = error_code();
    out.state = store();
    if (vector_ < 0 && !fetch_failed) out.state.eip = eip_at_stop();
    out.ports = ports_;
    return out;
}

LegacyState UnicornCpu::run_program(const LegacyState& s, u64 limit) {
    load(s);
    check(uc_emu_start(uc_, (u64{s.selector[1]} << 4) + s.eip, 0, 0, limit));
    return store();
}

}  // namespace vg::test
