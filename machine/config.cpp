#include "machine/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/utf8.h"
#include "machine/config_toml.h"
#include "machine/firmware.h"

namespace vg::machine {

namespace {

struct Unit {
    std::string_view name;
    u64 factor;
};
constexpr Unit kSizeUnits[] = {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", u64{1} << 40}};
constexpr Unit kTimeUnits[] = {{"ns", 1},
                               {"us", 1000},
                               {"ms", 1000 * 1000},
                               {"s", 1000 * 1000 * 1000},
                               {"min", u64{60} * 1000 * 1000 * 1000},
                               {"h", u64{3600} * 1000 * 1000 * 1000}};

/// number.fraction of `factor`, exactly; nothing if it is no whole number, or too large.
std::optional<u64> scaled(u64 number, std::string_view fraction, u64 factor) {
    __extension__ using Wide = unsigned __int128;
    Wide parts = 0, whole = 1;
    if (fraction.size() > 9) return std::nullopt;
    for (const char digit : fraction) {
        parts = parts * 10 + static_cast<unsigned>(digit - '0');
        whole *= 10;
    }
    const Wide product = Wide{number} * factor, rest = parts * factor;
    if (rest % whole != 0 || product + rest / whole > ~u64{0}) return std::nullopt;
    return static_cast<u64>(product + rest / whole);
}

/// "512 MiB", "1.5 s".
template <std::size_t N>
Result<u64> parse_with_unit(std::string_view text, const Unit (&units)[N], std::string_view example) {
    u64 number = 0;
    const char* end = text.data() + text.size();
    const auto [next, status] = std::from_chars(text.data(), end, number);
    std::string_view unit(next, static_cast<std::size_t>(end - next)), fraction;
    if (status == std::errc{} && !unit.empty() && unit.front() == '.') {
        fraction = unit.substr(1, unit.find_first_not_of("0123456789", 1) - 1);
        if (!fraction.empty()) unit.remove_prefix(1 + fraction.size());
    }
    while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
    if (status == std::errc{}) {
        for (const Unit& each : units) {
            if (each.name != unit) continue;
            if (const auto value = scaled(number, fraction, each.factor)) return *value;
            break;
        }
    }
    return fail(Error::Code::Usage, fmt::format("\"{}\" is not a number with a unit; write for example \"{}\"", text,
                                                example));
}

template <std::size_t N>
std::string with_unit(u64 value, const Unit (&units)[N]) {
    const Unit* best = &units[0];
    for (const Unit& each : units) {
        if (value != 0 && value % each.factor == 0) best = &each;
    }
    return fmt::format("{} {}", value / best->factor, best->name);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitution});
        }
    }
    return row[b.size()];
}

constexpr std::string_view kSettingPrefix = "-s ";

/// A setting of the command line is its own place: its source path, which no file has.
std::optional<std::string> setting_of(const toml::source_region& source) {
    if (source.path && source.path->rfind(kSettingPrefix, 0) == 0) return *source.path;
    return std::nullopt;
}
Location location_of(const std::string& file, const toml::source_region& source) {
    if (auto setting = setting_of(source)) return {std::move(*setting), 0, 0};
    return {file, source.begin.line, source.begin.column};
}

/// Fills a section from a TOML table. The first mistake is kept and stops everything after it.
class Loader {
  public:
    Loader(toml::table& table, std::string file, std::string directory, std::string section, std::string& error)
        : table_(table), file_(std::move(file)), directory_(std::move(directory)), section_(std::move(section)),
          error_(error) {}

