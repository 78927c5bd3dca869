// Registers of the IBM VGA (IBM "Personal System/2 Hardware Interface Technical Reference", "Video Subsystem").
#pragma once

#include "base/types.h"

namespace vg::devices::vga {

inline constexpr u16 kFirstPort = 0x3b0, kPortCount = 0x30;
inline constexpr u16 kAttribute = 0x3c0, kAttributeRead = 0x3c1, kMiscWrite = 0x3c2, kSequencerIndex = 0x3c4,
                     kSequencerData = 0x3c5, kDacMask = 0x3c6, kDacReadIndex = 0x3c7, kDacWriteIndex = 0x3c8,
                     kDacData = 0x3c9, kFeatureRead = 0x3ca, kMiscRead = 0x3cc, kGraphicsIndex = 0x3ce,
                     kGraphicsData = 0x3cf;
// At 3Bx with a monochrome board, at 3Dx with a colour one.
inline constexpr u16 kCrtcIndexMono = 0x3b4, kCrtcDataMono = 0x3b5, kStatusMono = 0x3ba, kCrtcIndex = 0x3d4,
                     kCrtcData = 0x3d5, kStatus = 0x3da;

inline constexpr u8 kMiscColour = 1;  ///< miscellaneous output: addresses at 3Dx

enum Sequencer : u8 { kReset, kClocking, kMapMask, kFontSelect, kMemoryMode, kSequencerCount };
inline constexpr u8 kEightDots = 1;  ///< kClocking: characters are 8 dots wide, else 9
inline constexpr u8 kHalfClock = 8, kScreenOff = 0x20;
inline constexpr u8 kNotOddEven = 4, kChain4 = 8;  ///< kMemoryMode

enum Graphics : u8 {
    kSetReset,
    kEnableSetReset,
    kColourCompare,
    kRotate,
    kReadMap,
    kMode,
    kMisc,
    kColourCare,
    kBitMask,
    kGraphicsCount
};
inline constexpr u8 kReadCompare = 8, kOddEven = 0x10, kShiftInterleaved = 0x20, kShift256 = 0x40;  ///< kMode
inline constexpr u8 kGraphicsMode = 1;                                                              ///< kMisc

enum Crtc : u8 {
    kDisplayEnd = 0x01,
    kOverflow = 0x07,
    kMaxScanLine = 0x09,
    kCursorStart = 0x0a,
    kCursorEnd = 0x0b,
    kStartHigh = 0x0c,
    kStartLow = 0x0d,
    kCursorHigh = 0x0e,
    kCursorLow = 0x0f,
    kRetraceEnd = 0x11,
    kVerticalEnd = 0x12,
    kOffset = 0x13,
    kCrtcMode = 0x17,
    kCrtcCount = 0x19
};
inline constexpr u8 kProtect = 0x80;     ///< kRetraceEnd: registers 0..7 are locked
inline constexpr u8 kDoubleScan = 0x80;  ///< kMaxScanLine
inline constexpr u8 kCursorOff = 0x20;   ///< kCursorStart

inline constexpr u8 kAttributeMode = 0x10, kOverscan = 0x11, kPlaneEnable = 0x12, kPan = 0x13, kColourSelect = 0x14,
                    kAttributeCount = 0x15;
inline constexpr u8 kLineGraphics = 4, kBlink = 8, kPaletteSource = 0x80;  ///< kAttributeMode
inline constexpr u8 kPaletteShown = 0x20;                                  ///< in the index

inline constexpr u8 kRetrace = 8, kNotDisplaying = 1;  ///< status

}  // namespace vg::devices::vga
