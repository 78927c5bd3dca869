#include "ui/model/unwind.h"

#include <array>

#include "base/bits.h"

namespace vg::model {
namespace {

/// struct pt_regs of a 64-bit kernel. The processor pushes the last five (SDM 3A "64-Bit Mode Stack Frame").
struct PtRegs {
    u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
    u64 ip, cs, flags, sp, ss;
};
static_assert(sizeof(PtRegs) == 168);
constexpr u64 kPartialOffset = 16 * 8;  ///< of ip

/// Words of a stack that guessing looks at.
constexpr std::size_t kGuessWords = 2048;

bool returns_to(const LinearView& view, u64 address) {
    std::array<u8, 7> before{};
    if (!view.read(address - before.size(), before.data(), before.size())) return false;
    // CALL rel32 is five bytes; CALL r/m two to seven, with 2 in the middle of ModRM.
    if (before[2] == 0xe8) return true;
    for (std::size_t i = 0; i + 1 < before.size(); ++i)
        if (before[i] == 0xff && bits(before[i + 1], 5, 3) == 2) return true;
    return false;
}

class Unwinder {
  public:
    Unwinder(const LinearView& view, const LinuxKernel* kernel, const UnwindRegisters& registers)
        : view_(view), kernel_(kernel), ip_(registers.ip), sp_(registers.sp), bp_(registers.bp) {
        regs_.r10 = registers.r10;
        regs_.r13 = registers.r13;
        regs_.di = registers.di;
        regs_.dx = registers.dx;
    }

    std::vector<UnwoundFrame> run(std::size_t limit, bool user) {
        using Kind = UnwoundFrame::Kind;
        frames_.push_back({ip_, sp_, user ? Kind::User : Kind::Kernel, true});
        if (user || kernel_ == nullptr) {
            follow_bp(limit, user ? Kind::User : Kind::Guess);
            return std::move(frames_);
        }
        while (frames_.size() < limit) {
            const u64 ip = ip_, sp = sp_;
            const Step step = next();
            if (step == Step::End) break;
            if (step == Step::Lost || (ip == ip_ && sp == sp_)) {
                guess(limit);
                break;
            }
            frames_.push_back({ip_, sp_, user_ ? Kind::User : Kind::Kernel, signal_});
            if (user_) break;
        }
        return std::move(frames_);
    }

  private:
    enum class Step : u8 { Frame, End, Lost };

    [[nodiscard]] bool get(u64 address, u64& out) const { return view_.read(address, out); }

    Step next() {
        const u64 ip = signal_ ? ip_ : ip_ - 1;  // a call may be a function's last instruction
        const OrcTable* table = kernel_->orc(ip);
        if (table == nullptr) return kernel_->is_text(ip) ? by_frame_pointer() : Step::Lost;
        const auto entry = table->find(view_, ip);
        if (!entry || entry->type == OrcType::Undefined) return Step::Lost;
        return entry->type == OrcType::End ? Step::End : by_orc(*entry);
    }

    /// The frame's end: the caller's stack pointer, or where the saved registers are.
    std::optional<u64> frame_end(const OrcEntry& entry) const {
        const u64 offset = static_cast<u64>(s64{entry.sp_offset});
        u64 value = 0;
        switch (entry.sp_reg) {
            case OrcReg::Sp:
                return sp_ + offset;
            case OrcReg::Bp:
                return bp_ + offset;
            case OrcReg::SpIndirect:
                if (!get(sp_, value)) return std::nullopt;
                return value + offset;
            case OrcReg::BpIndirect:
                if (!get(bp_ + offset, value)) return std::nullopt;
                return value;
            // Only where the kernel's entry code switches stacks: known while nothing has been called.
            case OrcReg::R10:
                return whole_ ? std::optional(regs_.r10) : std::nullopt;
            case OrcReg::R13:
                return whole_ ? std::optional(regs_.r13) : std::nullopt;
            case OrcReg::Di:
                return whole_ ? std::optional(regs_.di) : std::nullopt;
            case OrcReg::Dx:
                return whole_ ? std::optional(regs_.dx) : std::nullopt;
            case OrcReg::Undefined:
            case OrcReg::PrevSp:
                return std::nullopt;
        }
        return std::nullopt;
    }

