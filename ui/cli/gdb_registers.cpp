#include "ui/cli/gdb_registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace vg::cli {
namespace {

using model::Json;

constexpr const char* kSystem = "org.verdigris.system";

/// How a register comes from one of the control protocol's.
enum class From : u8 {
    Whole,     ///< it is that register, or its low part
    High,      ///< bytes from 16 on
    Tags,      ///< the full x87 tag word
    Pointer,   ///< bits 31:0 of an x87 pointer
    Selector,  ///< bits 47:32 of an x87 pointer
};

struct Row {
    std::string name;
    unsigned bits = 64;
    const char* type = "int";  ///< as the target description has it; "int": by size
    std::string source;
    From from = From::Whole;
};

struct Feature {
    const char* name;
    std::vector<Row> rows;
};

Feature core_feature() {
    Feature core{"org.gnu.gdb.i386.core", {}};
    for (const char* name : {"rax", "rbx", "rcx", "rdx", "rsi", "rdi"}) core.rows.push_back({name, 64, "int64", name});
    for (const char* name : {"rbp", "rsp"}) core.rows.push_back({name, 64, "data_ptr", name});
    for (unsigned i = 8; i < 16; ++i) core.rows.push_back({fmt::format("r{}", i), 64, "int64", fmt::format("r{}", i)});
    core.rows.push_back({"rip", 64, "code_ptr", "rip"});
    core.rows.push_back({"eflags", 32, "i386_eflags", "rflags"});
    for (const char* name : {"cs", "ss", "ds", "es", "fs", "gs"}) core.rows.push_back({name, 32, "int32", name});
    for (unsigned i = 0; i < 8; ++i) core.rows.push_back({fmt::format("st{}", i), 80, "i387_ext", fmt::format("st{}", i)});
    core.rows.push_back({"fctrl", 32, "int", "fcw"});
    core.rows.push_back({"fstat", 32, "int", "fsw"});
    core.rows.push_back({"ftag", 32, "int", "ftw", From::Tags});
    core.rows.push_back({"fiseg", 32, "int", "fip", From::Selector});
    core.rows.push_back({"fioff", 32, "int", "fip", From::Pointer});
    core.rows.push_back({"foseg", 32, "int", "fdp", From::Selector});
    core.rows.push_back({"fooff", 32, "int", "fdp", From::Pointer});
    core.rows.push_back({"fop", 32, "int", "fop"});
    return core;
}

std::vector<Feature> make_features() {
    std::vector<Feature> features = {core_feature()};
    Feature sse{"org.gnu.gdb.i386.sse", {}}, avx{"org.gnu.gdb.i386.avx", {}};
    for (unsigned i = 0; i < 16; ++i) {
        sse.rows.push_back({fmt::format("xmm{}", i), 128, "vec128", fmt::format("ymm{}", i)});
        avx.rows.push_back({fmt::format("ymm{}h", i), 128, "uint128", fmt::format("ymm{}", i), From::High});
    }
    sse.rows.push_back({"mxcsr", 32, "i386_mxcsr", "mxcsr"});
    features.push_back(std::move(sse));
    features.push_back(std::move(avx));
    features.push_back({"org.gnu.gdb.i386.segments", {{"fs_base", 64, "int", "fs_base"}, {"gs_base", 64, "int", "gs_base"}}});
    Feature system{kSystem, {}};
    for (const char* name : {"cr0", "cr2", "cr3", "cr4", "cr8", "efer", "kernel_gs_base", "star", "lstar", "cstar", "sfmask", "pat",
                             "apic_base", "xcr0", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7"})
        system.rows.push_back({name, 64, "int", name});
    for (const auto& [name, source] : {std::pair{"cs_base", "cs.base"}, {"ss_base", "ss.base"}, {"gdtr_base", "gdtr.base"},
                                       {"idtr_base", "idtr.base"}, {"tr_base", "tr.base"}})
        system.rows.push_back({name, 64, "int", source});
    for (const auto& [name, source] : {std::pair{"gdtr_limit", "gdtr.limit"}, {"idtr_limit", "idtr.limit"}, {"tr", "tr"}, {"ldtr", "ldtr"}})
        system.rows.push_back({name, 32, "int", source});
    features.push_back(std::move(system));
    return features;
}

const std::vector<Feature>& features() {
    static const std::vector<Feature> kFeatures = make_features();
    return kFeatures;
}

const std::vector<Row>& rows() {
    static const std::vector<Row> kRows = [] {
        std::vector<Row> all;
        for (const Feature& feature : features()) all.insert(all.end(), feature.rows.begin(), feature.rows.end());
        return all;
    }();
    return kRows;
}

std::size_t number_of(std::string_view name) {
    const auto found = std::find_if(rows().begin(), rows().end(), [&](const Row& row) { return row.name == name; });
    return static_cast<std::size_t>(found - rows().begin());
}

/// Bit names of the two registers that have them: SDM 1 "EFLAGS Register", "MXCSR Control and Status Register".
std::string flags_type(const char* id, std::initializer_list<std::pair<const char*, unsigned>> fields) {
    std::string out = fmt::format("    <flags id=\"{}\" size=\"4\">\n", id);
    for (const auto& [name, bit] : fields) out += fmt::format("      <field name=\"{}\" start=\"{}\" end=\"{}\"/>\n", name, bit, bit);
    return out + "    </flags>\n";
}

std::string types_of(std::string_view feature) {
    if (feature == "org.gnu.gdb.i386.core") {
        return flags_type("i386_eflags", {{"CF", 0}, {"", 1}, {"PF", 2}, {"AF", 4}, {"ZF", 6}, {"SF", 7}, {"TF", 8}, {"IF", 9}, {"DF", 10},
                                          {"OF", 11}, {"NT", 14}, {"RF", 16}, {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}});
    }
    if (feature != "org.gnu.gdb.i386.sse") return {};
    std::string out;
    static constexpr struct {
        const char *id, *type, *field;
        unsigned count;
    } kViews[] = {{"v4f", "ieee_single", "v4_float", 4}, {"v2d", "ieee_double", "v2_double", 2}, {"v16i8", "int8", "v16_int8", 16},
                  {"v8i16", "int16", "v8_int16", 8},     {"v4i32", "int32", "v4_int32", 4},       {"v2i64", "int64", "v2_int64", 2}};
    for (const auto& view : kViews) out += fmt::format("    <vector id=\"{}\" type=\"{}\" count=\"{}\"/>\n", view.id, view.type, view.count);
    out += "    <union id=\"vec128\">\n";
    for (const auto& view : kViews) out += fmt::format("      <field name=\"{}\" type=\"{}\"/>\n", view.field, view.id);
    out += "      <field name=\"uint128\" type=\"uint128\"/>\n    </union>\n";
    return out + flags_type("i386_mxcsr", {{"IE", 0}, {"DE", 1}, {"ZE", 2}, {"OE", 3}, {"UE", 4}, {"PE", 5}, {"DAZ", 6}, {"IM", 7},
                                           {"DM", 8}, {"ZM", 9}, {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15}});
}

/// Least significant byte first, of any length; empty if the register is not there.
std::string source_bytes(const std::string& name, const Json& registers) {
    const auto found = registers.find(name);
    if (found == registers.end() || !found->is_string()) return {};
    std::string digits = found->get_ref<const std::string&>();
    if (digits.rfind("0x", 0) == 0) digits.erase(0, 2);
    if (digits.size() % 2 != 0) digits.insert(0, "0");
    std::string bytes = model::parse_hex_bytes(digits).value_or("");
    std::reverse(bytes.begin(), bytes.end());
    return bytes;
}

u64 number(const std::string& bytes) {
    u64 value = 0;
    for (std::size_t i = std::min<std::size_t>(bytes.size(), 8); i > 0; --i) value = value << 8 | static_cast<u8>(bytes[i - 1]);
    return value;
}

std::string bytes_of(u64 value, std::size_t size) {
    std::string out;
    for (std::size_t i = 0; i < size; ++i) out += static_cast<char>(i < 8 ? value >> (8 * i) : 0);
    return out;
}

/// SDM 1 "x87 FPU Tag Word": from the abridged form of FXSAVE and the values. Registers there are in stack order, tags are not.
u16 full_tags(const Json& registers) {
    const unsigned in_use = static_cast<unsigned>(number(source_bytes("ftw", registers)));
    const unsigned top = static_cast<unsigned>(number(source_bytes("fsw", registers)) >> 11 & 7);
    unsigned tags = 0;
    for (unsigned physical = 0; physical < 8; ++physical) {
        unsigned tag = 3;
        if ((in_use >> physical & 1) != 0) {
            const std::string st = source_bytes(fmt::format("st{}", (physical - top) & 7), registers);
            const u64 fraction = number(st);
            const u64 exponent = st.size() >= 10 ? number(st.substr(8)) & 0x7fff : 0;
            const bool integer_bit = fraction >> 63 != 0;
            tag = exponent == 0 && fraction == 0 ? 1 : exponent == 0 || exponent == 0x7fff || !integer_bit ? 2 : 0;
        }
        tags |= tag << (2 * physical);
    }
    return static_cast<u16>(tags);
}

std::string value_of(const Row& row, const Json& registers) {
    const std::size_t size = row.bits / 8;
    std::string bytes = source_bytes(row.source, registers);
    switch (row.from) {
        case From::Whole:
            break;
        case From::High:
            bytes = bytes.size() > 16 ? bytes.substr(16) : "";
            break;
        case From::Tags:
            bytes = bytes_of(full_tags(registers), 2);
            break;
        case From::Pointer:
            bytes = bytes_of(number(bytes) & 0xffffffff, 4);
            break;
        case From::Selector:
            bytes = bytes_of(number(bytes) >> 32 & 0xffff, 4);
            break;
    }
    bytes.resize(size);
    return bytes;
}

std::string protocol_value(std::string bytes) {
    std::reverse(bytes.begin(), bytes.end());
    return "0x" + model::hex_bytes(bytes);
}

}  // namespace

const std::string& gdb_target_xml() {
    static const std::string kXml = [] {
        std::string out = "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n"
                          "  <architecture>i386:x86-64</architecture>\n";
        for (const Feature& feature : features()) {
            out += fmt::format("  <feature name=\"{}\">\n", feature.name) + types_of(feature.name);
            for (const Row& row : feature.rows) {
                const std::string type = std::string_view(row.type) == "int" ? fmt::format("uint{}", row.bits) : row.type;
                // A group of its own keeps them out of plain `info registers`.
                const char* group = std::string_view(feature.name) == kSystem ? " group=\"system\"" : "";
                out += fmt::format("    <reg name=\"{}\" bitsize=\"{}\" type=\"{}\"{}/>\n", row.name, row.bits, type, group);
            }
            out += "  </feature>\n";
        }
        return out + "</target>\n";
    }();
    return kXml;
}

std::size_t gdb_register_count() { return rows().size(); }
std::size_t gdb_rip() { return number_of("rip"); }
std::size_t gdb_rsp() { return number_of("rsp"); }

std::string gdb_register(std::size_t index, const Json& registers) {
    return index < rows().size() ? model::hex_bytes(value_of(rows()[index], registers)) : "";
}

std::string gdb_registers(const Json& registers) {
    std::string out;
    for (const Row& row : rows()) out += model::hex_bytes(value_of(row, registers));
    return out;
}

Result<std::optional<std::pair<std::string, std::string>>> gdb_write_register(std::size_t index, std::string_view value,
                                                                              const Json& registers) {
    using Change = std::optional<std::pair<std::string, std::string>>;
    if (index >= rows().size()) return fail(Error::Code::Usage, "there is no such register");
    const Row& row = rows()[index];
    auto bytes = model::parse_hex_bytes(value);
    if (!bytes || bytes->size() != row.bits / 8) return fail(Error::Code::Usage, "the value has another size");
    if (*bytes == value_of(row, registers)) return Change();
    std::string whole = source_bytes(row.source, registers);
    switch (row.from) {
        case From::Whole:
            if (row.bits == 128) whole.replace(0, 16, *bytes);  // the rest of the ymm register stays
            else whole = row.bits == 32 ? bytes_of(number(*bytes), 4) : *bytes;
            break;
        case From::High:
            whole.resize(16);
            whole += *bytes;
            break;
        case From::Tags: {
            unsigned in_use = 0;
            for (unsigned i = 0; i < 8; ++i) in_use |= (number(*bytes) >> (2 * i) & 3) != 3 ? 1u << i : 0;
            whole = bytes_of(in_use, 1);
            break;
        }
        case From::Pointer:
        case From::Selector:
            return fail(Error::Code::Usage, fmt::format("{} cannot be set", row.name));
    }
    return Change({row.source, protocol_value(std::move(whole))});
}

Result<Json> gdb_write_registers(std::string_view values, Json registers) {
    Json changes = Json::object();
    for (std::size_t index = 0; index < rows().size(); ++index) {
        const std::size_t digits = rows()[index].bits / 4;
        if (values.size() < digits) return fail(Error::Code::Usage, "registers are missing");
        const auto change = gdb_write_register(index, values.substr(0, digits), registers);
        if (!change) return Unexpected{change.error()};
        if (*change) registers[(*change)->first] = changes[(*change)->first] = (*change)->second;
        values.remove_prefix(digits);
    }
    return changes;
}

}  // namespace vg::cli
