#include "system_cpu.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "cpu/spec/bits.h"
#include "legacy.h"

namespace vg::test {

using namespace cpu;
using namespace system_memory;

namespace {

/// SDM 3A "Segment Descriptors". access: P DPL S type; flags: G D/B L AVL.
constexpr u64 descriptor(u64 base, u64 limit, u64 access, u64 flags) {
    return (limit & 0xffff) | (base & 0xffffff) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52 |
           (base >> 24 & 0xff) << 56;
}

constexpr int kGprs[] = {UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX, UC_X86_REG_RSP, UC_X86_REG_RBP,
                         UC_X86_REG_RSI, UC_X86_REG_RDI, UC_X86_REG_R8,  UC_X86_REG_R9,  UC_X86_REG_R10, UC_X86_REG_R11,
                         UC_X86_REG_R12, UC_X86_REG_R13, UC_X86_REG_R14, UC_X86_REG_R15};
constexpr int kGprs32[] = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX, UC_X86_REG_EBX,
                           UC_X86_REG_ESP, UC_X86_REG_EBP, UC_X86_REG_ESI, UC_X86_REG_EDI};
constexpr int kSegments[] = {UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS, UC_X86_REG_DS, UC_X86_REG_FS, UC_X86_REG_GS};

void check(uc_err error) { VG_ASSERT(error == UC_ERR_OK); }

std::array<u16, 6> flat_selectors(bool user) {
    using namespace system_selector;
    const u16 cs = user ? UserCode : Code, ss = user ? UserData : Data;
    return {UserData, cs, ss, UserData, UserData, UserData};
}

}  // namespace

void write_system_tables(u8* memory, Width width) {
    std::memset(memory, 0, kLow);
    const u64 base = code_base(width), code_flags = width == Width::Bits64 ? 0xa : 0xc;
    const bool wide = width == Width::Bits64;  // descriptors of system segments take two slots
    const u64 gdt[] = {0,
                       descriptor(0, 0xfffff, 0x9b, code_flags),
                       descriptor(0, 0xfffff, 0x93, 0xc),
                       descriptor(0, 0xfffff, 0xfb, code_flags),
                       descriptor(0, 0xfffff, 0xf3, 0xc),
                       descriptor(base + kTss, 0x67, 0x8b, 0),
                       wide ? base >> 32 : 0,
                       descriptor(base + kTss2, 0x67, 0x89, 0),
                       wide ? base >> 32 : 0,
                       descriptor(base + kLdt, kLdtLimit, 0x82, 0),
                       wide ? base >> 32 : 0};
    std::memcpy(memory + kGdt, gdt, sizeof gdt);
    const u64 ldt[] = {descriptor(0, 0xfffff, 0xf3, 0xc), descriptor(0, 0xfffff, 0xf2, 0xc)};
    std::memcpy(memory + kLdt, ldt, sizeof ldt);
}

// ---- ours --------------------------------------------------------------------------------------------------------------

SystemEngine::SystemEngine() : model_(CpuModel::create("verdigris-v2").value()) {
    VG_ASSERT(memory_.add_ram("ram", Spa(0), kSize).has_value());
    vp_ = std::make_unique<Vp>(VpEnvironment{memory_, events_, log_, model_, apic_bus_, platform_}, "vp0", 0, 0);
    vp_->reset();
    virt::Level level;
    level.controls.exceptions = ~0u;
    level.owner = &catcher_;
    vp_->levels().push_back(level);
}

void SystemEngine::load(const SystemCase& c) {
    const SystemState& s = c.state;
    VpState& v = vp_->state();
    for (unsigned n = 0; n < 16; ++n) v.gpr[n] = s.gpr[n];
    v.rip = s.rip;
    v.rflags = s.rflags;
    v.cr0 = s.cr0;
    v.cr2 = s.cr2;
    v.cr3 = s.cr3;
    v.cr4 = s.cr4;
    for (unsigned n = 0; n < 8; ++n) v.dr[n] = s.dr[n];
    v.gdtr = {s.gdt_base, s.gdt_limit, 0};
    v.idtr = {s.idt_base, s.idt_limit, 0};
    u64* const msrs[] = {&v.sysenter_cs, &v.sysenter_esp, &v.sysenter_eip, &v.pat,   &v.efer,   &v.star,
                         &v.lstar,       &v.cstar,        &v.sfmask,       nullptr, nullptr, &v.kernel_gs_base};
    for (std::size_t n = 0; n < s.msr.size(); ++n)
        if (msrs[n] != nullptr) *msrs[n] = s.msr[n];
    const std::array<u16, 6> selectors = flat_selectors(c.user);
    for (unsigned n = 0; n < 6; ++n) {
        const bool code = n == 1, user = (selectors[n] & 3) == 3;
        const unsigned size = code && c.width == Width::Bits64 ? 0xa000 : 0xc000;
        v.seg[n] = {0, 0xffffffff, selectors[n], static_cast<u16>(size | (user ? 0xf3u : 0x93u) | (code ? 8u : 0u))};
    }
    v.segment(Seg::FS).base = s.msr[9];
    v.segment(Seg::GS).base = s.msr[10];
    v.segment(Seg::LDTR) = {0, 0, 0, 0};
    v.segment(Seg::TR) = {code_base(c.width) + kTss, 0x67, system_selector::Tss, 0x8b};
    v.cpl = c.user ? 3 : 0;
    v.activity = Activity::Active;
    v.interrupt_shadow = v.nmi_blocked = v.debug_pending = 0;
    if ((s.cr0 & cr0::PG) != 0 && (s.cr4 & cr4::PAE) != 0 && c.width == Width::Bits32)
        (void)mmu::load_pdptes(memory_, vp_->tlb().slat(), s.cr3, model_.physical_bits(), v.pdpte);
    vp_->tlb().flush_all();
    vp_->update_context();
}

