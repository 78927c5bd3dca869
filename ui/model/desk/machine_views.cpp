#include "ui/model/desk/machine_views.h"

#include <fmt/format.h>

#include <algorithm>

namespace vg::desk {

namespace {

constexpr std::size_t kMaxPicture = 32 << 20;

Json whole(const Json& reply) { return reply; }
const Json& tree_of(const Json& reply) {
    const Json& tree = member(reply, "tree");
    return tree.is_null() ? reply : tree;
}
/// Follows a path of keys.
const Json& below(const Json& tree, std::initializer_list<std::string> path) {
    const Json* node = &tree;
    for (const std::string& key : path) node = &member(*node, key);
    return *node;
}

}  // namespace

// ---- partitions

PartitionsView::PartitionsView()
    : details_([](const Json& reply) {
          std::map<u64, std::string> details;
          const Json& partitions = member(tree_of(reply), "partitions");
          if (!partitions.is_object()) return details;
          for (const auto& [id, partition] : partitions.items()) {
              if (details.size() >= 4096) break;
              const auto number = parse_number(id, false);
              if (!number) continue;
              std::string text = words(partition, "state", 48);
              const Json& deposits = member(partition, "deposits");
              if (deposits.is_object())
                  text += fmt::format(", {} pages of {} deposited in use", words(deposits, "in_use", 20),
                                      words(deposits, "available", 20));
              details[*number] = text + fmt::format(", {} table pages", words(partition, "table_pages", 20));
          }
          return details;
      }),
      grid_({{"partition", 18}, {"kind", 8}, {"state", 0}, {"rip", 19}, {"mode", 8}}) {}

void PartitionsView::update(Session& session) {
    details_.update(session, {{"op", "inspect"}, {"path", "partitions"}, {"json", true}});
    grid_.clear();
    rows_.clear();
    for (const PartitionRow& partition : session.partitions()) {
        const auto detail =
            details_.value() ? details_.value()->find(partition.id) : std::map<u64, std::string>::const_iterator{};
        const std::string state = details_.value() && detail != details_.value()->end() ? detail->second : "";
        grid_.add({{fmt::format("{} {}", partition.id, partition.name), Tone::Accent},
                   {partition.kind, Tone::Quiet},
                   {state, {}},
                   {},
                   {}});
        rows_.push_back({VpId{partition.id, partition.vps.empty() ? 0 : partition.vps.front().index}, true});
        for (const VpRow& vp : partition.vps) {
            const bool looked_at = VpId{partition.id, vp.index} == session.focus();
            grid_.add(
                {{fmt::format("{} VP {}", looked_at ? "\u25b8" : " ", vp.index), looked_at ? Tone::Good : Tone::Plain},
                 {},
                 {vp.activity, {}},
                 {fmt::format("{:#018x}", vp.rip), {}},
                 {fmt::format("{} cpl{}", vp.mode, vp.cpl), Tone::Quiet}});
            rows_.push_back({VpId{partition.id, vp.index}, false});
        }
    }
}

std::optional<VpId> PartitionsView::vp_of(u64 row) const {
    if (row >= rows_.size()) return {};
    return rows_[row].first;
}

// ---- page walks

WalkView::WalkView()
    : live_(whole),
      guest_({{"level", 6}, {"entry at", 19}, {"entry", 19}, {"flags", 20}, {"next", 0}}),
      second_(guest_) {}

void WalkView::update(Session& session) {
    if (!address_) {
        const VpRow* vp = session.focused();
        if (!vp) return;
        address_ = vp->rip;
    }
    live_.update(session, for_focus(session, {{"op", "walk"}, {"address", hex(*address_)}}));
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    guest_.clear();
    second_.clear();
    places_.clear();
    verdict_.clear();
    if (!live_.value()) return;
    const Json& walk = *live_.value();
    faulted_ = !member(walk, "fault").is_null() && words(walk, "fault") != "";
    const auto steps = items(member(walk, "steps"), 16);
    const auto add = [&](Grid& grid, const Json& step, bool last) {
        const Json& place =
            member(step, "entry_address").is_null() ? member(step, "place") : member(step, "entry_address");
        const std::string flags =
            member(step, "flags").is_null() ? words(step, "meaning", 80) : words(step, "flags", 80);
        const Tone tone = last && faulted_ ? Tone::Bad : Tone::Plain;
        grid.add({{words(step, "level", 8), Tone::Quiet},
                  {hex(number_of(place)), Tone::Quiet},
                  {fmt::format("{:#018x}", number(step, "entry")), tone},
                  {flags, tone},
                  {has_number(step, "next") ? hex(number(step, "next")) : words(step, "next", 80), Tone::Accent}});
        if (&grid == &guest_) places_.push_back(number_of(place));
    };
    for (const Json* step : steps) add(guest_, *step, step == steps.back());
    const Json& second = member(walk, "second");
    for (const Json* step : items(second.is_object() ? member(second, "steps") : second, 16))
        add(second_, *step, false);
    verdict_ = faulted_ ? words(walk, "fault", 400)
                        : fmt::format("{:#x} \u2192 physical {}", *address_, words(walk, "physical", 32));
    if (second.is_object() && has_number(second, "spa"))
        verdict_ += fmt::format(" \u2192 machine {:#x}", number(second, "spa"));
    if (!words(walk, "mode").empty()) verdict_ += "  (" + words(walk, "mode", 48) + ")";
}

std::optional<u64> WalkView::entry_address(u64 row) const {
    if (row >= places_.size()) return {};
    return places_[row];
}

std::vector<std::string> WalkView::text() const {
    std::vector<std::string> lines{verdict_};
    for (const std::string& line : table_text(guest_)) lines.push_back("guest  level " + line);
    for (const std::string& line : table_text(second_)) lines.push_back("second  level " + line);
    return lines;
}

// ---- SynIC

SynicView::SynicView(EventLog& log)
    : live_(whole),
      pages_({{"register", 18}, {"value", 19}, {"meaning", 0}}),
      sints_({{"SINT", 6}, {"value", 12}, {"vector", 8}, {"state", 18}, {"queued", 0}}),
      log_(&log),
      events_(log, tap_bit(TapKind::SynicMessage) | tap_bit(TapKind::SynicEvent)) {}

void SynicView::update(Session& session) {
    log_->want(events_.kinds());
    events_.update();
    const std::string place =
        fmt::format("hypervisor/partition{}/vp{}/synic", session.focus().partition, session.focus().vp);
    live_.update(session, {{"op", "inspect"}, {"path", place}, {"json", true}});
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    pages_.clear();
    sints_.clear();
    if (!live_.value()) return;
    const Json& synic =
        below(tree_of(*live_.value()), {"hypervisor", fmt::format("partition{}", session.focus().partition),
                                        fmt::format("vp{}", session.focus().vp), "synic"});
    const auto page = [&](const char* name, const char* meaning) {
        if (!has_number(synic, name)) return;
        const u64 value = number(synic, name);
        const std::string on =
            (value & 1) != 0 ? fmt::format("on, {} at GPA {:#x}", meaning, value & ~u64{0xfff}) : "off";
        pages_.add({{name, {}},
                    {fmt::format("{:#018x}", value), {}},
                    {name == std::string_view("scontrol") ? (value & 1 ? "on" : "off") : on, Tone::Quiet}});
    };
    page("scontrol", "");
    page("simp", "message page");
    page("siefp", "event page");
    page("sirbp", "ring buffers");
    const Json& sints = member(synic, "sint");
    for (unsigned i = 0; i < 16; ++i) {
        if (!has_number(sints, std::to_string(i))) continue;
        const u64 value = number(sints, std::to_string(i));
        const bool masked = (value >> 16 & 1) != 0;
        std::string state = masked ? "masked" : "on";
        if ((value >> 17 & 1) != 0) state += ", auto EOI";
        if ((value >> 18 & 1) != 0) state += ", polling";
        const u64 queued = number(member(synic, fmt::format("queue{}", i)), "count");
        sints_.add({{std::to_string(i), Tone::Quiet},
                    {hex(value), Tone::Quiet},
                    {masked ? "" : fmt::format("{:#x}", value & 0xff), Tone::Accent},
                    {state, masked ? Tone::Quiet : Tone::Good},
                    {queued == 0 ? "" : fmt::format("{} messages wait", queued), Tone::Warning}});
    }
}

std::vector<std::string> SynicView::text() const {
    std::vector<std::string> lines = table_text(pages_);
    for (const std::string& line : table_text(sints_)) lines.push_back("SINT " + line);
    for (std::string& line : table_text(events_)) lines.push_back(std::move(line));
    return lines;
}

// ---- IOMMU

IommuView::IommuView(EventLog& log)
    : live_(whole),
      grid_({{"part", 40}, {"value", 0}}),
      log_(&log),
      events_(log, tap_bit(TapKind::Dma) | tap_bit(TapKind::Msi)) {}

void IommuView::update(Session& session) {
    log_->want(events_.kinds());
    events_.update();
    live_.update(session, {{"op", "inspect"}, {"path", "iommu"}, {"json", true}});
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    grid_.clear();
    if (!live_.value()) return;
    const auto visit = [&](const auto& self, const Json& node, const std::string& path, unsigned depth) -> void {
        if (!node.is_object() || depth > 8) return;
        for (const auto& [key, value] : node.items()) {
            if (grid_.rows() >= 4096) return;
            const std::string name = path.empty() ? shown(key, 64) : path + "/" + shown(key, 64);
            if (value.is_object())
                self(self, value, name, depth + 1);
            else
                grid_.add({{name, Tone::Quiet},
                           {words_of(value, 256),
                            contains_text(name, "fault") && words_of(value) != "0" ? Tone::Warning : Tone::Plain}});
        }
    };
    const Json& tree = tree_of(*live_.value());
    visit(visit, member(tree, "iommu").is_object() ? member(tree, "iommu") : tree, "", 0);
}

std::vector<std::string> IommuView::text() const {
    std::vector<std::string> lines = table_text(grid_);
    for (std::string& line : table_text(events_)) lines.push_back(std::move(line));
    return lines;
}

// ---- translator

TranslatorView::TranslatorView() : live_(whole), block_(whole) {}

namespace {

constexpr std::size_t kMaxCode = 4096;  ///< lines of a block
constexpr unsigned kBlocks = 60;

/// The address of a block: hexadecimal, as `verdigris inspect jit` prints it.
u64 block_place(const Json& block) { return parse_number(words(block, "address", 24), true).value_or(0); }

float column_width(std::string_view name) { return name == "address" ? 18.0F : name == "mode" ? 14.0F : 13.0F; }

}  // namespace

void TranslatorView::take_block(const Json& block) {
    guest_.clear();
    host_.clear();
    for (const Json* part : items(member(block, "code"), kMaxCode)) {
        std::string guest = words(*part, "guest", 200);
        for (const Json* line : items(member(*part, "host"), kMaxCode)) {
            if (host_.size() >= kMaxCode) return;
            guest_.push_back(std::move(guest));
            guest.clear();
            host_.push_back(words_of(*line, 200));
        }
        if (guest.empty()) continue;
        guest_.push_back(std::move(guest));
        host_.emplace_back();
    }
}

void TranslatorView::update(Session& session) {
    live_.update(session, {{"op", "jit_blocks"}, {"limit", kBlocks}});
    if (address_) block_.update(session, {{"op", "jit_block"}, {"address", hex(*address_)}});
    if (block_.answers() != block_taken_) {
        block_taken_ = block_.answers();
        const auto found = block_.value() ? items(member(*block_.value(), "blocks"), 1) : std::vector<const Json*>();
        take_block(found.empty() ? Json() : *found.front());
    }
    if (live_.answers() == taken_) return;
    taken_ = live_.answers();
    blocks_.clear();
    addresses_.clear();
    if (!live_.value()) return;
    std::vector<Column> columns;
    for (const Json* block : items(member(*live_.value(), "blocks"), kBlocks)) {
        if (!block->is_object()) continue;
        std::vector<Cell> row;
        for (const auto& [key, value] : block->items()) {
            if (value.is_structured() || row.size() >= 10) continue;
            if (addresses_.empty()) columns.push_back({shown(key, 20), column_width(key)});
            row.push_back({words_of(value, 160), key == "address" ? Tone::Accent : Tone::Plain});
        }
        addresses_.push_back(block_place(*block));
        blocks_.add(std::move(row));
    }
    if (!columns.empty()) blocks_.set_columns(std::move(columns));
    if (!address_ && !addresses_.empty()) address_ = addresses_.front();
}

std::optional<u64> TranslatorView::block_address(u64 row) const {
    if (row >= addresses_.size()) return {};
    return addresses_[row];
}

std::vector<std::string> TranslatorView::text() const {
    std::vector<std::string> lines = table_text(blocks_);
    for (const std::string& line : guest_) lines.push_back("guest  " + line);
    for (const std::string& line : host_) lines.push_back("host  " + line);
    return lines;
}

// ---- screen

std::string parse_base64(std::string_view text, std::size_t limit) {
    std::string bytes;
    u32 bits = 0;
    unsigned have = 0;
    for (const char c : text) {
        if (c == '=' || bytes.size() >= limit) break;
        const int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                          : c >= 'a' && c <= 'z' ? c - 'a' + 26
                          : c >= '0' && c <= '9' ? c - '0' + 52
                          : c == '+'             ? 62
                          : c == '/'             ? 63
                                                 : -1;
        if (digit < 0) return {};
        bits = (bits << 6 | static_cast<u32>(digit)) & 0xffffff;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        bytes += static_cast<char>(bits >> have & 0xff);
    }
    return bytes;
}

ScreenView::ScreenView()
    : live_([](const Json& reply) {
          const Json& data = member(reply, "png");
          return Picture{data.is_string() ? parse_base64(data.get_ref<const std::string&>(), kMaxPicture) : "",
                         number(reply, "width"), number(reply, "height")};
      }) {}

void ScreenView::update(Session& session) {
    live_.update(session, {{"op", "screen"}, {"partition", session.focus().partition}});
}

const std::string& ScreenView::png() const {
    static const std::string kNone;
    return live_.value() ? live_.value()->png : kNone;
}
std::vector<std::string> ScreenView::text() const {
    if (!live_.value()) return {};
    return {fmt::format("{} x {}", live_.value()->width, live_.value()->height)};
}

}  // namespace vg::desk
