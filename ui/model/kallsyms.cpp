#include "ui/model/kallsyms.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"

namespace vg::model {
namespace {

constexpr unsigned kTokens = 256;
constexpr u64 kIndexBytes = kTokens * 2;
/// Tokens are a few characters; the longest seen are below 32.
constexpr u16 kMaxToken = 128;
/// How far the count lies before the token table at most: names, markers and sequence numbers are between.
constexpr u64 kMaxNames = 32u << 20;
constexpr u32 kNamesPerMarker = 256;
constexpr std::size_t kChunk = 64 * 1024;
/// Of one search. A kernel's own needs a few times its number of symbols.
constexpr u64 kMaxNamesTried = 32'000'000;
/// Token indices that turn out to be none, until a search gives up.
constexpr unsigned kMaxCandidates = 16;

/// Where each token's text begins in the token table, from an index that may be anything.
using TokenIndex = std::array<u16, kTokens>;

bool plausible(const TokenIndex& index) {
    if (index[0] != 0) return false;
    for (unsigned i = 1; i < kTokens; ++i)
        if (index[i] < index[i - 1] + 2 || index[i] > index[i - 1] + kMaxToken) return false;
    return true;
}

struct Tokens {
    u64 table = 0;  ///< its address
    std::array<std::string, kTokens> text;
};

/// The table lies right before its index, with up to `alignment` - 1 bytes between them; its last text is as long as it
/// is.
std::optional<Tokens> tokens_before(const LinearView& view, u64 at, const TokenIndex& index) {
    constexpr std::size_t kSlack = kMaxToken + 8;
    const std::size_t before = index[kTokens - 1] + kSlack;
    std::vector<u8> bytes(before);
    if (at < before || !view.read(at - before, bytes.data(), before)) return std::nullopt;
    for (const u64 alignment : {u64{8}, u64{4}}) {
        for (u64 length = index[kTokens - 1] + 2u; length <= before; ++length) {
            const u64 table = align_down(at - length, alignment);
            if (at - table > before || table + length + alignment <= at) continue;
            const u8* base = bytes.data() + (before - (at - table));
            Tokens tokens;
            tokens.table = table;
            bool good = true;
            for (unsigned i = 0; i < kTokens && good; ++i) {
                const std::size_t end = i + 1 < kTokens ? index[i + 1] : length;
                const std::size_t size = end - index[i] - 1;
                const u8* text = base + index[i];
                good = size > 0 && text[size] == 0 && std::memchr(text, 0, size) == nullptr;
                if (good) tokens.text[i].assign(reinterpret_cast<const char*>(text), size);
            }
            if (good) return tokens;
        }
    }
    return std::nullopt;
}

/// A window of a view, read ahead: for going through names byte by byte.
class Bytes {
  public:
    explicit Bytes(const LinearView& view) : view_(view) {}
    /// False where nothing is mapped.
    bool get(u64 address, u8& out) {
        if (address - base_ >= size_ && !fill(address)) return false;
        out = buffer_[address - base_];
        return true;
    }

