#include "hv/parent/built_in_parent.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/state.h"
#include "hv/hypervisor.h"
#include "hv/spec/storvsc.h"
#include "hv/vmbus/channel.h"
#include "hv/vp.h"

namespace vg::hv::parent {

BuiltInParent::BuiltInParent(std::string name, EventQueue& events, Log& log, devices::IoBus& ports,
                             ParentEvents parent_events, vmbus::ServerOptions options)
    : events_(events),
      log_(log),
      ports_(ports),
      parent_events_(std::move(parent_events)),
      options_(options),
      server_(static_cast<vmbus::Notifier&>(*this), log, options),
      work_timer_(events.add(name + "/vmbus-work", [this](VTime) { run_work(); })),
      retry_timer_(events.add(name + "/vmbus-retry", [this](VTime) { retry(); })) {}

BuiltInParent::~BuiltInParent() {
    events_.cancel(work_timer_);
    events_.cancel(retry_timer_);
}

void BuiltInParent::attach(Partition& partition) {
    VG_ASSERT(partition_ == nullptr);
    partition_ = &partition;
    const std::set<u32> ids = {vmbus::kMessageConnectionLegacy, vmbus::kMessageConnectionContact,
                               options_.message_connection};
    for (const u32 id : ids) {
        const bool connected = partition.connections().connect(id, {PortKind::Message, static_cast<PortOwner*>(this)});
        VG_ASSERT(connected);
    }
}

void BuiltInParent::add_mmio(Gpa base, u64 size, mmu::MmioHandler& handler) { mmio_.push_back({base, size, &handler}); }

StorageController& BuiltInParent::offer_storage(vmbus::Offer offer, u16 max_sub_channels) {
    storage_.push_back(
        std::make_unique<StorageController>(offer.name, offer.instance, events_, log_, max_sub_channels));
    offer.flags = vmbus::kOfferEnumerate;
    const u16 relid = server_.offer(std::move(offer), *storage_.back());
    VG_ASSERT(relid != 0);
    return *storage_.back();
}

StorageController& BuiltInParent::add_storage_controller(const std::string& name, const Guid& instance,
                                                         u16 max_sub_channels) {
    vmbus::Offer offer;
    offer.name = name;
    offer.type = kScsiControllerClass;
    offer.instance = instance;
    return offer_storage(std::move(offer), max_sub_channels);
}

StorageController& BuiltInParent::add_ide_accelerator(const std::string& name, u8 channel, u8 drive) {
    vmbus::Offer offer;
    offer.name = name;
    offer.type = kIdeAcceleratorClass;
    offer.instance = guid("00000000-0000-8899-0000-000000000000");
    offer.instance[0] = channel;
    offer.instance[4] = drive;  // D-02: the guest takes its SCSI target from there
    storvsc::IdeOffer about{};
    about.target = drive;
    about.flags = storvsc::kIdeOfferDisk;
    std::memcpy(offer.user_data.data(), &about, sizeof about);
    return offer_storage(std::move(offer), 0);
}

u16 BuiltInParent::add_device(vmbus::Offer offer, std::unique_ptr<vmbus::ChannelDevice> device) {
    devices_.push_back({offer.name, std::move(device)});
    const u16 relid = server_.offer(std::move(offer), *devices_.back().device);
    VG_ASSERT(relid != 0);
    return relid;
}

SocketHub& BuiltInParent::add_sockets(const std::string& name) {
    VG_ASSERT(sockets_ == nullptr);
    sockets_ = std::make_unique<SocketHub>(name, events_, log_, server_);
    return *sockets_;
}

void BuiltInParent::reset() {
    server_.reset();
    work_.clear();
    queued_signals_.clear();
    queued_messages_ = 0;
    retry_delay_ = kMinRetryDelay;
    events_.cancel(work_timer_);
    events_.cancel(retry_timer_);
}

// ---- from the guest: queue, never act

HvStatus BuiltInParent::on_message(Partition&, u32, const PostedMessage& message) {
    if (message.type != vmbus::kMessageTypeChannel) return HvStatus::Success;  // nobody here knows other types
    if (queued_messages_ >= kMaxQueuedMessages) return HvStatus::InsufficientBuffers;
    work_.push_back({std::nullopt, {message.payload.begin(), message.payload.end()}});
    ++queued_messages_;
    schedule_work();
    return HvStatus::Success;
}

HvStatus BuiltInParent::on_signal(Partition&, u32 connection_id, u16 flag) {
    if (flag != 0) return HvStatus::InvalidParameter;  // an event port of one flag
    if (!queued_signals_.insert(connection_id).second) return HvStatus::Success;
    work_.push_back({connection_id, {}});
    schedule_work();
    return HvStatus::Success;
}

void BuiltInParent::schedule_work() {
    if (!events_.armed(work_timer_)) events_.arm(work_timer_, events_.now() + kWorkDelay);
}

void BuiltInParent::run_work() {
    // Only what was queued before: work that arrives meanwhile gets its own delay.
    for (std::size_t left = work_.size(); left != 0 && !work_.empty(); --left) {
        if (!work_.front().signal && !server_.accepting()) return;  // retry() comes back
        const Work work = std::move(work_.front());
        work_.pop_front();
        if (work.signal) {
            queued_signals_.erase(*work.signal);
            server_.on_signal(*work.signal);
        } else {
            --queued_messages_;
            server_.on_message(work.message);
        }
    }
    if (!work_.empty()) schedule_work();
}

void BuiltInParent::retry() {
    retry_delay_ = std::min(retry_delay_ * 2, kMaxRetryDelay);
    server_.flush();
    if (!server_.has_unsent()) retry_delay_ = kMinRetryDelay;
    if (server_.accepting() && !work_.empty()) schedule_work();
}

// ---- to the guest

bool BuiltInParent::send_message(u32 vp_index, u8 sint, std::span<const u8> message) {
    const HvStatus status = partition_->post_message(vp_index, sint, vmbus::kMessageTypeChannel, message);
    if (status == HvStatus::InsufficientBuffers) {
        if (!events_.armed(retry_timer_)) events_.arm(retry_timer_, events_.now() + retry_delay_);
        return false;
    }
    if (status != HvStatus::Success && complaints_.pass())
        log_.warn(Area::Vmbus, "channel message to VP {} SINT {} dropped: status {:#x}", vp_index, sint,
                  static_cast<u16>(status));
    return true;
}

void BuiltInParent::signal_guest(u32 vp_index, u8 sint, u16 flag) {
    if (partition_->signal_event(vp_index, sint, flag) != HvStatus::Success) ++lost_signals_;
}

bool BuiltInParent::connect_event(u32 connection_id) {
    return partition_->connections().connect(connection_id, {PortKind::Event, static_cast<PortOwner*>(this)});
}
void BuiltInParent::disconnect_event(u32 connection_id) { partition_->connections().disconnect(connection_id); }

bool BuiltInParent::read_guest(u64 gpa, void* out, u64 size) { return partition_->read_memory(Gpa(gpa), out, size); }
bool BuiltInParent::write_guest(u64 gpa, const void* data, u64 size) {
    return partition_->write_memory(Gpa(gpa), data, size);
}

std::span<u8> BuiltInParent::guest_memory(u64 gpa, u64 size, bool fill) {
    return partition_->memory_at(Gpa(gpa), size, fill);
}

// ---- intercepts

u32 BuiltInParent::port_read(Vp&, u16 port, unsigned size) { return ports_.read(port, size); }
void BuiltInParent::port_write(Vp&, u16 port, unsigned size, u32 value) { ports_.write(port, size, value); }

const BuiltInParent::MmioRange* BuiltInParent::find_mmio(Gpa gpa, unsigned size) const {
    for (const MmioRange& range : mmio_) {
        if (gpa >= range.base && gpa - range.base < range.size && size <= range.size - (gpa - range.base))
            return &range;
    }
    return nullptr;
}

bool BuiltInParent::mmio_read(Vp&, Gpa gpa, unsigned size, u64& value) {
    const MmioRange* range = find_mmio(gpa, size);
    if (range == nullptr) return false;
    value = range->handler->mmio_read(gpa - range->base, size);
    return true;
}

bool BuiltInParent::mmio_write(Vp&, Gpa gpa, unsigned size, u64 value) {
    const MmioRange* range = find_mmio(gpa, size);
    if (range == nullptr) return false;
    range->handler->mmio_write(gpa - range->base, size, value);
    return true;
}

int BuiltInParent::acknowledge_external(Vp&) { return board_ != nullptr ? board_->acknowledge_external() : -1; }
cpu::FerrAnswer BuiltInParent::ferr(Vp&, bool active) {
    return board_ != nullptr ? board_->ferr(active) : cpu::FerrAnswer::Exception;
}

void BuiltInParent::partition_reset(Vp&) {
    if (parent_events_.reset) parent_events_.reset();
}
void BuiltInParent::partition_shutdown(Vp&) {
    if (parent_events_.power_off) parent_events_.power_off();
}
void BuiltInParent::partition_crashed(Vp&) {
    if (parent_events_.crashed) parent_events_.crashed(partition_->crash());
}

/// The timers are the event queue's.
void BuiltInParent::work_fields(StateVisitor& v) {
    const VisitScope scope(v, "work");
    u32 count = static_cast<u32>(work_.size());
    v("count", count, Fmt::Dec);
    if (v.loading()) {
        work_.assign(std::min<std::size_t>(count, kMaxQueuedMessages + vmbus::kMaxRelid), {});
        queued_signals_.clear();
        queued_messages_ = 0;
    }
    for (std::size_t i = 0; i < work_.size(); ++i) {
        const VisitScope each(v, std::to_string(i));
        bool is_signal = work_[i].signal.has_value();
        u32 connection_id = work_[i].signal.value_or(0);
        v("is_signal", is_signal);
        v("connection_id", connection_id);
        v("message", work_[i].message, vmbus::kMaxMessageSize);
        if (!v.loading()) continue;
        if (is_signal) {
            work_[i].signal = connection_id;
            queued_signals_.insert(connection_id);
        } else {
            ++queued_messages_;
        }
    }
}

void BuiltInParent::fields(StateVisitor& v) {
    v("lost_signals", lost_signals_, Fmt::Dec);
    v("retry_delay", retry_delay_, Fmt::Dec);
    if (sockets_ != nullptr) {  // first: the server's channels of sockets have to be there
        const VisitScope scope(v, "sockets");
        sockets_->fields(v);
    }
    {
        const VisitScope scope(v, "vmbus");
        server_.fields(v);
    }
    work_fields(v);
    for (const auto& controller : storage_) {
        const VisitScope scope(v, controller->name());
        controller->fields(v);
    }
    for (const Device& each : devices_) {
        const VisitScope scope(v, each.name);
        each.device->fields(v);
    }
}

}  // namespace vg::hv::parent
