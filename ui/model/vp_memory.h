// Guest memory as tools read and write it: RAM and ROM only, so that no device notices.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"
#include "machine/machine.h"
#include "ui/model/places.h"

namespace vg::model {

/// Which addresses are meant.
enum class Space : u8 {
    Linear,    ///< with the tables of the VP as they are now, for a supervisor's access
    Physical,  ///< the partition's GPAs
    Machine    ///< system-physical
};
/// "linear", "physical", "machine"; nothing: neither.
[[nodiscard]] std::optional<Space> parse_space(std::string_view name);

/// The system-physical address; nothing: no translation.
[[nodiscard]] std::optional<Spa> translate(const FoundVp& at, Space space, u64 address);
/// The linear address as a GPA; nothing: no translation.
[[nodiscard]] std::optional<Gpa> linear_to_physical(const FoundVp& at, u64 address);
[[nodiscard]] std::optional<Spa> physical_to_machine(const FoundVp& at, Gpa gpa);

/// The bytes from `address` on that can be read without a gap: as many as asked for, fewer, or none.
[[nodiscard]] std::string read_bytes(const FoundVp& at, Space space, u64 address, std::size_t size);
/// The same as hexadecimal digits; "??" for a byte that is not there.
[[nodiscard]] std::string read_hex(const FoundVp& at, Space space, u64 address, std::size_t size);
/// All or nothing. Error (Usage): a byte is not RAM.
[[nodiscard]] Result<void> write_bytes(const FoundVp& at, Space space, u64 address, std::string_view bytes);

}  // namespace vg::model
