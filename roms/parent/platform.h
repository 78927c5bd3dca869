// What the parts of the parent's system stand on: pages, PCI configuration, vectors, time, waiting, lines for people.
//
// One processor, one address space (physical address = pointer), no threads. Interrupts are open in
// wait_for_interrupt() only: a handler sets a flag and nothing else, so nothing here is ever re-entered.
#pragma once

#include <fmt/core.h>

#include <string_view>
#include <utility>

#include "base/types.h"

namespace vg::parent {

// ---- memory

/// Consecutive pages, zeroed; the physical address, which is also the pointer. 0: there are not that many.
/// @param align_pages  a power of two: the address is a multiple of that many pages
[[nodiscard]] u64 allocate_pages(u64 count, u64 align_pages = 1);
/// Gives back what allocate_pages gave, or a part of it. Asserts that it is in use.
void free_pages(u64 address, u64 count);
/// Pages that allocate_pages could still give out, in pieces.
[[nodiscard]] u64 free_page_count();
/// Memory at a physical address: identity-mapped.
template <class T = u8>
[[nodiscard]] T* at(u64 physical) {
    return reinterpret_cast<T*>(physical);
}
[[nodiscard]] inline u64 physical(const volatile void* pointer) { return reinterpret_cast<u64>(pointer); }

// ---- PCI configuration space (PCI Local Bus 3.0 §3.2.2.3.2: configuration mechanism 1)

/// @param bdf     bus << 8 | device << 3 | function
/// @param offset  0..255, naturally aligned to `size`, which is 1, 2 or 4. All-ones where nothing is.
[[nodiscard]] u32 pci_read(u16 bdf, u8 offset, unsigned size);
void pci_write(u16 bdf, u8 offset, unsigned size, u32 value);

// ---- interrupts

/// Runs in the interrupt: sets flags, touches nothing else.
using InterruptHandler = void (*)(void* context);
/// A vector of this processor; the end of interrupt is signalled behind the handler. Asserts that one is left (about
/// 200).
[[nodiscard]] u8 allocate_vector(InterruptHandler handler, void* context);
/// Where a device sends a message-signalled interrupt of a vector; the data is the vector (fixed, edge).
[[nodiscard]] u64 msi_address();
/// Sleeps until the next interrupt (sti; hlt; cli). An interrupt that came before is not lost: test the flag, then call
/// this. The timer wakes it too: see set_alarm().
extern "C" void wait_for_interrupt();

// ---- time

/// The hypervisor's reference time: units of 100 ns since the machine's start.
[[nodiscard]] u64 reference_time_100ns();
/// Wakes wait_for_interrupt() at this reference time, or at once if it is past. One alarm: the last call counts.
void set_alarm(u64 when_100ns);

// ---- people

/// Writes a line (without its end) to the console: the first serial port, and whatever else listens.
void log_line(std::string_view line);
/// `log("disk {}: {} MiB", name, size)`.
template <class... Args>
void log(fmt::format_string<Args...> format, Args&&... args) {
    log_line(fmt::vformat(format, fmt::make_format_args(args...)));
}

/// Says why, and stops the machine by its reset register: the run has failed.
[[noreturn]] void panic(std::string_view why);
/// ACPI power-off of the machine.
[[noreturn]] void power_off();

}  // namespace vg::parent
