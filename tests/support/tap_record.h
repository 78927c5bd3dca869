// What a machine's event stream said, kept.
#pragma once

#include <vector>

#include "base/tap.h"

namespace vg::test {

struct TapRecord {
    explicit TapRecord(Tap& tap, TapMask kinds = kAllTaps) {
        tap.listen(kinds, [this](const TapEvent& event) {
            events.push_back(event);
            events.back().payload = {};
            payloads.emplace_back(event.payload.begin(), event.payload.end());
        });
    }
    struct Row {
        TapEvent event;
        std::vector<u8> payload;
    };
    [[nodiscard]] std::vector<Row> of(TapKind kind) const {
        std::vector<Row> rows;
        for (std::size_t i = 0; i < events.size(); ++i)
            if (events[i].kind == kind) rows.push_back({events[i], payloads[i]});
        return rows;
    }
    std::vector<TapEvent> events;  ///< without payload
    std::vector<std::vector<u8>> payloads;
};

}  // namespace vg::test
