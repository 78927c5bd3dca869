#include "reference_walk.h"

#include <cstring>
#include <string>

namespace vg::mmu::reference {
namespace {

bool has(u64 entry, unsigned index) { return (entry >> index) % 2 == 1; }

/// Bits [high:low] taken one at a time, at their place.
u64 pick(u64 entry, unsigned high, unsigned low) {
    u64 out = 0;
    for (unsigned i = low; i <= high; ++i) {
        if (has(entry, i)) out += u64{1} << i;
    }
    return out;
}

enum class Table { Pml4, Pdpt, Pd, Pt };

/// SDM 3A, tables of entry formats, as a question about one bit. 32-bit paging has only Pd and Pt.
bool guest_bit_reserved(const PagingMode& mode, Table table, bool leaf, unsigned i) {
    if (mode.kind == PagingKind::Bits32) {
        if (table != Table::Pd || !leaf) return false;
        unsigned m = mode.physical_bits;
        if (m > 40) m = 40;
        if (m < 32) m = 32;
        return i <= 21 && i >= m - 19;
    }
    if (i == 63) return !mode.nxe;
    if (i >= 52) return mode.kind == PagingKind::Pae;
    if (i >= mode.physical_bits) return true;
    if (i == 7 && table == Table::Pml4) return true;
    if (i == 7 && table == Table::Pdpt) return !mode.gib_pages;
    if (leaf && table == Table::Pdpt) return i >= 13 && i <= 29;
    if (leaf && table == Table::Pd) return i >= 13 && i <= 20;
    return false;
}

struct Step {
    u64 gpa, spa, entry;
};

struct Walker {
    Memory& memory;
    const PagingMode& mode;
    const SlatMode& slat;
    Access access;
    bool user, ac;

    Outcome fault(bool present, bool reserved, bool pkey) const {
        Outcome o;
        o.kind = Outcome::Kind::Fault;
        if (present) o.error_code += 1;
        if (access == Access::Write) o.error_code += 2;
        if (user) o.error_code += 4;
        if (reserved) o.error_code += 8;
        const bool pae_or_long = mode.kind == PagingKind::Pae || mode.kind == PagingKind::Level4;
        if (access == Access::Fetch && (mode.smep || (pae_or_long && mode.nxe))) o.error_code += 16;
        if (pkey) o.error_code += 32;
        return o;
    }

