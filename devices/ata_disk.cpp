#include "devices/ata_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/bits.h"

namespace vg::devices {

using namespace ata;

namespace {

constexpr u32 kMaxTrimBlocks = 8;

AtaPlan refuse(u8 error) {
    AtaPlan plan;
    plan.error = error;
    return plan;
}

AtaPlan to_host(std::vector<u8> content, bool pio) {
    AtaPlan plan;
    plan.data = AtaPlan::Data::ToHost;
    plan.pio = pio;
    plan.bytes = content.size();
    plan.buffer = std::move(content);
    return plan;
}

/// ATA strings have the first character of each pair in the high byte, padded with spaces.
void put_text(std::array<u16, 256>& words, u32 first, u32 count, std::string_view text) {
    for (u32 i = 0; i < count * 2; ++i) {
        const u16 c = i < text.size() ? static_cast<u8>(text[i]) : u8{' '};
        u16& word = words[first + i / 2];
        word = i % 2 == 0 ? static_cast<u16>(c << 8) : static_cast<u16>(word | c);
    }
}

/// Sector counts of 0 mean the most that the register could not hold.
u64 count28(const AtaCommand& c) { return (c.count & 0xff) != 0 ? c.count & 0xff : 256; }
u64 count48(u16 count) { return count != 0 ? count : 65536; }
u64 lba28(const AtaCommand& c) { return (c.lba & 0xffffff) | u64{c.device & 0xfu} << 24; }

}  // namespace

std::string to_string(Command command) {
    switch (command) {
        case Command::DataSetManagement:
            return "DATA SET MANAGEMENT";
        case Command::ReadSectors:
            return "READ SECTORS";
        case Command::ReadSectorsExt:
            return "READ SECTORS EXT";
        case Command::ReadDma:
            return "READ DMA";
        case Command::ReadDmaExt:
            return "READ DMA EXT";
        case Command::WriteSectors:
            return "WRITE SECTORS";
        case Command::WriteSectorsExt:
            return "WRITE SECTORS EXT";
        case Command::WriteDma:
            return "WRITE DMA";
        case Command::WriteDmaExt:
            return "WRITE DMA EXT";
        case Command::WriteDmaFuaExt:
            return "WRITE DMA FUA EXT";
        case Command::ReadFpdmaQueued:
            return "READ FPDMA QUEUED";
        case Command::WriteFpdmaQueued:
            return "WRITE FPDMA QUEUED";
        case Command::FlushCache:
            return "FLUSH CACHE";
        case Command::FlushCacheExt:
            return "FLUSH CACHE EXT";
        case Command::Identify:
            return "IDENTIFY DEVICE";
        case Command::SetFeatures:
            return "SET FEATURES";
        default:
            return fmt::format("command {:#04x}", static_cast<u8>(command));
    }
}

AtaCommand AtaCommand::from_fis(std::span<const u8, 16> fis) {
    AtaCommand command;
    command.command = static_cast<Command>(fis[2]);
    command.features = static_cast<u16>(fis[3] | fis[11] << 8);
    command.lba =
        fis[4] | u64{fis[5]} << 8 | u64{fis[6]} << 16 | u64{fis[8]} << 24 | u64{fis[9]} << 32 | u64{fis[10]} << 40;
    command.device = fis[7];
    command.count = static_cast<u16>(fis[12] | fis[13] << 8);
    return command;
}

void AtaCommand::fields(StateVisitor& v) {
    VisitScope scope(v, "command");
    v("command", command);
    v("device", device);
    v("features", features);
    v("count", count);
    v("lba", lba);
}

void AtaPlan::fields(StateVisitor& v) {
    VisitScope scope(v, "plan");
    v("data", data, Fmt::Dec);
    v("pio", pio);
    v("queued", queued);
    v("tag", tag, Fmt::Dec);
    v("error", error);
    v("bytes", bytes, Fmt::Dec);
    v("on_disk", on_disk);
    v("offset", offset);
    v("buffer", buffer, kMaxTrimBlocks * kSectorBytes);
    v("after", after, Fmt::Dec);
    v("count", count, Fmt::Dec);
    if (!v.loading()) return;
    constexpr u64 kMostSectors = 65536;
    bytes = std::min<u64>(bytes, on_disk ? kMostSectors * kSectorBytes : buffer.size());
    if (data > Data::FromHost) data = Data::None;
    if (after > After::Trim) after = After::Nothing;
}

AtaDisk::AtaDisk(std::unique_ptr<BlockDevice> medium, std::string serial, Transport transport)
    : medium_(std::move(medium)), serial_(std::move(serial)), transport_(transport) {}

void AtaDisk::fields(StateVisitor& v) {
    VisitScope scope(v, "disk");
    v("write_cache", state_.write_cache);
    v("look_ahead", state_.look_ahead);
    v("multiple", state_.multiple, Fmt::Dec);
    v("log_valid", state_.log_valid);
    v("log", state_.log);
    if (transport_ == Transport::Parallel) v("transfer_mode", state_.transfer_mode);
    if (v.loading() && (state_.multiple == 0 || state_.multiple > 16)) state_.multiple = 16;
}

AtaPlan AtaDisk::transfer(u64 lba, u64 count, AtaPlan::Data data) {
    if (!fits(lba, count, sectors())) return refuse(kIdNotFound);
    if (data == AtaPlan::Data::FromHost && medium_->read_only()) return refuse(kAborted);
    AtaPlan plan;
    plan.data = data;
    plan.on_disk = true;
    plan.offset = lba * kSectorBytes;
    plan.bytes = count * kSectorBytes;
    if (data == AtaPlan::Data::FromHost && !state_.write_cache) plan.after = AtaPlan::After::Flush;
    return plan;
}

AtaPlan AtaDisk::plan(const AtaCommand& c) {
    using Data = AtaPlan::Data;
    const auto pio = [](AtaPlan plan) {
        plan.pio = true;
        return plan;
    };
    const auto flush = [] {
        AtaPlan plan;
        plan.after = AtaPlan::After::Flush;
        return plan;
    };
    const auto durable = [](AtaPlan plan) {
        if (plan.error == 0) plan.after = AtaPlan::After::Flush;
        return plan;
    };
    const auto queued = [&](Data data) {
        AtaPlan plan = transfer(c.lba, count48(c.features), data);
        if (data == Data::FromHost && (c.device & kDeviceFua) != 0) plan = durable(std::move(plan));
        plan.queued = true;
        plan.tag = static_cast<u8>(bits(c.count, 7, 3));
        return plan;
    };
    switch (c.command) {
        case Command::ReadDma:
            return transfer(lba28(c), count28(c), Data::ToHost);
        case Command::WriteDma:
            return transfer(lba28(c), count28(c), Data::FromHost);
        case Command::ReadSectors:
        case Command::ReadMultiple:
            return pio(transfer(lba28(c), count28(c), Data::ToHost));
        case Command::WriteSectors:
        case Command::WriteMultiple:
            return pio(transfer(lba28(c), count28(c), Data::FromHost));
        case Command::ReadDmaExt:
            return transfer(c.lba, count48(c.count), Data::ToHost);
        case Command::WriteDmaExt:
            return transfer(c.lba, count48(c.count), Data::FromHost);
        case Command::WriteDmaFuaExt:
            return durable(transfer(c.lba, count48(c.count), Data::FromHost));
        case Command::ReadSectorsExt:
        case Command::ReadMultipleExt:
            return pio(transfer(c.lba, count48(c.count), Data::ToHost));
        case Command::WriteSectorsExt:
        case Command::WriteMultipleExt:
            return pio(transfer(c.lba, count48(c.count), Data::FromHost));
        case Command::ReadFpdmaQueued:
            return transport_ == Transport::Serial ? queued(Data::ToHost) : refuse(kAborted);
        case Command::WriteFpdmaQueued:
            return transport_ == Transport::Serial ? queued(Data::FromHost) : refuse(kAborted);
        case Command::ReadVerify:
            return fits(lba28(c), count28(c), sectors()) ? AtaPlan{} : refuse(kIdNotFound);
        case Command::ReadVerifyExt:
            return fits(c.lba, count48(c.count), sectors()) ? AtaPlan{} : refuse(kIdNotFound);
        case Command::FlushCache:
        case Command::FlushCacheExt:
            return flush();
        case Command::Identify:
            return identify();
        case Command::SetFeatures:
            return set_features(c);
        case Command::ReadLogExt:
        case Command::ReadLogDmaExt:
            return log(c);
        case Command::SetMultiple:
            if (c.count == 0 || c.count > 16 || !std::has_single_bit(c.count)) return refuse(kAborted);
            state_.multiple = static_cast<u8>(c.count);
            return {};
        case Command::DataSetManagement: {
            const bool fine = c.features == kTrim && c.count != 0 && c.count <= kMaxTrimBlocks && !medium_->read_only();
            if (!fine) return refuse(kAborted);
            AtaPlan plan;
            plan.data = Data::FromHost;
            plan.bytes = u64{c.count} * kSectorBytes;
            plan.buffer.resize(plan.bytes);
            plan.after = AtaPlan::After::Trim;
            return plan;
        }
        case Command::CheckPowerMode: {
            AtaPlan plan;
            plan.count = kActive;
            return plan;
        }
        case Command::StandbyImmediate:
        case Command::Standby:
            return flush();  // the cache is empty in standby
        case Command::IdleImmediate:
        case Command::Idle:
        case Command::ExecuteDiagnostic:
            return {};
    }
    return refuse(kAborted);
}

AtaPlan AtaDisk::identify() const {
    std::array<u16, 256> w{};
    w[0] = 0x0040;  // fixed disk
    w[1] = 16383, w[3] = 16, w[6] = 63;
    put_text(w, 10, 10, serial_);
    put_text(w, 23, 4, "1.0");
    put_text(w, 27, 20, "Verdigris SATA disk");
    w[47] = 0x8010;  // up to 16 sectors per block
    w[49] = 0x0f00;  // DMA, LBA, IORDY
    w[50] = 0x4000;
    w[53] = 0x0006;  // words 64..70 and 88 are there
    w[59] = static_cast<u16>(0x0100 | state_.multiple);
    const u64 count = sectors(), count_28 = std::min<u64>(count, 0x0fffffff);
    w[60] = static_cast<u16>(count_28), w[61] = static_cast<u16>(count_28 >> 16);
    w[63] = 0x0007;
    w[64] = 0x0003;
    w[65] = w[66] = w[67] = w[68] = 120;
    w[75] = 31;      // queue depth minus one
    w[76] = 0x010e;  // queueing; generations 1 to 3
    w[80] = 0x03f0;  // ATA-4 .. ACS-2
    w[82] = 0x0060;  // look-ahead, write cache
    w[83] = 0x7400;  // FLUSH CACHE (EXT), 48-bit addresses
    w[84] = 0x4060;  // logs, WRITE DMA FUA EXT
    w[85] = static_cast<u16>((state_.look_ahead ? 0x40 : 0) | (state_.write_cache ? 0x20 : 0));
    w[86] = 0x3400;
    w[87] = 0x4060;
    w[88] = 0x407f;  // Ultra DMA 6 selected
    for (u32 i = 0; i < 4; ++i) w[100 + i] = static_cast<u16>(count >> (16 * i));
    w[105] = kMaxTrimBlocks;
    const u32 ratio = medium_->physical_sector_bytes() / kSectorBytes;
    w[106] = ratio > 1 ? static_cast<u16>(0x6000 | std::countr_zero(ratio)) : u16{0x4000};
    w[169] = kTrim;
    w[209] = 0x4000;  // logical sectors start with physical ones
    w[217] = 1;       // does not rotate
    w[222] = 0x107f;  // serial ATA
    w[255] = 0x00a5;
    if (transport_ == Transport::Parallel) identify_parallel(w);
    std::vector<u8> content(kSectorBytes);
    std::memcpy(content.data(), w.data(), content.size());
    u8 sum = 0;
    for (u32 i = 0; i < kSectorBytes - 1; ++i) sum = static_cast<u8>(sum + content[i]);
    content[kSectorBytes - 1] = static_cast<u8>(0 - sum);
    return to_host(std::move(content), true);
}

/// What is different without a serial link: Ultra DMA up to mode 2 or multiword DMA, whichever was set; no queue.
void AtaDisk::identify_parallel(std::span<u16, 256> w) const {
    constexpr u8 kMultiword = 0x20, kUltra = 0x40, kModeMask = 7;
    std::array<u16, 256> text{};
    put_text(text, 27, 20, "Verdigris IDE disk");
    std::copy_n(text.begin() + 27, 20, w.begin() + 27);
    const u8 kind = state_.transfer_mode & 0xf8, mode = state_.transfer_mode & kModeMask;
    const u16 chosen = static_cast<u16>(0x100 << mode);
    w[63] = static_cast<u16>(0x0007 | (kind == kMultiword && mode <= 2 ? chosen : 0));
    w[88] = static_cast<u16>(0x0007 | (kind == kUltra && mode <= 2 ? chosen : 0));
    w[75] = w[76] = 0;
    w[80] = 0x0070;  // ATA-4 .. ATA-6
    w[93] = 0x4001;  // a cable of 40 wires
    w[222] = 0x0000;
}

AtaPlan AtaDisk::log(const AtaCommand& c) {
    const u8 address = static_cast<u8>(c.lba);
    const u64 page = bits(c.lba, 15, 8) | bits(c.lba, 39, 32) << 8;
    if (page != 0 || c.count != 1) return refuse(kAborted);
    std::vector<u8> content(kSectorBytes);
    if (address == kLogDirectory) {
        content[0] = 1;                    // version
        content[kLogQueuedError * 2] = 1;  // pages
    } else if (address == kLogQueuedError) {
        std::copy(state_.log.begin(), state_.log.end(), content.begin());
        if (!state_.log_valid) content[0] = 0x80;  // no queued command failed
        state_.log_valid = false;
        u8 sum = 0;
        for (u32 i = 0; i < kSectorBytes - 1; ++i) sum = static_cast<u8>(sum + content[i]);
        content[kSectorBytes - 1] = static_cast<u8>(0 - sum);
    } else {
        return refuse(kAborted);
    }
    return to_host(std::move(content), c.command == Command::ReadLogExt);
}

void AtaDisk::note_queued_error(const AtaCommand& c, const AtaPlan& plan, u8 status, u8 error) {
    state_.log_valid = true;
    state_.log = {plan.tag,
                  0,
                  status,
                  error,
                  static_cast<u8>(c.lba),
                  static_cast<u8>(c.lba >> 8),
                  static_cast<u8>(c.lba >> 16),
                  c.device,
                  static_cast<u8>(c.lba >> 24),
                  static_cast<u8>(c.lba >> 32),
                  static_cast<u8>(c.lba >> 40),
                  0,
                  static_cast<u8>(c.count),
                  static_cast<u8>(c.count >> 8),
                  0,
                  0};
}

AtaPlan AtaDisk::set_features(const AtaCommand& c) {
    switch (static_cast<u8>(c.features)) {
        case kEnableWriteCache:
            state_.write_cache = true;
            return {};
        case kDisableWriteCache: {
            state_.write_cache = false;
            AtaPlan plan;
            plan.after = AtaPlan::After::Flush;
            return plan;
        }
        case kEnableLookAhead:
            state_.look_ahead = true;
            return {};
        case kDisableLookAhead:
            state_.look_ahead = false;
            return {};
        case kSetTransferMode:
            state_.transfer_mode = static_cast<u8>(c.count);
            return {};  // every mode is as fast
        default:
            return refuse(kAborted);
    }
}

bool AtaDisk::read(const AtaPlan& plan, u64 done, std::span<u8> out) {
    if (plan.on_disk) return static_cast<bool>(medium_->read(plan.offset + done, out));
    std::copy_n(plan.buffer.begin() + static_cast<std::ptrdiff_t>(done), out.size(), out.begin());
    return true;
}

bool AtaDisk::write(AtaPlan& plan, u64 done, std::span<const u8> data) {
    if (plan.on_disk) return static_cast<bool>(medium_->write(plan.offset + done, data));
    std::copy(data.begin(), data.end(), plan.buffer.begin() + static_cast<std::ptrdiff_t>(done));
    return true;
}

bool AtaDisk::finish(const AtaPlan& plan) {
    switch (plan.after) {
        case AtaPlan::After::Nothing:
            return true;
        case AtaPlan::After::Flush:
            return medium_->read_only() || static_cast<bool>(medium_->flush());
        case AtaPlan::After::Trim:
            return trim(plan.buffer);
    }
    VG_UNREACHABLE();
}

/// Ranges of eight bytes: 48 bits of address, 16 bits of length; length 0 says nothing.
bool AtaDisk::trim(std::span<const u8> ranges) {
    for (u64 at = 0; at + 8 <= ranges.size(); at += 8) {
        u64 range = 0;
        std::memcpy(&range, ranges.data() + at, 8);
        const u64 lba = bits(range, 47, 0), count = bits(range, 63, 48);
        if (count == 0) continue;
        if (!fits(lba, count, sectors())) return false;
        if (!medium_->discard(lba * kSectorBytes, count * kSectorBytes)) return false;
    }
    return true;
}

}  // namespace vg::devices
