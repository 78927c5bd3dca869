// The registers that gdb is shown: their order, their sizes, and how they come from those of the control protocol.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ui/model/json_text.h"

namespace vg::cli {

/// The target description (GDB manual, "Target Descriptions"): the standard features of i386:x86-64, and
/// "org.verdigris.system" with the registers that only a system debugger needs.
[[nodiscard]] const std::string& gdb_target_xml();
[[nodiscard]] std::size_t gdb_register_count();
/// Numbers of registers that every stop tells at once.
[[nodiscard]] std::size_t gdb_rip();
[[nodiscard]] std::size_t gdb_rsp();

/// A register as gdb reads it, hexadecimal, least significant byte first.
/// @param registers  the answer to `registers`
[[nodiscard]] std::string gdb_register(std::size_t number, const model::Json& registers);
/// All of them, in order.
[[nodiscard]] std::string gdb_registers(const model::Json& registers);

/// What `set_registers` must be asked for so that the register is what gdb wrote; nothing for a value that is there already.
/// Error (Usage): no such register, a value of another size, or a register that follows from others.
[[nodiscard]] Result<std::optional<std::pair<std::string, std::string>>> gdb_write_register(std::size_t number,
                                                                                         std::string_view value,
                                                                                         const model::Json& registers);
/// The same for all of them; equal values are left out.
[[nodiscard]] Result<model::Json> gdb_write_registers(std::string_view values, model::Json registers);

}  // namespace vg::cli
