#include "hv/vsp/storage.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace vg::hv::vsp {

using storvsc::Operation;
using storvsc::Packet;
using storvsc::Srb;

namespace {

/// The data of one SRB: its direction, and no more than its transfer length.
class SrbBuffer final : public DataBuffer {
  public:
    SrbBuffer(GuestData* data, u8 direction, u32 size) : data_(data), direction_(direction), size_(size) {}
    u32 in_size() const override { return direction_ == static_cast<u8>(storvsc::DataDirection::Read) ? size_ : 0; }
    u32 out_size() const override { return direction_ == static_cast<u8>(storvsc::DataDirection::Write) ? size_ : 0; }
    bool put(u32 offset, std::span<const u8> data) override {
        return data.empty() || (data_ != nullptr && data_->write(offset, data));
    }
    bool get(u32 offset, std::span<u8> data) override {
        return data.empty() || (data_ != nullptr && data_->read(offset, data));
    }
    void in_place(u32 offset, u32 size, bool fill, GuestParts& parts) override {
        if (data_ != nullptr) data_->in_place(offset, size, fill, parts);
    }

  private:
    GuestData* data_;
    u8 direction_;
    u32 size_;
};

std::span<const u8> bytes_of(const Packet& packet) { return {reinterpret_cast<const u8*>(&packet), sizeof packet}; }

bool known_version(u16 version) {
    return version == storvsc::kVersionWin10 || version == storvsc::kVersionWin8_1 || version == storvsc::kVersionWin8;
}

/// D-39: what the SRB says about a command that was carried out.
void set_result(Srb& srb, const ScsiResult& result) {
    const u8 wanted_sense = srb.sense_length;
    srb.transfer_length = result.transferred;
    srb.sense_length = 0;
    srb.scsi_status = static_cast<u8>(ScsiStatus::Good);
    switch (result.outcome) {
        case ScsiResult::Outcome::Good:
            srb.srb_status = storvsc::kSrbSuccess;
            break;
        case ScsiResult::Outcome::Overrun:
            srb.srb_status = storvsc::kSrbDataOverrun;
            break;
        case ScsiResult::Outcome::BadMemory:
            srb.srb_status = storvsc::kSrbInvalidRequest;
            break;
        case ScsiResult::Outcome::Check: {
            const auto sense = fixed_sense(result.sense);
            srb.scsi_status = static_cast<u8>(ScsiStatus::CheckCondition);
            srb.srb_status = storvsc::kSrbError;
            srb.sense_length = static_cast<u8>(std::min<std::size_t>(sense.size(), wanted_sense));
            std::memset(srb.sense, 0, sizeof srb.sense);
            std::memcpy(srb.sense, sense.data(), srb.sense_length);
            if (srb.sense_length != 0) srb.srb_status |= storvsc::kSrbSenseValid;
            break;
        }
    }
}

}  // namespace

void Storage::reset() {
    state_ = State::AwaitBegin;
    version_ = 0;
    reset_requests();
}

void Storage::reset_requests() {
    for (Request& request : requests_) request.used = false;
    in_flight_ = 0;
}

bool Storage::attach(u8 path, u8 target, u8 lun, ScsiDisk& disk) {
    if (path >= kPaths || target >= kTargets || unit_count_ == kMaxUnits || find(path, target, lun) != nullptr)
        return false;
    units_[unit_count_++] = {path, target, lun, &disk};
    return true;
}

ScsiDisk* Storage::find(u8 path, u8 target, u8 lun) const {
    for (u32 i = 0; i < unit_count_; ++i) {
        const Unit& unit = units_[i];
        if (unit.path == path && unit.target == target && unit.lun == lun) return unit.disk;
    }
    return nullptr;
}

void Storage::on_packet(const StoragePacket& from) {
    VG_ASSERT(can_accept());
    Packet packet{};
    const bool whole = from.payload.size() >= sizeof packet;
    if (!from.payload.empty()) std::memcpy(&packet, from.payload.data(), std::min(from.payload.size(), sizeof packet));
    if (!whole) {
        ++invalid_packets_;
        return answer(from, packet, storvsc::kStatusInvalidParameter);
    }
    switch (static_cast<Operation>(packet.operation)) {
        case Operation::ExecuteSrb:
            if (state_ == State::Ready) return execute(from, packet);
            ++invalid_packets_;
            return answer(from, packet, storvsc::kStatusInvalidDeviceState);
        case Operation::ResetLun:
        case Operation::ResetAdapter:
        case Operation::ResetBus:
            // Data moves when a request is taken, so ending the outstanding ones is all that a reset has to do.
            finish_all();
            return answer(from, packet, storvsc::kStatusSuccess);
        case Operation::BeginInit:
        case Operation::QueryProtocolVersion:
        case Operation::QueryProperties:
        case Operation::EndInit:
        case Operation::CreateSubChannels: {
            const u16 wanted = packet.sub_channel_count;
            const bool create = packet.operation == static_cast<u32>(Operation::CreateSubChannels);
            const u32 status = from.sub_channel ? storvsc::kStatusInvalidDeviceState : initialise(packet);
            if (status != storvsc::kStatusSuccess) ++invalid_packets_;
            answer(from, packet, status);
            if (create && status == storvsc::kStatusSuccess) host_.offer_sub_channels(wanted);
            return;
        }
        case Operation::CompleteIo:
        case Operation::RemoveDevice:
        case Operation::EnumerateBus:
        case Operation::FcHbaData:
        case Operation::EventNotification:
            break;
    }
    ++invalid_packets_;
    answer(from, packet, storvsc::kStatusNotSupported);
}