    bool operator()(std::string_view key, std::string& out, std::string_view) {
        toml::node* node = take(key);
        if (node == nullptr) return false;
        if (const auto value = node->value_exact<std::string>()) out = *value;
        else if (const auto setting = setting_of(node->source()); setting && !node->is_array() && !node->is_table())
            out = setting->substr(setting->find('=') + 1);  // a shell has eaten the quotes of a number or a date
        else wrong(*node, key, "a string in quotes");
        return true;
    }
    bool operator()(std::string_view key, bool& out, std::string_view) {
        toml::node* node = take(key);
        if (node == nullptr) return false;
        if (const auto value = node->value_exact<bool>()) out = *value;
        else wrong(*node, key, "true or false");
        return true;
    }
    bool operator()(std::string_view key, std::optional<bool>& out, std::string_view doc) {
        bool value = false;
        if (!(*this)(key, value, doc)) return false;
        out = value;
        return true;
    }
    bool operator()(std::string_view key, u32& out, std::string_view, u64 low = 0, u64 high = 0xffffffff) {
        toml::node* node = take(key);
        if (node == nullptr) return false;
        const auto value = node->value_exact<s64>();
        if (value && *value >= 0 && static_cast<u64>(*value) >= low && static_cast<u64>(*value) <= high) {
            out = static_cast<u32>(*value);
        } else {
            wrong(*node, key, fmt::format("a whole number from {} to {}", low, high));
        }
        return true;
    }
    bool operator()(std::string_view key, std::optional<u32>& out, std::string_view doc, u64 low, u64 high) {
        u32 value = 0;
        if (!(*this)(key, value, doc, low, high)) return false;
        out = value;
        return true;
    }
    bool operator()(std::string_view key, ByteSize& out, std::string_view) {
        return unit(key, out, parse_byte_size);
    }
    bool operator()(std::string_view key, Duration& out, std::string_view) {
        return unit(key, out, parse_duration);
    }
    bool operator()(std::string_view key, std::vector<std::string>& out, std::string_view) {
        toml::node* node = take(key);
        if (node == nullptr) return false;
        const toml::array* array = node->as_array();
        out.clear();
        if (array == nullptr) wrong(*node, key, "a list of strings");
        else
            for (const toml::node& each : *array) {
                if (const auto value = each.value_exact<std::string>()) out.push_back(*value);
                else wrong(each, key, "a list of strings");
            }
        return true;
    }
    bool choice(std::string_view key, std::string& out, std::initializer_list<std::string_view> allowed,
                std::string_view doc) {
        if (!(*this)(key, out, doc)) return false;
        if (std::find(allowed.begin(), allowed.end(), out) == allowed.end()) {
            const std::vector<std::string> names(allowed.begin(), allowed.end());
            wrong(*last_, key, fmt::format("one of \"{}\"", fmt::join(names, "\", \"")));
        }
        return true;
    }
    bool path(std::string_view key, std::string& out, std::string_view doc) {
        if (!(*this)(key, out, doc)) return false;
        out = resolved(out);
        return true;
    }
    bool paths(std::string_view key, std::vector<std::string>& out, std::string_view doc) {
        if (!(*this)(key, out, doc)) return false;
        for (std::string& each : out) each = resolved(each);
        return true;
    }
    /// The first word of each is a path.
    bool words(std::string_view key, std::vector<std::string>& out, std::string_view doc) {
        if (!(*this)(key, out, doc)) return false;
        for (std::string& each : out) {
            const std::size_t end = std::min(each.find(' '), each.size());
            each.replace(0, end, resolved(each.substr(0, end)));
        }
        return true;
    }
    template <class Section>
    void table(std::string_view key, Section& out, std::string_view) {
        toml::node* node = take(key);
        if (node == nullptr) return;
        toml::table* inner = node->as_table();
        if (inner == nullptr) wrong(*node, key, fmt::format("a table: write [{}]", key));
        else load(*inner, std::string(key), location_of(file_, node->source()), out);
    }
    template <class Section>
    void table(std::string_view key, std::optional<Section>& out, std::string_view doc) {
        if (!table_.contains(key)) {
            known_.emplace_back(key);
            return;
        }
        out.emplace();
        table(key, *out, doc);
    }
    template <class Section>
    void tables(std::string_view key, std::vector<Section>& out, std::string_view) {
        toml::node* node = take(key);
        if (node == nullptr) return;
        toml::array* array = node->as_array();
        if (array == nullptr) {
            wrong(*node, key, fmt::format("a list of tables: write [[{}]]", section_.empty() ? std::string(key) : section_ + "." + std::string(key)));
            return;
        }
        for (toml::node& each : *array) {
            toml::table* inner = each.as_table();
            if (inner == nullptr) {
                wrong(each, key, "a table");
                return;
            }
            out.emplace_back();
            load(*inner, section_.empty() ? std::string(key) : section_ + "." + std::string(key),
                 location_of(file_, each.source()), out.back());
        }
    }

