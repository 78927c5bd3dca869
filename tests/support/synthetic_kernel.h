// Memory that holds the tables of a kernel as its build tools lay them out, in each of the forms there have been.
#pragma once

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bits.h"
#include "ui/model/kallsyms.h"
#include "ui/model/linear_view.h"

namespace vg::test {

/// One range of linear memory. As memory does, it should end with a page.
class BufferView : public model::LinearView {
  public:
    explicit BufferView(u64 base) : base_(base) {}
    std::vector<u8> bytes;

    bool read(u64 address, void* out, std::size_t size) const override {
        if (!fits(address - base_, size, bytes.size())) return false;
        std::memcpy(out, bytes.data() + (address - base_), size);
        return true;
    }
    std::vector<model::LinearRange> mapped(u64, u64) const override {
        if (bytes.empty()) return {};
        return {{base_, base_ + bytes.size() - 1}};
    }
    using LinearView::read;

    [[nodiscard]] u64 base() const { return base_; }
    [[nodiscard]] u64 end() const { return base_ + bytes.size(); }
    void align(u64 alignment) { bytes.resize(align_up(bytes.size(), alignment)); }
    template <class T>
    void append(const T& value) {
        const auto* raw = reinterpret_cast<const u8*>(&value);
        bytes.insert(bytes.end(), raw, raw + sizeof value);
    }
    void append_text(std::string_view text) {
        bytes.insert(bytes.end(), text.begin(), text.end());
        bytes.push_back(0);
    }

  private:
    u64 base_;
};

struct KernelSymbol {
    u64 address;
    char type;
    std::string name;
};

/// When a table of this form was made (see model::KallsymsLayout).
enum class KallsymsForm { UpTo63, UpTo63WithSequence, From64, From64Percpu, SelfRelative };

/// 256 tokens: every printable character is one, the others stand for pieces of names.
inline std::array<std::string, 256> kallsyms_tokens() {
    std::array<std::string, 256> tokens;
    static constexpr std::string_view kPieces[] = {"sys_", "_init", "__", "get", "set", "lock", "page", "task"};
    for (unsigned i = 0; i < 256; ++i) {
        if (i > 0x20 && i < 0x7f)
            tokens[i] = static_cast<char>(i);
        else
            tokens[i] = std::string(kPieces[i % 8]) + static_cast<char>('a' + i % 26) + static_cast<char>('a' + i / 26);
    }
    for (unsigned i = 0; i < 8; ++i) tokens[0x80 + i] = kPieces[i];
    return tokens;
}

/// A name as tokens, its type first.
inline std::vector<u8> kallsyms_encode(const KernelSymbol& symbol) {
    const auto tokens = kallsyms_tokens();
    std::vector<u8> code{static_cast<u8>(symbol.type)};
    for (std::string_view rest = symbol.name; !rest.empty();) {
        unsigned token = static_cast<u8>(rest[0]);
        for (unsigned i = 0x80; i < 0x88; ++i)
            if (rest.substr(0, tokens[i].size()) == tokens[i]) token = i;
        code.push_back(static_cast<u8>(token));
        rest.remove_prefix(tokens[token].size());
    }
    return code;
}

/// Appends the tables of these symbols, which are in order, those of the per-CPU area (below 2 GiB) first.
inline void append_kallsyms(BufferView& out, const std::vector<KernelSymbol>& symbols, KallsymsForm form,
                            u64 relative_base) {
    const bool old = form == KallsymsForm::UpTo63 || form == KallsymsForm::UpTo63WithSequence;
    const u64 alignment = form == KallsymsForm::SelfRelative ? 4 : 8;
    const auto offsets = [&] {
        out.align(alignment);
        for (const KernelSymbol& symbol : symbols) {
            u32 value = static_cast<u32>(symbol.address - relative_base);
            if (form == KallsymsForm::SelfRelative)
                value = static_cast<u32>(symbol.address - out.end());
            else if (form != KallsymsForm::From64)
                value =
                    static_cast<u32>(symbol.address < 0x80000000 ? symbol.address : relative_base - 1 - symbol.address);
            out.append(value);
        }
        if (form == KallsymsForm::SelfRelative) return;
        out.align(8);
        out.append(relative_base);
    };
    const auto sequence = [&] {
        out.align(alignment);
        for (std::size_t i = 0; i < symbols.size(); ++i) {
            for (const unsigned shift : {16U, 8U, 0U}) out.append(static_cast<u8>(i * 7919 % symbols.size() >> shift));
        }
    };
    if (old) offsets();
    out.align(alignment);
    out.append(static_cast<u32>(symbols.size()));
    out.align(alignment);
    std::vector<u32> markers;
    const std::size_t names = out.bytes.size();
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (i % 256 == 0) markers.push_back(static_cast<u32>(out.bytes.size() - names));
        const std::vector<u8> code = kallsyms_encode(symbols[i]);
        if (code.size() > 127) out.append(static_cast<u8>(0x80 | (code.size() & 127)));
        out.append(static_cast<u8>(code.size() > 127 ? code.size() >> 7 : code.size()));
        out.bytes.insert(out.bytes.end(), code.begin(), code.end());
    }
    out.align(alignment);
    for (const u32 marker : markers) out.append(marker);
    if (form == KallsymsForm::UpTo63WithSequence) sequence();
    out.align(alignment);
    std::vector<u16> index;
    const std::size_t table = out.bytes.size();
    for (const std::string& token : kallsyms_tokens()) {
        index.push_back(static_cast<u16>(out.bytes.size() - table));
        out.append_text(token);
    }
    out.align(alignment);
    for (const u16 each : index) out.append(each);
    if (old) return;
    offsets();
    sequence();
}

/// A kernel's worth of symbols: some of the per-CPU area, then code.
inline std::vector<KernelSymbol> kernel_symbols(std::size_t count, u64 base, bool percpu) {
    std::vector<KernelSymbol> symbols;
    for (u64 i = 0; percpu && i < 40; ++i) symbols.push_back({i * 64, 'A', "percpu_" + std::to_string(i)});
    symbols.push_back({base, 'T', "_text"});
    symbols.push_back({base, 'T', "_stext"});
    for (std::size_t i = symbols.size(); i < count; ++i) {
        static constexpr std::string_view kParts[] = {"sys_read", "do_task_init", "page_lock", "__get_set"};
        std::string name = std::string(kParts[i % 4]) + "_" + std::to_string(i);
        if (i % 500 == 0) name += std::string(200, 'x');
        symbols.push_back({base + i * 48 - (i % 10 == 0 ? 48 : 0), i % 3 == 0 ? 'T' : 't', std::move(name)});
    }
    return symbols;
}

}  // namespace vg::test
