#include "ui/cli/snapshot_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "devices/storage/block_file.h"
#include "machine/snapshot.h"

namespace vg::cli {

Result<SnapshotPlan::Item> SnapshotPlan::parse(const std::string& text) {
    const auto bad = [&](const std::string& why) {
        return fail(Error::Code::Usage, fmt::format("--snapshot-at {}: {}", text, why));
    };
    constexpr const char* kForm =
        "write EVENT=FILE with an event of time:2s, instructions:1000000, console:REGEX or end";
    const std::size_t equals = text.rfind('=');  // an expression may have some
    if (equals == std::string::npos || equals + 1 == text.size()) return bad(kForm);
    Item item;
    item.text = text;
    item.file = text.substr(equals + 1);
    const std::string event = text.substr(0, equals);
    const std::size_t colon = event.find(':');
    const std::string kind = event.substr(0, colon), value = colon == std::string::npos ? "" : event.substr(colon + 1);
    if (event == "end") {
        item.at_end = true;
    } else if (kind == "time") {
        const auto time = machine::parse_duration(value);
        if (!time) return bad(time.error().text);
        item.time = time->ns;
    } else if (kind == "instructions") {
        const auto [end, status] = std::from_chars(value.data(), value.data() + value.size(), item.instructions);
        if (status != std::errc{} || end != value.data() + value.size()) return bad("write a number of instructions");
    } else if (kind == "console" && !value.empty()) {
        auto script = machine::ConsoleScript::create({value}, {}, {});
        if (!script) return bad(script.error().text);
        item.script = std::move(*script);
    } else {
        return bad(kForm);
    }
    if (::access(item.file.c_str(), F_OK) == 0) return bad("the file is there already; remove it, or name another");
    if (auto ok = devices::check_new_file(item.file); !ok) return bad(ok.error().text);
    return item;
}

Result<std::unique_ptr<SnapshotPlan>> SnapshotPlan::create(const std::vector<std::string>& texts) {
    auto plan = std::make_unique<SnapshotPlan>();
    for (const std::string& text : texts) {
        auto item = parse(text);
        if (!item) return Unexpected{item.error()};
        plan->items_.push_back(std::move(*item));
    }
    return plan;
}

bool SnapshotPlan::on_console(u8 byte) {
    bool due = false;
    for (Item& item : items_) {
        if (!item.script || item.done || item.script->all_seen()) continue;
        item.script->feed(byte, [](std::string_view) {});
        due |= item.script->all_seen();
    }
    return due;
}

VTime SnapshotPlan::next_time() const {
    VTime next = kNever;
    for (const Item& item : items_)
        if (!item.done) next = std::min(next, item.time);
    return next;
}

u64 SnapshotPlan::next_instructions() const {
    u64 next = machine::Scheduler::kNoCount;
    for (const Item& item : items_)
        if (!item.done) next = std::min(next, item.instructions);
    return next;
}

void SnapshotPlan::look(machine::Machine& machine, bool ended) {
    for (Item& item : items_) {
        if (item.done) continue;
        const bool due = machine.now() >= item.time || machine.instructions() >= item.instructions ||
                         (item.script && item.script->all_seen()) || (ended && item.at_end);
        if (!due) continue;
        item.done = true;
        if (auto ok = machine::save_snapshot(machine, item.file); !ok && !failure_)
            failure_ = ok.error().in("--snapshot-at");
    }
}

Result<void> SnapshotPlan::status() const {
    if (failure_) return Unexpected{*failure_};
    for (const Item& item : items_) {
        if (!item.done)
            return fail(Error::Code::Usage, fmt::format("--snapshot-at {}: it did not come to that", item.text));
    }
    return {};
}

}  // namespace vg::cli
