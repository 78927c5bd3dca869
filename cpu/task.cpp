#include "cpu/task.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/insn.h"
#include "mmu/walk.h"

namespace vg::cpu {

namespace {

constexpr u64 kDr7Local = 0x155;

/// Offsets of the fields of a TSS of one size. SDM 3A "Task-State Segment (TSS)", "16-Bit Task-State Segment (TSS)".
struct Layout {
    unsigned reg_size;      ///< of EIP, EFLAGS and general registers
    u32 min_limit;
    u32 eip, eflags, gpr;   ///< gpr: EAX ECX EDX EBX ESP EBP ESI EDI
    u32 seg, seg_stride;    ///< ES CS SS DS (FS GS)
    unsigned seg_count;
    u32 ldt;
    u32 cr3, trap;          ///< 32-bit only, else 0
};
constexpr Layout kLayout32 = {4, 0x67, 0x20, 0x24, 0x28, 0x48, 4, 6, 0x60, 0x1c, 0x64};
constexpr Layout kLayout16 = {2, 0x2b, 0x0e, 0x10, 0x12, 0x22, 2, 4, 0x2a, 0, 0};

const Layout& layout_of(unsigned type) { return (type & 8) != 0 ? kLayout32 : kLayout16; }

/// The dynamic part of a TSS, read once.
struct Image {
    std::array<u8, 104> raw{};
    [[nodiscard]] u64 get(u32 offset, unsigned size) const {
        u64 value = 0;
        std::memcpy(&value, raw.data() + offset, size);
        return value;
    }
    void put(u32 offset, u64 value, unsigned size) { std::memcpy(raw.data() + offset, &value, size); }
};

bool read_image(Vp& vp, u64 base, u32 size, Image& image) {
    for (u32 at = 0; at < size; at += 8)
        if (!vp.memory().read(static_cast<u32>(base + at), image.raw.data() + at, std::min<u32>(8, size - at),
                              As::Supervisor))
            return false;
    return true;
}

class Switch {
  public:
    Switch(Vp& vp, u16 selector, TaskSwitch reason, u64 next_rip, u64 flags)
        : vp_(vp), s_(vp.state()), selector_(selector), reason_(reason), next_rip_(next_rip),
          flags_(reason == TaskSwitch::Return ? flags & ~flag::NT : flags) {}

    Exec run() {
        if (!read_target()) return vp_.failed();
        if (vp_.controls().task_switch && exits()) return Exec::Switch;
        const Layout& old_layout = layout_of(s_.segment(Seg::TR).type());
        const Layout& layout = layout_of(target_.type());
        Image image;
        if (!read_image(vp_, target_.base(), layout.min_limit + 1, image)) return vp_.failed();
        if (!save_old(old_layout)) return vp_.failed();
        if (!link()) return vp_.failed();
        return load_new(layout, image) ? Exec::Resync : vp_.failed();
    }

  private:
    bool refuse(u8 vector, u16 selector) {
        vp_.raise(vector, selector_error(selector));
        return false;
    }

    bool read_target() {
        const bool returns = reason_ == TaskSwitch::Return;
        const u8 vector = returns ? kInvalidTss : kGeneralProtection;
        if ((selector_ & 4) != 0 || is_null(selector_)) return refuse(vector, selector_);
        if (!read_descriptor(vp_, selector_, vector, target_)) return false;
        const unsigned type = target_.type();
        const bool busy = type == systype::Tss16Busy || type == systype::Tss32Busy;
        const bool available = type == systype::Tss16 || type == systype::Tss32;
        if (target_.s() || !(returns ? busy : available)) return refuse(vector, selector_);
        if (!target_.present()) return refuse(kSegmentNotPresent, selector_);
        if (target_.limit() < layout_of(type).min_limit) return refuse(kInvalidTss, selector_);
        return true;
    }

    bool exits() {
        virt::Exit& exit = vp_.exit();
        exit = {};
        exit.reason = virt::ExitReason::TaskSwitch;
        exit.selector = selector_;
        exit.task_source = reason_ == TaskSwitch::Call     ? virt::TaskSource::Call
                           : reason_ == TaskSwitch::Return ? virt::TaskSource::Iret
                           : reason_ == TaskSwitch::Jump   ? virt::TaskSource::Jmp
                                                           : virt::TaskSource::Gate;
        exit.insn = vp_.executing();
        if (exit.insn != nullptr) exit.insn_length = exit.insn->length;
        return vp_.offer_exit() == virt::Action::Switch;
    }

