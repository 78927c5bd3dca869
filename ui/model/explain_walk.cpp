// Guest page walks told entry by entry. SDM 3A "Paging".
#include <fmt/format.h>

#include "base/bits.h"
#include "mmu/spec/paging.h"
#include "ui/model/explain.h"

namespace vg::model {
namespace {

using namespace mmu::pte;
using mmu::Access;
using mmu::PagingKind;

std::string bits_text(u64 entry, bool wide) {
    std::string text = (entry & kPresent) != 0 ? "present" : "not present";
    if ((entry & kPresent) == 0) return text;
    text += (entry & kWrite) != 0 ? ", writable" : ", read-only";
    text += (entry & kUser) != 0 ? ", user" : ", supervisor";
    if (wide && (entry & kNoExecute) != 0) text += ", no-execute";
    if ((entry & kAccessed) != 0) text += ", accessed";
    return text;
}

class Teller {
  public:
    Teller(cpu::Vp& vp, u64 address, Access access)
        : vp_(vp), memory_(vp), mode_(memory_.mode()), address_(address), access_(access), user_(vp.cpl() == 3) {}

    ToldWalk tell() {
        switch (mode_.kind) {
            case PagingKind::None:
                return none();
            case PagingKind::Level4:
                if (sign_extend(address_, 48) != address_) {
                    walk_.faults = true;
                    walk_.verdict = fmt::format(
                        "0x{:x} is not canonical: an access raises #GP, or #SS through the stack.", address_);
                    return walk_;
                }
                go(4, mode_.cr3 & frame());
                break;
            case PagingKind::Pae:
                pae();
                break;
            case PagingKind::Bits32:
                go(2, mode_.cr3 & 0xfffff000);
                break;
        }
        return walk_;
    }

  private:
    [[nodiscard]] bool wide() const { return mode_.kind != PagingKind::Bits32; }
    [[nodiscard]] unsigned index_bits() const { return wide() ? 9 : 10; }
    [[nodiscard]] u64 frame() const { return low_mask(mode_.physical_bits) & ~kPageMask; }

    ToldWalk none() {
        walk_.physical = address_;
        walk_.verdict = "Paging is off: the linear address is the physical address.";
        return walk_;
    }

    void pae() {
        const u64 entry = mode_.pdpte[bits(address_, 31, 30)];
        walk_.steps.push_back({3, 0, entry, (entry & kPresent) != 0 ? "present (loaded with CR3)" : "not present"});
        if ((entry & kPresent) == 0) return fault(3, "is not present (bit 0 is clear)");
        go(2, entry & frame());
    }

    void fault(unsigned level, const std::string& why) {
        static constexpr std::string_view kWhat[] = {"read", "write", "instruction fetch"};
        walk_.faults = true;
        walk_.verdict = fmt::format("A {} {} of 0x{:x} faults: the level-{} entry {}.", user_ ? "user" : "supervisor",
                                    kWhat[static_cast<unsigned>(access_)], address_, level, why);
    }

    /// A bit that must be 0, or -1.
    [[nodiscard]] int reserved_bit(unsigned level, u64 entry, bool leaf) const {
        if (!wide()) return -1;
        u64 reserved = low_mask(52) & ~low_mask(mode_.physical_bits);
        if (!mode_.nxe) reserved |= kNoExecute;
        if (mode_.kind == PagingKind::Pae) reserved |= low_mask(63) & ~low_mask(52);
        if (level == 4) reserved |= kLarge;
        if (level == 3 && !mode_.gib_pages) reserved |= kLarge;
        if (leaf && level > 1) reserved |= low_mask(12 + 9 * (level - 1)) & ~low_mask(13);
        for (unsigned i = 0; i < 64; ++i)
            if (bit(entry & reserved, i)) return static_cast<int>(i);
        return -1;
    }