    template <class Section>
    void load(toml::table& inner, const std::string& section, Location place, Section& out) {
        Loader loader(inner, file_, directory_, section, error_);
        out.keys(loader);
        loader.finish();
        out.at.table = std::move(place);
        out.at.keys = std::move(loader.places_);
    }

    /// Whatever was not asked for is unknown.
    void finish() {
        if (!error_.empty()) return;
        for (auto&& [key, node] : table_) {
            const std::string name(key.str());
            if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
            const std::string near = nearest_name(name, known_);
            const std::string where = section_.empty() ? "at the top level" : fmt::format("in [{}]", section_);
            error_ = fmt::format("{}: unknown key '{}' {}; {}",
                                 location_of(file_, key.source()).text(), name, where,
                                 near.empty() ? fmt::format("known keys: {}", fmt::join(known_, ", "))
                                              : fmt::format("did you mean '{}'?", near));
            return;
        }
    }

  private:
    /// Relative paths are relative to the file.
    [[nodiscard]] std::string resolved(const std::string& path) const {
        if (path.empty() || path.front() == '/') return path;
        return (std::filesystem::path(directory_) / path).lexically_normal();
    }
    toml::node* take(std::string_view key) {
        known_.emplace_back(key);
        last_ = error_.empty() ? table_.get(key) : nullptr;
        if (last_ != nullptr) places_[std::string(key)] = location_of(file_, last_->source());
        return last_;
    }
    template <class T, class Parse>
    bool unit(std::string_view key, T& out, Parse parse) {
        std::string text;
        if (!(*this)(key, text, "")) return false;
        if (!error_.empty()) return true;
        auto parsed = parse(text);
        if (parsed) out = *parsed;
        else error_ = fmt::format("{}: {}: {}", location_of(file_, last_->source()).text(), key, parsed.error().text);
        return true;
    }
    void wrong(const toml::node& node, std::string_view key, std::string_view expected) {
        if (error_.empty()) error_ = fmt::format("{}: {} must be {}", location_of(file_, node.source()).text(), key, expected);
    }

    toml::table& table_;
    std::string file_, directory_, section_;
    std::string& error_;
    std::vector<std::string> known_;
    std::map<std::string, Location, std::less<>> places_;
    toml::node* last_ = nullptr;
};

/// A TOML string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
std::string toml_string(const std::string& value) {
    std::string text = nlohmann::json(value).dump();
    for (std::size_t at = 0; (at = text.find('\x7f', at)) != std::string::npos;) text.replace(at, 1, "\\u007F");
    return text;
}

/// Prints a section as TOML.
class Shower {
  public:
    explicit Shower(std::string prefix = "") : prefix_(std::move(prefix)) {}

    /// Empty ones too: an empty string need not be the default.
    bool operator()(std::string_view key, std::string& value, std::string_view) { return line(key, toml_string(value)); }
    bool operator()(std::string_view key, std::optional<u32>& value, std::string_view, u64, u64) {
        return value && line(key, fmt::format("{}", *value));
    }
    bool operator()(std::string_view key, bool& value, std::string_view) { return line(key, value ? "true" : "false"); }
    bool operator()(std::string_view key, std::optional<bool>& value, std::string_view doc) {
        return value && (*this)(key, *value, doc);
    }
    bool operator()(std::string_view key, u32& value, std::string_view, u64 = 0, u64 = 0) {
        return line(key, fmt::format("{}", value));
    }
    bool operator()(std::string_view key, ByteSize& value, std::string_view) { return line(key, toml_string(to_string(value))); }
    bool operator()(std::string_view key, Duration& value, std::string_view) { return line(key, toml_string(to_string(value))); }
    bool operator()(std::string_view key, std::vector<std::string>& value, std::string_view) {
        std::vector<std::string> parts;
        for (const std::string& each : value) parts.push_back(toml_string(each));
        return line(key, fmt::format("[{}]", fmt::join(parts, ", ")));
    }
    bool choice(std::string_view key, std::string& value, std::initializer_list<std::string_view>, std::string_view doc) {
        return (*this)(key, value, doc);
    }
    bool path(std::string_view key, std::string& value, std::string_view doc) {
        return !value.empty() && (*this)(key, value, doc);
    }
    bool paths(std::string_view key, std::vector<std::string>& value, std::string_view doc) {
        return (*this)(key, value, doc);
    }
    bool words(std::string_view key, std::vector<std::string>& value, std::string_view doc) {
        return !value.empty() && (*this)(key, value, doc);
    }
    template <class Section>
    void table(std::string_view key, Section& section, std::string_view) {
        nested(fmt::format("[{}{}]", prefix_, key), key, section);
    }
    template <class Section>
    void table(std::string_view key, std::optional<Section>& section, std::string_view doc) {
        if (section) table(key, *section, doc);
    }
    template <class Section>
    void tables(std::string_view key, std::vector<Section>& sections, std::string_view) {
        for (Section& each : sections) nested(fmt::format("[[{}{}]]", prefix_, key), key, each);
    }
    [[nodiscard]] std::string text() const { return lines_ + tables_; }