SystemState SystemEngine::store() const {
    const VpState& v = vp_->state();
    SystemState s;
    for (unsigned n = 0; n < 16; ++n) s.gpr[n] = v.gpr[n];
    s.rip = v.rip;
    s.rflags = v.rflags;
    s.cr0 = v.cr0;
    s.cr2 = v.cr2;
    s.cr3 = v.cr3;
    s.cr4 = v.cr4;
    for (unsigned n = 0; n < 8; ++n) s.dr[n] = v.dr[n];
    for (unsigned n = 0; n < 6; ++n) s.selector[n] = v.seg[n].selector;
    s.gdt_base = v.gdtr.base;
    s.gdt_limit = static_cast<u16>(v.gdtr.limit);
    s.idt_base = v.idtr.base;
    s.idt_limit = static_cast<u16>(v.idtr.limit);
    s.ldtr = v.segment(Seg::LDTR).selector;
    s.tr = v.segment(Seg::TR).selector;
    s.msr = {v.sysenter_cs, v.sysenter_esp, v.sysenter_eip, v.pat, v.efer, v.star, v.lstar, v.cstar, v.sfmask,
             v.segment(Seg::FS).base, v.segment(Seg::GS).base, v.kernel_gs_base};
    return s;
}

SystemOutcome SystemEngine::run(const SystemCase& c) {
    load(c);
    clock_.advance(1);
    vp_->begin_slice(clock_.now(), clock_.now() + 1);
    const Stop stop = engine_.run(*vp_);
    SystemOutcome out;
    out.state = store();
    if (stop != Stop::Leave) return out;
    out.vector = catcher_.fault.vector;
    if (catcher_.fault.has_error) out.error = catcher_.fault.error_code;
    if (out.vector == kPageFault) out.state.cr2 = catcher_.fault.cr2;
    return out;
}

// ---- Unicorn -----------------------------------------------------------------------------------------------------------

SystemUnicorn::SystemUnicorn(Width width) : width_(width), storage_(kSize + 0x1000) {
    memory_ = storage_.data() + (0x1000 - (reinterpret_cast<std::uintptr_t>(storage_.data()) & 0xfff));
    write_system_tables(memory_, width);
    check(uc_open(UC_ARCH_X86, width == Width::Bits64 ? UC_MODE_64 : UC_MODE_32, &uc_));
    check(uc_ctl_set_cpu_model(uc_, UC_CPU_X86_HASWELL));
    map(0, 0, kSize);
    map(code_base(width), 0, kLow);
    for (const u64 base : kDataBases)
        if (base != 0 && (base >> 32 == 0 || width == Width::Bits64)) map(base + kWindow, kWindow, kWindowSize);
    uc_hook hook;
    check(uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(on_interrupt), this, 1, 0));
    uc_x86_mmr gdtr{0, code_base(width) + kGdt, kGdtLimit, 0};
    uc_x86_mmr tr{system_selector::Tss, code_base(width) + kTss, 0x67, 0x8b00};
    check(uc_reg_write(uc_, UC_X86_REG_GDTR, &gdtr));
    check(uc_reg_write(uc_, UC_X86_REG_TR, &tr));
    if (width == Width::Bits32) {
        write(UC_X86_REG_CR0, 0x11);
        write(UC_X86_REG_CS, system_selector::Code);
        write(UC_X86_REG_SS, system_selector::Data);
        for (const int seg : {UC_X86_REG_DS, UC_X86_REG_ES, UC_X86_REG_FS, UC_X86_REG_GS}) write(seg, system_selector::UserData);
    }
    check(uc_context_alloc(uc_, &start_));
    check(uc_context_save(uc_, start_));
    check(uc_context_alloc(uc_, &now_));
    find_error_code();
    efer_at_ = find_efer();
}