    /// Writes the old task's state; every byte is probed first, so that a page fault leaves it as it was.
    bool save_old(const Layout& layout) {
        const SegmentReg& tr = s_.segment(Seg::TR);
        if (tr.limit < layout.min_limit) return refuse(kInvalidTss, tr.selector);
        Image image;
        image.put(layout.eip, next_rip_, layout.reg_size);
        image.put(layout.eflags, flags_, layout.reg_size);
        for (u32 i = 0; i < 8; ++i) image.put(layout.gpr + i * layout.reg_size, s_.gpr[i], layout.reg_size);
        for (u32 i = 0; i < layout.seg_count; ++i) image.put(layout.seg + i * layout.seg_stride, s_.seg[i].selector, 2);
        const u32 end = layout.seg + layout.seg_count * layout.seg_stride;
        for (u32 at = layout.eip; at < end; at += 2)
            if (!vp_.memory().probe_write(static_cast<u32>(tr.base + at), 2, As::Supervisor)) return false;
        for (u32 at = layout.eip; at < end; at += 2)
            if (!vp_.memory().write(static_cast<u32>(tr.base + at), image.raw.data() + at, 2, As::Supervisor))
                return false;
        return true;
    }

    /// Busy bits and back link.
    bool link() {
        const u16 old_selector = s_.segment(Seg::TR).selector;
        if (reason_ == TaskSwitch::Jump || reason_ == TaskSwitch::Return) {
            Descriptor old;
            if (!read_descriptor(vp_, old_selector, kInvalidTss, old) || !set_tss_busy(vp_, old, false)) return false;
        } else if (!vp_.memory().write(static_cast<u32>(target_.base()), old_selector, As::Supervisor)) {
            return false;
        }
        return reason_ == TaskSwitch::Return || set_tss_busy(vp_, target_, true);
    }

    bool load_paging(const Layout& layout, const Image& image) {
        if (layout.cr3 == 0 || (s_.cr0 & cr0::PG) == 0) return true;
        const u64 cr3 = image.get(layout.cr3, 4);
        if ((s_.cr4 & cr4::PAE) != 0 &&
            !mmu::load_pdptes(vp_.physical(), vp_.tlb().slat(), cr3, vp_.model().physical_bits(), s_.pdpte)) {
            vp_.raise(kGeneralProtection, 0);
            return false;
        }
        vp_.tell(TapKind::Cr, 3, cr3, s_.cr3, s_.rip);
        s_.cr3 = cr3;
        vp_.tlb().flush_nonglobal(0);
        vp_.update_context();  // the descriptors that follow are read in the new address space
        return true;
    }

    /// Registers first, then descriptors: what faults here belongs to the new task.
    bool load_new(const Layout& layout, const Image& image) {
        SegmentReg& tr = s_.segment(Seg::TR);
        tr = make_segment(selector_, target_);
        tr.attributes |= 2;  // busy
        if (!load_paging(layout, image)) return false;
        s_.cr0 |= cr0::TS;
        s_.dr[7] &= ~kDr7Local;
        s_.rip = image.get(layout.eip, layout.reg_size);
        u64 flags = image.get(layout.eflags, layout.reg_size);
        if (reason_ == TaskSwitch::Call || reason_ == TaskSwitch::Interrupt) flags |= flag::NT;
        constexpr u64 kDefined = 0x3f7fd5;
        s_.rflags = (flags & kDefined) | flag::Always1;
        for (u32 i = 0; i < 8; ++i) {
            const u64 value = image.get(layout.gpr + i * layout.reg_size, layout.reg_size);
            s_.gpr[i] = layout.reg_size == 2 ? (s_.gpr[i] & 0xffff0000) | value : value;
        }
        for (u32 i = 0; i < 6; ++i) {
            const u16 selector = i < layout.seg_count
                                     ? static_cast<u16>(image.get(layout.seg + i * layout.seg_stride, 2))
                                     : u16{0};
            s_.seg[i] = null_segment(selector);
        }
        if (layout.trap != 0 && (image.get(layout.trap, 2) & 1) != 0) {
            s_.debug_pending = 1;
            s_.pending_dr6 |= dr6::BT;
        }
        const u16 ldt = static_cast<u16>(image.get(layout.ldt, 2));
        s_.segment(Seg::LDTR) = null_segment(ldt);
        const bool ok = load_ldt(ldt) && load_segments();
        vp_.update_context();
        return ok;
    }