  private:
    bool line(std::string_view key, const std::string& value) {
        lines_ += fmt::format("{} = {}\n", key, value);
        return true;
    }
    template <class Section>
    void nested(const std::string& header, std::string_view key, Section& section) {
        Shower inner(fmt::format("{}{}.", prefix_, key));
        section.keys(inner);
        tables_ += fmt::format("\n{}\n{}", header, inner.text());
    }
    std::string prefix_, lines_, tables_;
};

/// Describes a section as JSON Schema.
class Schema {
  public:
    using Json = nlohmann::ordered_json;
    bool operator()(std::string_view key, std::string& value, std::string_view doc) {
        return add(key, {{"type", "string"}, {"default", value}}, doc);
    }
    bool operator()(std::string_view key, bool& value, std::string_view doc) {
        return add(key, {{"type", "boolean"}, {"default", value}}, doc);
    }
    bool operator()(std::string_view key, std::optional<bool>&, std::string_view doc) {
        return add(key, {{"type", "boolean"}}, doc);
    }
    bool operator()(std::string_view key, u32& value, std::string_view doc, u64 low = 0, u64 high = 0xffffffff) {
        return add(key, {{"type", "integer"}, {"minimum", low}, {"maximum", high}, {"default", value}}, doc);
    }
    bool operator()(std::string_view key, std::optional<u32>&, std::string_view doc, u64 low, u64 high) {
        return add(key, {{"type", "integer"}, {"minimum", low}, {"maximum", high}}, doc);
    }
    bool operator()(std::string_view key, ByteSize& value, std::string_view doc) {
        return add(key, {{"type", "string"}, {"pattern", "^[0-9]+ ?(B|KiB|MiB|GiB|TiB)$"}, {"default", to_string(value)}}, doc);
    }
    bool operator()(std::string_view key, Duration& value, std::string_view doc) {
        return add(key, {{"type", "string"}, {"pattern", "^[0-9]+ ?(ns|us|ms|s|min|h)$"}, {"default", to_string(value)}}, doc);
    }
    bool operator()(std::string_view key, std::vector<std::string>&, std::string_view doc) {
        return add(key, {{"type", "array"}, {"items", {{"type", "string"}}}}, doc);
    }
    bool choice(std::string_view key, std::string& value, std::initializer_list<std::string_view> allowed,
                std::string_view doc) {
        return add(key, {{"enum", std::vector<std::string>(allowed.begin(), allowed.end())}, {"default", value}}, doc);
    }
    bool path(std::string_view key, std::string& value, std::string_view doc) { return (*this)(key, value, doc); }
    bool paths(std::string_view key, std::vector<std::string>& value, std::string_view doc) {
        return (*this)(key, value, doc);
    }
    bool words(std::string_view key, std::vector<std::string>& value, std::string_view doc) {
        return (*this)(key, value, doc);
    }
    template <class Section>
    void table(std::string_view key, Section& section, std::string_view doc) {
        add(key, of(section), doc);
    }
    template <class Section>
    void table(std::string_view key, std::optional<Section>&, std::string_view doc) {
        Section section;
        add(key, of(section), doc);
    }
    template <class Section>
    void tables(std::string_view key, std::vector<Section>&, std::string_view doc) {
        Section section;
        add(key, {{"type", "array"}, {"items", of(section)}}, doc);
    }
    template <class Section>
    static Json of(Section& section) {
        Schema inner;
        section.keys(inner);
        return {{"type", "object"}, {"additionalProperties", false}, {"properties", inner.properties_}};
    }

