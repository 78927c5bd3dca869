#include "ui/model/desk/registers_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/bits.h"
#include "ui/model/register_fields.h"

namespace vg::desk {

namespace {

constexpr std::size_t kMaxRegisters = 512;

std::vector<std::pair<std::string, std::string>> parse_registers(const Json& reply) {
    std::vector<std::pair<std::string, std::string>> values;
    if (!reply.is_object()) return values;
    for (const auto& [name, value] : reply.items()) {
        if (values.size() >= kMaxRegisters) break;
        values.emplace_back(shown(name, 32), words_of(value, 160));
    }
    return values;
}

u64 low_bits(std::string_view text) {
    if (text.substr(0, 2) == "0x") text.remove_prefix(2);
    if (text.size() > 16) text.remove_prefix(text.size() - 16);
    return parse_number(text, true).value_or(0);
}

constexpr std::array<std::string_view, 6> kTitles = {"General", "Segments", "Control",
                                                     "Debug",   "System",   "x87, SSE, AVX"};

std::size_t group_of(std::string_view name) {
    const auto starts = [&](std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; };
    const auto digit = [&](std::size_t at) { return name.size() > at && name[at] >= '0' && name[at] <= '9'; };
    if (name == "rip" || name == "rflags") return 0;
    for (const std::string_view segment : {"cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr", "gdtr", "idtr"})
        if (name == segment || (starts(segment) && name.size() > segment.size() && name[segment.size()] == '.'))
            return 1;
    if ((starts("cr") && digit(2)) || name == "efer" || name == "xcr0") return 2;
    if (starts("dr") && digit(2)) return 3;
    for (const std::string_view vector : {"ymm", "xmm", "zmm", "st", "mm"})
        if (starts(vector) && digit(vector.size())) return 5;
    for (const std::string_view x87 : {"fcw", "fsw", "ftw", "fop", "fip", "fdp", "mxcsr"})
        if (name == x87) return 5;
    return starts("r") && name.size() <= 3 ? 0 : 4;
}

}  // namespace

std::vector<BitField> bit_fields(std::string_view name, u64 value) {
    const std::size_t dot = name.find('.');
    if (dot != std::string_view::npos) name = name.substr(dot + 1);
    std::vector<BitField> fields;
    const model::RegisterLayout* const layout = model::register_layout(name);
    if (layout == nullptr) return fields;
    for (const model::RegisterField& field : layout->fields)
        fields.push_back({field.name, field.meaning, field.high, field.low, bits(value, field.high, field.low)});
    std::reverse(fields.begin(), fields.end());
    return fields;
}

std::string bit_summary(std::string_view name, u64 value) {
    std::string text;
    for (const BitField& field : bit_fields(name, value)) {
        if (field.value == 0) continue;
        if (!text.empty()) text += ' ';
        text += field.high == field.low ? std::string(field.name) : fmt::format("{}={:x}", field.name, field.value);
    }
    return text;
}

RegistersView::RegistersView() : live_(parse_registers) {}

void RegistersView::update(Session& session) {
    if (session.focus() != vp_) {
        vp_ = session.focus();
        current_.clear();
        previous_.clear();
        at_stop_.clear();
    }
    live_.update(session, for_focus(session, {{"op", "registers"}}));
    if (live_.answers() == taken_ || !live_.value()) return;
    taken_ = live_.answers();
    if (!session.running() && stops_ != session.stops()) {
        stops_ = session.stops();
        previous_ = std::move(at_stop_);
    }
    current_ = *live_.value();
    if (!session.running()) at_stop_ = current_;
    regroup();
}

void RegistersView::regroup() {
    groups_.clear();
    for (const std::string_view title : kTitles) groups_.push_back({title, {}});
    for (const auto& [name, text] : current_) {
        const auto before =
            std::find_if(previous_.begin(), previous_.end(), [&n = name](const auto& row) { return row.first == n; });
        groups_[group_of(name)].rows.push_back(
            {name, text, low_bits(text), before != previous_.end() && before->second != text});
    }
}

std::optional<u64> RegistersView::value(std::string_view name) const {
    for (const auto& [key, text] : current_)
        if (key == name) return low_bits(text);
    return {};
}

std::vector<std::string> RegistersView::text() const {
    std::vector<std::string> lines;
    for (const RegisterGroup& group : groups_) {
        for (const RegisterRow& row : group.rows) {
            const std::string bits = bit_summary(row.name, row.value);
            lines.push_back(fmt::format("{}{} = {}{}{}", row.changed ? "* " : "", row.name, row.text,
                                        bits.empty() ? "" : "  ", bits));
        }
    }
    return lines;
}

}  // namespace vg::desk
