#include "machine/state_record.h"

#include <fmt/format.h>

#include <algorithm>

#include "machine/spec/snapshot.h"

namespace vg::machine {

namespace {

using snapshot_format::kMaxDepth;
using Kind = snapshot_format::Item;
constexpr unsigned kMaxName = 255;

constexpr u8 code(Kind kind) { return static_cast<u8>(kind); }

std::string path_text(const std::vector<std::string>& path, std::string_view name) {
    std::string out;
    for (const std::string& part : path) out += part + "/";
    return out += name;
}

std::string value_text(const StateItems::Item& item) {
    if (item.kind == code(Kind::Number)) return fmt::format("0x{:x}", item.value);
    if (item.kind == code(Kind::Text)) return std::string(item.content.begin(), item.content.end());
    if (item.kind == code(Kind::Bytes)) return fmt::format("{} bytes", item.content.size());
    return item.kind == 0 ? "nothing" : "another field";
}

void visit_number(StateVisitor& v, const StateItems::Item& item) {
    const auto as = [&]<class T>(T value) { v(item.name, value, item.format); };
    if (item.format == Fmt::Bool)
        as(item.value != 0);
    else if (item.size == 1)
        as(static_cast<u8>(item.value));
    else if (item.size == 2)
        as(static_cast<u16>(item.value));
    else if (item.size == 4)
        as(static_cast<u32>(item.value));
    else
        as(item.value);
}

}  // namespace

// ---- recording

void StateRecorder::leb(u64 value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<u8>(value | 0x80));
    out_.push_back(static_cast<u8>(value));
}

void StateRecorder::item(u8 kind, std::string_view name) {
    VG_ASSERT(name.size() <= kMaxName);
    out_.push_back(kind);
    out_.push_back(static_cast<u8>(name.size()));
    out_.insert(out_.end(), name.begin(), name.end());
}

void StateRecorder::number(std::string_view name, u64& value, unsigned size, Fmt format) {
    item(code(Kind::Number), name);
    out_.push_back(static_cast<u8>(size | static_cast<unsigned>(format) << 4));
    leb(value);
}
void StateRecorder::bytes(std::string_view name, std::span<u8> data) {
    item(code(Kind::Bytes), name);
    leb(data.size());
    out_.insert(out_.end(), data.begin(), data.end());
}
void StateRecorder::text(std::string_view name, std::string& field) {
    item(code(Kind::Text), name);
    leb(field.size());
    out_.insert(out_.end(), field.begin(), field.end());
}
void StateRecorder::note(std::string_view name, std::string_view content) {
    item(code(Kind::Note), name);
    leb(content.size());
    out_.insert(out_.end(), content.begin(), content.end());
}
void StateRecorder::enter(std::string_view name) { item(code(Kind::Enter), name); }
void StateRecorder::leave() { out_.push_back(code(Kind::Leave)); }

// ---- reading

u64 StateItems::leb() {
    u64 value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const std::span<const u8> byte = take(1);
        if (byte.empty()) return 0;
        const u64 part = byte[0] & 0x7f;
        if (shift == 63 && part > 1) break;
        value |= part << shift;
        if ((byte[0] & 0x80) == 0) return value;
    }
    damaged_ = true;
    return 0;
}

std::span<const u8> StateItems::take(u64 size) {
    if (damaged_ || size > data_.size()) {
        damaged_ = true;
        return {};
    }
    const std::span<const u8> taken = data_.first(static_cast<std::size_t>(size));
    data_ = data_.subspan(taken.size());
    return taken;
}

StateItems::Item StateItems::next() {
    Item item;
    if (damaged_ || data_.empty()) {
        damaged_ |= depth_ != 0;
        return item;
    }
    item.kind = take(1)[0];
    if (item.kind == code(Kind::Leave)) {
        damaged_ = depth_ == 0;
        --depth_;
        return damaged_ ? Item{} : item;
    }
    const std::span<const u8> length = take(1);
    const std::span<const u8> name = take(length.empty() ? 0 : length[0]);
    item.name = {reinterpret_cast<const char*>(name.data()), name.size()};
    switch (static_cast<Kind>(item.kind)) {
        case Kind::Enter:
            damaged_ |= ++depth_ > kMaxDepth;
            break;
        case Kind::Number: {
            const std::span<const u8> how = take(1);
            item.size = how.empty() ? 0 : how[0] & 15;
            item.format = static_cast<Fmt>(how.empty() ? 0 : how[0] >> 4);
            item.value = leb();
            const bool fits = item.size == 8 || ((item.size == 1 || item.size == 2 || item.size == 4) &&
                                                 item.value >> (8 * item.size) == 0);
            damaged_ |= !fits || item.format > Fmt::Bool;
            break;
        }
        case Kind::Bytes:
        case Kind::Text:
        case Kind::Note:
            item.content = take(leb());
            break;
        case Kind::Leave:
        default:
            damaged_ = true;
    }
    return damaged_ ? Item{} : item;
}