    Outcome run(u64 gva) {
        if (mode.kind == PagingKind::None) {
            Outcome o = translate_gpa(memory, slat, gva, access, false, true);
            if (o.kind == Outcome::Kind::Ok) o.page_bits = 12 < o.page_bits ? 12 : o.page_bits;
            return o;
        }
        std::vector<Table> tables{Table::Pml4, Table::Pdpt, Table::Pd, Table::Pt};
        const bool small = mode.kind == PagingKind::Bits32;
        u64 base = pick(mode.cr3, mode.physical_bits - 1u, 12);
        if (mode.kind == PagingKind::Pae) {
            const u64 pdpte = mode.pdpte[pick(gva, 31, 30) >> 30];
            if (!has(pdpte, 0)) return fault(false, false, false);
            base = pick(pdpte, mode.physical_bits - 1u, 12);
            tables.erase(tables.begin(), tables.begin() + 2);
        } else if (small) {
            base = pick(mode.cr3, 31, 12);
            tables.erase(tables.begin(), tables.begin() + 2);
        }

        std::vector<Step> steps;
        bool leaf = false;
        u64 page = 0;
        unsigned page_bits = 0;
        for (const Table table : tables) {
            unsigned low = 0, high = 0;
            switch (table) {
                case Table::Pml4: low = 39, high = 47; break;
                case Table::Pdpt: low = 30, high = 38; break;
                case Table::Pd: low = small ? 22 : 21, high = small ? 31 : 29; break;
                case Table::Pt: low = 12, high = small ? 21 : 20; break;
            }
            const u64 gpa = base + (pick(gva, high, low) >> low) * (small ? 4 : 8);
            const bool as_write = slat.kind == SlatMode::Kind::Npt || slat.accessed_dirty;
            const Outcome at = translate_gpa(memory, slat, gpa, as_write ? Access::Write : Access::Read, true);
            if (at.kind != Outcome::Kind::Ok) return at;
            const u64 entry = memory.load(at.spa, small ? 4 : 8);
            if (!has(entry, 0)) return fault(false, false, false);
            leaf = table == Table::Pt;
            if (has(entry, 7)) {
                if (table == Table::Pd) leaf = small ? mode.pse : true;
                if (table == Table::Pdpt) leaf = mode.gib_pages;
            }
            for (unsigned i = 0; i < 64; ++i) {
                if (has(entry, i) && guest_bit_reserved(mode, table, leaf, i)) return fault(true, true, false);
            }
            steps.push_back({gpa, at.spa, entry});
            if (!leaf) {
                base = small ? pick(entry, 31, 12) : pick(entry, 51, 12);
                continue;
            }
            page_bits = low;
            page = small ? pick(entry, 31, low) : pick(entry, 51, low);
            if (small && table == Table::Pd) page += pick(entry, 20, 13) >> 13 << 32;
            break;
        }

        if (const Outcome denied = permissions(steps); denied.kind == Outcome::Kind::Fault) return denied;
        const u64 gpa = page + (gva % (u64{1} << page_bits));
        bool user_page = true;
        for (const Step& step : steps) user_page = user_page && has(step.entry, 2);
        Outcome out = translate_gpa(memory, slat, gpa, access, false, user_page);
        if (out.kind != Outcome::Kind::Ok) return out;
        if (out.page_bits > page_bits) out.page_bits = page_bits;
        for (std::size_t i = 0; i < steps.size(); ++i) {
            const bool dirty = i + 1 == steps.size() && access == Access::Write;
            // Judged by the value as it was read, even if an earlier step was the same entry under another GPA.
            if (has(steps[i].entry, 5) && (!dirty || has(steps[i].entry, 6))) continue;
            const Outcome at = translate_gpa(memory, slat, steps[i].gpa, Access::Write, true);
            if (at.kind != Outcome::Kind::Ok) return at;
            memory.set_bits(at.spa, dirty ? 0x60 : 0x20, small ? 4 : 8);
        }
        out.gpa = gpa;
        return out;
    }

