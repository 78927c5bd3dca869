// Commands by which a disk describes itself.
#include <algorithm>

#include "hv/spec/storvsc.h"
#include "hv/vsp/bytes.h"
#include "hv/vsp/scsi_disk.h"
#include "hv/vsp/scsi_limits.h"

namespace vg::hv::vsp {

namespace {

constexpr u8 kVersionSpc3 = 0x05;
constexpr std::size_t kStandardInquirySize = 36;
constexpr u8 kVpdPages[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};
constexpr u32 kMicrosoftOui = 0x002248;

/// Appends fields to a response of bounded size; what does not fit would be our mistake and is dropped.
class Writer {
  public:
    template <class T>
    void be(T value) {
        for (std::size_t i = 0; i < sizeof(T); ++i) byte(static_cast<u8>(u64{value} >> (8 * (sizeof(T) - 1 - i))));
    }
    void byte(u8 value) {
        if (size_ < bytes_.size()) bytes_[size_++] = value;
    }
    void zeroes(std::size_t count) {
        while (count-- != 0) byte(0);
    }
    template <class Range>
    void text(const Range& range) {
        for (const auto c : range) byte(static_cast<u8>(c));
    }
    [[nodiscard]] std::size_t size() const { return size_; }
    u8& operator[](std::size_t at) { return bytes_[at]; }
    [[nodiscard]] std::span<u8> span() { return std::span(bytes_).first(size_); }

