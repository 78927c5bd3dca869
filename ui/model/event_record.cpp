#include "ui/model/event_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>

namespace vg::model {

namespace {

/// A number, or "0x..." or decimal digits as text.
std::optional<u64> number(const Json& object, const std::string& key) {
    const auto found = object.find(key);
    if (found == object.end()) return std::nullopt;
    if (found->is_number_unsigned()) return found->get<u64>();
    if (!found->is_string()) return std::nullopt;
    const std::string& text = found->get_ref<const std::string&>();
    const bool hex = text.rfind("0x", 0) == 0;
    u64 value = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + (hex ? 2 : 0), end, value, hex ? 16 : 10);
    if (error != std::errc() || stop != end) return std::nullopt;
    return value;
}

bool bytes(const std::string& text, std::vector<u8>& out) {
    if (text.size() % 2 != 0) return false;
    out.resize(text.size() / 2);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const char* const at = text.data() + 2 * i;
        const auto [stop, error] = std::from_chars(at, at + 2, out[i], 16);
        if (error != std::errc() || stop != at + 2) return false;
    }
    return true;
}

}  // namespace

Result<EventRecord> event_from_json(const Json& row) {
    const auto broken = [](const char* what) {
        return Unexpected{Error{Error::Code::Usage, std::string("an event row without a proper ") + what}};
    };
    if (!row.is_object()) return broken("form");
    EventRecord record;
    const auto seq = number(row, "seq"), time = number(row, "time");
    if (!seq || !time) return broken("seq or time");
    record.seq = *seq;
    record.time = *time;
    record.instructions = number(row, "instructions").value_or(0);
    record.partition = number(row, "partition").value_or(0);
    record.vp = static_cast<u32>(std::min<u64>(number(row, "vp").value_or(TapEvent::kNoVp), TapEvent::kNoVp));
    const auto kind = row.find("kind");
    if (kind == row.end() || !kind->is_string()) return broken("kind");
    record.kind = tap_kind(kind->get_ref<const std::string&>());
    if (record.kind == TapKind::Count) return broken("kind");
    const TapRow& meaning = tap_row(record.kind);
    const auto values = row.find("values");
    for (unsigned i = 0; i < 4; ++i) {
        if (meaning.fields[i].empty()) continue;
        const auto value = values == row.end() || !values->is_object()
                               ? std::nullopt
                               : number(*values, std::string(meaning.fields[i]));
        if (!value) return broken("value");
        record.values[i] = *value;
    }
    if (const auto payload = row.find("payload"); payload != row.end() && !payload->is_null()) {
        if (!payload->is_string() || !bytes(payload->get_ref<const std::string&>(), record.payload))
            return broken("payload");
    }
    const u64 size = number(row, "payload_size").value_or(record.payload.size());
    record.payload_size = static_cast<u32>(std::clamp<u64>(size, record.payload.size(), ~u32{0}));
    return record;
}

Json event_to_json(const EventRecord& record) {
    const TapRow& meaning = tap_row(record.kind);
    Json out = {{"seq", record.seq},
                {"time", record.time},
                {"instructions", record.instructions},
                {"kind", std::string(meaning.name)},
                {"partition", record.partition}};
    if (record.vp != TapEvent::kNoVp) out["vp"] = record.vp;
    Json values = Json::object();
    for (unsigned i = 0; i < 4; ++i) {
        if (!meaning.fields[i].empty()) values[std::string(meaning.fields[i])] = fmt::format("{:#x}", record.values[i]);
    }
    out["values"] = std::move(values);
    if (meaning.payload.empty()) return out;
    std::string text;
    text.reserve(2 * record.payload.size());
    for (const u8 byte : record.payload) fmt::format_to(std::back_inserter(text), "{:02x}", byte);
    out["payload"] = std::move(text);
    if (record.cut()) out["payload_size"] = record.payload_size;
    return out;
}

EventRecord event_from_tap(const TapEvent& event, u64 seq, VTime time, u64 instructions) {
    EventRecord record;
    record.seq = seq;
    record.time = time;
    record.instructions = instructions;
    record.kind = event.kind;
    record.partition = event.partition;
    record.vp = event.vp;
    std::copy(std::begin(event.values), std::end(event.values), record.values);
    record.payload_size = static_cast<u32>(event.payload.size());
    record.payload.assign(event.payload.begin(), event.payload.end());
    return record;
}

}  // namespace vg::model
