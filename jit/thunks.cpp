#include "jit/thunks.h"

#include <cstddef>
#include <string>
#include <utility>


#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

#include "jit/x87_unit.h"

namespace vg::jit {

namespace {

/// The thunks as one code generator. In translated code RSP is 16-byte aligned; at kStackBase it is as on entry.
class Generator : public Xbyak::CodeGenerator {
  public:
    Generator(const CodeArena& arena, const Site* sites)
        : CodeGenerator(Thunks::kOwnSize, arena.writable()), sites_(sites), executable_(arena.executable(0)) {}

    Thunks make() {
        Thunks t;
        nop(16);  // offset 0 means "none"
        emit_enter();
        t.leave = start();
        emit_leave();
        left_ = here();
        emit_left();
        align(16);
        emit_no_return();
        t.load_vectors = start();
        emit_load_vectors();
        t.load_x87 = start();
        emit_load_x87();
        t.miss_read = start();
        emit_miss(static_cast<int>(mmu::kReadTable));
        t.miss_write = start();
        emit_miss(static_cast<int>(mmu::kWriteTable));
        t.miss_jump = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_slow_jump));
        t.miss_edge = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_slow_edge));
        t.settle = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_settle));
        t.execute = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_slow_execute));
        t.promote = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_promote));
        t.memo_misses = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_memo_misses));
        t.trace_full = start();
        emit_slow(reinterpret_cast<u64>(&vg_jit_trace_full));
        t.helper = start();
        emit_helper();
        return t;
    }
    [[nodiscard]] u32 enter_offset() const { return 16; }

  private:
    using Reg64 = Xbyak::Reg64;

    u32 here() const { return static_cast<u32>(getSize()); }
    u32 start() {
        align(16);
        return here();
    }
    /// In the bank or the state page; Xbyak takes displacements, negative ones too, as size_t.
    static Xbyak::RegExp slot(int disp) { return Reg64(Xbyak::Operand::RBP) + static_cast<std::size_t>(disp); }
    Xbyak::Address state(int disp) { return ptr[slot(disp)]; }
    Xbyak::Address context(const Reg64& base, std::size_t field) { return ptr[base + field]; }
    void jump_to(u32 offset) { jmp(getCode() + offset, T_NEAR); }

    void spill() {
        for (unsigned r = 0; r < 16; ++r)
            if (kHostOf[r] != kInMemory) mov(state(gpr_disp(r)), Reg64(kHostOf[r]));
        mov(state(VG_STATE_DISP(budget)), Reg64(kBudget));
    }
    void reload() {
        for (unsigned r = 0; r < 16; ++r)
            if (kHostOf[r] != kInMemory) mov(Reg64(kHostOf[r]), state(gpr_disp(r)));
        mov(Reg64(kBudget), state(VG_STATE_DISP(budget)));
    }
    /// After spill(). RCX becomes the context.
    void save_vectors() {
        Xbyak::Label skip;
        mov(rcx, state(kContext));
        cmp(byte[slot(kVectorsLoaded)], 0);
        je(skip, T_NEAR);
        for (int i = 0; i < 16; ++i) vmovaps(state(VG_STATE_DISP(ymm) + 32 * i), Xbyak::Ymm(i));
        vzeroupper();
        stmxcsr(dword[slot(VG_STATE_DISP(mxcsr))]);
        ldmxcsr(dword[rcx + static_cast<int>(offsetof(Context, host_mxcsr))]);
        L(skip);
    }
    void restore_vectors() {
        Xbyak::Label skip;
        cmp(byte[slot(kVectorsLoaded)], 0);
        je(skip, T_NEAR);
        load_all_vectors();
        L(skip);
    }
    void load_all_vectors() {
        for (int i = 0; i < 16; ++i) vmovaps(Xbyak::Ymm(i), state(VG_STATE_DISP(ymm) + 32 * i));
        ldmxcsr(dword[slot(VG_STATE_DISP(mxcsr))]);
    }

    void emit_enter() {
        for (const Reg64& r : {rbx, rbp, r12, r13, r14, r15}) push(r);
        push(rdi);  // aligns
        mov(rax, kNoReturn);
        push(rax);
        mov(rbp, rdx);
        mov(state(kContext), rdi);
        stmxcsr(dword[rdi + static_cast<int>(offsetof(Context, host_mxcsr))]);
        lea(rax, ptr[rip + no_return_label_]);
        push(rax);
        mov(state(kStackBase), rsp);
        lea(rax, ptr[rsp - static_cast<int>(kPairBytes)]);
        mov(state(kStackLimit), rax);
        mov(ptr[rsp - 8], rsi);
        reload();
        jmp(ptr[rsp - 8]);
    }
    void emit_leave() {
        spill();
        save_vectors();
        pop(rax);
        mov(context(rcx, offsetof(Context, site)), eax);
        mov(dword[rcx + static_cast<int>(offsetof(Context, leave))], static_cast<u32>(Leave::Link));
    }
    /// A return "succeeded" below the lowest frame: T0 is where the guest wants to go.
    void emit_no_return() {
        L(no_return_label_);
        mov(rsp, state(kStackBase));
        spill();
        save_vectors();
        mov(state(VG_STATE_DISP(rip)), r8);
        mov(dword[rcx + static_cast<int>(offsetof(Context, leave))], static_cast<u32>(Leave::Lookup));
        jump_to(left_);
    }
    void emit_left() {
        mov(rsp, state(kStackBase));
        add(rsp, 16);
        mov(byte[slot(kVectorsLoaded)], 0);
        pop(rdi);
        for (const Reg64& r : {r15, r14, r13, r12, rbp, rbx}) pop(r);
        ret();
    }
    void emit_load_vectors() {
        load_all_vectors();
        mov(byte[slot(kVectorsLoaded)], 1);
        ret();
    }
    /// x87_unit.h has the same for C++.
    void emit_load_x87() {
        mov(r8, rax);
        mov(r9, rdx);
        mov(eax, kXsaveX87);
        xor_(edx, edx);
        mov(qword[slot(VG_STATE_DISP(x87_header))], rax);
        xrstor64_x87();
        mov(qword[slot(VG_STATE_DISP(x87_header))], rdx);
        mov(byte[slot(kX87Loaded)], 1);
        mov(rax, r8);
        mov(rdx, r9);
        ret();
    }
    /// XRSTOR64 [rbp + disp32], which Xbyak does not know.
    void xrstor64_x87() {
        for (const int code : {0x48, 0x0f, 0xae, 0xad}) db(code);
        dd(static_cast<u32>(VG_STATE_DISP(x87)));
    }
    void emit_slow(u64 function) {
        spill();
        save_vectors();
        pop(rsi);
        mov(rdx, r8);
        mov(rdi, rcx);
        mov(context(rcx, offsetof(Context, host_stack)), rsp);
        mov(rax, function);
        call(rax);
        if (resume_ != 0) {
            jump_to(resume_);
            return;
        }
        resume_ = here();
        test(rax, rax);
        Xbyak::Label on;
        jnz(on, T_NEAR);
        jump_to(left_);
        L(on);
        mov(rcx, state(kContext));  // any bank's: they share the state page
        mov(rsp, context(rcx, offsetof(Context, host_stack)));
        mov(ptr[rsp - 8], rax);
        mov(rbp, context(rcx, offsetof(Context, bank)));
        mov(r8, context(rcx, offsetof(Context, t0)));
        mov(r9, context(rcx, offsetof(Context, t1)));
        restore_vectors();
        // Behind an instruction the translator may believe the flags to be in the hardware.
        movzx(eax, word[slot(kFlagsSlot)]);
        add(al, 0x7f);
        sahf();
        reload();
        jmp(ptr[rsp - 8]);
    }
    /// Another page has taken the place of the one accessed: its entry may be in its second place.
    void emit_miss(int table) {
        const std::size_t second = static_cast<std::size_t>(table) + mmu::kTlbEntries * sizeof(mmu::TlbEntry);
        Xbyak::Label slow;
        xor_(r8, ptr[rbp + r9 + static_cast<std::size_t>(table)]);  // the address
        mov(state(gpr_disp(cpu::RAX)), rax);
        mov(state(gpr_disp(cpu::RCX)), rcx);
        mov(r9, r8);
        shr(r9, 12);
        mov(rax, r9);
        shr(rax, static_cast<int>(mmu::kTlbBits));
        xor_(r9d, eax);
        and_(r9d, mmu::kSecondEntries - 1);
        shl(r9d, 4);
        mov(ecx, dword[rsp]);
        imul(rcx, rcx, sizeof(Site));
        mov(rax, reinterpret_cast<u64>(sites_));
        add(rcx, rax);
        mov(rax, r8);
        xor_(rax, ptr[rbp + r9 + second]);
        cmp(rax, static_cast<u32>(kPageSize));
        jae(slow, T_NEAR);
        add(ax, word[rcx + static_cast<int>(offsetof(Site, size))]);
        cmp(eax, static_cast<u32>(kPageSize));
        ja(slow, T_NEAR);
        movzx(eax, byte[rcx + static_cast<int>(offsetof(Site, misalignment))]);
        test(eax, r8d);
        jnz(slow, T_NEAR);
        mov(r9, ptr[rbp + r9 + second + offsetof(mmu::TlbEntry, addend)]);
        movzx(eax, byte[rcx + static_cast<int>(offsetof(Site, sum))]);
        neg(rax);
        and_(rax, r9);
        add(r8, rax);  // the host's, if that is what the code goes on with
        mov(ecx, dword[rcx + static_cast<int>(offsetof(Site, access))]);
        mov(rax, reinterpret_cast<u64>(executable_));
        add(rax, rcx);
        mov(rcx, state(gpr_disp(cpu::RCX)));
        mov(ptr[rsp], rax);
        mov(rax, state(gpr_disp(cpu::RAX)));
        lea(rsp, ptr[rsp + 8]);
        jmp(ptr[rsp - 8]);
        L(slow);
        mov(rax, state(gpr_disp(cpu::RAX)));
        mov(rcx, state(gpr_disp(cpu::RCX)));
        emit_slow(reinterpret_cast<u64>(&vg_jit_slow_access));
    }
    void emit_helper() {
        spill();
        save_vectors();
        mov(esi, r8d);
        mov(rdi, rcx);
        lea(rax, ptr[rsp + 8]);
        mov(context(rcx, offsetof(Context, host_stack)), rax);
        sub(rsp, 8);
        mov(rax, reinterpret_cast<u64>(&vg_jit_helper_execute));
        call(rax);
        add(rsp, 8);
        cmp(rax, static_cast<u32>(kContinueHere));
        Xbyak::Label here_on;
        je(here_on, T_NEAR);
        jump_to(resume_);
        L(here_on);
        mov(rcx, state(kContext));
        mov(rbp, context(rcx, offsetof(Context, bank)));
        restore_vectors();
        reload();
        ret();
    }

    const Site* sites_;
    const u8* executable_;
    u32 left_ = 0, resume_ = 0;
    Xbyak::Label no_return_label_;
};

}  // namespace

Thunks make_thunks(CodeArena& arena, const Site* sites) {
    Generator generator(arena, sites);
    Thunks thunks = generator.make();
    VG_ASSERT(Xbyak::GetError() == Xbyak::ERR_NONE);
    // A function pointer is the only way to call code that no compiler has seen.
    thunks.enter =
        reinterpret_cast<Thunks::Enter>(reinterpret_cast<std::uintptr_t>(arena.executable(generator.enter_offset())));
    thunks.strings = make_string_thunks(arena, Thunks::kOwnSize, thunks.execute);
    arena.reset(Thunks::kSize);
    return thunks;
}

}  // namespace vg::jit
