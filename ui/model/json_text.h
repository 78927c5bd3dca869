// JSON as text: bounded and strict on the way in, always valid UTF-8 on the way out.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"
#include "ui/model/control_link.h"

namespace vg::model {

/// One value from text that anybody may have written. Error (Usage): it is no JSON, or arrays and objects nest deeper
/// than kMaxJsonDepth.
inline constexpr unsigned kMaxJsonDepth = 32;
[[nodiscard]] Result<Json> parse_json(std::string_view text);

/// The value on one line, without its end. Bytes that are no UTF-8 become replacement characters.
[[nodiscard]] std::string json_line(const Json& value);
/// The same as text for people, one key a line, with its end.
[[nodiscard]] std::string json_text(const Json& value);

/// A member of an object that somebody else made; null: it has none, or is no object.
[[nodiscard]] const Json& member(const Json& object, const char* key);

/// "0x1f": how the protocol writes addresses and register values.
[[nodiscard]] std::string hex(u64 value);
/// The opposite, which takes decimal digits too; nothing if it is no number of 64 bits.
[[nodiscard]] std::optional<u64> parse_number(std::string_view text);
/// Two digits a byte.
[[nodiscard]] std::string hex_bytes(std::string_view bytes);
/// Nothing: an odd number of digits, or something else than digits.
[[nodiscard]] std::optional<std::string> parse_hex_bytes(std::string_view text);

}  // namespace vg::model