// ---- loading

void StateLoader::fail_at(std::string_view name, std::string_view why) {
    if (error_.empty()) error_ = fmt::format("{}: {}", path_text(path_, name), why);
}

bool StateLoader::expect(u8 kind, std::string_view name, StateItems::Item& item) {
    if (!error_.empty()) return false;
    do item = items_.next();
    while (item.kind == code(Kind::Note));
    if (item.kind == kind && item.name == name) return true;
    fail_at(name, item.kind == 0                   ? "is not in the file"
                  : item.kind == code(Kind::Leave) ? "is missing"
                                                   : fmt::format("the file has \"{}\" in its place", item.name));
    return false;
}

void StateLoader::number(std::string_view name, u64& value, unsigned size, Fmt format) {
    StateItems::Item item;
    if (!expect(code(Kind::Number), name, item)) return;
    if (item.size != size) return fail_at(name, fmt::format("has {} bytes instead of {}", item.size, size));
    if (format == Fmt::Bool && item.value > 1) return fail_at(name, "is neither true nor false");
    // Whatever counts elements to come: each is an item, so that a count beyond what is left cannot be.
    const bool counts = name == "count" || name == "range_count" || name == "overlay_count" || name == "ranges_known";
    constexpr u64 kHarmless = 65536;
    if (counts && size == 4 && item.value > std::max<u64>(kHarmless, items_.left()))
        return fail_at(name, fmt::format("{} elements cannot be", item.value));
    value = item.value;
}

void StateLoader::bytes(std::string_view name, std::span<u8> data) {
    StateItems::Item item;
    if (!expect(code(Kind::Bytes), name, item)) return;
    if (item.content.size() != data.size())
        return fail_at(name, fmt::format("has {} bytes instead of {}", item.content.size(), data.size()));
    std::copy(item.content.begin(), item.content.end(), data.begin());
}

void StateLoader::text(std::string_view name, std::string& field) {
    StateItems::Item item;
    if (expect(code(Kind::Text), name, item)) field.assign(item.content.begin(), item.content.end());
}

void StateLoader::enter(std::string_view name) {
    StateItems::Item item;
    (void)expect(code(Kind::Enter), name, item);
    path_.emplace_back(name);
}

void StateLoader::leave() {
    StateItems::Item item;
    (void)expect(code(Kind::Leave), "", item);
    path_.pop_back();
}

Result<void> StateLoader::finish() {
    if (error_.empty() && (items_.next().kind != 0 || items_.damaged()))
        error_ = "the file has more fields than this machine";
    if (error_.empty()) return {};
    return fail(Error::Code::Damaged, error_ + "; the file was written by another version, or for another machine");
}

// ---- others

Result<void> visit_record(std::span<const u8> record, StateVisitor& v) {
    StateItems items(record);
    for (StateItems::Item item = items.next(); item.kind != 0; item = items.next()) {
        std::string text(item.content.begin(), item.content.end());
        switch (static_cast<Kind>(item.kind)) {
            case Kind::Enter:
                v.enter(item.name);
                break;
            case Kind::Leave:
                v.leave();
                break;
            case Kind::Number:
                visit_number(v, item);
                break;
            case Kind::Text:
                v.text(item.name, text);
                break;
            case Kind::Note:
                v.note(item.name, text);
                break;
            case Kind::Bytes: {
                std::vector<u8> copy(item.content.begin(), item.content.end());
                v.bytes(item.name, copy);
                break;
            }
        }
    }
    if (items.damaged()) return fail(Error::Code::Damaged, "the field tree is damaged");
    return {};
}

std::string first_difference(std::span<const u8> record, std::span<const u8> other) {
    StateItems left(record), right(other);
    std::vector<std::string> path;
    const auto state_item = [](StateItems& items) {
        StateItems::Item item = items.next();
        while (item.kind == code(Kind::Note)) item = items.next();
        return item;
    };
    while (true) {
        const StateItems::Item a = state_item(left), b = state_item(right);
        const bool equal =
            a.kind == b.kind && a.name == b.name && a.value == b.value && std::ranges::equal(a.content, b.content);
        if (!equal) {
            return fmt::format("{}: {}, {}", path_text(path, a.kind != 0 ? a.name : b.name), value_text(a),
                               value_text(b));
        }
        if (a.kind == 0) return "";
        if (a.kind == code(Kind::Enter)) path.emplace_back(a.name);
        if (a.kind == code(Kind::Leave)) path.pop_back();
    }
}

}  // namespace vg::machine
