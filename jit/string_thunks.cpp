#include "jit/string_thunks.h"

#include <cstddef>

#include "base/assert.h"
#include "jit/layout.h"

#define XBYAK_NO_EXCEPTION
#include <xbyak/xbyak.h>

namespace vg::jit {

namespace {

enum class Kind : u8 { Movs, Stos, Cmps, Scas };

class Generator : public Xbyak::CodeGenerator {
  public:
    Generator(CodeArena& arena, u32 at, u32 execute)
        : CodeGenerator(StringThunks::kSize, arena.writable() + at), at_(at), execute_(execute) {}

    StringThunks make() {
        StringThunks t;
        for (unsigned log = 0; log < 4; ++log) {
            t.movs[log] = emit(Kind::Movs, log, true);
            t.stos[log] = emit(Kind::Stos, log, true);
            t.repe_cmps[log] = emit(Kind::Cmps, log, true);
            t.repne_cmps[log] = emit(Kind::Cmps, log, false);
            t.repe_scas[log] = emit(Kind::Scas, log, true);
            t.repne_scas[log] = emit(Kind::Scas, log, false);
        }
        return t;
    }

  private:
    using Reg64 = Xbyak::Reg64;

    static Xbyak::RegExp slot(int disp) { return Reg64(Xbyak::Operand::RBP) + static_cast<std::size_t>(disp); }

    /// `address` through the inline table: `offset` becomes its place in the page, `addend` host minus guest address.
    void look_up(const Reg64& address, bool write, unsigned size, const Reg64& offset, const Reg64& addend,
                 Xbyak::Label& miss) {
        const int table = static_cast<int>(write ? mmu::kWriteTable : mmu::kReadTable);
        mov(offset, address);
        rorx(r9, address, 8);
        and_(r9d, (mmu::kTlbEntries - 1) << 4);
        xor_(offset, ptr[rbp + r9 + static_cast<std::size_t>(table)]);
        cmp(offset, static_cast<u32>(kPageSize - size));
        ja(miss, T_NEAR);
        mov(addend, ptr[rbp + r9 + static_cast<std::size_t>(table + 8)]);
    }

    void host_instruction(Kind kind, unsigned log, bool equal) {
        static constexpr u8 kByteForm[] = {0xa4, 0xaa, 0xa6, 0xae};
        if (log == 1) db(0x66);
        db(equal ? 0xf3 : 0xf2);
        if (log == 3) db(0x48);
        db(kByteForm[static_cast<unsigned>(kind)] | (log == 0 ? 0 : 1));
    }

    u32 emit(Kind kind, unsigned log, bool equal) {
        const unsigned size = 1u << log;
        const bool source = kind == Kind::Movs || kind == Kind::Cmps;
        const bool compares = kind == Kind::Cmps || kind == Kind::Scas;
        Xbyak::Label again, done, leave, bail, bail_early;
        align(16);
        const u32 start = at_ + static_cast<u32>(getSize());
        constexpr u8 kDfInSecondByte = 4;
        test(byte[slot(VG_STATE_DISP(rflags) + 1)], kDfInSecondByte);
        jnz(bail_early, T_NEAR);
        test(rcx, rcx);
        jz(leave, T_NEAR);
        for (const Reg64& r : {rax, rdx, rbx, r8}) push(r);

        L(again);  // r8: the larger offset within a page, then room for that many elements; rax, rbx: addends
        if (source) {
            look_up(rsi, false, size, r8, rax, bail);
            look_up(rdi, kind == Kind::Movs, size, rdx, rbx, bail);
            cmp(r8, rdx);
            cmovb(r8, rdx);
        } else {
            look_up(rdi, kind == Kind::Stos, size, r8, rbx, bail);
        }
        mov(edx, static_cast<u32>(kPageSize));
        sub(edx, r8d);
        if (log != 0) shr(edx, static_cast<int>(log));
        cmp(rdx, rcx);
        cmova(rdx, rcx);
        cmp(rdx, Reg64(kBudget));
        jg(bail, T_NEAR);
        mov(r9, rcx);  // all that are left
        mov(ecx, edx);
        if (source) add(rsi, rax);
        add(rdi, rbx);
        host_instruction(kind, log, equal);
        if (compares) {
            mov(r8, rax);  // the addend, or the guest's
            seto(al);
            lahf();
            mov(word[slot(kFlagsSlot)], ax);
        }
        if (source) sub(rsi, compares ? r8 : rax);
        sub(rdi, rbx);
        if (compares) {
            sub(rdx, rcx);  // iterations done
            constexpr u8 kZf = 0x40;
            sub(Reg64(kBudget), rdx);
            sub(r9, rdx);
            mov(rcx, r9);
            test(ah, kZf);
            if (!source) mov(rax, r8);
            equal ? jz(done, T_NEAR) : jnz(done, T_NEAR);
            test(rcx, rcx);
        } else {
            sub(Reg64(kBudget), rdx);
            sub(r9, rdx);
            mov(rcx, r9);  // and the flags of the subtraction
        }
        jnz(again, T_NEAR);
        L(done);
        inc(Reg64(kBudget));  // the block has charged one
        for (const Reg64& r : {r8, rbx, rdx, rax}) pop(r);
        L(leave);
        ret();
        L(bail);
        for (const Reg64& r : {r8, rbx, rdx, rax}) pop(r);
        L(bail_early);
        mov(ptr[rsp], r8);  // the site instead of the return address
        jmp(getCode() - at_ + execute_, T_NEAR);
        return start;
    }

    const u32 at_, execute_;
};

}  // namespace

StringThunks make_string_thunks(CodeArena& arena, u32 at, u32 execute) {
    Generator generator(arena, at, execute);
    const StringThunks thunks = generator.make();
    VG_ASSERT(Xbyak::GetError() == Xbyak::ERR_NONE);
    return thunks;
}

}  // namespace vg::jit