  private:
    bool fill(u64 address) {
        base_ = address;
        size_ = kPageSize - (address & kPageMask);
        if (!view_.read(address, buffer_.data(), size_)) size_ = 0;
        return size_ != 0;
    }
    const LinearView& view_;
    std::array<u8, kPageSize> buffer_{};
    u64 base_ = 0, size_ = 0;
};

/// Length of the name at `at`, which is moved to its first token.
bool name_length(Bytes& bytes, u64& at, u32& length) {
    u8 low = 0, high = 0;
    if (!bytes.get(at++, low)) return false;
    length = low & 0x7f;
    if ((low & 0x80) != 0) {
        if (!bytes.get(at++, high) || (high & 0x80) != 0) return false;
        length |= u32{high} << 7;
    }
    return length != 0;
}

/// Goes over the names and compares where they are with the markers behind them.
/// @param budget  names that may still be gone over: a hostile guest's memory may hold counts all over
bool names_agree(const LinearView& view, KallsymsLayout& layout, u64& budget) {
    Bytes bytes(view);
    std::vector<u32> starts;
    u64 at = layout.names;
    for (u32 i = 0; i < layout.count; ++i) {
        if (i % kNamesPerMarker == 0) starts.push_back(static_cast<u32>(at - layout.names));
        u32 length = 0;
        if (budget == 0 || !name_length(bytes, at, length)) return false;
        --budget;
        at += length;
        if (at > layout.token_table) return false;
    }
    std::vector<u32> markers(starts.size());
    layout.markers = align_up(at, layout.names - layout.count_at);
    if (layout.markers + markers.size() * 4 > layout.token_table) return false;
    return view.read(layout.markers, markers.data(), markers.size() * 4) && markers == starts;
}

/// Walks back from the token table to a count that is followed by that many names.
bool find_names(const LinearView& view, KallsymsLayout& layout, u64& budget) {
    std::vector<u8> chunk(kChunk + 16);
    const u64 limit = layout.token_table - std::min(layout.token_table, kMaxNames);
    u64 end = align_down(layout.token_table, 4);
    while (end > limit + kPageSize && budget != 0) {
        const u64 begin = align_down(end - 1, kPageSize);
        const u64 size = std::min<u64>(end - begin + 16, layout.token_table - begin);
        if (!view.read(begin, chunk.data(), size)) return false;
        for (u64 at = end; at > begin;) {
            at -= 4;
            if (at + 16 > begin + size) continue;
            u32 words[3];
            std::memcpy(words, chunk.data() + (at - begin), sizeof words);
            if (words[0] < Kallsyms::kMinSymbols || words[0] > Kallsyms::kMaxSymbols) continue;
            // The first names are short; with an alignment of 8 there is nothing between them and the count.
            layout.count_at = at;
            layout.count = words[0];
            for (const u64 names : {at + 8, at + 4}) {
                if (names == at + 8 && (words[1] != 0 || (at & 7) != 0)) continue;
                layout.names = names;
                if (names_agree(view, layout, budget)) return true;
            }
        }
        end = begin;
    }
    return false;
}

bool kernel_address(u64 address) { return address >= 0xffff'8000'0000'0000; }

/// The addresses that these offsets mean, or nothing if they are not in order: then the offsets are something else.
std::optional<std::vector<u64>> addresses_of(const KallsymsLayout& layout, const std::vector<u32>& offsets) {
    std::vector<u64> addresses(offsets.size());
    u64 previous = 0, kernel = 0;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        const s64 offset = static_cast<s32>(offsets[i]);
        u64 address = 0;
        switch (layout.kind) {
            case KallsymsLayout::Offsets::Percpu:
                address = offset >= 0 ? static_cast<u64>(offset) : layout.relative_base - 1 - static_cast<u64>(offset);
                break;
            case KallsymsLayout::Offsets::Relative:
                address = layout.relative_base + offsets[i];
                break;
            case KallsymsLayout::Offsets::Self:
                address = layout.offsets + 4 * i + static_cast<u64>(offset);
                break;
        }
        if (address < previous) return std::nullopt;
        if (kernel_address(address)) ++kernel;
        addresses[i] = previous = address;
    }
    // All zero, or all of one value, is in order too.
    if (kernel < offsets.size() / 2 || addresses.back() - addresses[addresses.size() / 2] < offsets.size())
        return std::nullopt;
    return addresses;
}

/// Tries the places and meanings that offsets have had.
std::optional<std::vector<u64>> find_offsets(const LinearView& view, KallsymsLayout& layout) {
    using Kind = KallsymsLayout::Offsets;
    const u64 size = layout.count * u64{4};
    std::vector<u32> offsets(layout.count);
    const u64 behind = layout.token_index + kIndexBytes;
    struct Try {
        u64 offsets, base_at;
        bool self;
    };
    std::vector<Try> tries;
    if (layout.count_at > size + 16) {
        const u64 base_at = align_down(layout.count_at, 8) - 8;
        tries.push_back({align_down(base_at - size, 8), base_at, false});
    }
    // All parts of a table are aligned alike; with another alignment every symbol would get its neighbour's address.
    const u64 alignment = layout.names - layout.count_at, at = align_up(behind, alignment);
    tries.push_back({at, align_up(at + size, alignment), false});
    tries.push_back({at, 0, true});
    for (const Try& each : tries) {
        layout.offsets = each.offsets;
        layout.base_at = each.base_at;
        layout.relative_base = 0;
        if (!view.read(each.offsets, offsets.data(), size)) continue;
        if (each.self) {
            layout.kind = Kind::Self;
            if (auto found = addresses_of(layout, offsets)) return found;
            continue;
        }
        if (!view.read(each.base_at, layout.relative_base) || !kernel_address(layout.relative_base)) continue;
        for (const Kind kind : {Kind::Percpu, Kind::Relative}) {
            layout.kind = kind;
            if (auto found = addresses_of(layout, offsets)) return found;
        }
    }
    return std::nullopt;
}

/// Decodes every name into `text`. False: one cannot be read, or they are too long together.
bool decode(const LinearView& view, const KallsymsLayout& layout, const Tokens& tokens,
            const std::vector<u64>& addresses, std::string& text, std::vector<KallsymsEntry>& entries) {
    Bytes bytes(view);
    u64 at = layout.names;
    entries.reserve(layout.count);
    text.reserve(layout.count * std::size_t{20});
    for (u32 i = 0; i < layout.count; ++i) {
        u32 length = 0;
        if (!name_length(bytes, at, length)) return false;
        const std::size_t start = text.size();
        for (u32 k = 0; k < length; ++k) {
            u8 token = 0;
            if (!bytes.get(at++, token)) return false;
            text += tokens.text[token];
        }
        if (text.size() > Kallsyms::kMaxText) return false;
        // What a guest wrote is shown on terminals: nothing but printable characters, as in any symbol of a compiler.
        for (std::size_t k = start; k < text.size(); ++k)
            if (text[k] <= 0x20 || text[k] > 0x7e) text[k] = '?';
        entries.push_back(
            {addresses[i], static_cast<u32>(start + 1), static_cast<u32>(text.size() - start - 1), text[start]});
    }
    return true;
}

}  // namespace

std::optional<Kallsyms> Kallsyms::at(const LinearView& view, u64 token_index, u64& budget) {
    TokenIndex index{};
    if (!view.read(token_index, index.data(), sizeof index) || !plausible(index)) return std::nullopt;
    const auto tokens = tokens_before(view, token_index, index);
    if (!tokens) return std::nullopt;
    Kallsyms found;
    found.layout_.token_index = token_index;
    found.layout_.token_table = tokens->table;
    if (!find_names(view, found.layout_, budget)) return std::nullopt;
    const auto addresses = find_offsets(view, found.layout_);
    if (!addresses || !decode(view, found.layout_, *tokens, *addresses, found.text_, found.entries_))
        return std::nullopt;
    return found;
}

std::optional<Kallsyms> Kallsyms::find(const LinearView& view, std::span<const LinearRange> ranges) {
    std::vector<u8> chunk(kChunk + kIndexBytes);
    unsigned candidates = 0;
    u64 budget = kMaxNamesTried;
    for (const LinearRange& range : ranges) {
        for (u64 at = align_up(range.first, 4); at <= range.last && range.last - at >= kIndexBytes;) {
            const u64 size = std::min<u64>(chunk.size(), range.last - at + 1);
            if (!view.read(at, chunk.data(), size)) {
                at = align_down(at, kPageSize) + kPageSize;  // a device's page, or a hole
                continue;
            }
            for (u64 k = 0; k + kIndexBytes <= size; k += 4) {
                u16 head[4];
                std::memcpy(head, chunk.data() + k, sizeof head);
                if (head[0] != 0 || head[1] < 2 || head[1] > kMaxToken || head[2] < head[1] + 2 ||
                    head[3] < head[2] + 2)
                    continue;
                TokenIndex index;
                std::memcpy(index.data(), chunk.data() + k, sizeof index);
                if (!plausible(index)) continue;
                if (auto found = Kallsyms::at(view, at + k, budget)) return found;
                if (++candidates == kMaxCandidates) return std::nullopt;  // a guest that makes them up
            }
            if (size < chunk.size()) break;
            at += kChunk;
        }
    }
    return std::nullopt;
}

std::optional<u64> Kallsyms::address(std::string_view wanted) const {
    for (const KallsymsEntry& entry : entries_)
        if (entry.length == wanted.size() && name(entry) == wanted) return entry.address;
    return std::nullopt;
}

const KallsymsEntry* Kallsyms::below(u64 address) const {
    const auto less = [](u64 value, const KallsymsEntry& entry) { return value < entry.address; };
    auto it = std::upper_bound(entries_.begin(), entries_.end(), address, less);
    if (it == entries_.begin()) return nullptr;
    const u64 found = (--it)->address;
    while (it != entries_.begin() && std::prev(it)->address == found) --it;
    return &*it;
}

u64 Kallsyms::size(const KallsymsEntry& entry) const {
    const auto less = [](u64 value, const KallsymsEntry& other) { return value < other.address; };
    const auto next = std::upper_bound(entries_.begin(), entries_.end(), entry.address, less);
    return next == entries_.end() ? 0 : next->address - entry.address;
}

}  // namespace vg::model