    Step by_orc(const OrcEntry& entry) {
        const auto end = frame_end(entry);
        if (!end) return Step::Lost;
        const u64 bp_offset = static_cast<u64>(s64{entry.bp_offset});
        u64 bp = bp_;
        if (entry.bp_reg == OrcReg::PrevSp && !get(*end + bp_offset, bp)) return Step::Lost;
        if (entry.bp_reg == OrcReg::Bp && !get(bp_ + bp_offset, bp)) return Step::Lost;
        if (entry.type == OrcType::Call) {
            if (!get(*end - 8, ip_)) return Step::Lost;
            sp_ = *end;
            signal_ = whole_ = false;
        } else if (entry.type == OrcType::Regs) {
            PtRegs regs{};
            if (!view_.read(*end, regs)) return Step::Lost;
            if (entry.bp_reg == OrcReg::Undefined) bp = regs.bp;
            take(regs, true);
        } else {
            PtRegs regs{};
            if (!view_.read(*end, &regs.ip, sizeof regs - kPartialOffset)) return Step::Lost;
            take(regs, false);
        }
        bp_ = bp;
        return Step::Frame;
    }

    void take(const PtRegs& regs, bool whole) {
        ip_ = regs.ip;
        sp_ = regs.sp;
        user_ = (regs.cs & 3) == 3;
        // What is pushed onto the same stack says nothing of registers: they are as they were.
        if (whole) regs_ = regs;
        whole_ = whole || whole_;
        signal_ = true;
    }

    /// A kernel with frame pointers: RBP leads to the caller's RBP and, behind it, the return address. An RBP with bit
    /// 0 set leads to saved registers. In the innermost function the frame may not be made yet, or not be there any
    /// more.
    Step by_frame_pointer() {
        if (signal_ && frame_not_made()) return Step::Frame;
        if ((bp_ & 1) != 0) {
            PtRegs regs{};
            if (!view_.read(bp_ & ~u64{1}, regs)) return Step::Lost;
            bp_ = regs.bp;
            take(regs, true);
            return Step::Frame;
        }
        u64 bp = 0, ip = 0;
        if (bp_ < sp_ || (bp_ & 7) != 0 || !get(bp_, bp) || !get(bp_ + 8, ip)) return Step::Lost;
        if (ip == 0) return Step::End;
        if (!kernel_->is_text(ip)) return Step::Lost;
        sp_ = bp_ + 16;
        bp_ = bp;
        ip_ = ip;
        signal_ = whole_ = false;
        return Step::Frame;
    }

    bool frame_not_made() {
        constexpr u8 kPushBp = 0x55, kRet = 0xc3;
        const auto where = kernel_->place(ip_);
        u8 here = 0, before = 0;
        if (!where || !view_.read(ip_, here)) return false;
        u64 ip = 0, bp = bp_, sp = sp_;
        if (where->offset == 0 || here == kPushBp || here == kRet) {
            if (!get(sp, ip)) return false;
            sp += 8;
        } else if (view_.read(ip_ - 1, before) && before == kPushBp) {
            if (!get(sp, bp) || !get(sp + 8, ip)) return false;
            sp += 16;
        }
        if (ip == 0 || !kernel_->is_text(ip)) return false;
        ip_ = ip;
        bp_ = bp;
        sp_ = sp;
        signal_ = whole_ = false;
        return true;
    }

    /// Addresses on the rest of the stack that lie behind a call in the kernel's code.
    void guess(std::size_t limit) {
        u64 at = align_up(sp_, 8);
        for (std::size_t i = 0; i < kGuessWords && frames_.size() < limit; ++i, at += 8) {
            u64 value = 0;
            if (!get(at, value)) return;
            if (kernel_->is_text(value) && returns_to(view_, value))
                frames_.push_back({value, at + 8, UnwoundFrame::Kind::Guess, false});
        }
    }

    void follow_bp(std::size_t limit, UnwoundFrame::Kind kind) {
        u64 bp = bp_;
        while (frames_.size() < limit) {
            u64 next = 0, ip = 0;
            if (bp == 0 || (bp & 7) != 0 || !get(bp, next) || !get(bp + 8, ip) || ip == 0 || !returns_to(view_, ip))
                return;
            frames_.push_back({ip, bp + 16, kind, false});
            if (next <= bp) return;  // a stack grows down
            bp = next;
        }
    }

    const LinearView& view_;
    const LinuxKernel* kernel_;
    u64 ip_, sp_, bp_;
    PtRegs regs_{};
    bool whole_ = true;   ///< regs_ are those of this frame
    bool signal_ = true;  ///< ip_ is the next instruction, not a return address
    bool user_ = false;
    std::vector<UnwoundFrame> frames_;
};

}  // namespace

std::vector<UnwoundFrame> unwind(const LinearView& view, const LinuxKernel* kernel, const UnwindRegisters& registers,
                                 std::size_t limit) {
    if (limit == 0) return {};
    return Unwinder(view, kernel, registers).run(limit, registers.user);
}

}  // namespace vg::model
