// Requests that have been carried out and end at a virtual time: what devices of the built-in parent keep of them.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/state.h"

namespace vg::hv::parent {

struct Due {
    VTime when = 0;    ///< virtual nanoseconds
    u64 sequence = 0;  ///< in which order they began
    u32 slot = 0;      ///< of the core's request
    auto operator<=>(const Due&) const = default;
};

/// Saves the list, or loads at most `most` of it. The timer itself is the event queue's.
/// @param keep  whether a loaded entry, whose slot is below `most`, is of a request that there is
template <class Keep>
void due_list_fields(StateVisitor& v, std::set<Due>& due, u64& next_sequence, u32 most, Keep keep) {
    v("next_sequence", next_sequence, Fmt::Dec);
    std::vector<Due> list(due.begin(), due.end());
    u32 count = static_cast<u32>(list.size());
    v("due", count, Fmt::Dec);
    if (v.loading()) list.assign(std::min(count, most), {});
    for (std::size_t i = 0; i < list.size(); ++i) {
        const VisitScope each(v, "due" + std::to_string(i));
        v("when", list[i].when, Fmt::Dec);
        v("sequence", list[i].sequence, Fmt::Dec);
        v("slot", list[i].slot, Fmt::Dec);
    }
    if (!v.loading()) return;
    due.clear();
    for (const Due& each : list) {
        if (each.slot < most && keep(each)) due.insert(each);
    }
}

}  // namespace vg::hv::parent
