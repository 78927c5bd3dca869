// Second-level walks told entry by entry. SDM 3C "The Extended Page Table Mechanism (EPT)", AMD APM 2 "Nested Paging".
#include <fmt/format.h>

#include "base/bits.h"
#include "mmu/slat.h"
#include "mmu/spec/ept.h"
#include "mmu/spec/paging.h"
#include "ui/model/explain.h"

namespace vg::model {
namespace {

using mmu::Access;
using mmu::SlatMode;

std::string rights_text(const SlatMode& slat, u64 entry) {
    if (slat.kind == SlatMode::Kind::Npt) {
        if ((entry & mmu::pte::kPresent) == 0) return "not present";
        std::string text = (entry & mmu::pte::kWrite) != 0 ? "present, writable" : "present, read-only";
        text += (entry & mmu::pte::kUser) != 0 ? ", user" : ", supervisor: no access of a guest's";
        if ((entry & mmu::pte::kNoExecute) != 0) text += slat.no_execute ? ", no-execute" : ", reserved bit 63 (the host's EFER.NXE is 0)";
        return text;
    }
    const u64 rights = entry & (mmu::ept::kRead | mmu::ept::kWrite | mmu::ept::kExecute);
    const bool user = slat.user_execute && (entry & mmu::ept::kUserExecute) != 0;
    if (rights == 0 && !user) return "not present";
    std::string text;
    const auto add = [&text](std::string_view word) { text += (text.empty() ? "" : ", ") + std::string(word); };
    if ((rights & mmu::ept::kRead) != 0) add("read");
    if ((rights & mmu::ept::kWrite) != 0) add("write");
    if ((rights & mmu::ept::kExecute) != 0) add(slat.user_execute ? "execute for supervisors" : "execute");
    if (user) add("execute for users");
    return text;
}

std::string_view access_text(Access access) {
    return access == Access::Read ? "a read" : access == Access::Write ? "a write" : "an instruction fetch";
}

}  // namespace

std::vector<std::string> explain_second_level(mmu::PhysicalMemory& memory, const SlatMode& slat, u64 gpa, Access access) {
    std::vector<std::string> lines;
    if (slat.kind == SlatMode::Kind::None && slat.below == 0) return lines;
    const mmu::SlatResult result = mmu::slat_walk(memory, slat, gpa, access, false, nullptr);
    const std::string_view name = slat.kind == SlatMode::Kind::Npt ? "NPT" : "EPT";
    u64 table = slat.root & low_mask(slat.physical_bits) & ~kPageMask;
    for (unsigned level = 4; slat.kind != SlatMode::Kind::None && level >= 1; --level) {
        const u64 at = table + (gpa >> (12 + 9 * (level - 1)) & 511) * 8;
        const mmu::SlatResult where = mmu::slat_walk(memory, mmu::slat_below(slat), at, Access::Read, false, nullptr);
        const u64 entry = where.ok && memory.readable(Spa(where.spa)) != nullptr ? memory.read<u64>(Spa(where.spa)) : ~u64{0};
        lines.push_back(fmt::format("{} level {}: entry at 0x{:x} is 0x{:x}: {}.", name, level, at, entry, rights_text(slat, entry)));
        const bool present = rights_text(slat, entry) != "not present";
        if (!present || level == 1 || (level < 4 && (entry & mmu::pte::kLarge) != 0)) break;
        table = entry & low_mask(slat.physical_bits) & ~kPageMask;
    }
    std::string verdict = fmt::format("Guest-physical 0x{:x}: ", gpa);
    if (result.ok)
        verdict += fmt::format("{} is allowed; it is at 0x{:x} of the machine.", access_text(access), result.spa);
    else if (result.below)
        verdict += fmt::format("it is at 0x{:x}, which the level below this table does not give for {}.", result.spa, access_text(access));
    else if (result.misconfigured)
        verdict += "the last of these entries has reserved bits or an impossible combination.";
    else if (!result.present)
        verdict += "the last of these entries is not present.";
    else
        verdict += fmt::format("{} is not among the rights that all of these entries give.", access_text(access));
    lines.push_back(verdict);
    return lines;
}

}  // namespace vg::model
