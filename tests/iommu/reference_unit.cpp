#include "tests/iommu/reference_unit.h"

#include <array>
#include <cstdlib>
#include <vector>

namespace vg::test {
namespace {

bool has(u64 word, unsigned index) { return word / (u64{1} << index) % 2 == 1; }
u64 field(u64 word, unsigned high, unsigned low) {
    u64 value = 0;
    for (unsigned i = high + 1; i-- > low;) value = value * 2 + (has(word, i) ? 1 : 0);
    return value;
}
/// Any 1 among bits [high:low].
bool any(u64 word, unsigned high, unsigned low) {
    for (unsigned i = low; i <= high; ++i) {
        if (has(word, i)) return true;
    }
    return false;
}

}  // namespace

ReferenceUnit::Dma ReferenceUnit::dma(u16 rid, u64 iova, bool write) const {
    const auto fault = [](unsigned code, bool quiet) { return Dma{code, quiet, 0}; };
    const unsigned bus = rid / 256, devfn = rid % 256;
    if (field(rtaddr, 11, 10) != 0) return fault(0x30, false);
    const auto root_low = qword(field(rtaddr, 63, 12) * 4096 + bus * 16);
    const auto root_high = qword(field(rtaddr, 63, 12) * 4096 + bus * 16 + 8);
    if (!root_low || !root_high) return fault(0x8, false);
    if (!has(*root_low, 0)) return fault(0x1, false);
    if (any(*root_low, 11, 1) || any(*root_low, 63, haw) || *root_high != 0) return fault(0xa, false);
    const auto low = qword(field(*root_low, 63, 12) * 4096 + devfn * 16);
    const auto high = qword(field(*root_low, 63, 12) * 4096 + devfn * 16 + 8);
    if (!low || !high) return fault(0x9, false);
    const bool quiet = has(*low, 1);
    if (!has(*low, 0)) return fault(0x2, quiet);
    const u64 type = field(*low, 3, 2);
    if (any(*low, 11, 4) || has(*high, 7) || any(*high, 63, 24)) return fault(0xb, quiet);
    if (type != 2 && any(*low, 63, haw)) return fault(0xb, quiet);
    if (type == 1 || type == 3 || (type == 2 && !pass)) return fault(0x3, quiet);
    const u64 aw = field(*high, 2, 0);
    if (!(aw == 1 && three) && !(aw == 2 && four)) return fault(0x3, quiet);
    if (type == 2) {
        if (aw != (four ? 2 : 1)) return fault(0x3, quiet);
        if (any(iova, 63, haw)) return fault(0x4, quiet);
        return {0, quiet, iova};
    }
    const std::vector<unsigned> shifts =
        aw == 1 ? std::vector<unsigned>{30, 21, 12} : std::vector<unsigned>{39, 30, 21, 12};
    if (any(iova, 63, shifts.front() + 9)) return fault(0x4, quiet);
    u64 table = field(*low, 63, 12) * 4096;
    for (const unsigned shift : shifts) {
        const auto entry = qword(table + field(iova, shift + 8, shift) * 8);
        if (!entry) return fault(shift == shifts.front() ? 0x3 : 0x7, quiet);
        if (write && !has(*entry, 1)) return fault(0x5, quiet);
        if (!write && !has(*entry, 0)) return fault(0x6, quiet);
        bool leaf = shift == 12;
        bool reserved = any(*entry, 51, haw) || has(*entry, 62);
        if (has(*entry, 7) && shift != 12) {
            if (shift == 39 || (shift == 30 && !one_gib) || (shift == 21 && !two_mib)) reserved = true;
            leaf = true;
            if (any(*entry, shift - 1, 12)) reserved = true;
        }
        if (has(*entry, 11) && (!leaf || !snoop)) reserved = true;
        if (reserved) return fault(0xc, quiet);
        if (leaf) {
            const u64 spa = (field(*entry, 51, shift) << shift) + field(iova, shift - 1, 0);
            if (field(spa, 63, 20) == 0xfee) return fault(0xe, quiet);
            return {0, quiet, spa};
        }
        table = field(*entry, 51, 12) * 4096;
    }
    std::abort();
}

ReferenceUnit::Interrupt ReferenceUnit::interrupt(u16 rid, u64 address, u32 data) const {
    const auto fault = [](unsigned code, bool quiet) { return Interrupt{code, quiet, 0, 0}; };
    const bool eime = has(irta, 11);
    if (!has(address, 4)) {
        if (eime || !compatibility) return fault(0x25, false);
        return {0, false, address, data};
    }
    if (data > 0xffff) return fault(0x20, false);
    u64 index = field(address, 19, 5) + (has(address, 2) ? 32768 : 0);
    if (has(address, 3)) index += data;
    if (index >= (u64{2} << field(irta, 3, 0))) return fault(0x21, false);
    const auto low = qword(field(irta, 63, 12) * 4096 + index * 16);
    const auto high = qword(field(irta, 63, 12) * 4096 + index * 16 + 8);
    if (!low || !high) return fault(0x23, false);
    const bool quiet = has(*low, 1);
    if (!has(*low, 0)) return fault(0x22, quiet);
    const u64 delivery = field(*low, 7, 5);
    if (any(*low, 15, 12) || any(*low, 31, 24) || any(*high, 63, 20) || delivery == 3 || delivery == 6)
        return fault(0x24, quiet);
    if (!eime && (any(*low, 39, 32) || any(*low, 63, 48))) return fault(0x24, quiet);
    const u64 sid = field(*high, 15, 0), svt = field(*high, 19, 18), sq = field(*high, 17, 16);
    bool allowed = svt == 0;
    if (svt == 1) {
        const std::array<unsigned, 4> kept = {3, 2, 1, 0};  // function bits that count
        const u64 function_sid = sid % 8 % (u64{1} << (sq == 0 ? 3 : sq == 1 ? 2 : sq == 2 ? 1 : 0));
        const u64 function_rid = rid % 8u % (u64{1} << kept[sq]);
        allowed = sid / 8 == rid / 8u && function_sid == function_rid;
    }
    if (svt == 2) allowed = rid / 256u >= sid / 256 && rid / 256u <= sid % 256;
    if (!allowed) return fault(0x26, quiet);
    const u64 destination = eime ? field(*low, 63, 32) : field(*low, 47, 40);
    Interrupt out;
    out.address = 0xfee00000 + field(destination, 7, 0) * 0x1000 + (has(*low, 2) ? 4 : 0) + (has(*low, 3) ? 8 : 0) +
                  (field(destination, 31, 8) << 40);
    out.data = static_cast<u32>(field(*low, 23, 16) + delivery * 0x100 + (has(*low, 4) ? 0xc000 : 0));
    return out;
}

}  // namespace vg::test
