#include "machine/child_services.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "base/state.h"
#include "machine/gen1_board.h"

namespace vg::machine {

using hv::ic::MessageType;
using hv::vsp::BalloonOperation;
using Kind = GuestCommand::Kind;

namespace {

/// Fixed where the interface fixes them (D-04..D-09); the others are ours.
constexpr hv::Guid kKeyboardInstance = hv::guid("d34b2567-b9b6-42b9-8778-0a4ec0b955bf");
constexpr hv::Guid kMouseInstance = hv::guid("58f75a6d-d949-4320-99e1-a2a2576d581c");
constexpr hv::Guid kVideoInstance = hv::guid("5620e0c7-8062-4dce-aeb7-520c7ef76171");
constexpr hv::Guid kShutdownInstance = hv::guid("b6650ff7-33bc-4840-8048-e0676786f393");
constexpr hv::Guid kTimeSyncInstance = hv::guid("2dd1ce17-079e-403c-b352-a1921ee207ee");
constexpr hv::Guid kHeartbeatInstance = hv::guid("76657264-6967-7249-8069-630000000001");
constexpr hv::Guid kKvpInstance = hv::guid("76657264-6967-7249-8069-630000000002");
constexpr hv::Guid kVssInstance = hv::guid("76657264-6967-7249-8069-630000000003");
constexpr hv::Guid kMemoryInstance = hv::guid("76657264-6967-7249-8069-630000000004");

hv::video::Resolution parse_resolution(const std::string& text) {
    for (const hv::video::Resolution& each : hv::vsp::Video::resolutions())
        if (fmt::format("{}x{}", each.width, each.height) == text) return each;
    return hv::vsp::Video::resolutions().front();
}

MessageType service_type(Kind kind) {
    switch (kind) {
        case Kind::Shutdown:
        case Kind::Reboot:
        case Kind::Hibernate:
            return MessageType::Shutdown;
        case Kind::Freeze:
        case Kind::Thaw:
        case Kind::HotBackup:
            return MessageType::Vss;
        default:
            return MessageType::Kvp;
    }
}

}  // namespace

ChildServices::ChildServices(const Board& board, const ChildDevicesSection& section)
    : board_(board), pages_(board.partition, board.memory, board.ram, board.memory_limit) {
    using namespace hv;
    if (section.heartbeat) heartbeat_ = std::make_unique<Service<ic::HeartbeatService>>();
    if (section.time_sync) time_ = std::make_unique<Service<ic::TimeSyncService>>(static_cast<ic::HostTime&>(*this));
    const auto command = [&](bool wanted, MessageType type) {
        return wanted ? std::make_unique<Service<ic::CommandService>>(type, static_cast<ic::CommandClient&>(*this))
                      : nullptr;
    };
    shutdown_ = command(section.shutdown, MessageType::Shutdown);
    kvp_ = command(section.kvp, MessageType::Kvp);
    vss_ = command(section.vss, MessageType::Vss);
    if (section.keyboard) keyboard_ = std::make_unique<Service<vsp::Keyboard>>();
    if (section.mouse) mouse_ = std::make_unique<Service<vsp::Mouse>>();
    if (section.video) {
        video_ = std::make_unique<Service<vsp::Video>>(
            static_cast<vsp::VideoHost&>(*this), static_cast<u32>(kVideoBytes), parse_resolution(section.resolution));
    }
    if (section.dynamic_memory)
        balloon_ = std::make_unique<Service<vsp::Balloon>>(static_cast<vsp::BalloonHost&>(*this));
}

ChildServices::~ChildServices() = default;

template <class Core>
void ChildServices::add(Service<Core>* service, const char* name, const hv::Guid& type, const hv::Guid& instance,
                        bool pipe, u16 mmio_megabytes) {
    if (service == nullptr) return;
    hv::vmbus::Offer offer;
    offer.name = fmt::format("{}.{}", board_.name, name);
    offer.type = type;
    offer.instance = instance;
    offer.flags = static_cast<u16>(hv::vmbus::kOfferEnumerate | (pipe ? hv::vmbus::kOfferNamedPipe : 0));
    if (pipe) std::memcpy(offer.user_data.data(), &hv::vmbus::kPipeMessageMode, sizeof hv::vmbus::kPipeMessageMode);
    offer.mmio_megabytes = mmio_megabytes;
    auto device = std::make_unique<hv::parent::MessageDevice>(offer.name, board_.events, service->core);
    service->device = device.get();
    board_.parent.add_device(std::move(offer), std::move(device));
}

void ChildServices::offer() {
    add(shutdown_.get(), "shutdown", hv::kShutdownClass, kShutdownInstance, true);
    add(time_.get(), "time_sync", hv::kTimeSyncClass, kTimeSyncInstance, true);
    add(heartbeat_.get(), "heartbeat", hv::kHeartbeatClass, kHeartbeatInstance, true);
    add(kvp_.get(), "kvp", hv::kKvpClass, kKvpInstance, true);
    add(vss_.get(), "vss", hv::kVssClass, kVssInstance, true);
    add(keyboard_.get(), "keyboard", hv::kKeyboardClass, kKeyboardInstance, false);
    add(mouse_.get(), "mouse", hv::kMouseClass, kMouseInstance, false);
    add(video_.get(), "video", hv::kVideoClass, kVideoInstance, false, static_cast<u16>(kVideoBytes >> 20));
    add(balloon_.get(), "memory", hv::kDynamicMemoryClass, kMemoryInstance, false);
}

ChildServices::Service<hv::ic::CommandService>* ChildServices::service_of(MessageType type) const {
    return type == MessageType::Shutdown ? shutdown_.get() : type == MessageType::Kvp ? kvp_.get() : vss_.get();
}

const hv::ic::CommandService* ChildServices::command_service(MessageType type) const {
    const auto* const service = service_of(type);
    return service == nullptr ? nullptr : &service->core;
}

u64 ChildServices::memory_bytes() const {
    if (!balloon_) return board_.memory_bytes;
    return board_.memory_bytes + (balloon_->core.added_pages() - balloon_->core.ballooned_pages()) * kPageSize;
}

// ---- commands

Result<u64> ChildServices::run(const GuestCommand& command) {
    const auto off = [](const char* key) {
        return fail(Error::Code::Usage, fmt::format("this partition has none: devices.{} is false", key));
    };
    switch (command.kind) {
        case Kind::TimeSync:
            if (!time_) return off("time_sync");
            if (time_->core.state() != hv::ic::IcService::State::Ready)
                return fail(Error::Code::Usage, "the guest has no driver for time synchronization (yet)");
            time_->core.synchronize();
            time_->device->poke();
            return u64{0};
        case Kind::Memory:
            return balloon_ ? run_memory(command) : Result<u64>(off("dynamic_memory"));
        case Kind::Keys:
            return keyboard_ || board_.legacy != nullptr ? press(command) : Result<u64>(off("keyboard"));
        case Kind::Mouse:
            if (!mouse_) return off("mouse");
            if (!mouse_->core.report(command.mouse))
                return fail(Error::Code::Usage, "the guest has no driver for the mouse (yet), or does not read it");
            mouse_->device->poke();
            return u64{0};
        default:
            return run_integration(command);
    }
}

/// Without a driver for the synthetic keyboard a PC's has them.
Result<u64> ChildServices::press(const GuestCommand& command) {
    if (board_.legacy != nullptr && (!keyboard_ || keyboard_->core.state() != hv::vsp::Keyboard::State::Ready)) {
        if (!board_.legacy->type(command.keys))
            return fail(Error::Code::Usage, "the guest has not read what was typed before; ask again later");
        return u64{0};
    }
    if (command.keys.size() > keyboard_->core.room())
        return fail(Error::Code::Usage, "the guest has no driver for the keyboard (yet), or does not read it");
    for (const hv::vsp::Keystroke& key : command.keys)
        (void)keyboard_->core.press(key);  // a key that is none does nothing
    keyboard_->device->poke();
    return u64{0};
}

Result<u64> ChildServices::run_integration(const GuestCommand& command) {
    const MessageType type = service_type(command.kind);
    auto* const service = service_of(type);
    if (service == nullptr) {
        return fail(Error::Code::Usage, fmt::format("this partition has none: devices.{} is false",
                                                    type == MessageType::Shutdown ? "shutdown"
                                                    : type == MessageType::Kvp    ? "kvp"
                                                                                  : "vss"));
    }
    if (service->core.state() == hv::ic::IcService::State::Refused)
        return fail(Error::Code::Usage, "the guest's driver knows none of the versions of this service");
    std::vector<u8> body = command_body(command);
    if (body.empty()) return fail(Error::Code::Usage, "a text is too long, a number is none, or there is no such pool");
    if (waiting_.size() >= kMaxWaiting)
        return fail(Error::Code::Usage, fmt::format("{} commands wait for the guest already", waiting_.size()));
    const u64 number = note(command.kind);
    waiting_.push_back({number, type, std::move(body)});
    submit_next(type);
    return number;
}

/// The oldest results go; those of commands that wait are the newest but for kMaxWaiting.
u64 ChildServices::note(Kind kind) {
    if (results_.size() >= kMaxResults) results_.pop_front();
    results_.push_back({++last_number_, kind, CommandResult::State::Waiting, 0, 0, {}});
    return last_number_;
}

CommandResult* ChildServices::find(u64 number) {
    const auto found = std::ranges::find(results_, number, &CommandResult::number);
    return found == results_.end() ? nullptr : &*found;
}

const CommandResult* ChildServices::result(u64 number) const {
    const auto found = std::ranges::find(results_, number, &CommandResult::number);
    return found == results_.end() ? nullptr : &*found;
}

void ChildServices::submit_next(MessageType type) {
    Service<hv::ic::CommandService>* const service = service_of(type);
    const auto next = std::ranges::find(waiting_, type, &Waiting::type);
    if (service == nullptr || next == waiting_.end() || !service->core.submit(next->number, next->body)) return;
    waiting_.erase(next);
    service->device->poke();
}

void ChildServices::finished(MessageType service, u64 number, End end, u32 status, std::span<const u8> body) {
    if (CommandResult* const result = find(number)) {
        result->state = end == End::Gone              ? CommandResult::State::Gone
                        : status == hv::ic::kStatusOk ? CommandResult::State::Done
                                                      : CommandResult::State::Failed;
        result->status = status;
        result->body.assign(body.begin(), body.end());
    }
    // From inside the core: it sends what is submitted when it is asked next.
    const auto next = std::ranges::find(waiting_, service, &Waiting::type);
    if (next != waiting_.end() && service_of(service)->core.submit(next->number, next->body)) waiting_.erase(next);
}

// ---- memory

Result<u64> ChildServices::run_memory(const GuestCommand& command) {
    const hv::vsp::Balloon& core = balloon_->core;
    if (core.state() != hv::vsp::Balloon::State::Ready)
        return fail(Error::Code::Usage, "the guest has no driver for dynamic memory (yet)");
    if (memory_command_ != 0 || !core.idle())
        return fail(Error::Code::Usage, fmt::format("the guest is busy with command {}", memory_command_));
    if (command.bytes % kPageSize != 0 || command.bytes == 0 || command.bytes > board_.memory_limit) {
        return fail(Error::Code::Usage,
                    fmt::format("this partition can have from 4 KiB to {} of memory, in whole pages; child.memory_max "
                                "says how much",
                                to_string(ByteSize{board_.memory_limit})));
    }
    memory_target_ = command.bytes;
    memory_command_ = note(command.kind);
    const u64 number = memory_command_;
    if (!pursue_memory()) end_memory();
    balloon_->device->poke();
    return number;
}

bool ChildServices::pursue_memory() {
    hv::vsp::Balloon& core = balloon_->core;
    const u64 now = memory_bytes();
    if (now > memory_target_) {
        return core.inflate(static_cast<u32>(std::min<u64>((now - memory_target_) / kPageSize, ~u32{0})));
    }
    if (now == memory_target_) return false;
    const u64 wanted = (memory_target_ - now) / kPageSize;
    if (core.ballooned_pages() != 0) return core.deflate(wanted);
    // Behind what was there and what was added, whole blocks as the guest wants them.
    const u64 unit = core.hot_add_alignment_pages();
    const RamLayout& all = pages_.layout();
    const auto page_of = [&](u64 bytes) { return (bytes < all.low ? bytes : kFourGiB + bytes - all.low) / kPageSize; };
    const u64 first = page_of(align_up(board_.memory_bytes, unit * kPageSize) + core.added_pages() * kPageSize);
    u64 count = std::min<u64>(wanted, hv::balloon::kMaxRangePages) / unit * unit;
    while (count != 0 && !pages_.absent(first, count)) count -= unit;
    return count != 0 && core.hot_add({first, count});
}

void ChildServices::end_memory() {
    if (CommandResult* const result = find(memory_command_)) {
        const u64 now = memory_bytes();
        result->state = now == memory_target_ ? CommandResult::State::Done : CommandResult::State::Failed;
        result->bytes = now;
    }
    memory_command_ = 0;
}

/// The guest has done a part of it, or all it could.
void ChildServices::finished(BalloonOperation operation, u64 pages) {
    if (memory_command_ == 0) return;
    const bool again = pages != 0 && operation != BalloonOperation::Inflate && pursue_memory();
    if (!again) end_memory();
}

// ---- clocks and frame buffer

u64 ChildServices::now_100ns() const {
    return hv::ic::kUnixEpoch_100ns + board_.start_seconds * 10'000'000 + board_.events.now() / 100;
}

/// D-98: anywhere in the windows that VMBus devices have, on a page. What lies beneath is moved away in whole large
/// pages: nothing else is there, and so their tables go too.
bool ChildServices::place(u64 gpa) {
    struct Window {
        u64 base, size;
    };
    const Window windows[] = {{board::kLowGapBase, board::kLowMmioSize},
                              {align_up(RamLayout(board_.memory_limit).top(), u64{1} << 30), board::kHighMmioSize}};
    const bool fits = std::ranges::any_of(windows, [&](const Window& window) {
        return gpa >= window.base && gpa - window.base <= window.size - kVideoBytes;
    });
    // Linux's hyperv_fb of generation 1 takes pages of its own, as many as it needs.
    const bool in_ram = !fits && board_.legacy != nullptr && pages_.mapped(gpa / kPageSize, 1);
    if ((!fits && !in_ram) || gpa % kPageSize != 0) return false;
    if (framed_ && !frame_in_ram_) {
        constexpr u64 kLarge = u64{2} << 20;
        const u64 from = align_down(frame_gpa_, kLarge), to = align_up(frame_gpa_ + kVideoBytes, kLarge);
        if (!board_.partition.unmap_memory(Gpa(from), to - from)) return false;
        if (board_.legacy != nullptr) board_.legacy->show_video();  // it may have been there
    }
    frame_in_ram_ = in_ram;
    framed_ = in_ram || board_.partition.map_memory(Gpa(gpa), board_.video, kVideoBytes, {}).has_value();
    frame_gpa_ = framed_ ? gpa : 0;
    return framed_;
}

bool ChildServices::read_frame(u64 offset, std::span<u8> out) const {
    if (frame_in_ram_) return board_.partition.read_memory(Gpa(frame_gpa_ + offset), out.data(), out.size());
    if (!vg::fits(offset, out.size(), kVideoBytes)) return false;
    board_.memory.read(board_.video + offset, out.data(), out.size());
    return true;
}

// ---- state

void ChildServices::fields(StateVisitor& v) {
    v("last_command", last_number_, Fmt::Dec);
    if (balloon_) {
        v("memory_target", memory_target_, Fmt::Dec);
        v("memory_command", memory_command_, Fmt::Dec);
    }
    if (video_) {
        v("framed", framed_);
        v("frame_gpa", frame_gpa_);
        if (board_.legacy != nullptr) v("frame_in_ram", frame_in_ram_);
    }
    command_fields(v);
}

void ChildServices::command_fields(StateVisitor& v) {
    u32 count = static_cast<u32>(waiting_.size());
    v("waiting", count, Fmt::Dec);
    if (v.loading()) waiting_.assign(std::min<std::size_t>(count, kMaxWaiting), {});
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
        const VisitScope scope(v, fmt::format("waiting{}", i));
        v("number", waiting_[i].number, Fmt::Dec);
        v("type", waiting_[i].type, Fmt::Dec);
        u32 size = static_cast<u32>(waiting_[i].body.size());
        v("size", size, Fmt::Dec);
        if (v.loading()) waiting_[i].body.assign(std::min(size, hv::ic::IcService::kMaxBody), 0);
        if (!waiting_[i].body.empty()) v.bytes("body", waiting_[i].body);
    }
    count = static_cast<u32>(results_.size());
    v("results", count, Fmt::Dec);
    if (v.loading()) results_.assign(std::min<std::size_t>(count, kMaxResults), {});
    for (std::size_t i = 0; i < results_.size(); ++i) {
        const VisitScope scope(v, fmt::format("result{}", i));
        CommandResult& result = results_[i];
        v("number", result.number, Fmt::Dec);
        v("kind", result.kind, Fmt::Dec);
        v("state", result.state, Fmt::Dec);
        if (v.loading() && result.state > CommandResult::State::Gone) result.state = CommandResult::State::Gone;
        v("status", result.status);
        v("bytes", result.bytes, Fmt::Dec);
        u32 size = static_cast<u32>(result.body.size());
        v("size", size, Fmt::Dec);
        if (v.loading()) result.body.assign(std::min(size, hv::ic::IcService::kMaxBody), 0);
        if (!result.body.empty()) v.bytes("body", result.body);
    }
}

}  // namespace vg::machine
