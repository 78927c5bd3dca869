#include "hv/parent/storage_controller.h"

#include <algorithm>
#include <cstring>

#include "base/state.h"
#include "hv/parent/range_data.h"

namespace vg::hv::parent {

namespace {

/// The request in a storage packet, for people: command, blocks, bytes.
std::string describe(std::span<const u8> payload) {
    storvsc::Packet packet{};
    std::memcpy(&packet, payload.data(), std::min(payload.size(), sizeof packet));
    if (packet.operation != static_cast<u32>(storvsc::Operation::ExecuteSrb))
        return fmt::format("operation {}", packet.operation);
    const auto be = [&](unsigned at, unsigned size) {
        u64 value = 0;
        for (unsigned i = 0; i < size; ++i) value = value << 8 | packet.srb.cdb[at + i];
        return value;
    };
    std::string cdb;
    for (unsigned i = 0; i < std::min<unsigned>(packet.srb.cdb_length, storvsc::kCdbSize); ++i)
        cdb += fmt::format(" {:02x}", packet.srb.cdb[i]);
    std::string what;
    switch (packet.srb.cdb[0]) {
        case 0x28:
            what = fmt::format("READ(10) LBA {} blocks {}", be(2, 4), be(7, 2));
            break;
        case 0x2a:
            what = fmt::format("WRITE(10) LBA {} blocks {}", be(2, 4), be(7, 2));
            break;
        case 0x35:
            what = "SYNCHRONIZE CACHE(10)";
            break;
        case 0x88:
            what = fmt::format("READ(16) LBA {} blocks {}", be(2, 8), be(10, 4));
            break;
        case 0x8a:
            what = fmt::format("WRITE(16) LBA {} blocks {}", be(2, 8), be(10, 4));
            break;
        default:
            what = "command";
            break;
    }
    return fmt::format("{}, {} bytes, CDB{}", what, packet.srb.transfer_length, cdb);
}

/// The controller's GUID with the unit's address mixed in: stable from run to run, different for each disk.
vsp::DiskIdentity identity_of(const Guid& controller, u8 path, u8 target, u8 lun) {
    vsp::DiskIdentity identity;
    std::copy(controller.begin(), controller.end(), identity.id.begin());
    identity.id[1] = static_cast<u8>(identity.id[1] ^ path);
    identity.id[2] = static_cast<u8>(identity.id[2] ^ target);
    identity.id[3] = static_cast<u8>(identity.id[3] ^ lun);
    return identity;
}

}  // namespace

StorageController::StorageController(std::string name, const Guid& instance, EventQueue& events, Log& log,
                                     u16 max_sub_channels)
    : name_(std::move(name)),
      instance_(instance),
      events_(events),
      log_(log),
      core_(std::make_unique<vsp::Storage>(static_cast<vsp::StorageHost&>(*this), max_sub_channels)),
      timer_(events.add(name_ + "/completions", [this](VTime due) { finish_due(due); })) {}

StorageController::~StorageController() { events_.cancel(timer_); }

Result<void> StorageController::attach(u8 path, u8 target, u8 lun, std::unique_ptr<vsp::BlockBackend> backend,
                                       std::string description) {
    if (backend->size_bytes() < backend->logical_sector_bytes())
        return fail(Error::Code::Usage, name_ + ": " + description + " is smaller than one sector");
    Disk disk{path, target, lun, std::move(description), std::move(backend), nullptr};
    disk.scsi =
        std::make_unique<vsp::ScsiDisk>(*disk.backend, identity_of(instance_, path, target, lun), core_->scratch());
    if (!core_->attach(path, target, lun, *disk.scsi)) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: path {} target {} LUN {} is taken or out of range (path 0..{}, target "
                                "0..{}, at most {} disks)",
                                name_, path, target, lun, vsp::Storage::kPaths - 1, vsp::Storage::kTargets - 1,
                                vsp::Storage::kMaxUnits));
    }
    disks_.push_back(std::move(disk));
    return {};
}

void StorageController::opened(vmbus::Channel& channel) {
    if (channel.sub_channel() == 0) core_->reset();
    open_[channel.relid()] = {&channel, false, {}};
    if (on_use_) on_use_(true);
}

void StorageController::closed(vmbus::Channel& channel) {
    core_->channel_closed(channel.relid());
    if (channel.sub_channel() == 0) core_->reset();
    open_.erase(channel.relid());
    if (on_use_ && open_.empty()) on_use_(false);
}

void StorageController::signalled(vmbus::Channel& channel) {
    const auto it = open_.find(channel.relid());
    if (it != open_.end()) pump(it->second);
}