/// D-35, D-36, D-42: one step of the sequence on the primary channel; edits the packet into its reply.
u32 Storage::initialise(Packet& packet) {
    const auto step = [this](State now, State next) {
        if (state_ != now) return storvsc::kStatusInvalidDeviceState;
        state_ = next;
        return storvsc::kStatusSuccess;
    };
    switch (static_cast<Operation>(packet.operation)) {
        case Operation::BeginInit:
            return step(State::AwaitBegin, State::AwaitVersion);
        case Operation::QueryProtocolVersion:
            if (state_ == State::AwaitVersion && !known_version(packet.version.version))
                return storvsc::kStatusRevisionMismatch;  // the guest tries its next one
            version_ = state_ == State::AwaitVersion ? packet.version.version : version_;
            return step(State::AwaitVersion, State::AwaitProperties);
        case Operation::QueryProperties: {
            const u32 status = step(State::AwaitProperties, State::AwaitEnd);
            if (status != storvsc::kStatusSuccess) return status;
            packet.properties = {};
            packet.properties.max_sub_channels = max_sub_channels_;
            packet.properties.flags = max_sub_channels_ != 0 ? storvsc::kPropertyMultiChannel : 0;
            packet.properties.max_transfer_bytes = storvsc::kMaxTransferBytes;
            return status;
        }
        case Operation::EndInit:
            return step(State::AwaitEnd, State::Ready);
        default:  // CREATE_SUB_CHANNELS: Linux asks behind END_INITIALIZATION, others before it
            if (state_ != State::AwaitEnd && state_ != State::Ready) return storvsc::kStatusInvalidDeviceState;
            return packet.sub_channel_count <= max_sub_channels_ ? storvsc::kStatusSuccess
                                                                 : storvsc::kStatusInvalidParameter;
    }
}

void Storage::answer(const StoragePacket& from, Packet& packet, u32 status) {
    packet.operation = static_cast<u32>(Operation::CompleteIo);
    packet.flags = 0;
    packet.status = status;
    if (from.completion_requested) host_.complete(from.channel, from.transaction_id, bytes_of(packet));
}

void Storage::execute(const StoragePacket& from, Packet& packet) {
    run_command(from, packet.srb);
    const auto unused =
        std::find_if(requests_.begin(), requests_.end(), [](const Request& each) { return !each.used; });
    const u32 slot = static_cast<u32>(unused - requests_.begin());
    Request& request = *unused;
    ++in_flight_;
    request = {true, !from.completion_requested, from.channel, from.transaction_id, packet};
    request.reply.operation = static_cast<u32>(Operation::CompleteIo);
    request.reply.flags = 0;
    request.reply.status = storvsc::kStatusSuccess;
    host_.schedule(slot, packet.srb.transfer_length);
}

/// Carries the command out and turns the SRB into its reply.
void Storage::run_command(const StoragePacket& from, Srb& srb) {
    const u64 size = from.data != nullptr ? from.data->size() : 0;
    if (from.data_malformed || srb.transfer_length > size || srb.cdb_length == 0 ||
        srb.cdb_length > storvsc::kCdbSize) {
        ++invalid_packets_;
        srb.srb_status = storvsc::kSrbInvalidRequest;
        srb.scsi_status = static_cast<u8>(ScsiStatus::Good);
        srb.sense_length = 0;
        srb.transfer_length = 0;
        return;
    }
    std::array<u8, 16> cdb{};
    std::memcpy(cdb.data(), srb.cdb, srb.cdb_length);
    ++commands_[cdb[0]];
    SrbBuffer data(from.data, srb.data_in, srb.transfer_length);
    bool absent = false;
    const ScsiResult result = address_unit(srb, cdb, data, absent);
    if (!absent) return set_result(srb, result);
    srb.srb_status = storvsc::kSrbInvalidLun;
    srb.scsi_status = static_cast<u8>(ScsiStatus::CheckCondition);
    srb.sense_length = 0;
    srb.transfer_length = 0;
}

/// D-40: the guest turns a failed INQUIRY into success, so the one of an absent unit must really succeed.
ScsiResult Storage::address_unit(const Srb& srb, const std::array<u8, 16>& cdb, DataBuffer& data, bool& absent) {
    ScsiDisk* disk = find(srb.path, srb.target, srb.lun);
    if (disk == nullptr) ++absent_commands_;
    if (cdb[0] == kOpReportLuns) {
        std::array<u8, kMaxUnits> luns{};
        std::size_t count = 0;
        for (u32 i = 0; i < unit_count_; ++i) {
            if (units_[i].path == srb.path && units_[i].target == srb.target) luns[count++] = units_[i].lun;
        }
        std::sort(luns.begin(), luns.begin() + static_cast<std::ptrdiff_t>(count));
        return report_luns(cdb, std::span(luns).first(count), data);
    }
    if (disk != nullptr) return disk->execute(cdb, data);
    if (cdb[0] == kOpInquiry) return absent_inquiry(cdb, data);
    absent = true;
    return {};
}

void Storage::release(Request& request) {
    request.used = false;
    --in_flight_;
}

void Storage::finish(u32 slot) {
    VG_ASSERT(slot < kMaxInFlight);
    Request& request = requests_[slot];
    if (!request.used) return;
    release(request);
    if (!request.silent) host_.complete(request.channel, request.transaction_id, bytes_of(request.reply));
}

void Storage::finish_all() {
    for (u32 slot = 0; slot < kMaxInFlight; ++slot) finish(slot);
}

void Storage::channel_closed(u32 channel) {
    for (Request& request : requests_) {
        if (request.used && request.channel == channel) release(request);
    }
}

}  // namespace vg::hv::vsp