  private:
    std::array<u8, 256> bytes_{};
    std::size_t size_ = 0;
};

void hexadecimal(Writer& out, std::span<const u8> bytes) {
    constexpr char digits[] = "0123456789abcdef";
    for (const u8 value : bytes) {
        out.byte(static_cast<u8>(digits[value >> 4]));
        out.byte(static_cast<u8>(digits[value & 15]));
    }
}

u8 power_of_two(u32 value) {
    u8 power = 0;
    while (value > 1) {
        value /= 2;
        ++power;
    }
    return power;
}

/// VPD 0x83: a T10 vendor designator and an NAA name, both of the logical unit.
void device_identification(Writer& out, const DiskIdentity& identity) {
    out.byte(0x02);  // ASCII
    out.byte(0x01);  // T10 vendor, associated with the unit
    out.byte(0);
    out.byte(static_cast<u8>(identity.vendor.size() + 32));
    out.text(identity.vendor);
    hexadecimal(out, identity.id);
    out.byte(0x01);  // binary
    out.byte(0x03);  // NAA
    out.byte(0);
    out.byte(16);
    // NAA 6, IEEE registered extended: 4-bit type, 24-bit OUI, 100 bits that the vendor assigns. The identity has more:
    // its middle is left out, where a GUID has its version and variant.
    constexpr std::size_t kEnd = 6;
    const std::span<const u8> id(identity.id);
    out.be<u32>(u32{6} << 28 | kMicrosoftOui << 4);
    out.text(id.first<kEnd>());
    out.text(id.last<kEnd>());
}

void block_limits(Writer& out, bool thin, u32 block_size) {
    const u32 max_transfer_blocks = storvsc::kMaxTransferBytes / block_size;
    const u16 blocks_of_a_page = static_cast<u16>(4096 / block_size);
    out.byte(1);                      // WSNZ: WRITE SAME needs a block count
    out.byte(0);                      // no COMPARE AND WRITE
    out.be<u16>(blocks_of_a_page);     // optimal transfer granularity: 4 KiB
    out.be<u32>(max_transfer_blocks);  // maximum transfer length
    out.be<u32>(max_transfer_blocks);  // optimal transfer length
    out.be<u32>(0);                   // maximum prefetch
    out.be<u32>(thin ? kMaxUnmapBlocks : 0);
    out.be<u32>(thin ? kMaxUnmapDescriptors : 0);
    out.be<u32>(thin ? blocks_of_a_page : 0u);  // optimal unmap granularity: 4 KiB
    out.be<u32>(thin ? 0x8000'0000 : 0);  // unmap alignment 0, valid
    out.be<u64>(kMaxWriteSameBlocks);
    out.zeroes(20);
}

/// Changeable values are all zero: nothing can be changed by MODE SELECT.
void mode_page(Writer& out, u8 page, bool changeable) {
    if (page == 0x08) {  // caching: SBC-3 "Caching mode page"
        out.byte(0x08);
        out.byte(18);
        out.byte(changeable ? 0 : 0x04);  // WCE
        out.zeroes(17);
    } else {  // control: SPC-4 "Control mode page"
        out.byte(0x0a);
        out.byte(10);
        out.byte(0);
        out.byte(changeable ? 0 : 0x10);  // unrestricted reordering
        out.zeroes(8);
    }
}

}  // namespace

ScsiResult respond(DataBuffer& data, u32 allocation_length, std::span<const u8> response) {
    const u32 size = std::min({static_cast<u32>(response.size()), allocation_length, data.in_size()});
    if (!data.put(0, response.first(size))) return ScsiResult::bad_memory();
    return ScsiResult::good(size);
}

ScsiResult absent_inquiry(const std::array<u8, 16>& cdb, DataBuffer& data) {
    if ((cdb[1] & 1) != 0 || cdb[2] != 0) return ScsiResult::check(kLunNotSupported);
    std::array<u8, kStandardInquirySize> response{};
    response[0] = 0x7f;  // no device here, and none can be
    response[2] = kVersionSpc3;
    response[3] = 0x02;
    response[4] = kStandardInquirySize - 5;
    const DiskIdentity identity;
    std::copy(identity.vendor.begin(), identity.vendor.end(), response.begin() + 8);
    std::copy(identity.product.begin(), identity.product.end(), response.begin() + 16);
    std::copy(identity.revision.begin(), identity.revision.end(), response.begin() + 32);
    return respond(data, big_endian<u16>(cdb, 3), response);
}

ScsiResult report_luns(const std::array<u8, 16>& cdb, std::span<const u8> luns, DataBuffer& data) {
    const u32 allocation = big_endian<u32>(cdb, 6);
    if (allocation < 16 || cdb[2] > 2) return ScsiResult::check(kInvalidField);
    if (cdb[2] == 1) luns = {};  // well-known units only: none
    std::array<u8, 8 + 256 * 8> list{};
    set_big_endian<u32>(list, 0, static_cast<u32>(luns.size() * 8));
    for (std::size_t i = 0; i < luns.size(); ++i) list[8 + i * 8 + 1] = luns[i];  // peripheral device addressing
    return respond(data, allocation, std::span(list).first(8 + luns.size() * 8));
}

ScsiResult ScsiDisk::inquiry(const Cdb& cdb, DataBuffer& data) const {
    if ((cdb[1] & 0x1e) != 0) return ScsiResult::check(kInvalidField);  // [7:5]: SCSI-2 put the LUN there
    if ((cdb[1] & 1) != 0) return vital_product_data(cdb, data);
    if (cdb[2] != 0) return ScsiResult::check(kInvalidField);
    Writer out;
    out.byte(0x00);  // direct-access block device, connected
    out.byte(0x00);  // not removable
    out.byte(kVersionSpc3);
    out.byte(0x02);  // response data format
    out.byte(kStandardInquirySize - 5);
    out.byte(0);
    out.byte(0);
    out.byte(0x02);  // CMDQUE
    out.text(identity_.vendor);
    out.text(identity_.product);
    out.text(identity_.revision);
    return respond(data, big_endian<u16>(cdb, 3), out.span());
}

ScsiResult ScsiDisk::vital_product_data(const Cdb& cdb, DataBuffer& data) const {
    const u8 page = cdb[2];
    Writer out;
    out.byte(0x00);
    out.byte(page);
    out.be<u16>(0);  // length, below
    switch (page) {
        case 0x00:
            out.text(kVpdPages);
            break;
        case 0x80:
            hexadecimal(out, identity_.id);
            break;
        case 0x83:
            device_identification(out, identity_);
            break;
        case 0xb0:
            block_limits(out, thin(), block_size());
            break;
        case 0xb1:
            out.be<u16>(1);  // not rotating
            out.zeroes(58);
            break;
        case 0xb2:
            out.byte(0);
            out.byte(thin() ? 0x80 : 0);  // LBPU only; unmapped blocks need not read as zeroes
            out.byte(thin() ? 2 : 0);     // thin provisioning
            out.byte(0);
            break;
        default:
            return ScsiResult::check(kInvalidField);
    }
    set_big_endian<u16>(out.span(), 2, static_cast<u16>(out.size() - 4));
    return respond(data, big_endian<u16>(cdb, 3), out.span());
}

ScsiResult ScsiDisk::mode_sense(const Cdb& cdb, DataBuffer& data, bool ten) const {
    const u8 control = cdb[2] >> 6;
    const u8 page = cdb[2] & 0x3f;
    if (control == 3) return ScsiResult::check(kSavingNotSupported);
    if (cdb[3] != 0 && cdb[3] != 0xff) return ScsiResult::check(kInvalidField);  // subpages
    if (page != 0x08 && page != 0x0a && page != 0x3f) return ScsiResult::check(kInvalidField);
    const bool with_descriptor = (cdb[1] & 0x08) == 0;
    const u8 device_specific = static_cast<u8>((backend_.read_only() ? 0x80 : 0) | 0x10);  // WP, DPOFUA

    Writer out;
    out.zeroes(ten ? 8 : 4);
    if (with_descriptor) {
        out.be<u32>(static_cast<u32>(std::min<u64>(block_count(), 0xffff'ffff)));
        out.be<u32>(block_size());  // density byte 0, three bytes of block length
    }
    if (page != 0x0a) mode_page(out, 0x08, control == 1);
    if (page != 0x08) mode_page(out, 0x0a, control == 1);
    if (ten) {
        set_big_endian<u16>(out.span(), 0, static_cast<u16>(out.size() - 2));
        out[3] = device_specific;
        out[7] = with_descriptor ? 8 : 0;
    } else {
        out[0] = static_cast<u8>(out.size() - 1);
        out[2] = device_specific;
        out[3] = with_descriptor ? 8 : 0;
    }
    return respond(data, ten ? big_endian<u16>(cdb, 7) : cdb[4], out.span());
}

ScsiResult ScsiDisk::read_capacity_10(const Cdb&, DataBuffer& data) const {
    // All-ones tells the guest to ask with the 16-byte command.
    Writer out;
    out.be<u32>(static_cast<u32>(std::min<u64>(block_count() - 1, 0xffff'ffff)));
    out.be<u32>(block_size());
    return respond(data, 8, out.span());
}

ScsiResult ScsiDisk::read_capacity_16(const Cdb& cdb, DataBuffer& data) const {
    Writer out;
    out.be<u64>(block_count() - 1);
    out.be<u32>(block_size());
    out.byte(0);
    out.byte(power_of_two(backend_.physical_sector_bytes() / block_size()));
    out.byte(thin() ? 0x80 : 0);  // LBPME
    out.byte(0);
    out.zeroes(16);
    return respond(data, big_endian<u32>(cdb, 10), out.span());
}

ScsiResult ScsiDisk::request_sense(const Cdb& cdb, DataBuffer& data) const {
    // Sense data went with the command it belongs to, so there is never any left.
    if ((cdb[1] & 1) == 0) return respond(data, cdb[4], fixed_sense(kNoSense));
    constexpr std::array<u8, 8> kDescriptorFormat = {0x72};
    return respond(data, cdb[4], kDescriptorFormat);
}

}  // namespace vg::hv::vsp