    bool load_ldt(u16 selector) {
        if (is_null(selector)) return true;
        Descriptor d;
        if ((selector & 4) != 0) return refuse(kInvalidTss, selector);
        if (!read_descriptor(vp_, selector, kInvalidTss, d)) return false;
        if (d.s() || d.type() != systype::Ldt || !d.present()) return refuse(kInvalidTss, selector);
        s_.segment(Seg::LDTR) = make_segment(selector, d);
        return true;
    }

    bool load_segments() {
        const u16 cs = s_.segment(Seg::CS).selector;
        if (vp_.v8086()) {
            for (u32 i = 0; i < 6; ++i) s_.seg[i] = real_segment(vp_, static_cast<Seg>(i), s_.seg[i].selector);
            s_.cpl = 3;
            return true;
        }
        s_.cpl = cs & 3;
        vp_.update_context();
        return load_code(cs) && load_stack(s_.segment(Seg::SS).selector) && load_data(Seg::ES) && load_data(Seg::DS) &&
               load_data(Seg::FS) && load_data(Seg::GS);
    }

    bool load_code(u16 selector) {
        Descriptor d;
        if (is_null(selector)) return refuse(kInvalidTss, selector);
        if (!read_descriptor(vp_, selector, kInvalidTss, d)) return false;
        const unsigned rpl = selector & 3u;
        if (!d.code() || (d.conforming() ? d.dpl() > rpl : d.dpl() != rpl)) return refuse(kInvalidTss, selector);
        if (!d.present()) return refuse(kSegmentNotPresent, selector);
        if (!mark_accessed(vp_, d)) return false;
        s_.segment(Seg::CS) = make_segment(selector, d);
        return true;
    }

    bool load_stack(u16 selector) {
        Descriptor d;
        if (is_null(selector)) return refuse(kInvalidTss, selector);
        if (!check_stack_segment(vp_, selector, vp_.cpl(), kInvalidTss, d) || !mark_accessed(vp_, d)) return false;
        s_.segment(Seg::SS) = make_segment(selector, d);
        return true;
    }

    bool load_data(Seg seg) {
        const u16 selector = s_.segment(seg).selector;
        Descriptor d;
        if (is_null(selector)) return true;
        if (!read_descriptor(vp_, selector, kInvalidTss, d)) return false;
        const unsigned rpl = selector & 3u;
        const bool readable = d.data() || d.readable_code();
        if (!readable || (!d.conforming() && (d.dpl() < vp_.cpl() || d.dpl() < rpl)))
            return refuse(kInvalidTss, selector);
        if (!d.present()) return refuse(kSegmentNotPresent, selector);
        if (!mark_accessed(vp_, d)) return false;
        s_.segment(seg) = make_segment(selector, d);
        return true;
    }

    Vp& vp_;
    VpState& s_;
    u16 selector_;
    TaskSwitch reason_;
    u64 next_rip_, flags_;
    Descriptor target_;
};

}  // namespace

Exec switch_task(Vp& vp, u16 selector, TaskSwitch reason, u64 next_rip, u64 flags) {
    return Switch(vp, selector, reason, next_rip, flags).run();
}

bool push_task_error(Vp& vp, u32 error_code) {
    const VpState& s = vp.state();
    const unsigned size = (s.segment(Seg::TR).type() & 8) != 0 ? 4 : 2;
    StackFrame stack(vp, s.segment(Seg::SS), s.gpr[RSP], false, As::Current, 0);
    if (!stack.push(error_code, size)) return false;
    stack.commit();
    return true;
}

}  // namespace vg::cpu
