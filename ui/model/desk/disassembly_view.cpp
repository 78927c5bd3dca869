#include "ui/model/desk/disassembly_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace vg::desk {

namespace {
constexpr unsigned kBefore = 100, kCount = 300;  // instructions around the anchor
}

std::vector<CodeLine> parse_code(const Json& reply) {
    std::vector<CodeLine> lines;
    for (const Json* item : items(reply, 4096)) {
        CodeLine line{number(*item, "address"),
                      words(*item, "bytes", 48),
                      words(*item, "text", 128),
                      words(*item, "symbol", 128),
                      {}};
        if (has_number(*item, "target")) line.target = number(*item, "target");
        lines.push_back(std::move(line));
    }
    return lines;
}

std::vector<JumpArrow> jump_arrows(const std::vector<CodeLine>& lines) {
    std::map<u64, std::size_t> index;
    for (std::size_t i = 0; i < lines.size(); ++i) index.emplace(lines[i].address, i);
    std::vector<JumpArrow> arrows;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (!lines[i].target || lines[i].text.rfind("call", 0) == 0) continue;
        const auto to = index.find(*lines[i].target);
        if (to != index.end() && to->second != i) arrows.push_back({i, to->second, 0});
    }
    const auto low = [](const JumpArrow& a) { return std::min(a.from, a.to); };
    const auto high = [](const JumpArrow& a) { return std::max(a.from, a.to); };
    std::stable_sort(arrows.begin(), arrows.end(),
                     [&](const auto& a, const auto& b) { return high(a) - low(a) < high(b) - low(b); });
    // Each takes the nearest lane that is free along its whole length; beyond the last lane they share it.
    std::vector<std::vector<bool>> taken(kMaxJumpLanes, std::vector<bool>(lines.size()));
    for (JumpArrow& arrow : arrows) {
        const auto free = [&](const std::vector<bool>& lane) {
            return std::none_of(lane.begin() + static_cast<std::ptrdiff_t>(low(arrow)),
                                lane.begin() + static_cast<std::ptrdiff_t>(high(arrow)) + 1, [](bool b) { return b; });
        };
        while (arrow.lane + 1 < kMaxJumpLanes && !free(taken[arrow.lane])) ++arrow.lane;
        for (std::size_t i = low(arrow); i <= high(arrow); ++i) taken[arrow.lane][i] = true;
    }
    return arrows;
}

DisassemblyView::DisassemblyView() : live_(parse_code) {}

std::optional<std::size_t> DisassemblyView::line_at(u64 address) const {
    const auto found =
        std::find_if(lines_.begin(), lines_.end(), [&](const CodeLine& line) { return line.address == address; });
    if (found == lines_.end()) return {};
    return static_cast<std::size_t>(found - lines_.begin());
}

void DisassemblyView::update(Session& session) {
    const VpRow* vp = session.focused();
    rip_ = vp ? std::optional<u64>(vp->rip) : std::nullopt;
    if (following_ && rip_ && shown_rip_ != rip_) {
        shown_rip_ = rip_;
        const auto line = line_at(*rip_);
        if (!line || *line < 8 || *line + visible_ > lines_.size()) {
            anchor_ = *rip_;
            centre_ = true;
        } else {
            anchor_ = shown_anchor_;  // not what was asked for on the way here
            centre_ = false;
            if (*line < top_ + 2 || *line + 3 > top_ + visible_) top_ = *line - std::min(*line, visible_ / 3);
        }
    }
    if (!rip_) return;
    const Json request =
        for_focus(session, {{"op", "disassemble"}, {"address", hex(anchor_)}, {"count", kCount}, {"before", kBefore}});
    live_.update(session, request);
    // An answer to an older request is followed by that to this one.
    if (live_.answers() == taken_ || !live_.answers_to(request)) return;
    taken_ = live_.answers();
    if (live_.value()) take(anchor_);
}

void DisassemblyView::take(u64 anchor) {
    const std::optional<u64> first = top_ < lines_.size() ? std::optional<u64>(lines_[top_].address) : std::nullopt;
    lines_ = *live_.value();
    shown_anchor_ = anchor;
    arrows_ = jump_arrows(lines_);
    if (centre_) {
        const auto line = line_at(anchor);
        if (!line) return;  // an answer to an older request
        top_ = *line - std::min(*line, visible_ / 3);
        centre_ = false;
        keep_.reset();
    } else if (const auto kept = line_at(keep_.value_or(first.value_or(anchor)))) {
        top_ = *kept;
        keep_.reset();
    }
    top_ = std::min(top_, lines_.empty() ? 0 : lines_.size() - 1);
}

void DisassemblyView::go_to(u64 address) {
    following_ = false;
    anchor_ = address;
    selected_ = address;
    centre_ = true;
}

void DisassemblyView::scroll(s64 by, std::size_t visible) {
    visible_ = visible;
    if (lines_.empty()) return;
    const s64 last = static_cast<s64>(lines_.size() - std::min(lines_.size(), visible));
    const s64 wanted = static_cast<s64>(top_) + by;
    top_ = static_cast<std::size_t>(std::clamp<s64>(wanted, 0, last));
    const bool near_edge = (by < 0 && top_ < 10) || (by > 0 && top_ + visible + 10 > lines_.size());
    if (!near_edge || lines_[top_].address == anchor_) return;
    keep_ = lines_[top_].address;
    anchor_ = *keep_;
}

std::vector<std::string> DisassemblyView::text() const {
    std::vector<std::string> text;
    for (const CodeLine& line : lines_) {
        text.push_back(fmt::format("{}{:016x}  {}{}{}  {}", rip_ == line.address ? "=> " : "", line.address, line.text,
                                   line.symbol.empty() ? "" : "  ; ", line.symbol, line.bytes));
    }
    return text;
}

}  // namespace vg::desk
