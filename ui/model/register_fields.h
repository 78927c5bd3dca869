// Names of the bits of registers, and what a value says with them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg::cpu {
class Vp;
}

namespace vg::model {

/// One field: bits [high:low].
struct RegisterField {
    std::string_view name;  ///< as the manual has it
    u8 high = 0, low = 0;
    std::string_view meaning;  ///< what the field does, or what it means that the bit is set
};

struct RegisterLayout {
    std::string_view name;  ///< in lower case, as docs/control.md names the register; of segments "attributes"
    std::span<const RegisterField> fields;
};

/// Every register whose fields are known.
[[nodiscard]] std::span<const RegisterLayout> register_layouts();
/// Null: none of this name.
[[nodiscard]] const RegisterLayout* register_layout(std::string_view name);
/// Value of a register that has a layout; 0 for one that has not.
[[nodiscard]] u64 register_value(const cpu::Vp& vp, std::string_view name);

/// "PE MP NE WP PG", fields of several bits as "IOPL=3"; set bits that have no name as "bit 40". "-" if none is set.
[[nodiscard]] std::string short_text(const RegisterLayout& layout, u64 value);
/// One line for each field that is not 0, and what it means; then those that are 0.
[[nodiscard]] std::vector<std::string> long_text(const RegisterLayout& layout, u64 value);

}  // namespace vg::model