SystemUnicorn::~SystemUnicorn() {
    uc_context_free(now_);
    uc_context_free(start_);
    uc_close(uc_);
}

void SystemUnicorn::map(u64 linear, u64 physical, u64 size) {
    check(uc_mem_map_ptr(uc_, linear, size, UC_PROT_ALL, memory_ + physical));
}

void SystemUnicorn::write(int reg, u64 value) { check(uc_reg_write(uc_, reg, &value)); }

u64 SystemUnicorn::read(int reg) {
    u64 value = 0;
    check(uc_reg_read(uc_, reg, &value));
    return value;
}

void SystemUnicorn::on_interrupt(uc_engine* uc, u32 vector, void* self) {
    SystemUnicorn& unicorn = *static_cast<SystemUnicorn*>(self);
    (void)uc_emu_stop(uc);
    if (unicorn.vector_ >= 0) return;  // it tries a fetch that failed once more, and then has a double fault
    unicorn.vector_ = static_cast<int>(vector);
    check(uc_context_save(uc, unicorn.now_));
}

/// The places of now_, in steps of 4, that hold `value`; of `among` only, unless that is empty.
std::vector<std::size_t> SystemUnicorn::places_of(u32 value, const std::vector<std::size_t>& among) {
    std::vector<std::size_t> found;
    for (std::size_t n = 0; n + 4 <= uc_context_size(uc_); n += 4)
        if (context_word(n) == value && (among.empty() || std::find(among.begin(), among.end(), n) != among.end())) found.push_back(n);
    return found;
}

u32 SystemUnicorn::context_word(std::size_t at) const {
    u32 value;
    std::memcpy(&value, reinterpret_cast<const u8*>(now_) + at, 4);
    return value;
}

/// See UnicornCpu::find_error_code.
void SystemUnicorn::find_error_code() {
    std::vector<std::size_t> found;
    const u64 at = code_base(width_) + kPrologue;
    memory_[kPrologue] = 0x8e;  // mov ds, ax
    memory_[kPrologue + 1] = 0xd8;
    for (const u32 bad : {0x7ff8u, 0x1238u, 0x5670u}) {
        check(uc_context_restore(uc_, start_));
        write(width_ == Width::Bits32 ? UC_X86_REG_EAX : UC_X86_REG_RAX, bad | 3);
        vector_ = -1;
        (void)uc_emu_start(uc_, at, 0, 0, 1);
        VG_ASSERT(vector_ == kGeneralProtection);
        found = places_of(bad, found);
    }
    VG_ASSERT(found.size() == 1);
    error_at_ = found[0];
    check(uc_ctl_remove_cache(uc_, at, at + 16));
    check(uc_context_restore(uc_, start_));
}

/// Unicorn's processor says that it has no execute-disable and no SYSCALL, and in 32-bit mode no long mode, and so WRMSR
/// leaves out their bits of EFER; it obeys them, however. EFER is where a saved context has the bit that is written.
std::size_t SystemUnicorn::find_efer() {
    if (width_ == Width::Bits32) return SystemUnicorn(Width::Bits64).efer_at_;
    std::vector<std::size_t> found;
    for (const u64 value : {u64{efer::LME}, u64{0}, u64{efer::LME}}) {
        uc_x86_msr msr{kComparedMsrs[kMsrEfer], value};
        check(uc_reg_write(uc_, UC_X86_REG_MSR, &msr));
        check(uc_reg_read(uc_, UC_X86_REG_MSR, &msr));
        check(uc_context_save(uc_, now_));
        found = places_of(static_cast<u32>(msr.value), found);
    }
    VG_ASSERT(found.size() == 1);
    check(uc_context_restore(uc_, start_));
    return found[0];
}

/// Sets what only instructions set properly: control registers, and by an IRET privilege and flags.
bool SystemUnicorn::enter(const SystemCase& c) {
    static constexpr u8 kEntry[] = {0x0f, 0x22, 0xe0,  // mov cr4, eax
                                   0x0f, 0x22, 0xd9,  // mov cr3, ecx
                                   0x0f, 0x22, 0xc3,  // mov cr0, ebx
                                   0x48, 0xcf};       // iretq; 48 is left out in 32-bit code
    const bool wide = width_ == Width::Bits64;
    u8* const code = memory_ + kPrologue;
    std::memcpy(code, kEntry, sizeof kEntry);
    if (!wide) code[9] = 0xcf;
    const std::array<u16, 6> selectors = flat_selectors(c.user);
    // Not to the case's instruction: Unicorn would fetch it already.
    const u64 frame[] = {code_base(width_) + kCode, selectors[1], c.state.rflags, code_base(width_) + kStack, selectors[2]};
    for (unsigned n = 0; n < 5; ++n) std::memcpy(memory_ + kPrologue + 0x800 + n * (wide ? 8 : 4), &frame[n], wide ? 8 : 4);
    const auto& ids = kGprs;
    const auto set = [&](unsigned reg, u64 value) { write(wide ? ids[reg] : kGprs32[reg], value); };
    set(RAX, c.state.cr4);
    set(RCX, c.state.cr3);
    set(RBX, c.state.cr0);
    set(RSP, code_base(width_) + kPrologue + 0x800);
    const uc_err error = uc_emu_start(uc_, code_base(width_) + kPrologue, 0, 0, 4);
    return error == UC_ERR_OK && vector_ < 0;
}

