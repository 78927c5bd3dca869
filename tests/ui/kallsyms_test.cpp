// A kernel's symbol table, found in memory of each form that its build tools have made.
#include "ui/model/kallsyms.h"

#include <catch2/catch.hpp>

#include "tests/support/synthetic_kernel.h"

using namespace vg;
using namespace vg::test;
using model::Kallsyms;

namespace {

constexpr u64 kBase = 0xffffffff9a000000, kTables = kBase + 0x1200000;

struct Kernel {
    explicit Kernel(KallsymsForm form, std::size_t count = 5000)
        : symbols(kernel_symbols(count, kBase, form != KallsymsForm::From64 && form != KallsymsForm::SelfRelative)) {
        // Something of everything in front of it: zeros, counts, text.
        view.bytes.resize(3000);
        for (u32 i = 0; i < 3000; ++i) view.append(i * 2654435761u % 100000);
        append_kallsyms(view, symbols, form, kBase);
        view.align(kPageSize);
    }
    [[nodiscard]] std::optional<Kallsyms> find() const { return Kallsyms::find(view, view.mapped(0, ~u64{0})); }
    BufferView view{kTables};
    std::vector<KernelSymbol> symbols;
};

}  // namespace

TEST_CASE("kallsyms: each form of the tables gives every symbol back", "[ui][symbols]") {
    const auto form = GENERATE(KallsymsForm::UpTo63, KallsymsForm::UpTo63WithSequence, KallsymsForm::From64,
                               KallsymsForm::From64Percpu, KallsymsForm::SelfRelative);
    const Kernel kernel(form);
    const auto found = kernel.find();
    REQUIRE(found);
    REQUIRE(found->entries().size() == kernel.symbols.size());
    bool equal = true;
    for (std::size_t i = 0; i < kernel.symbols.size(); ++i) {
        const model::KallsymsEntry& entry = found->entries()[i];
        equal = equal && entry.address == kernel.symbols[i].address && entry.type == kernel.symbols[i].type &&
                found->name(entry) == kernel.symbols[i].name;
    }
    CHECK(equal);
    using Kind = model::KallsymsLayout::Offsets;
    CHECK(found->layout().kind == (form == KallsymsForm::SelfRelative ? Kind::Self
                                   : form == KallsymsForm::From64     ? Kind::Relative
                                                                      : Kind::Percpu));
}

TEST_CASE("kallsyms: an address belongs to the first of the symbols at the highest address below it", "[ui][symbols]") {
    const Kernel kernel(KallsymsForm::From64);
    const auto found = kernel.find();
    REQUIRE(found);
    CHECK(found->address("_stext") == kBase);
    CHECK(found->name(*found->below(kBase)) == "_text");  // _stext is at the same address
    CHECK(found->name(*found->below(kBase + 47)) == "_text");
    CHECK(found->below(kBase - 1) == nullptr);
    const model::KallsymsEntry* entry = found->below(kernel.symbols[41].address + 5);
    REQUIRE(entry != nullptr);
    CHECK(found->name(*entry) == kernel.symbols[41].name);
    CHECK(found->size(*entry) == 48);
    CHECK(found->size(found->entries().back()) == 0);
    CHECK_FALSE(found->address("no_such_symbol"));
}

TEST_CASE("kallsyms: a table that is damaged in any one place is not taken for one with other names", "[ui][symbols]") {
    const Kernel whole(KallsymsForm::UpTo63, 2500);
    const auto layout = whole.find()->layout();
    const auto damaged = [&](u64 address, u8 value) {
        Kernel kernel(KallsymsForm::UpTo63, 2500);
        kernel.view.bytes[address - kTables] = value;
        return kernel.find().has_value();
    };
    CHECK_FALSE(damaged(layout.token_index + 2, 0));            // tokens that overlap
    CHECK_FALSE(damaged(layout.token_index + 1, 0x10));         // the first token not at 0
    CHECK_FALSE(damaged(layout.token_table + 2, 0));            // a token that ends early
    CHECK_FALSE(damaged(layout.markers + 4, 0x77));             // names that are not where the markers say
    CHECK_FALSE(damaged(layout.names, 0));                      // a name without length
    CHECK_FALSE(damaged(layout.count_at + 2, 0xff));            // more symbols than there are
    CHECK_FALSE(damaged(layout.offsets + 4 * 1000 + 3, 0x80));  // addresses out of order
    CHECK(damaged(layout.token_table - 1, 0));                  // padding
    CHECK_FALSE(Kernel(KallsymsForm::UpTo63, 1999).find());     // too few to be a kernel's
}

TEST_CASE("kallsyms: names of a hostile guest are printable", "[ui][symbols]") {
    Kernel kernel(KallsymsForm::UpTo63, 2500);
    const auto layout = kernel.find()->layout();
    kernel.view.bytes[layout.token_table - kTables] = 0x1b;  // the first token begins with ESC
    const auto found = kernel.find();
    REQUIRE(found);
    for (const auto& entry : found->entries()) CHECK(found->name(entry).find('\x1b') == std::string_view::npos);
}

TEST_CASE("kallsyms: memory full of almost tables costs a bounded time", "[ui][symbols]") {
    BufferView view(kTables);
    Kernel whole(KallsymsForm::UpTo63, 2500);
    // Counts everywhere, then good tokens, many times.
    const auto layout = whole.find()->layout();
    const u64 tokens = layout.token_table - kTables, size = layout.token_index + 512 - layout.token_table;
    for (unsigned repeat = 0; repeat < 40; ++repeat) {
        for (u32 i = 0; i < 50'000; ++i) view.append(u32{0x00010101});
        view.align(8);
        view.bytes.insert(view.bytes.end(), whole.view.bytes.begin() + static_cast<std::ptrdiff_t>(tokens),
                          whole.view.bytes.begin() + static_cast<std::ptrdiff_t>(tokens + size));
    }
    CHECK_FALSE(Kallsyms::find(view, view.mapped(0, ~u64{0})));
}
