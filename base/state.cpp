#include "base/state.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "base/assert.h"

namespace vg {

StateHasher::StateHasher() : state_(XXH3_createState()) {
    VG_ASSERT(state_ != nullptr);
    XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_));
}
StateHasher::~StateHasher() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void StateHasher::memory(const void* data, std::size_t size) {
    XXH3_64bits_update(static_cast<XXH3_state_t*>(state_), data, size);
}
u64 StateHasher::digest() const { return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_)); }

void StateHasher::number(std::string_view name, u64& value, unsigned, Fmt) {
    memory(name.data(), name.size());
    memory(&value, sizeof value);
}
void StateHasher::bytes(std::string_view name, std::span<u8> data) {
    memory(name.data(), name.size());
    memory(data.data(), data.size());
}
void StateHasher::text(std::string_view name, std::string& field) {
    memory(name.data(), name.size());
    const u64 size = field.size();
    memory(&size, sizeof size);
    memory(field.data(), field.size());
}
void StateHasher::enter(std::string_view name) {
    memory("{", 1);
    memory(name.data(), name.size());
}
void StateHasher::leave() { memory("}", 1); }

/// One field is one line, whatever its text holds.
void StatePrinter::line(std::string_view name, std::string_view value) {
    for (const std::string& part : path_) fmt::format_to(std::back_inserter(out_), "{}/", part);
    fmt::format_to(std::back_inserter(out_), "{} = ", name);
    for (const char c : value) {
        if (static_cast<u8>(c) >= ' ' && c != '\x7f') out_.push_back(c);
        else fmt::format_to(std::back_inserter(out_), "\\x{:02x}", static_cast<u8>(c));
    }
    out_.push_back('\n');
}
void StatePrinter::number(std::string_view name, u64& value, unsigned size, Fmt format) {
    switch (format) {
        case Fmt::Hex: return line(name, fmt::format("0x{:0{}x}", value, size * 2));
        case Fmt::Dec: return line(name, fmt::format("{}", value));
        case Fmt::Bin: return line(name, fmt::format("0b{:0{}b}", value, size * 8));
        case Fmt::Bool: return line(name, value != 0 ? "true" : "false");
    }
}
void StatePrinter::bytes(std::string_view name, std::span<u8> data) {
    std::string hex;
    for (const u8 byte : data) fmt::format_to(std::back_inserter(hex), "{:02x}", byte);
    line(name, hex);
}
void StatePrinter::text(std::string_view name, std::string& field) { line(name, field); }
void StatePrinter::enter(std::string_view name) { path_.emplace_back(name); }
void StatePrinter::leave() { path_.pop_back(); }

}  // namespace vg
