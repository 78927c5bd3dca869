// Disks in memory and packet builders for the storage core.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "devices/storage/block_device.h"
#include "hv/spec/storvsc.h"
#include "hv/vsp/storage.h"

namespace vg::test {

namespace storvsc = hv::storvsc;
namespace vsp = hv::vsp;

/// RAM as the core's back end.
class MemoryBackend final : public vsp::BlockBackend {
  public:
    explicit MemoryBackend(u64 sectors, bool read_only = false) : bytes(sectors * 512), read_only_(read_only) {}
    u64 size_bytes() const override { return pretended_size != 0 ? pretended_size : bytes.size(); }
    bool read_only() const override { return read_only_; }
    u32 physical_sector_bytes() const override { return 4096; }
    bool read(u64 offset, std::span<u8> out) override {
        if (failing || !inside(offset, out.size())) return false;
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        return true;
    }
    bool write(u64 offset, std::span<const u8> data) override {
        if (failing || !inside(offset, data.size())) return false;
        std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
        return true;
    }
    bool discard(u64 offset, u64 size) override {
        if (failing || !inside(offset, size)) return false;
        discards.emplace_back(offset, size);
        return true;
    }
    bool flush() override {
        ++flushes;
        return !failing;
    }

    std::vector<u8> bytes;
    u64 pretended_size = 0;
    bool failing = false;
    bool left = false;  ///< something outside the disk was asked for
    u32 flushes = 0;
    std::vector<std::pair<u64, u64>> discards;

  private:
    bool inside(u64 offset, u64 size) {
        const bool ok = offset <= bytes.size() && size <= bytes.size() - offset;
        left |= !ok;
        return ok;
    }
    bool read_only_;
};

/// RAM as a block device.
class MemoryDevice final : public devices::BlockDevice {
  public:
    explicit MemoryDevice(u64 sectors, u32* flush_count = nullptr) : memory_(sectors), flush_count_(flush_count) {
        for (u64 i = 0; i < sectors; ++i) std::memset(&memory_.bytes[i * 512], static_cast<u8>(i), 512);
    }
    u64 size_bytes() const override { return memory_.size_bytes(); }
    bool read_only() const override { return false; }
    Result<void> read(u64 offset, std::span<u8> out) override { return result(memory_.read(offset, out)); }
    Result<void> write(u64 offset, std::span<const u8> data) override { return result(memory_.write(offset, data)); }
    Result<void> discard(u64 offset, u64 size) override { return result(memory_.discard(offset, size)); }
    Result<void> flush() override {
        if (flush_count_ != nullptr) ++*flush_count_;
        return {};
    }
    std::string describe() const override { return "memory"; }

  private:
    static Result<void> result(bool ok) {
        if (ok) return {};
        return fail(Error::Code::Host, "out of range");
    }
    MemoryBackend memory_;
    u32* flush_count_;
};

/// The data pages of one request.
class MemoryData final : public vsp::GuestData {
  public:
    explicit MemoryData(std::size_t size) : bytes(size) {}
    u64 size() const override { return bytes.size(); }
    bool read(u64 offset, std::span<u8> out) override {
        if (missing || offset > bytes.size() || out.size() > bytes.size() - offset) return false;
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        return true;
    }
    bool write(u64 offset, std::span<const u8> data) override {
        if (missing || offset > bytes.size() || data.size() > bytes.size() - offset) return false;
        std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
        return true;
    }
    std::vector<u8> bytes;
    bool missing = false;  ///< the pages are not memory
};

/// The buffer of a command that reads, without a controller around it.
class MemoryBuffer final : public vsp::DataBuffer {
  public:
    explicit MemoryBuffer(std::size_t size) : bytes(size) {}
    u32 in_size() const override { return static_cast<u32>(bytes.size()); }
    u32 out_size() const override { return 0; }
    bool put(u32 offset, std::span<const u8> data) override {
        std::copy(data.begin(), data.end(), bytes.begin() + offset);
        return true;
    }
    bool get(u32, std::span<u8>) override { return false; }
    std::vector<u8> bytes;
};

/// Records the core's effects.
class MemoryHost final : public vsp::StorageHost {
  public:
    struct Completion {
        u32 channel;
        u64 transaction_id;
        storvsc::Packet packet;
    };
    void complete(u32 channel, u64 transaction_id, std::span<const u8> bytes) override {
        Completion completion{channel, transaction_id, {}};
        size_wrong |= bytes.size() != sizeof completion.packet;
        std::memcpy(&completion.packet, bytes.data(), std::min(bytes.size(), sizeof completion.packet));
        completions.push_back(completion);
    }
    void schedule(u32 slot, u32 bytes) override { scheduled.emplace_back(slot, bytes); }
    void offer_sub_channels(u16 count) override { sub_channels.push_back(count); }

    std::vector<Completion> completions;
    std::deque<std::pair<u32, u32>> scheduled;
    std::vector<u16> sub_channels;
    bool size_wrong = false;
};

template <class... Bytes>
std::array<u8, 16> cdb(Bytes... bytes) {
    return {static_cast<u8>(bytes)...};
}

/// EXECUTE_SRB as Linux builds it.
inline storvsc::Packet srb_packet(const std::array<u8, 16>& command, storvsc::DataDirection direction, u32 length,
                                  u8 lun = 0, u8 target = 0, u8 path = 0) {
    storvsc::Packet packet{};
    packet.operation = static_cast<u32>(storvsc::Operation::ExecuteSrb);
    packet.flags = 1;
    packet.srb.length = sizeof packet.srb;
    packet.srb.path = path;
    packet.srb.target = target;
    packet.srb.lun = lun;
    packet.srb.cdb_length = 16;
    packet.srb.sense_length = storvsc::kSenseSize;
    packet.srb.data_in = static_cast<u8>(direction);
    packet.srb.transfer_length = length;
    std::memcpy(packet.srb.cdb, command.data(), command.size());
    packet.srb.queue_tag = 0xff;
    packet.srb.queue_action = 0x20;
    packet.srb.timeout_s = 60;
    return packet;
}

inline std::span<const u8> bytes_of(const storvsc::Packet& packet) {
    return {reinterpret_cast<const u8*>(&packet), sizeof packet};
}

}  // namespace vg::test
