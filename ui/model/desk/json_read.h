// Reading answers of the control protocol. Whoever answers is not trusted: a missing or odd value has a default, texts
// are made fit for showing, nothing throws.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"
#include "ui/model/control_link.h"

namespace vg::desk {

using model::ControlLink;
using model::Json;

/// A member of an object; null where there is none.
[[nodiscard]] const Json& member(const Json& object, std::string_view key);
/// A number, or a string with a number: "0x1f" or "31". Out of range or anything else: `otherwise`.
[[nodiscard]] u64 number_of(const Json& value, u64 otherwise = 0);
[[nodiscard]] u64 number(const Json& object, std::string_view key, u64 otherwise = 0);
[[nodiscard]] bool has_number(const Json& object, std::string_view key);
[[nodiscard]] bool truth(const Json& object, std::string_view key, bool otherwise = false);
/// A text as shown() makes it, numbers as text; at most `limit` bytes.
[[nodiscard]] std::string words(const Json& object, std::string_view key, std::size_t limit = 256);
[[nodiscard]] std::string words_of(const Json& value, std::size_t limit = 256);
/// The list's items, at most so many; none if it is no list.
[[nodiscard]] std::vector<const Json*> items(const Json& list, std::size_t limit = 65536);

/// Text for people: what is not UTF-8, and characters that move, hide or reverse others, become escapes such as "\x1b";
/// longer texts end with an ellipsis.
[[nodiscard]] std::string shown(std::string_view text, std::size_t limit = 256);

/// "0x1f", "1f", "31" (with hexadecimal = false), signs and blanks refused. Empty: not a number of 64 bits.
[[nodiscard]] std::optional<u64> parse_number(std::string_view text, bool hexadecimal);
/// Bytes of hexadecimal text, -1 for "??"; stops at the first mistake, at most `limit`.
[[nodiscard]] std::vector<int> parse_hex(std::string_view text, std::size_t limit);
[[nodiscard]] std::string hex(u64 value);

}  // namespace vg::desk
