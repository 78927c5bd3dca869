// What register values say, bit by bit.
#include "ui/model/register_fields.h"

#include <catch2/catch.hpp>

#include "base/bits.h"
#include "cpu/spec/bits.h"

using namespace vg;
using model::register_layout;

TEST_CASE("register fields: no two fields of a register share a bit", "[ui][explain]") {
    for (const model::RegisterLayout& layout : model::register_layouts()) {
        u64 seen = 0;
        for (const model::RegisterField& field : layout.fields) {
            INFO(layout.name << " " << field.name);
            REQUIRE(field.low <= field.high);
            const u64 mask = low_mask(field.high - field.low + 1u) << field.low;
            CHECK((seen & mask) == 0);
            seen |= mask;
        }
    }
}

TEST_CASE("register fields: names are at the bits that the processor uses", "[ui][explain]") {
    const auto is = [](std::string_view reg, u64 value, std::string_view text) {
        return model::short_text(*register_layout(reg), value) == text;
    };
    CHECK(is("cr0", cpu::cr0::PE | cpu::cr0::NE | cpu::cr0::WP | cpu::cr0::PG, "PE NE WP PG"));
    CHECK(is("cr4", cpu::cr4::PAE | cpu::cr4::UMIP | cpu::cr4::FSGSBASE | cpu::cr4::SMAP | cpu::cr4::PKE,
             "PAE UMIP FSGSBASE SMAP PKE"));
    CHECK(is("efer", cpu::efer::SCE | cpu::efer::LMA | cpu::efer::NXE | cpu::efer::SVME, "SCE LMA NXE SVME"));
    CHECK(is("rflags", cpu::flag::Always1 | cpu::flag::ZF | cpu::flag::IF | cpu::flag::IOPL | cpu::flag::AC,
             "ZF IF IOPL=0x3 AC"));
    CHECK(is("dr6", 0xffff0ff0 | cpu::dr6::BS | 1, "B0 BS"));
    CHECK(is("mxcsr", 0x1f80, "IM DM ZM OM UM PM"));
    CHECK(is("fcw", 0x37f, "IM DM ZM OM UM PM PC=0x3"));
    CHECK(is("xcr0", 7, "x87 SSE AVX"));
    CHECK(is("cr0", 0, "-"));
    CHECK(is("cr4", u64{1} << 40, "bit 40"));
    CHECK(register_layout("cr9") == nullptr);
    const auto lines = model::long_text(*register_layout("cr8"), 0);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "clear: TPR");
}
