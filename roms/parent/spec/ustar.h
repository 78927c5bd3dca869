// Header blocks of tar archives. IEEE Std 1003.1-2017 "pax", "ustar Interchange Format". Offsets and sizes in bytes.
#pragma once

#include "base/types.h"

namespace vg::parent::ustar {

inline constexpr u32 kBlock = 512;  ///< headers and the contents of members are padded to whole blocks

struct Field {
    u32 offset, size;
};
inline constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kMagic{257, 6}, kVersion{263, 2},
    kPrefix{345, 155};
inline constexpr u32 kTypeflag = 156;

inline constexpr char kMagicText[] = "ustar";  ///< with its NUL
inline constexpr char kVersionText[] = "00";   ///< without

inline constexpr char kRegular = '0', kRegularOld = '\0', kContiguous = '7', kDirectory = '5';
inline constexpr char kPaxHeader = 'x', kPaxGlobalHeader = 'g', kGnuLongName = 'L', kGnuLongLink = 'K';

}  // namespace vg::parent::ustar