    /// SDM 3A "Determination of Access Rights", sentence by sentence.
    Outcome permissions(const std::vector<Step>& steps) const {
        bool user_address = true, all_rw = true, any_xd = false;
        for (const Step& s : steps) {
            if (!has(s.entry, 2)) user_address = false;
            if (!has(s.entry, 1)) all_rw = false;
            if (mode.kind != PagingKind::Bits32 && mode.nxe && has(s.entry, 63)) any_xd = true;
        }
        bool key_ad = false, key_wd = false;
        if (mode.kind == PagingKind::Level4 && mode.pke && user_address) {
            const unsigned key = static_cast<unsigned>(pick(steps.back().entry, 62, 59) >> 59);
            key_ad = has(mode.pkru, 2 * key);
            key_wd = has(mode.pkru, 2 * key + 1);
        }
        bool allowed = false, pkey = false;
        if (!user) {
            switch (access) {
                case Access::Read:
                    allowed = !user_address || ((!mode.smap || ac) && !key_ad);
                    pkey = key_ad;
                    break;
                case Access::Write:
                    if (!user_address) {
                        allowed = mode.wp ? all_rw : true;
                    } else {
                        pkey = key_ad || (mode.wp && key_wd);
                        allowed = (!mode.smap || ac) && (!mode.wp || all_rw) && !pkey;
                    }
                    break;
                case Access::Fetch:
                    allowed = !any_xd && !(user_address && mode.smep);
                    break;
            }
        } else {
            switch (access) {
                case Access::Read:
                    pkey = key_ad;
                    allowed = user_address && !pkey;
                    break;
                case Access::Write:
                    pkey = key_ad || key_wd;
                    allowed = user_address && all_rw && !pkey;
                    break;
                case Access::Fetch: allowed = user_address && !any_xd; break;
            }
        }
        return allowed ? Outcome{} : fault(true, false, pkey);
    }
};

bool second_level_bit_reserved(const SlatMode& slat, Table table, bool leaf, unsigned i) {
    const bool npt = slat.kind == SlatMode::Kind::Npt;
    const unsigned physical_bits = slat.physical_bits;
    if (i == 63 && npt) return !slat.no_execute;
    if (i >= 52) return false;
    if (i >= physical_bits) return true;
    if (npt) {
        if (table == Table::Pml4) return i == 7 || i == 8;
        if (!leaf || table == Table::Pt) return false;
        return i >= 13 && i < (table == Table::Pd ? 21 : 30);
    }
    if (table == Table::Pml4) return i >= 3 && i <= 7;
    if (!leaf) return i >= 3 && i <= 6;
    if (table == Table::Pd) return i >= 12 && i <= 20;
    if (table == Table::Pdpt) return i >= 12 && i <= 29;
    return false;
}

}  // namespace

u64 Memory::load(u64 address, unsigned size) const {
    u64 out = 0;
    for (unsigned i = 0; i < size; ++i) {
        const u64 byte = address + i < bytes.size() ? bytes[address + i] : 0xff;
        out += byte << (8 * i);
    }
    return out;
}

void Memory::set_bits(u64 address, u64 bits, unsigned size) {
    for (unsigned i = 0; i < size; ++i) {
        if (address + i < bytes.size()) bytes[address + i] |= static_cast<u8>(bits >> (8 * i));
    }
}

Outcome translate_gpa(Memory& memory, const SlatMode& slat, u64 gpa, Access access, bool during_walk, bool user_page) {
    Outcome out;
    out.gpa = gpa;
    out.spa = gpa;
    out.page_bits = 48;
    if (slat.kind == SlatMode::Kind::None) return out;
    const bool npt = slat.kind == SlatMode::Kind::Npt;
    Outcome refused;
    refused.kind = Outcome::Kind::Slat;
    refused.gpa = gpa;
    refused.during_walk = during_walk;
    refused.slat_access = access;
    if (gpa >= u64{1} << 48) return refused;

    std::vector<u64> path;
    const bool mode_based = !npt && slat.user_execute;
    unsigned rights = mode_based ? 15 : 7;
    u64 base = pick(slat.root, slat.physical_bits - 1u, 12);
    for (const Table table : {Table::Pml4, Table::Pdpt, Table::Pd, Table::Pt}) {
        const unsigned low = 39 - 9 * static_cast<unsigned>(table);
        const u64 at = base + (pick(gpa, low + 8, low) >> low) * 8;
        const u64 entry = memory.load(at, 8);
        const bool present = npt ? has(entry, 0) : entry % 8 != 0 || (mode_based && has(entry, 10));
        if (!present) return refused;
        const bool leaf = table == Table::Pt || (table != Table::Pml4 && has(entry, 7));
        bool bad = !npt && has(entry, 1) && !has(entry, 0);
        for (unsigned i = 0; i < 64; ++i) {
            if (has(entry, i) && second_level_bit_reserved(slat, table, leaf, i)) bad = true;
        }
        if (!npt && leaf) {
            const u64 type = pick(entry, 5, 3) >> 3;
            if (type == 2 || type == 3 || type == 7) bad = true;
        }
        if (bad) {
            refused.misconfigured = true;
            return refused;
        }
        path.push_back(at);
        if (npt) {
            if (!has(entry, 2)) rights = 0;
            if (!has(entry, 1)) rights &= 5;
            if (has(entry, 63)) rights &= 3;
        } else {
            rights &= static_cast<unsigned>(entry % 8) + (mode_based && has(entry, 10) ? 8 : 0);
        }
        base = pick(entry, slat.physical_bits - 1u, leaf ? low : 12);
        if (!leaf) continue;
        out.page_bits = low;
        out.spa = base + gpa % (u64{1} << low);
        break;
    }
    const unsigned execute = mode_based && user_page ? 8 : 4;
    const unsigned need = access == Access::Read ? 1 : access == Access::Write ? 2 : execute;
    if ((rights & need) == 0) {
        refused.permissions = rights;
        return refused;
    }
    if (npt || slat.accessed_dirty) {
        const u64 a = npt ? 0x20 : 0x100, d = npt ? 0x40 : 0x200;
        for (const u64 at : path) memory.set_bits(at, at == path.back() && access == Access::Write ? a + d : a, 8);
        if (access == Access::Write) memory.set_bits(path.back(), d, 8);
    }
    return out;
}

Outcome translate(Memory& memory, const PagingMode& mode, const SlatMode& slat, u64 gva, Access access, bool user,
                  bool ac) {
    return Walker{memory, mode, slat, access, user, ac}.run(gva);
}

}  // namespace vg::mmu::reference
