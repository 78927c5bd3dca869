#include "base/utf8.h"

#include "base/types.h"

namespace vg {

std::size_t utf8_prefix(std::string_view text) {
    const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<u8>(text[at]) : u8{0}; };
    std::size_t at = 0;
    while (at < text.size()) {
        const u8 lead = byte(at);
        const std::size_t tail = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : 3;
        if (tail == 3 && (lead < 0xf0 || lead > 0xf4)) return at;
        const u8 low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const u8 high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (tail != 0 && (byte(at + 1) < low || byte(at + 1) > high)) return at;
        for (std::size_t i = 2; i <= tail; ++i)
            if ((byte(at + i) & 0xc0) != 0x80) return at;
        at += tail + 1;
    }
    return at;
}

}  // namespace vg
