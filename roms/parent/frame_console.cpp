#include "roms/parent/frame_console.h"

#include <algorithm>

#include "base/assert.h"
#include "roms/parent/spec/font.h"

namespace vg::parent {

namespace {

constexpr u32 kCellWidth = (font::kColumns + 1) * FrameConsole::kScale;
constexpr u32 kCellHeight = font::kRows * FrameConsole::kScale;
constexpr u32 kTab = 8;

const font::Glyph& glyph(char c) {
    const bool known = c >= font::kFirst && c <= font::kLast;
    return font::kGlyphs[known ? static_cast<std::size_t>(c - font::kFirst) : font::kGlyphs.size() - 1];
}

/// Rows of text that can be the last one of a picture: what lies below it is shown too. Lines have 16-bit numbers.
u32 rows_in_memory(const Frame& frame) {
    const u64 lines = std::min<u64>(frame.pixels.size() / std::max(frame.stride, u32{1}), 0xffff);
    const u64 below = frame.height % kCellHeight;
    return static_cast<u32>((lines - std::min(lines, below)) / kCellHeight);
}

}  // namespace

FrameConsole::FrameConsole(const Frame& frame, FrameScroller& scroller)
    : frame_(frame),
      scroller_(scroller),
      columns_(frame.width / kCellWidth),
      rows_(frame.height / kCellHeight),
      memory_rows_(rows_in_memory(frame)) {
    VG_ASSERT(frame.stride >= frame.width && columns_ != 0 && rows_ != 0 && memory_rows_ > rows_);
    fill(0, frame_.height);
    scroller_.show_from(0);
}

void FrameConsole::write(std::string_view text) {
    for (const char c : text) put(c);
}

void FrameConsole::put(char c) {
    if (in_escape(c)) return;
    switch (c) {
        case '\n':
            return new_line();
        case '\r':
            column_ = 0;
            return;
        case '\b':
            if (column_ != 0) --column_;
            return;
        case '\t':
            column_ = std::min((column_ / kTab + 1) * kTab, columns_ - 1);
            return;
        default:
            if (column_ == columns_) new_line();
            draw(c);
            ++column_;
    }
}

/// ECMA-48 §5.4: ESC [, parameters, a final byte of 0x40 to 0x7E; ESC and one byte.
bool FrameConsole::in_escape(char c) {
    switch (escape_) {
        case Escape::None:
            if (c != '\x1b') return false;
            escape_ = Escape::Begun;
            return true;
        case Escape::Begun:
            escape_ = c == '[' ? Escape::Sequence : Escape::None;
            return true;
        case Escape::Sequence:
            if (c >= 0x40 && c <= 0x7e) escape_ = Escape::None;
            if (c == '\n') escape_ = Escape::None;  // one that was cut off does not take the rest along
            return c != '\n';
    }
    return false;
}

/// A new line also returns: nobody here means only one of the two.
void FrameConsole::new_line() {
    column_ = 0;
    ++row_;
    if (row_ < top_ + rows_) return;
    if (row_ < memory_rows_) {
        ++top_;
    } else {
        // The lines that stay go to the beginning.
        const u64 from = u64{top_ + 1} * kCellHeight * frame_.stride,
                  count = u64{rows_ - 1} * kCellHeight * frame_.stride;
        for (u64 i = 0; i < count; ++i) frame_.pixels[i] = frame_.pixels[from + i];
        top_ = 0;
        row_ = rows_ - 1;
    }
    // With what is shown of the line behind it.
    fill(row_ * kCellHeight, kCellHeight);
    const u32 behind = (row_ + 1) * kCellHeight, end = top_ * kCellHeight + frame_.height;
    if (behind < end) fill(behind, end - behind);
    scroller_.show_from(top_ * kCellHeight);
}

void FrameConsole::fill(u32 first_line, u32 lines) {
    const u64 begin = u64{first_line} * frame_.stride;
    const u64 end = std::min<u64>(begin + u64{lines} * frame_.stride, frame_.pixels.size());
    for (u64 i = begin; i < end; ++i) frame_.pixels[i] = kBackground;
}

void FrameConsole::draw(char c) {
    const font::Glyph& dots = glyph(c);
    for (u32 y = 0; y < kCellHeight; ++y) {
        const u64 line = u64{row_ * kCellHeight + y} * frame_.stride + column_ * kCellWidth;
        for (u32 x = 0; x < kCellWidth; ++x) {
            const u32 dot = x / kScale;
            const bool set = dot < font::kColumns && (dots[y / kScale] >> (font::kColumns - 1 - dot) & 1) != 0;
            frame_.pixels[line + x] = set ? kForeground : kBackground;
        }
    }
}

}  // namespace vg::parent
