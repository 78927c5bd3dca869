// The symbol table that a Linux kernel carries in its own memory (CONFIG_KALLSYMS), found by its structure alone.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ui/model/linear_view.h"

namespace vg::model {

/// Where a kernel's tables lie, in linear addresses.
///
/// A name is a length (one byte, or two with bit 7 set in the first) and so many tokens; a token is an index into a
/// table of 256 short strings; the first decoded character is the symbol's type. Since Linux 4.20 every 256th name's
/// offset is in `markers`. What lies between and behind the tables changed several times; each form is recognized by
/// what it holds:
///   - up to 6.3: offsets, relative base, count, names, markers (6.2: and sequence numbers), tokens, token index
///   - 6.4 and later: count, names, markers, tokens, token index, offsets, relative base
///   - later still: the same without a base, an offset is relative to its own place
struct KallsymsLayout {
    enum class Offsets : u8 {
        Percpu,  ///< not negative: the address; negative: relative base - 1 - offset (CONFIG_KALLSYMS_ABSOLUTE_PERCPU)
        Relative,  ///< relative base + offset, unsigned
        Self       ///< address of the offset + offset
    };
    u64 token_table = 0, token_index = 0, count_at = 0, names = 0, markers = 0, offsets = 0;
    u64 relative_base = 0, base_at = 0;  ///< its value, and where it is; 0 with Offsets::Self
    Offsets kind = Offsets::Percpu;
    u32 count = 0;
};

/// One symbol; its name is in the table's text.
struct KallsymsEntry {
    u64 address = 0;
    u32 name = 0, length = 0;
    char type = 0;  ///< as nm(1) says it
};

/// A kernel's symbols, decoded. Plain data.
class Kallsyms {
  public:
    /// More than any kernel has, and what a hostile guest can make this take.
    static constexpr u32 kMaxSymbols = 1'000'000;
    static constexpr std::size_t kMaxText = 64u << 20;
    /// Fewer are no kernel's, and would prove little.
    static constexpr u32 kMinSymbols = 2000;

    /// Looks for tables in `ranges`, ascending. Reads each byte about once.
    [[nodiscard]] static std::optional<Kallsyms> find(const LinearView& view, std::span<const LinearRange> ranges);

    [[nodiscard]] const KallsymsLayout& layout() const { return layout_; }
    /// As the kernel has them: by ascending address, those of the per-CPU area first.
    [[nodiscard]] const std::vector<KallsymsEntry>& entries() const { return entries_; }
    [[nodiscard]] std::string_view name(const KallsymsEntry& entry) const {
        return std::string_view(text_).substr(entry.name, entry.length);
    }
    /// The first one with this name.
    [[nodiscard]] std::optional<u64> address(std::string_view name) const;
    /// Of the symbols at the highest address that is not above `address`, the first; null if there is none.
    [[nodiscard]] const KallsymsEntry* below(u64 address) const;
    /// Bytes to the next higher symbol; 0 behind the last.
    [[nodiscard]] u64 size(const KallsymsEntry& entry) const;

  private:
    [[nodiscard]] static std::optional<Kallsyms> at(const LinearView& view, u64 token_index, u64& budget);

    KallsymsLayout layout_;
    std::string text_;
    std::vector<KallsymsEntry> entries_;
};

}  // namespace vg::model
