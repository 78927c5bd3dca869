// Text on a linear frame buffer.
#pragma once

#include <span>
#include <string_view>

#include "base/types.h"

namespace vg::parent {

/// Pixels of 32 bits, blue in the lowest byte.
struct Frame {
    std::span<volatile u32> pixels;  ///< all of the display memory
    u32 width = 0, height = 0;       ///< what is shown
    u32 stride = 0;                  ///< pixels from one line to the next
};

/// What shows another part of the display memory.
class FrameScroller {
  public:
    virtual ~FrameScroller() = default;
    /// The picture begins at this line of the display memory from now on.
    virtual void show_from(u32 line) = 0;
};

/// Writes lines as a terminal does that knows no escape sequences: those are left out. Scrolling moves the shown part
/// through the display memory; where that ends, the text is copied back to its beginning.
class FrameConsole {
  public:
    static constexpr u32 kScale = 2;  ///< pixels to a dot of the font, each way
    static constexpr u32 kBackground = 0x00101418, kForeground = 0x00d0d8d0;

    /// @param frame     at least one cell in either direction; memory for at least `height` lines
    /// @param scroller  outlives the console
    FrameConsole(const Frame& frame, FrameScroller& scroller);

    /// Bytes that are not printable ASCII show as a box, but for line feed, carriage return, backspace and tab.
    void write(std::string_view text);

    [[nodiscard]] u32 columns() const { return columns_; }
    [[nodiscard]] u32 rows() const { return rows_; }

  private:
    enum class Escape : u8 { None, Begun, Sequence };

    void put(char c);
    void new_line();
    void draw(char c);
    void fill(u32 first_line, u32 lines);
    [[nodiscard]] bool in_escape(char c);

    Frame frame_;
    FrameScroller& scroller_;
    u32 columns_, rows_, memory_rows_;
    u32 top_ = 0, row_ = 0, column_ = 0;  // rows of the display memory
    Escape escape_ = Escape::None;
};

}  // namespace vg::parent
