// What a VGA shows.
#include <algorithm>

#include "base/bits.h"
#include "devices/vga.h"

namespace vg::devices {

using namespace vga;

namespace {

constexpr u32 kMaxLines = 1200;  ///< of the modes that IBM's registers describe

/// 0x00RRGGBB of one pixel.
u32 true_colour(const u8* pixel, u16 depth) {
    const u32 word = pixel[0] | u32{pixel[1]} << 8;
    const auto widen = [](u32 value, u32 bits) { return (value << (8 - bits) | value >> (2 * bits - 8)) & 0xff; };
    switch (depth) {
        case 15:
            return widen(word >> 10 & 31, 5) << 16 | widen(word >> 5 & 31, 5) << 8 | widen(word & 31, 5);
        case 16:
            return widen(word >> 11, 5) << 16 | widen(word >> 5 & 63, 6) << 8 | widen(word & 31, 5);
        default:
            return word | u32{pixel[2]} << 16;
    }
}

}  // namespace

u32 Vga::colour(u8 index) const {
    const u8* entry = &state_.palette[(index & state_.dac_mask) * 3u];
    const auto wide = [](u8 six) { return u32{six} << 2 | six >> 4; };
    return wide(entry[0]) << 16 | wide(entry[1]) << 8 | wide(entry[2]);
}

/// Four bits through the attribute controller's palette. PS/2 "Color Select Register".
u32 Vga::attribute_colour(u8 index) const {
    const u8 entry = state_.attribute[index & state_.attribute[kPlaneEnable] & 0xf];
    const u8 select = state_.attribute[kColourSelect];
    if ((state_.attribute[kAttributeMode] & kPaletteSource) != 0)
        return colour(static_cast<u8>(select << 4 | (entry & 0xf)));
    return colour(static_cast<u8>((select & 0xc) << 4 | entry));
}

/// Scan lines of the picture.
u32 Vga::lines() const {
    const auto& crtc = state_.crtc;
    const u32 overflow = crtc[kOverflow];
    return std::min(kMaxLines, (crtc[kVerticalEnd] | (overflow & 2) << 7 | (overflow & 0x40) << 3) + 1);
}

Vga::Picture Vga::picture() const {
    if ((state_.dispi[dispi::kEnable] & dispi::kEnabled) != 0) return linear_picture();
    if ((state_.attribute_index & kPaletteShown) == 0 || (state_.sequencer[kClocking] & kScreenOff) != 0) return {};
    if ((state_.graphics[kMisc] & kGraphicsMode) == 0) return text_picture();
    return (state_.graphics[kMode] & kShift256) != 0 ? chained_picture() : planar_picture();
}

Vga::Picture Vga::linear_picture() const {
    const u32 width = state_.dispi[dispi::kWidth], height = state_.dispi[dispi::kHeight];
    const u16 depth = state_.dispi[dispi::kBitsPerPixel];
    if (width == 0 || height == 0 || (depth != 8 && depth != 15 && depth != 16 && depth != 24 && depth != 32))
        return {};
    const u64 bytes = depth == 15 ? 2 : depth / 8;
    const u64 stride = std::max<u64>(state_.dispi[dispi::kVirtualWidth], width) * bytes;
    const u64 start = state_.dispi[dispi::kY] * stride + state_.dispi[dispi::kX] * bytes;
    if (!fits(start, (height - 1) * stride + width * bytes, kMemoryBytes)) return {};
    Picture picture{width, height, std::vector<u32>(u64{width} * height)};
    std::vector<u8> line(width * bytes + 2);
    for (u32 y = 0; y < height; ++y) {
        peek(start + y * stride, std::span(line).first(width * bytes));
        for (u32 x = 0; x < width; ++x) {
            const u8* pixel = &line[x * bytes];
            picture.pixels[u64{y} * width + x] = depth == 8 ? colour(*pixel) : true_colour(pixel, depth);
        }
    }
    return picture;
}

Vga::Picture Vga::text_picture() const {
    const auto& crtc = state_.crtc;
    const u32 columns = std::min<u32>(crtc[kDisplayEnd] + 1u, 160), cell_height = (crtc[kMaxScanLine] & 0x1fu) + 1;
    const u32 cell_width = (state_.sequencer[kClocking] & kEightDots) != 0 ? 8 : 9;
    const u32 rows = lines() / cell_height;
    if (rows == 0) return {};
    Picture picture{columns * cell_width, rows * cell_height, {}};
    picture.pixels.resize(u64{picture.width} * picture.height);
    // Character sets lie in plane 2, 8 KiB each, 32 bytes a character; bit 3 of the attribute may choose between two.
    const u8 select = state_.sequencer[kFontSelect];
    const auto font_base = [&](u32 code) { return u64{(code & 3u) << 1 | (code >> 2 & 1u)} * 0x2000; };
    const u64 fonts[] = {font_base((select & 3u) | (select >> 2 & 4u)),
                         font_base((select >> 2 & 3u) | (select >> 3 & 4u))};
    const u32 start = u32{crtc[kStartHigh]} << 8 | crtc[kStartLow],
              cursor = u32{crtc[kCursorHigh]} << 8 | crtc[kCursorLow];
    const bool blinks = (state_.attribute[kAttributeMode] & kBlink) != 0;
    for (u32 row = 0; row < rows; ++row) {
        for (u32 column = 0; column < columns; ++column) {
            const u32 place = start + row * crtc[kOffset] * 2 + column;
            std::array<u8, 4> cell{};
            peek(u64{place & 0xffff} * 4, cell);
            const u8 character = cell[0], attribute = cell[1];
            std::array<u8, 32 * 4> glyph{};
            peek((fonts[attribute >> 3 & 1] + character * 32u) * 4, glyph);
            const u32 front = attribute_colour(attribute & 0xf);
            const u32 back = attribute_colour(static_cast<u8>(attribute >> 4 & (blinks ? 7 : 15)));
            const bool has_cursor = place == cursor && (crtc[kCursorStart] & kCursorOff) == 0;
            for (u32 y = 0; y < cell_height; ++y) {
                u32 dots = u32{glyph[y * 4 + 2]} << 1;
                const bool extends =
                    (state_.attribute[kAttributeMode] & kLineGraphics) != 0 && character >= 0xc0 && character <= 0xdf;
                if (extends) dots |= dots >> 1 & 1;
                if (has_cursor && y >= (crtc[kCursorStart] & 0x1fu) && y <= (crtc[kCursorEnd] & 0x1fu)) dots = 0x1ff;
                u32* out = &picture.pixels[u64{row * cell_height + y} * picture.width + column * cell_width];
                for (u32 x = 0; x < cell_width; ++x) out[x] = bit(u64{dots}, 8 - x) ? front : back;
            }
        }
    }
    return picture;
}

Vga::Picture Vga::planar_picture() const {
    const auto& crtc = state_.crtc;
    const u32 repeat = ((crtc[kMaxScanLine] & 0x1fu) + 1) * ((crtc[kMaxScanLine] & kDoubleScan) != 0 ? 2 : 1);
    const u32 cells = crtc[kDisplayEnd] + 1u, height = lines() / repeat;
    if (height == 0) return {};
    Picture picture{cells * 8, height, std::vector<u32>(u64{cells} * 8 * height)};
    const u32 start = u32{crtc[kStartHigh]} << 8 | crtc[kStartLow];
    std::vector<u8> line(u64{cells} * 4);
    for (u32 y = 0; y < height; ++y) {
        peek(u64{start + y * crtc[kOffset] * 2} * 4, line);
        for (u32 x = 0; x < picture.width; ++x) {
            u8 index = 0;
            for (u32 plane = 0; plane < 4; ++plane)
                index |= static_cast<u8>((line[x / 8 * 4 + plane] >> (7 - x % 8) & 1) << plane);
            picture.pixels[u64{y} * picture.width + x] = attribute_colour(index);
        }
    }
    return picture;
}

Vga::Picture Vga::chained_picture() const {
    const auto& crtc = state_.crtc;
    const u32 repeat = ((crtc[kMaxScanLine] & 0x1fu) + 1) * ((crtc[kMaxScanLine] & kDoubleScan) != 0 ? 2 : 1);
    const u32 width = (crtc[kDisplayEnd] + 1u) * 4, height = lines() / repeat;
    if (height == 0) return {};
    Picture picture{width, height, std::vector<u32>(u64{width} * height)};
    const u64 start = (u64{crtc[kStartHigh]} << 8 | crtc[kStartLow]) * 4;
    std::vector<u8> line(width);
    for (u32 y = 0; y < height; ++y) {
        peek(start + u64{y} * crtc[kOffset] * 8, line);
        for (u32 x = 0; x < width; ++x) picture.pixels[u64{y} * width + x] = colour(line[x]);
    }
    return picture;
}

}  // namespace vg::devices
