#include "roms/parent/fixed_vhd.h"

#include "devices/storage/vhd_format.h"

namespace vg::parent {

namespace vhd = devices::vhd;

namespace {

Unexpected<Error> damaged(const std::string& what) { return fail(Error::Code::Damaged, "VHD: " + what); }

std::string convert(const char* kind) {
    return std::string("it is ") + kind +
           ", and only fixed ones can be served from the store; convert it with: qemu-img convert -O vpc -o "
           "subformat=fixed,force_size=on OLD.vhd NEW.vhd";
}

}  // namespace

Result<FixedVhd> FixedVhd::open(hv::vsp::BlockBackend& file) {
    if (file.size_bytes() < vhd::kFooterBytes || file.size_bytes() % vhd::kSector != 0) {
        return damaged("a file of " + std::to_string(file.size_bytes()) + " bytes is not whole sectors with a footer");
    }
    const u64 room = file.size_bytes() - vhd::kFooterBytes;
    std::array<u8, vhd::kFooterBytes> bytes{};
    if (!file.read(room, bytes)) return damaged("the footer cannot be read");
    const auto footer = vhd::decode<vhd::Footer>(bytes);
    if (footer.cookie != vhd::kFooterCookie) return damaged("there is no footer in the last sector");
    if (footer.checksum != vhd::checksum(bytes, vhd::kFooterChecksumOffset))
        return damaged("the footer's checksum is wrong");
    if (footer.version != vhd::kVersion) return damaged("format version " + std::to_string(footer.version));
    switch (footer.disk_type) {
        case vhd::DiskType::Fixed:
            break;
        case vhd::DiskType::Dynamic:
            return damaged(convert("dynamic"));
        case vhd::DiskType::Differencing:
            return damaged(convert("differencing"));
        default:
            return damaged("disk type " + std::to_string(static_cast<u32>(footer.disk_type)));
    }
    if (footer.current_size == 0 || footer.current_size % vhd::kSector != 0 || footer.current_size > room) {
        return damaged("a disk of " + std::to_string(footer.current_size) + " bytes in a file with room for " +
                       std::to_string(room));
    }
    return FixedVhd(file, footer.current_size);
}

bool FixedVhd::read(u64 offset, std::span<u8> out) {
    return fits(offset, out.size(), size_) && file_->read(offset, out);
}

bool FixedVhd::write(u64 offset, std::span<const u8> data) {
    return fits(offset, data.size(), size_) && file_->write(offset, data);
}

bool FixedVhd::discard(u64 offset, u64 size) { return fits(offset, size, size_) && file_->discard(offset, size); }

}  // namespace vg::parent
