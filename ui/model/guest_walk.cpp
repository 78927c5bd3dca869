#include "ui/model/guest_walk.h"

#include <fmt/format.h>

#include <cstring>

#include "base/bits.h"
#include "mmu/spec/paging.h"
#include "ui/model/vp_memory.h"

namespace vg::model {
namespace {

using mmu::PagingKind;

std::string_view mode_name(PagingKind kind) {
    switch (kind) {
        case PagingKind::None:
            return "none";
        case PagingKind::Bits32:
            return "32-bit";
        case PagingKind::Pae:
            return "PAE";
        case PagingKind::Level4:
            return "4-level";
    }
    return "?";
}

std::string flags_of(u64 entry, bool wide) {
    using namespace mmu::pte;
    static constexpr std::pair<u64, std::string_view> kNames[] = {
        {kPresent, "P"}, {kWrite, "W"},  {kUser, "U"},   {kWriteThrough, "PWT"}, {kCacheDisable, "PCD"},
        {kAccessed, "A"}, {kDirty, "D"}, {kLarge, "PS"}, {kGlobal, "G"},         {kNoExecute, "NX"}};
    std::string text;
    for (const auto& [bit, name] : kNames) {
        if ((entry & bit) == 0 || (bit == kNoExecute && !wide)) continue;
        text += (text.empty() ? "" : " ") + std::string(name);
    }
    return text;
}

/// The shape of one kind of tables.
struct Shape {
    unsigned levels, entry_bytes, index_bits;
};

class Walker {
  public:
    Walker(const FoundVp& at, u64 address) : at_(at), mode_(at.vp->tlb().mode()), address_(address) {}

    GuestWalk run() {
        walk_.mode = mode_name(mode_.kind);
        if (mode_.kind == PagingKind::None) {
            walk_.physical = Gpa(address_);
            return std::move(walk_);
        }
        if (mode_.kind == PagingKind::Level4) {
            if (static_cast<u64>(static_cast<s64>(address_ << 16) >> 16) != address_) return stop("the address is not canonical");
            return tables({4, 8, 9}, mode_.cr3 & low_mask(52) & ~kPageMask);
        }
        if (address_ >> 32 != 0) return stop("the address has more than 32 bits");
        if (mode_.kind == PagingKind::Bits32) return tables({2, 4, 10}, mode_.cr3 & 0xfffff000);
        const unsigned index = static_cast<unsigned>(address_ >> 30);
        const u64 entry = mode_.pdpte[index];  // as loaded: memory may say something else by now
        const u64 next = entry & low_mask(52) & ~kPageMask;
        walk_.steps.push_back({3, Gpa((mode_.cr3 & 0xffffffe0) + index * 8), entry, flags_of(entry, true), next});
        if ((entry & mmu::pte::kPresent) == 0) return stop("the entry of level 3 is not present");
        return tables({2, 8, 9}, next);
    }

  private:
    GuestWalk stop(std::string why) {
        walk_.fault = std::move(why);
        return std::move(walk_);
    }

    GuestWalk tables(Shape shape, u64 table) {
        for (unsigned level = shape.levels; level > 0; --level) {
            const unsigned shift = 12 + shape.index_bits * (level - 1);
            const u64 index = (address_ >> shift) & low_mask(shape.index_bits);
            const Gpa place(table + index * shape.entry_bytes);
            const std::string bytes = read_bytes(at_, Space::Physical, place.value, shape.entry_bytes);
            if (bytes.size() != shape.entry_bytes) {
                return stop(fmt::format("the entry of level {} at 0x{:x} is not in RAM", level, place.value));
            }
            u64 entry = 0;
            std::memcpy(&entry, bytes.data(), bytes.size());
            const bool wide = shape.entry_bytes == 8;
            const bool large = level > 1 && level < 4 && (entry & mmu::pte::kLarge) != 0 && (wide || mode_.pse);
            table = target(entry, wide, large, shift);
            walk_.steps.push_back({level, place, entry, flags_of(entry, wide), table});
            if ((entry & mmu::pte::kPresent) == 0) return stop(fmt::format("the entry of level {} is not present", level));
            if (level > 1 && !large) continue;
            walk_.physical = Gpa(table | (address_ & low_mask(shift)));
            break;
        }
        return std::move(walk_);
    }

    static u64 target(u64 entry, bool wide, bool large, unsigned shift) {
        if (wide) return entry & low_mask(52) & ~(large ? low_mask(shift) : kPageMask);
        if (!large) return entry & 0xfffff000;
        return (entry & 0xffc00000) | bits(entry, 20, 13) << 32;  // PSE-36
    }

    const FoundVp& at_;
    const mmu::PagingMode mode_;
    u64 address_;
    GuestWalk walk_;
};

}  // namespace

GuestWalk guest_walk(const FoundVp& at, u64 address) { return Walker(at, address).run(); }

}  // namespace vg::model