SystemState SystemUnicorn::store() {
    const bool wide = width_ == Width::Bits64;
    SystemState s;
    for (unsigned n = 0; n < (wide ? 16u : 8u); ++n) s.gpr[n] = read(wide ? kGprs[n] : kGprs32[n]);
    s.rip = read(wide ? UC_X86_REG_RIP : UC_X86_REG_EIP);
    s.rflags = read(wide ? UC_X86_REG_RFLAGS : UC_X86_REG_EFLAGS);
    s.cr0 = read(UC_X86_REG_CR0);
    s.cr2 = read(UC_X86_REG_CR2);
    s.cr3 = read(UC_X86_REG_CR3);
    s.cr4 = read(UC_X86_REG_CR4);
    for (unsigned n = 0; n < 8; ++n)
        if (n != 4 && n != 5) s.dr[n] = read(UC_X86_REG_DR0 + static_cast<int>(n));
    for (unsigned n = 0; n < 6; ++n) s.selector[n] = static_cast<u16>(read(kSegments[n]));
    uc_x86_mmr table{};
    check(uc_reg_read(uc_, UC_X86_REG_GDTR, &table));
    s.gdt_base = table.base;
    s.gdt_limit = static_cast<u16>(table.limit);
    check(uc_reg_read(uc_, UC_X86_REG_IDTR, &table));
    s.idt_base = table.base;
    s.idt_limit = static_cast<u16>(table.limit);
    check(uc_reg_read(uc_, UC_X86_REG_LDTR, &table));
    s.ldtr = table.selector;
    check(uc_reg_read(uc_, UC_X86_REG_TR, &table));
    s.tr = table.selector;
    for (std::size_t n = 0; n < s.msr.size(); ++n) {
        uc_x86_msr msr{kComparedMsrs[n], 0};
        check(uc_reg_read(uc_, UC_X86_REG_MSR, &msr));
        s.msr[n] = msr.value;
    }
    return s;
}

SystemOutcome SystemUnicorn::run(const SystemCase& c) {
    const bool wide = width_ == Width::Bits64;
    const SystemState& s = c.state;
    SystemOutcome out;
    vector_ = -1;
    check(uc_context_restore(uc_, start_));
    check(uc_ctl_remove_cache(uc_, s.rip, s.rip + 16));  // before paging: it translates the address
    for (std::size_t n = 0; n < s.msr.size(); ++n) {
        uc_x86_msr msr{kComparedMsrs[n], s.msr[n]};
        check(uc_reg_write(uc_, UC_X86_REG_MSR, &msr));
    }
    check(uc_context_save(uc_, now_));
    const u32 efer_value = static_cast<u32>(s.msr[kMsrEfer]);
    std::memcpy(reinterpret_cast<u8*>(now_) + efer_at_, &efer_value, 4);
    check(uc_context_restore(uc_, now_));
    if (!enter(c)) {
        out.unmodelled = true;
        return out;
    }
    for (unsigned n = 0; n < (wide ? 16u : 8u); ++n) write(wide ? kGprs[n] : kGprs32[n], s.gpr[n]);
    if (wide)
        for (const unsigned n : {0u, 3u, 4u, 5u}) write(kSegments[n], system_selector::UserData);
    write(UC_X86_REG_CR2, s.cr2);
    for (unsigned n = 0; n < 8; ++n)
        if (n != 4 && n != 5) write(UC_X86_REG_DR0 + static_cast<int>(n), s.dr[n]);
    uc_x86_mmr gdtr{0, s.gdt_base, s.gdt_limit, 0}, idtr{0, s.idt_base, s.idt_limit, 0};
    check(uc_reg_write(uc_, UC_X86_REG_GDTR, &gdtr));
    check(uc_reg_write(uc_, UC_X86_REG_IDTR, &idtr));
    const uc_err error = uc_emu_start(uc_, s.rip, 0, 0, 1);
    if (error == UC_ERR_INSN_INVALID) vector_ = kInvalidOpcode;
    else if (error != UC_ERR_OK) out.unmodelled = true;
    out.vector = vector_;
    if (has_error_code(vector_)) out.error = context_word(error_at_);
    out.state = store();
    return out;
}

}  // namespace vg::test
