// What a message or packet means: a line for people, and its fields for tools. Bytes are from hostile guests.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/types.h"

namespace vg::model {

struct Decoded {
    /// Lists are shown up to so many entries.
    static constexpr std::size_t kMaxListed = 32;

    std::string title;                                        ///< "READ(10) LBA 2048 blocks 8"
    std::vector<std::pair<std::string, std::string>> fields;  ///< in the order of the layout
    bool malformed = false;                                   ///< lengths lie, or a field that must be there is not
    bool cut = false;                                         ///< only a part was captured, and it does not reach

    template <class T>
    void add(std::string name, const T& value) {
        fields.emplace_back(std::move(name), fmt::format("{}", value));
    }
    void add_hex(std::string name, u64 value) { fields.emplace_back(std::move(name), fmt::format("{:#x}", value)); }
};

/// Little-endian fields of bytes that may end anywhere. What is not there reads as zero and is remembered.
class ByteReader {
  public:
    /// @param whole  how many there were before the capture cut them; at least bytes.size()
    ByteReader(std::span<const u8> bytes, u64 whole) : bytes_(bytes), whole_(whole) {}

    [[nodiscard]] u64 size() const { return whole_; }
    [[nodiscard]] std::span<const u8> bytes() const { return bytes_; }
    u8 byte(u64 at) { return get<u8>(at); }
    u16 half(u64 at) { return get<u16>(at); }
    u32 word(u64 at) { return get<u32>(at); }
    u64 quad(u64 at) { return get<u64>(at); }
    template <class T>
    T get(u64 at) {
        T value{};
        if (at > bytes_.size() || bytes_.size() - at < sizeof value) {
            const bool there = at <= whole_ && whole_ - at >= sizeof value;
            (there ? cut_ : short_) = true;
            return value;
        }
        std::memcpy(&value, bytes_.data() + at, sizeof value);
        return value;
    }
    /// What lies behind `at`, which may be anything.
    [[nodiscard]] ByteReader from(u64 at) const {
        if (at >= whole_) return {{}, 0};
        return {at < bytes_.size() ? bytes_.subspan(at) : std::span<const u8>(), whole_ - at};
    }
    /// A field was beyond the end.
    [[nodiscard]] bool is_short() const { return short_; }
    /// A field was beyond what was captured.
    [[nodiscard]] bool is_cut() const { return cut_; }
    void judge(Decoded& out) const {
        out.malformed |= short_;
        out.cut |= cut_;
    }

  private:
    std::span<const u8> bytes_;
    u64 whole_;
    bool short_ = false, cut_ = false;
};

}  // namespace vg::model