/// Takes packets until the ring is empty or the core is full. Completions without room hold further packets back, so
/// that a guest that never reads its answers cannot make this grow. A reset empties the core at once, but not `due_`:
/// it counts too, so that one call takes no more requests than that however many resets are between them.
void StorageController::pump(OpenChannel& open) {
    vmbus::Packet packet;
    open.stalled = false;
    if (!send_unsent(open)) return;
    for (;;) {
        if (!core_->can_accept() || due_.size() >= vsp::Storage::kMaxInFlight) {
            open.stalled = true;
            break;
        }
        if (!open.unsent.empty() || !open.channel->read_packet(packet)) break;
        take(open, packet);
    }
    open.channel->commit();
}

void StorageController::take(OpenChannel& open, const vmbus::Packet& packet) {
    // A completion or anything else that is not a request has nothing to say to a disk controller.
    if (packet.type != vmbus::PacketType::InBand && packet.type != vmbus::PacketType::GpaDirect) return;
    vsp::StoragePacket request;
    request.channel = open.channel->relid();
    request.sub_channel = open.channel->sub_channel() != 0;
    request.transaction_id = packet.transaction_id;
    request.completion_requested = packet.completion_requested();
    request.payload = packet.payload;
    RangeData data(ranges_, open.channel->server().notifier());
    if (packet.type == vmbus::PacketType::GpaDirect) {
        request.data_malformed = !ranges_.parse(packet.extension);
        if (!request.data_malformed) request.data = &data;
    }
    if (log_.wants(Area::Vsp, Level::Trace)) {
        log_.trace(Area::Vsp, "{}: channel {} packet {:#x}: {}", name_, request.channel, request.transaction_id,
                   describe(request.payload));
    }
    core_->on_packet(request);
}

bool StorageController::send_unsent(OpenChannel& open) {
    while (!open.unsent.empty()) {
        const auto& [transaction_id, reply] = open.unsent.front();
        if (!open.channel->write_completion(transaction_id, reply)) return false;
        open.unsent.pop_front();
    }
    return true;
}

void StorageController::complete(u32 channel, u64 transaction_id, std::span<const u8> packet) {
    const auto it = open_.find(channel);
    if (it == open_.end()) return;
    log_.trace(Area::Vsp, "{}: channel {} completion of packet {:#x}", name_, channel, transaction_id);
    OpenChannel& open = it->second;
    if (open.unsent.empty() && open.channel->write_completion(transaction_id, packet)) return;
    Reply reply;
    std::copy(packet.begin(), packet.end(), reply.begin());
    open.unsent.emplace_back(transaction_id, reply);
}

void StorageController::schedule(u32 slot, u32 bytes) {
    sequence_of_[slot] = next_sequence_;
    due_.insert({events_.now() + storage_latency_ns(bytes), next_sequence_++, slot});
    arm();
}

void StorageController::arm() {
    if (due_.empty()) {
        events_.cancel(timer_);
    } else if (events_.due(timer_) != due_.begin()->when) {
        events_.arm(timer_, due_.begin()->when);
    }
}

void StorageController::finish_due(VTime now) {
    while (!due_.empty() && due_.begin()->when <= now) {
        const Due first = *due_.begin();
        due_.erase(due_.begin());
        // The slot may have been emptied by a reset and taken again since.
        if (sequence_of_[first.slot] == first.sequence) core_->finish(first.slot);
    }
    for (auto& [relid, open] : open_) {
        if (open.stalled) pump(open);
    }
    arm();
}

void StorageController::offer_sub_channels(u16 count) {
    for (auto& [relid, open] : open_) {
        if (open.channel->sub_channel() != 0) continue;
        open.channel->offer_sub_channels(count);
        return;
    }
}

void StorageController::restored(vmbus::Channel& channel) {
    open_[channel.relid()] = {&channel, false, {}};
    if (on_use_) on_use_(true);
}

void StorageController::fields(StateVisitor& v) {
    {
        const VisitScope scope(v, "core");
        core_->fields(v);
    }
    channel_fields(v);
    due_list_fields(v, due_, next_sequence_, vsp::Storage::kMaxInFlight, [this](const Due& due) {
        sequence_of_[due.slot] = std::max(sequence_of_[due.slot], due.sequence);
        return true;
    });
    for (const Disk& disk : disks_) {
        const VisitScope scope(v, fmt::format("disk{}.{}.{}", disk.path, disk.target, disk.lun));
        v.note("image", disk.description);
        disk.scsi->fields(v);
    }
}

void StorageController::channel_fields(StateVisitor& v) {
    for (auto& [relid, open] : open_) {
        const VisitScope scope(v, fmt::format("channel{}", relid));
        v("stalled", open.stalled);
        u32 count = static_cast<u32>(open.unsent.size());
        v("unsent", count, Fmt::Dec);
        if (v.loading()) open.unsent.resize(std::min(count, 2 * vsp::Storage::kMaxInFlight));
        for (std::size_t i = 0; i < open.unsent.size(); ++i) {
            const VisitScope each(v, std::to_string(i));
            v("transaction_id", open.unsent[i].first);
            v("reply", open.unsent[i].second);
        }
    }
}

}  // namespace vg::hv::parent
