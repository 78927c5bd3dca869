#include "hv/vsp/scsi_disk.h"

#include <algorithm>

#include "hv/vsp/bytes.h"
#include "hv/vsp/scsi_limits.h"

namespace vg::hv::vsp {

namespace {

constexpr u32 kMaxParameterList = 8 + 16 * kMaxUnmapDescriptors;

}  // namespace

std::array<u8, 18> fixed_sense(Sense sense) {
    std::array<u8, 18> bytes{};
    bytes[0] = 0x70;  // current, fixed format
    bytes[2] = sense.key;
    bytes[7] = 10;  // additional length
    bytes[12] = sense.asc;
    bytes[13] = sense.ascq;
    return bytes;
}

ScsiResult ScsiDisk::execute(const Cdb& cdb, DataBuffer& data) {
    ++stats_.commands[cdb[0]];
    const ScsiResult result = dispatch(cdb, data);
    if (result.outcome == ScsiResult::Outcome::Check) ++stats_.checks;
    return result;
}

ScsiResult ScsiDisk::dispatch(const Cdb& cdb, DataBuffer& data) {
    const bool fua = (cdb[1] & 0x08) != 0;
    const Blocks six = {u64{big_endian<u32>(cdb, 0) & 0x1f'ffff}, cdb[4] == 0 ? 256u : cdb[4]};
    const Blocks ten = {big_endian<u32>(cdb, 2), big_endian<u16>(cdb, 7)};
    const Blocks twelve = {big_endian<u32>(cdb, 2), big_endian<u32>(cdb, 6)};
    const Blocks sixteen = {big_endian<u64>(cdb, 2), big_endian<u32>(cdb, 10)};
    switch (cdb[0]) {
        case 0x00:
            return ScsiResult::good();  // TEST UNIT READY
        case 0x03:
            return request_sense(cdb, data);
        case 0x08:
            return read(Cdb{}, six, data);
        case 0x0a:
            return write(Cdb{}, six, false, data);
        case kOpInquiry:
            return inquiry(cdb, data);
        case 0x1a:
            return mode_sense(cdb, data, false);
        case 0x1b:
            return ScsiResult::good();  // START STOP UNIT: there is nothing to spin
        case 0x1e:
            return ScsiResult::good();  // PREVENT ALLOW MEDIUM REMOVAL
        case 0x25:
            return read_capacity_10(cdb, data);
        case 0x28:
            return read(cdb, ten, data);
        case 0x2a:
            return write(cdb, ten, fua, data);
        case 0x2f:
            return verify(cdb, ten);
        case 0x35:
            return synchronize_cache(ten);
        case 0x41:
            return write_same(cdb, ten, data);
        case 0x42:
            return unmap(cdb, data);
        case 0x5a:
            return mode_sense(cdb, data, true);
        case 0x88:
            return read(cdb, sixteen, data);
        case 0x8a:
            return write(cdb, sixteen, fua, data);
        case 0x8f:
            return verify(cdb, sixteen);
        case 0x91:
            return synchronize_cache(sixteen);
        case 0x93:
            return write_same(cdb, sixteen, data);
        case 0x9e:
            if ((cdb[1] & 0x1f) == 0x10) return read_capacity_16(cdb, data);
            return ScsiResult::check(kInvalidField);
        case 0xa8:
            return read(cdb, twelve, data);
        case 0xaa:
            return write(cdb, twelve, fua, data);
        default:
            return ScsiResult::check(kInvalidOpcode);
    }
}

bool ScsiDisk::find_parts(DataBuffer& data, u64 done, u64 total, bool fill) {
    constexpr u64 kLeast = 4096;  // of less, a copy costs less
    parts_.count = 0;
    parts_.bytes = 0;
    if (total - done < kLeast) return false;
    data.in_place(static_cast<u32>(done), static_cast<u32>(total - done), fill, parts_);
    if (parts_.bytes < kLeast) return false;
    parts_.cut(parts_.bytes / block_size() * block_size());
    return true;
}

ScsiResult ScsiDisk::read(const Cdb& cdb, Blocks blocks, DataBuffer& data) {
    if ((cdb[1] & 0xe0) != 0) return ScsiResult::check(kInvalidField);  // RDPROTECT: no protection information here
    if (!in_range(blocks)) return ScsiResult::check(kLbaOutOfRange);
    const u64 total = byte_offset(blocks.count);
    if (total > data.in_size()) return ScsiResult::overrun();
    for (u64 done = 0; done < total;) {
        if (find_parts(data, done, total, true)) {
            if (!backend_.read_parts(byte_offset(blocks.lba) + done, parts_.all())) return ScsiResult::check(kReadError);
            done += parts_.bytes;
            continue;
        }
        const auto chunk = scratch_.first(std::min<u64>(scratch_.size(), total - done));
        if (!backend_.read(byte_offset(blocks.lba) + done, chunk)) return ScsiResult::check(kReadError);
        if (!data.put(static_cast<u32>(done), chunk)) return ScsiResult::bad_memory();
        done += chunk.size();
    }
    stats_.bytes_read += total;
    return ScsiResult::good(static_cast<u32>(total));
}

ScsiResult ScsiDisk::write(const Cdb& cdb, Blocks blocks, bool force_unit_access, DataBuffer& data) {
    if ((cdb[1] & 0xe0) != 0) return ScsiResult::check(kInvalidField);
    if (!in_range(blocks)) return ScsiResult::check(kLbaOutOfRange);
    if (backend_.read_only()) return ScsiResult::check(kWriteProtected);
    const u64 total = byte_offset(blocks.count);
    if (total > data.out_size()) return ScsiResult::overrun();
    for (u64 done = 0; done < total;) {
        if (find_parts(data, done, total, false)) {
            if (!backend_.write_parts(byte_offset(blocks.lba) + done, parts_.all())) return ScsiResult::check(kWriteError);
            done += parts_.bytes;
            continue;
        }
        const auto chunk = scratch_.first(std::min<u64>(scratch_.size(), total - done));
        if (!data.get(static_cast<u32>(done), chunk)) return ScsiResult::bad_memory();
        if (!backend_.write(byte_offset(blocks.lba) + done, chunk)) return ScsiResult::check(kWriteError);
        done += chunk.size();
    }
    stats_.bytes_written += total;
    if (force_unit_access) {
        ++stats_.flushes;
        if (!backend_.flush()) return ScsiResult::check(kWriteError);
    }
    return ScsiResult::good(static_cast<u32>(total));
}

ScsiResult ScsiDisk::verify(const Cdb& cdb, Blocks blocks) const {
    // BYTCHK compares with data from the initiator, which is not offered.
    if ((cdb[1] & 0xe6) != 0) return ScsiResult::check(kInvalidField);
    return in_range(blocks) ? ScsiResult::good() : ScsiResult::check(kLbaOutOfRange);
}

/// Writes one block many times. The UNMAP and ANCHOR bits are taken as a hint: discarded blocks need not read as
/// zeroes here, so the pattern is always written.
ScsiResult ScsiDisk::write_same(const Cdb& cdb, Blocks blocks, DataBuffer& data) {
    if ((cdb[1] & 0xe0) != 0 || blocks.count == 0 || blocks.count > kMaxWriteSameBlocks)
        return ScsiResult::check(kInvalidField);
    if (!in_range(blocks)) return ScsiResult::check(kLbaOutOfRange);
    if (backend_.read_only()) return ScsiResult::check(kWriteProtected);
    const bool no_data = cdb[0] == 0x93 && (cdb[1] & 1) != 0;  // NDOB: a block of zeroes
    const auto pattern = scratch_.first(block_size());
    if (no_data) {
        std::fill(pattern.begin(), pattern.end(), u8{0});
    } else {
        if (data.out_size() < block_size()) return ScsiResult::overrun();
        if (!data.get(0, pattern)) return ScsiResult::bad_memory();
    }
    for (std::size_t at = block_size(); at + block_size() <= scratch_.size(); at += block_size())
        std::copy(pattern.begin(), pattern.end(), scratch_.begin() + static_cast<std::ptrdiff_t>(at));
    const u64 total = byte_offset(blocks.count);
    for (u64 done = 0; done < total;) {
        const auto chunk = scratch_.first(std::min<u64>(scratch_.size(), total - done));
        if (!backend_.write(byte_offset(blocks.lba) + done, chunk)) return ScsiResult::check(kWriteError);
        done += chunk.size();
    }
    stats_.bytes_written += total;
    return ScsiResult::good(no_data ? 0 : block_size());
}

/// SBC-3 "UNMAP command". All descriptors are checked before the first takes effect.
ScsiResult ScsiDisk::unmap(const Cdb& cdb, DataBuffer& data) {
    if ((cdb[1] & 1) != 0) return ScsiResult::check(kInvalidField);  // ANCHOR
    if (backend_.read_only()) return ScsiResult::check(kWriteProtected);
    const u32 list_size = big_endian<u16>(cdb, 7);
    if (list_size == 0) return ScsiResult::good();
    if (list_size < 8) return ScsiResult::check(kParameterLength);
    if (list_size > data.out_size()) return ScsiResult::overrun();
    std::array<u8, kMaxParameterList> list{};
    const u32 copied = std::min<u32>(list_size, kMaxParameterList);
    if (!data.get(0, std::span(list).first(copied))) return ScsiResult::bad_memory();

    const u32 descriptor_bytes = std::min<u32>(big_endian<u16>(list, 2), list_size - 8);
    const u32 count = descriptor_bytes / 16;
    if (count > kMaxUnmapDescriptors) return ScsiResult::check(kInvalidParameterField);
    const auto descriptor = [&](u32 index) {
        return Blocks{big_endian<u64>(list, 8 + 16 * index), big_endian<u32>(list, 16 + 16 * index)};
    };
    u64 total = 0;
    for (u32 i = 0; i < count; ++i) {
        if (!in_range(descriptor(i))) return ScsiResult::check(kLbaOutOfRange);
        total += descriptor(i).count;
    }
    if (total > kMaxUnmapBlocks) return ScsiResult::check(kInvalidParameterField);
    for (u32 i = 0; i < count; ++i) {
        const Blocks blocks = descriptor(i);
        if (blocks.count == 0) continue;
        if (!backend_.discard(byte_offset(blocks.lba), byte_offset(blocks.count)))
            return ScsiResult::check(kWriteError);
    }
    stats_.bytes_discarded += byte_offset(total);
    return ScsiResult::good(list_size);
}

ScsiResult ScsiDisk::synchronize_cache(Blocks blocks) {
    // A block count of zero means "to the end"; more than what was asked may be flushed.
    if (!in_range(blocks)) return ScsiResult::check(kLbaOutOfRange);
    ++stats_.flushes;
    return backend_.flush() ? ScsiResult::good() : ScsiResult::check(kWriteError);
}

}  // namespace vg::hv::vsp
