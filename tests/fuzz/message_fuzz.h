// A small provider as its guest may treat it: any bytes as messages, with the core's own last message as raw material.
#pragma once

#include <algorithm>
#include <vector>

#include "hv/vsp/message_core.h"
#include "tests/fuzz/input_bytes.h"

namespace vg::test {

/// @param host  called now and then: what the host does to the core
template <class Host>
void fuzz_messages(hv::vsp::MessageCore& core, InputBytes& in, Host host) {
    using Core = hv::vsp::MessageCore;
    std::vector<u8> last(Core::kMaxMessage);
    u32 size = 0;
    u64 transaction_id = 0;
    core.opened();
    while (!in.empty()) {
        const u8 what = in.take<u8>();
        if (what % 16 == 15) {
            core.closed();
            core.opened();
        }
        if (what % 4 == 3) host(in);
        std::vector<u8> message;
        if ((what & 0x40) != 0) message.assign(last.begin(), last.begin() + size);  // the answer comes in its buffer
        const auto part = in.span(what % 64);
        const std::size_t at = message.empty() ? 0 : in.take<u16>() % message.size();
        message.resize(std::max(message.size(), std::min<std::size_t>(at + part.size(), Core::kMaxMessage)));
        std::copy_n(part.begin(), std::min(part.size(), message.size() - at), message.begin() + static_cast<std::ptrdiff_t>(at));
        core.receive(message, (what & 0x80) != 0 ? in.take<u64>() : transaction_id);
        for (u32 left = 10'000; left != 0; --left) {
            const auto out = core.next(last);
            if (out.size == 0) break;
            if (out.size > Core::kMaxMessage || left == 1) __builtin_trap();
            size = out.size;
            transaction_id = out.transaction_id;
            core.sent();
        }
        if (core.tick_after_ns() != 0) core.tick();
    }
    core.closed();
}

}  // namespace vg::test
