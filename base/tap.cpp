#include "base/tap.h"

#include <algorithm>

namespace vg {

namespace {

constexpr TapRow kRows[] = {
#define VG_TAP(kind, name, a, b, c, d, payload) {name, {a, b, c, d}, payload},
#include "base/tap_kinds.def"
#undef VG_TAP
};

}  // namespace

const TapRow& tap_row(TapKind kind) { return kRows[static_cast<unsigned>(kind)]; }

TapKind tap_kind(std::string_view name) {
    const auto* const row =
        std::find_if(std::begin(kRows), std::end(kRows), [&](const TapRow& r) { return r.name == name; });
    return static_cast<TapKind>(row - std::begin(kRows));
}

void Tap::tell(const TapEvent& event) {
    for (const Entry& entry : entries_) {
        if ((entry.kinds & tap_bit(event.kind)) != 0) entry.listener(event);
    }
}

unsigned Tap::listen(TapMask kinds, Listener listener) {
    entries_.push_back({next_number_, kinds, std::move(listener)});
    update_mask();
    return next_number_++;
}

void Tap::remove(unsigned listener) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.number == listener; });
    update_mask();
}

void Tap::update_mask() {
    mask_ = 0;
    for (const Entry& entry : entries_) mask_ |= entry.kinds;
}

}  // namespace vg