  private:
    bool add(std::string_view key, Json json, std::string_view doc) {
        json["description"] = std::string(doc);
        properties_[std::string(key)] = std::move(json);
        return true;
    }
    Json properties_ = Json::object();
};

/// Puts `value` at the dotted `key` of the table; digits index a list of tables ("child.0.memory"), and a list that
/// does not exist yet gets its first element.
Result<void> apply_override(toml::table& root, const Override& setting) {
    const std::string &key = setting.first, &text = setting.second;
    const auto bad = [&](std::string_view why) {
        return fail(Error::Code::Usage, fmt::format("-s {}={}: {}", key, text, why));
    };
    if (utf8_prefix(text) != text.size() || utf8_prefix(key) != key.size()) return bad("not UTF-8");
    const std::string place = fmt::format("{}{}={}", kSettingPrefix, key, text);
    toml::parse_result parsed = toml::parse(fmt::format("v = {}", text), place);
    if (!parsed) parsed = toml::parse(fmt::format("v = {}", toml_string(text)), place);
    if (!parsed) return bad("not a value");

    toml::table* table = &root;
    std::string_view rest = key;
    while (true) {
        const std::size_t dot = rest.find('.');
        const std::string part(rest.substr(0, dot));
        if (part.empty()) return bad("the key has an empty part; write for example machine.memory=\"2 GiB\"");
        if (dot == std::string_view::npos) {
            table->erase(part);  // else the key keeps the place where it was first written
            // Moved: a copy would forget its place.
            parsed.table().get("v")->visit([&](auto& value) {
                const toml::key name(part, value.source());
                table->insert_or_assign(name, std::move(value));
            });
            return {};
        }
        rest.remove_prefix(dot + 1);
        toml::node* next = table->get(part);
        const std::size_t after = rest.find('.');
        const std::string_view peek = rest.substr(0, after);
        const bool indexed = !peek.empty() && std::all_of(peek.begin(), peek.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
        if (next == nullptr) {
            const toml::key made(part, parsed.table().get("v")->source());
            if (indexed || part == "child" || part == "disk" || part == "nic") table->insert(made, toml::array{});
            else table->insert(made, toml::table{});
            next = table->get(part);
        }
        if (toml::array* array = next->as_array()) {
            std::size_t index = 0;
            if (indexed) {
                std::from_chars(peek.data(), peek.data() + peek.size(), index);
                if (after == std::string_view::npos) return bad("a list element needs a key behind it");
                rest.remove_prefix(after + 1);
            }
            if (index > array->size()) return bad("there are not that many tables");
            if (index == array->size()) array->push_back(toml::table{});
            next = array->get(index);
        }
        table = next->as_table();
        if (table == nullptr) return bad(fmt::format("'{}' is not a table", part));
    }
}

}  // namespace

std::string Location::text() const {
    if (line == 0) return file.empty() ? "command line" : file;
    return fmt::format("{}:{}:{}", file, line, column);
}

std::string Place::text(std::string_view key) const {
    const auto found = keys.find(key);
    return (found == keys.end() ? table : found->second).text();
}

Result<ByteSize> parse_byte_size(std::string_view text) {
    auto parsed = parse_with_unit(text, kSizeUnits, "512 MiB");
    if (!parsed) return Unexpected{parsed.error()};
    return ByteSize{*parsed};
}
Result<Duration> parse_duration(std::string_view text) {
    auto parsed = parse_with_unit(text, kTimeUnits, "120 s");
    if (!parsed) return Unexpected{parsed.error()};
    return Duration{*parsed};
}
std::string to_string(ByteSize size) { return with_unit(size.bytes, kSizeUnits); }
std::string to_string(Duration duration) { return with_unit(duration.ns, kTimeUnits); }