    void go(unsigned level, u64 table) {
        while (true) {
            const unsigned shift = 12 + index_bits() * (level - 1);
            const u64 where = table + (address_ >> shift & low_mask(index_bits())) * (wide() ? 8 : 4);
            u64 entry = 0;
            const bool there = memory_.read_physical(where, &entry, wide() ? 8 : 4);
            if (!there && vp_.tlb().slat().kind != mmu::SlatMode::Kind::None) {
                walk_.steps.push_back({level, where, 0, "not there"});
                walk_.second_level = explain_second_level(vp_.physical(), vp_.tlb().slat(), where, Access::Read);
                return fault(level, fmt::format("at 0x{:x} is not mapped by the second level", where));
            }
            if (!there) entry = wide() ? ~u64{0} : 0xffffffff;  // what reading a hole gives
            walk_.steps.push_back(
                {level, where, entry, there ? bits_text(entry, wide()) : "no RAM there: all bits are set"});
            if ((entry & kPresent) == 0) return fault(level, "is not present (bit 0 is clear)");
            const bool leaf = level == 1 || ((entry & kLarge) != 0 && level < 4 && (wide() || mode_.pse));
            if (const int reserved = reserved_bit(level, entry, leaf); reserved >= 0)
                return fault(level, fmt::format("has reserved bit {} set", reserved));
            note_rights(level, entry);
            if (leaf) return finish(level, entry, shift);
            table = wide() ? entry & frame() : entry & 0xfffff000;
            --level;
        }
    }

    void note_rights(unsigned level, u64 entry) {
        if ((entry & kWrite) == 0 && read_only_ == 0) read_only_ = level;
        if ((entry & kUser) == 0 && supervisor_ == 0) supervisor_ = level;
        if (wide() && mode_.nxe && (entry & kNoExecute) != 0 && no_execute_ == 0) no_execute_ = level;
    }

    void finish(unsigned level, u64 entry, unsigned shift) {
        static constexpr std::string_view kSizes[] = {"", "4 KiB", "2 MiB", "1 GiB"};
        const u64 base = wide()
                             ? entry & frame() & ~low_mask(shift)
                             : (entry & 0xffffffff & ~low_mask(shift)) | (level == 2 ? bits(entry, 20, 13) << 32 : 0);
        const u64 physical = base | (address_ & low_mask(shift));
        if (user_ && supervisor_ != 0) return fault(supervisor_, "is for supervisors only (bit 2, U/S, is clear)");
        if (access_ == Access::Write && read_only_ != 0 && (user_ || mode_.wp))
            return fault(read_only_, user_ ? "is read-only (bit 1, R/W, is clear)"
                                           : "is read-only (bit 1, R/W, is clear, and CR0.WP is set)");
        if (access_ == Access::Fetch && no_execute_ != 0)
            return fault(no_execute_, "forbids execution (bit 63, XD, is set)");
        if (!user_ && supervisor_ == 0 && access_ == Access::Fetch && mode_.smep)
            return fault(level,
                         "is a user page (bit 2, U/S, is set at every level), which CR4.SMEP forbids to execute");
        const bool ac = (vp_.state().rflags & cpu::flag::AC) != 0;
        if (!user_ && supervisor_ == 0 && access_ != Access::Fetch && mode_.smap && !ac)
            return fault(level,
                         "is a user page (bit 2, U/S, is set at every level), which CR4.SMAP keeps from supervisors "
                         "while RFLAGS.AC is 0");
        if (supervisor_ == 0 && access_ != Access::Fetch && mode_.pke && key_forbids(entry))
            return fault(level, fmt::format("has protection key {}, whose rights in PKRU forbid it",
                                            bits(entry, kPkeyHigh, kPkeyLow)));
        walk_.physical = physical;
        walk_.verdict = fmt::format("0x{:x} is at physical 0x{:x}, in a {} page.", address_, physical,
                                    !wide() && level == 2 ? "4 MiB" : kSizes[level]);
        second_level(physical);
    }

    [[nodiscard]] bool key_forbids(u64 entry) const {
        const unsigned shift = 2 * static_cast<unsigned>(bits(entry, kPkeyHigh, kPkeyLow));
        const u32 rights = mode_.pkru >> shift & 3;
        return (rights & 1) != 0 || (access_ == Access::Write && (rights & 2) != 0 && (user_ || mode_.wp));
    }

    void second_level(u64 physical) {
        walk_.second_level = explain_second_level(vp_.physical(), vp_.tlb().slat(), physical, access_);
        u8 byte = 0;
        if (!memory_.read_physical(physical, &byte, 1))
            walk_.verdict +=
                " There is no RAM or ROM: a device's registers, a hole, or the second level does not map it.";
    }

    cpu::Vp& vp_;
    VpLinearView memory_;
    mmu::PagingMode mode_;
    u64 address_;
    Access access_;
    bool user_;
    unsigned read_only_ = 0, supervisor_ = 0, no_execute_ = 0;  ///< level of the first entry that says so
    ToldWalk walk_;
};

}  // namespace

ToldWalk explain_walk(cpu::Vp& vp, u64 address, mmu::Access access) { return Teller(vp, address, access).tell(); }

}  // namespace vg::model
