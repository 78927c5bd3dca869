#include "ui/model/desk/memory_view.h"

#include <fmt/format.h>

namespace vg::desk {

namespace {
constexpr std::string_view kNames[] = {"linear", "physical", "machine"};
constexpr std::size_t kMaxPages = 256, kMaxAsking = 8;
}  // namespace

std::string_view space_name(Space space) { return kNames[static_cast<std::size_t>(space)]; }
std::optional<Space> parse_space(std::string_view name) {
    for (std::size_t i = 0; i < 3; ++i)
        if (kNames[i] == name) return static_cast<Space>(i);
    return {};
}

void MemoryView::forget() {
    pages_ = std::make_shared<Pages>();
    asking_ = std::make_shared<std::map<u64, bool>>();
    error_ = std::make_shared<std::string>();
}

void MemoryView::set_space(Space space) {
    if (space == space_) return;
    space_ = space;
    forget();
}

void MemoryView::go_to(Space space, u64 address) {
    set_space(space);
    marked_ = address;
    top_ = address & ~u64{kRowBytes - 1};
}

void MemoryView::ask(Session& session, u64 page) {
    if (asking_->size() >= kMaxAsking || !session.ready()) return;
    (*asking_)[page] = true;
    const u64 version = session.epoch(), stops = session.stops();
    const bool stands = !session.running();
    Json request = for_focus(
        session, {{"op", "read"}, {"space", space_name(space_)}, {"address", hex(page * kPage)}, {"size", kPage}});
    session.ask(
        std::move(request), [page, version, stops, stands, pages = std::weak_ptr(pages_),
                             asking = std::weak_ptr(asking_), error = std::weak_ptr(error_)](Result<Json> answer) {
            const auto into = pages.lock();
            const auto waiting = asking.lock();
            const auto trouble = error.lock();
            if (!into || !waiting || !trouble) return;
            waiting->erase(page);
            if (into->size() >= kMaxPages && into->count(page) == 0) into->erase(into->begin());
            Page& entry = (*into)[page];
            entry.version = version;
            *trouble = answer ? "" : shown(answer.error().text, 400);
            const Json& data = answer ? member(*answer, "data") : Json();
            entry.bytes = data.is_string() ? parse_hex(data.get_ref<const std::string&>(), kPage) : std::vector<int>();
            entry.bytes.resize(kPage, -1);
            if (!stands) return;
            if (entry.stops != stops) entry.before = std::move(entry.at_stop);
            entry.stops = stops;
            entry.at_stop = entry.bytes;
        });
}

void MemoryView::update(Session& session) {
    if (session.focus() != vp_) {
        vp_ = session.focus();
        forget();
    }
    const u64 first = top_ / kPage, last = (top_ + visible_ * kRowBytes - 1) / kPage;
    for (u64 page = first;; page = (page + 1) & (~u64{0} / kPage)) {
        const auto found = pages_->find(page);
        if ((found == pages_->end() || found->second.version != session.epoch()) && asking_->count(page) == 0)
            ask(session, page);
        if (page == last) break;
    }
}

MemoryView::Byte MemoryView::byte(u64 address) const {
    const auto found = pages_->find(address / kPage);
    if (found == pages_->end()) return {};
    const std::size_t at = address % kPage;
    const int value = found->second.bytes[at];
    if (value < 0) return {Known::Absent, 0, false};
    const auto& before = found->second.before;
    return {Known::Present, static_cast<u8>(value), at < before.size() && before[at] >= 0 && before[at] != value};
}

std::string MemoryView::row_text(u64 address) const {
    std::string line = fmt::format("{:016x} ", address), characters;
    for (unsigned i = 0; i < kRowBytes; ++i) {
        const Byte b = byte(address + i);
        line += b.known == Known::Present ? fmt::format(" {:02x}", b.value) : b.known == Known::Absent ? " ??" : " ..";
        characters += b.known == Known::Present && b.value >= 0x20 && b.value < 0x7f ? static_cast<char>(b.value) : '.';
    }
    return line + "  " + characters;
}

std::vector<std::string> MemoryView::text() const {
    std::vector<std::string> lines;
    for (std::size_t row = 0; row < visible_; ++row) lines.push_back(row_text(top_ + row * kRowBytes));
    return lines;
}

}  // namespace vg::desk
