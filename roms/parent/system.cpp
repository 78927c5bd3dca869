#include "roms/parent/system.h"

#include <algorithm>

#include "roms/parent/console.h"
#include "roms/parent/hypercalls.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace {

constexpr VTime kNsPerTick = 100;

u64 own_partition_id() {
    u64 id = 0;
    const CallResult result = invoke(Call::GetPartitionId, {}, {}, 0, 0, writable_bytes_of(id));
    if (result.status != HvStatus::Success) panic("this partition has no id");
    return id;
}

}  // namespace

VTime ReferenceClock::now() const { return reference_time_100ns() * kNsPerTick; }

Result<std::unique_ptr<System>> System::create(hv::vsp::BlockBackend& disk, s64 unix_seconds_at_zero, Log log) {
    auto store = Store::open(disk);
    if (!store) return Unexpected{store.error()};
    return std::unique_ptr<System>(new System(std::move(*store), unix_seconds_at_zero, std::move(log)));
}

System::System(std::unique_ptr<Store> store, s64 unix_seconds_at_zero, Log log)
    : log_(std::move(log)),
      ports_(synic_, own_partition_id()),
      store_(std::move(store)),
      services_{clock_, log_, ports_, *store_, unix_seconds_at_zero} {
    for (const ChildEntry& entry : store_->table().children)
        children_.push_back(std::make_unique<Child>(entry, services_));
}

bool System::run() {
    log("parent: {} children, {} MiB free", children_.size(), free_page_count() * kPageSize >> 20);
    for (const auto& child : children_) {
        if (child->entry().autostart) start(*child);
    }
    while (!over_) {
        if (work()) continue;
        if (store_->table().exit == ExitRule::WhenChildrenStop && children_stopped()) break;
        sleep();
    }
    bool right = true;
    for (const auto& child : children_) {
        child->stop();
        right = right && !(child->entry().autostart && child->state() == Child::State::Failed);
    }
    right = root_deposits().take_back() && right;
    log("parent: {} MiB free", free_page_count() * kPageSize >> 20);
    return right;
}

void System::start(Child& child) {
    auto ok = child.start();
    if (ok) {
        log("parent: {}: started as partition {}", child.entry().name, child.partition_id());
    } else {
        log("parent: {}", ok.error().text);
    }
}

bool System::children_stopped() const {
    return std::none_of(children_.begin(), children_.end(), [](const auto& child) {
        return child->entry().autostart && child->state() == Child::State::Running;
    });
}

bool System::work() {
    bool any = synic_.drain(*this);
    const VTime now = clock_.now();
    for (const auto& child : children_) {
        any = child->run(now) || any;
        any = child->collect() || any;
    }
    return read_console() || any;
}

/// Interrupts are closed, so what comes after the last look ends the sleep at once.
void System::sleep() {
    VTime next = kNever;
    for (const auto& child : children_) next = std::min(next, child->next());
    // Rounded up: a timer is not due before its time.
    if (next != kNever) set_alarm(next / kNsPerTick + 1);
    wait_for_interrupt();
}

void System::on_message(u8 sint, u32 type, u64 origin, std::span<const u8> payload) {
    if (sint == kMessageSint) {
        (void)ports_.deliver_message(origin, type, payload);  // or of a port that is gone
        return;
    }
    for (const auto& child : children_) {
        if (child->partition_id() == origin && origin != 0)
            return child->on_intercept(static_cast<hv::MessageType>(type), payload);
    }
    if (strays_.pass()) log("parent: message {:#x} about partition {}, which is not there", type, origin);
}

void System::on_event(u8, u32 flag) { (void)ports_.deliver_event(flag); }

// ---- the console

const System::Command System::kCommands[] = {
    {"list", "the children and what they do", &System::list},
    {"start", "NAME: makes a child and lets it run", &System::start_named},
    {"stop", "NAME: takes it apart as it is", &System::stop_named},
    {"show", "NAME: what it has and did", &System::show},
    {"help", "this list", &System::help},
    {"shutdown", "stops all children and powers the machine off", &System::shut_down},
};

bool System::read_console() {
    constexpr std::size_t kLongestLine = 256;
    bool any = false;
    while (const auto byte = console_read()) {
        any = true;
        if (*byte == '\r' || *byte == '\n') {
            console_write("\n");
            const std::string line = std::move(line_);
            line_.clear();
            execute(line);
        } else if (*byte == '\b' || *byte == 0x7f) {
            if (line_.empty()) continue;
            line_.pop_back();
            console_write("\b \b");
        } else if (*byte >= ' ' && line_.size() < kLongestLine) {
            line_ += static_cast<char>(*byte);
            console_write({&line_.back(), 1});
        }
    }
    return any;
}

void System::execute(std::string_view line) {
    const auto trim = [](std::string_view text) {
        while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
        while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
        return text;
    };
    line = trim(line);
    if (line.empty()) return;
    const std::string_view name = line.substr(0, line.find(' '));
    for (const Command& command : kCommands) {
        if (command.name == name) return (this->*command.run)(trim(line.substr(name.size())));
    }
    log("there is no \"{}\"; try help", name);
}

Child* System::find(std::string_view name) {
    for (const auto& child : children_) {
        if (child->entry().name == name) return child.get();
    }
    return nullptr;
}

void System::with_child(std::string_view name, const std::function<void(Child&)>& action) {
    Child* const child = find(name);
    if (child == nullptr) return log("there is no child \"{}\"; try list", name);
    action(*child);
}

void System::list(std::string_view) {
    for (const auto& child : children_) {
        const std::string text = child->describe();
        log_line(text.substr(0, text.find('\n')));
    }
}

void System::start_named(std::string_view name) {
    with_child(name, [this](Child& child) {
        if (child.state() == Child::State::Running) return log("{} runs already", child.entry().name);
        start(child);
    });
}

void System::stop_named(std::string_view name) {
    with_child(name, [](Child& child) {
        if (child.state() != Child::State::Running) return log("{} does not run", child.entry().name);
        child.stop();
        log("parent: {}: stopped", child.entry().name);
    });
}

void System::show(std::string_view name) {
    with_child(name, [](Child& child) { log_line(child.describe()); });
}

void System::help(std::string_view) {
    for (const Command& command : kCommands) log("{:<9} {}", command.name, command.help);
}

void System::shut_down(std::string_view) { over_ = true; }

}  // namespace vg::parent
