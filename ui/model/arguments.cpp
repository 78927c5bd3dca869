#include "ui/model/arguments.h"

#include <fmt/format.h>

#include <algorithm>

#include "machine/config.h"

namespace vg::model {
namespace {

std::vector<std::string> split(std::string_view words) {
    std::vector<std::string> list;
    while (!words.empty()) {
        const std::size_t space = std::min(words.find(' '), words.size());
        if (space != 0) list.emplace_back(words.substr(0, space));
        words.remove_prefix(std::min(space + 1, words.size()));
    }
    return list;
}

}  // namespace

void Arguments::allow_only(std::string_view words) {
    const std::vector<std::string> known = split(words);
    for (const auto& [key, value] : object_.items()) {
        if (std::find(known.begin(), known.end(), key) != known.end()) continue;
        const std::string near = machine::nearest_name(key, known);
        mistake(fmt::format("unknown key \"{}\"{}", key, near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
    }
}

std::optional<u64> Arguments::as_number(const Json& value) const {
    if (value.is_number_unsigned() || (value.is_number_integer() && value.get<s64>() >= 0)) return value.get<u64>();
    return value.is_string() ? parse_number(value.get_ref<const std::string&>()) : std::nullopt;
}

u64 Arguments::number(const char* key) {
    if (!has(key)) {
        mistake(fmt::format("\"{}\" is missing", key));
        return 0;
    }
    const auto value = as_number(object_[key]);
    if (!value) mistake(fmt::format("\"{}\" is not a number; write \"0x...\" or digits", key));
    return value.value_or(0);
}

u64 Arguments::count(const char* key, u64 otherwise, u64 most) {
    const u64 value = number(key, otherwise);
    if (value > most) mistake(fmt::format("\"{}\" is at most {}", key, most));
    return std::min(value, most);
}

std::string Arguments::text(const char* key) {
    if (has(key) && object_[key].is_string()) return object_[key].get<std::string>();
    mistake(fmt::format("\"{}\" is {}", key, has(key) ? "not a text" : "missing"));
    return {};
}

bool Arguments::flag(const char* key, bool otherwise) {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) mistake(fmt::format("\"{}\" is true or false", key));
    return object_[key].is_boolean() && object_[key].get<bool>();
}

const Json& Arguments::object(const char* key) {
    static const Json kNothing = Json::object();
    if (has(key) && object_[key].is_object()) return object_[key];
    mistake(fmt::format("\"{}\" is {}", key, has(key) ? "not an object" : "missing"));
    return kNothing;
}

const Json& Arguments::array(const char* key) {
    static const Json kNothing = Json::array();
    if (has(key) && object_[key].is_array()) return object_[key];
    mistake(fmt::format("\"{}\" is {}", key, has(key) ? "not a list" : "missing"));
    return kNothing;
}

std::vector<u64> Arguments::numbers(const char* key, std::size_t most) {
    std::vector<u64> list;
    const Json& values = array(key);
    if (values.size() > most) mistake(fmt::format("\"{}\" has at most {} entries", key, most));
    for (std::size_t i = 0; i < std::min(values.size(), most); ++i) {
        const auto value = as_number(values[i]);
        if (!value) mistake(fmt::format("\"{}\" has an entry that is not a number", key));
        list.push_back(value.value_or(0));
    }
    return list;
}

std::vector<std::string> Arguments::texts(const char* key, std::size_t most) {
    std::vector<std::string> list;
    const Json& values = array(key);
    if (values.size() > most) mistake(fmt::format("\"{}\" has at most {} entries", key, most));
    for (std::size_t i = 0; i < std::min(values.size(), most); ++i) {
        if (!values[i].is_string()) mistake(fmt::format("\"{}\" has an entry that is not a text", key));
        list.push_back(values[i].is_string() ? values[i].get<std::string>() : "");
    }
    return list;
}

}  // namespace vg::model
