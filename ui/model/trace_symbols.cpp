#include "ui/model/trace_symbols.h"

#include <algorithm>

namespace vg::model {

namespace {

constexpr std::size_t kMostSymbols = 1u << 20;
/// Of a symbol whose size nobody says and behind which there is none.
constexpr u64 kLastSize = 4096;
/// No function is larger: what is said to be ends where nobody knows.
constexpr u64 kMostSize = 1u << 20;

bool upper_half(const Symbol& symbol) { return symbol.address >> 63 != 0; }

/// Of a partition's symbols, by address, those that some place lies in.
void take(const std::vector<Symbol>& all, u64 partition, std::set<std::pair<u64, u64>>::const_iterator place,
          const std::set<std::pair<u64, u64>>::const_iterator end, std::vector<machine::TraceSymbol>& out) {
    for (std::size_t k = 0; k < all.size() && place != end; ++k) {
        // Of several names for one address the first is taken.
        if (k != 0 && all[k].address == all[k - 1].address) continue;
        std::size_t next = k + 1;
        while (next < all.size() && all[next].address == all[k].address) ++next;
        const u64 room = next < all.size() ? all[next].address - all[k].address : kLastSize;
        const u64 size = std::min(all[k].size == 0 ? room : std::min(all[k].size, room), kMostSize);
        while (place != end && place->second < all[k].address) ++place;
        if (place == end || place->second - all[k].address >= size) continue;
        out.push_back({partition, all[k].address, size, all[k].name, all[k].module});
    }
}

}  // namespace

std::vector<machine::TraceSymbol> functions_at(machine::Machine& machine, SymbolSource& symbols,
                                               const std::set<std::pair<u64, u64>>& places) {
    std::vector<machine::TraceSymbol> out;
    for (auto first = places.begin(); first != places.end();) {
        const u64 partition = first->first;
        const auto end = places.lower_bound({partition + 1, 0});
        std::vector<Symbol> all = symbols.list(machine, {partition, 0}, "", kMostSymbols);
        // A kernel's symbols in the lower half are offsets in per-processor areas, no places.
        if (!all.empty() && upper_half(all.back()))
            std::erase_if(all, [](const Symbol& symbol) { return !upper_half(symbol); });
        take(all, partition, first, partition == ~u64{0} ? places.end() : end, out);
        if (partition == ~u64{0}) break;
        first = end;
    }
    return out;
}

}  // namespace vg::model