Result<u64> parse_clock(std::string_view text) {
    const auto bad = [&] {
        return fail(Error::Code::Usage,
                    fmt::format("\"{}\" is not a time; write it as \"2026-01-01T00:00:00Z\" (UTC, 1970 to 2099)", text));
    };
    if (text.size() != 20 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' ||
        text[19] != 'Z') {
        return bad();
    }
    const auto number = [&](std::size_t at, std::size_t count) -> int {
        int value = -1;
        const auto [end, status] = std::from_chars(text.data() + at, text.data() + at + count, value);
        return status == std::errc{} && end == text.data() + at + count ? value : -1;
    };
    const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
    const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
    if (year < 1970 || year > 2099 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
        return bad();
    }
    const bool leap = year % 4 == 0;  // holds from 1970 to 2099
    const int days_in[12] = {31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1 || day > days_in[month - 1]) return bad();
    s64 days = (year - 1970) * 365 + (year - 1969) / 4 + day - 1;
    for (int m = 0; m < month - 1; ++m) days += days_in[m];
    return static_cast<u64>(days * 86400 + hour * 3600 + minute * 60 + second);
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
    std::string best;
    std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
    for (const std::string& each : known) {
        const std::size_t distance = edit_distance(name, each);
        if (distance < best_distance) {
            best_distance = distance;
            best = each;
        }
    }
    return best;
}

Result<Config> parse_config(std::string_view text, const std::string& name, const std::string& directory,
                            const std::vector<Override>& overrides) {
    // The TOML parser's behaviour on anything else is undefined.
    if (const std::size_t valid = utf8_prefix(text); valid != text.size()) {
        const std::string_view before = text.substr(0, valid);
        const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
        const auto line = static_cast<u32>(1 + std::count(before.begin(), before.end(), '\n'));
        return fail(Error::Code::Usage,
                    fmt::format("{}: the byte 0x{:02x} is not UTF-8; save the file as UTF-8",
                                Location{name, line, static_cast<u32>(valid - line_start + 1)}.text(),
                                static_cast<u8>(text[valid])));
    }
    toml::parse_result parsed = toml::parse(text, name);
    if (!parsed) {
        const toml::parse_error& error = parsed.error();
        return fail(Error::Code::Usage,
                    fmt::format("{}: {}", Location{name, error.source().begin.line, error.source().begin.column}.text(),
                                error.description()));
    }
    for (const Override& setting : overrides) {
        if (auto applied = apply_override(parsed.table(), setting); !applied) return Unexpected{applied.error()};
    }
    Config config;
    config.file = name;
    for (Place* place : {&config.machine.at, &config.devices.at}) place->table.file = name;
    std::string error;
    Loader loader(parsed.table(), name, directory, "", error);
    config.keys(loader);
    loader.finish();
    if (!error.empty()) return fail(Error::Code::Usage, std::move(error));
    find_firmware_files(config);
    return config;
}

Result<Config> load_config(const std::string& path, const std::vector<Override>& overrides) {
    constexpr std::uintmax_t kMaxBytes = 1 << 20;
    std::error_code error;
    std::ifstream in(path, std::ios::binary);
    if (!in || std::filesystem::is_directory(path, error)) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: cannot be read; give a machine description, for example examples/linux.toml", path));
    }
    std::string text(kMaxBytes + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.size() > kMaxBytes) {
        return fail(Error::Code::Usage, fmt::format("{}: is too large for a machine description; if it is a kernel, boot it with: "
                                                    "verdigris run --kernel {}", path, path));
    }
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    return parse_config(text, path, parent.empty() ? "." : parent.string(), overrides);
}

std::string show_config(const Config& config) {
    Config copy = config;
    Shower shower;
    copy.keys(shower);
    std::string text = shower.text();
    while (!text.empty() && text.front() == '\n') text.erase(text.begin());
    return text;
}

void keep_stored_defaults(Config& config) {
    for (ChildSection& child : config.children) {
        if (!child.at.keys.contains("enlightenments")) child.enlightenments = "basic";
        if (!child.at.keys.contains("free_page_hints")) child.free_page_hints = false;
        ChildDevicesSection& devices = child.devices;
        if (!devices.at.table.file.empty()) continue;
        for (bool* each : {&devices.heartbeat, &devices.shutdown, &devices.time_sync, &devices.kvp, &devices.vss,
                           &devices.keyboard, &devices.mouse, &devices.video, &devices.dynamic_memory}) {
            *each = false;
        }
    }
}

std::string config_schema() {
    Config defaults;
    Schema::Json schema = Schema::of(defaults);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
    schema["title"] = "Verdigris machine";
    return schema.dump(2) + "\n";
}

}  // namespace vg::machine
