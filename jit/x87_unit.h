// The guest's x87 and MMX state between the state page and the host's unit.
//
// Translated code loads it when a block that uses it is entered, and leaves it there. C++ that only looks translations
// or pages up never touches the unit and may run with the guest's state in it; before anything else runs, it is
// unloaded. Only state with all exceptions masked is ever loaded (ModeKey::kX87).
#pragma once

#include <cstddef>

#include "cpu/vp_state.h"
#include "jit/layout.h"

namespace vg::jit {

/// XSAVE's area is the state page's x87 field and the header behind it; component 0 is x87.
inline constexpr u32 kXsaveX87 = 1;
inline constexpr std::size_t kXsaveHeaderOffset = 512;
static_assert(offsetof(cpu::VpState, x87_header) == offsetof(cpu::VpState, x87) + kXsaveHeaderOffset);
static_assert(offsetof(cpu::VpState, x87) % 64 == 0);

inline u8& x87_loaded(cpu::VpState& s) {
    return reinterpret_cast<u8*>(&s)[static_cast<int>(sizeof(cpu::VpState)) + kX87Loaded];
}

/// The guest's state is in the host's unit: brings it into the state page, and the unit into what C++ expects, its
/// control word and eight empty registers. (FNINIT would do the same and more, at a hundred times the cost.)
inline void unload_x87(cpu::VpState& s) {
    if (x87_loaded(s) == 0) return;
    x87_loaded(s) = 0;
    constexpr u16 kHostControl = 0x37f;
    asm volatile("xsave64 %0\n\tfldcw %1\n\temms"
                 : "+m"(*reinterpret_cast<u8(*)[576]>(&s.x87))
                 : "m"(kHostControl), "a"(kXsaveX87), "d"(0));
    s.x87_header[0] = 0;
    // They say where the host's code was: ours are zero while no exception is unmasked (cpu/vp_state.h).
    s.x87.fop = 0;
    s.x87.fip = s.x87.fdp = 0;
}

/// For translated code that goes on in the middle of a block.
inline void load_x87(cpu::VpState& s) {
    if (x87_loaded(s) != 0) return;
    x87_loaded(s) = 1;
    s.x87_header[0] = kXsaveX87;
    asm volatile("xrstor64 %0" : : "m"(*reinterpret_cast<const u8(*)[576]>(&s.x87)), "a"(kXsaveX87), "d"(0));
    s.x87_header[0] = 0;
}

}  // namespace vg::jit
