#include "devices/core/io.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

namespace {

std::string_view describe(IoStatus status) {
    switch (status) {
        case IoStatus::Ok:
            return "ok";
        case IoStatus::NoRegister:
            return "no register there";
        case IoStatus::BadSize:
            return "size not supported";
        case IoStatus::Unaligned:
            return "not aligned";
    }
    VG_UNREACHABLE();
}

}  // namespace

void IoBus::map(std::string name, u16 base, u32 count, PortIo& chip) {
    VG_ASSERT(count != 0 && fits(base, count, 0x10000));
    const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), base,
                                     [](const Range& range, u16 port) { return range.base < port; });
    VG_ASSERT(at == ranges_.end() || u32{base} + count <= at->base);
    VG_ASSERT(at == ranges_.begin() || u32{(at - 1)->base} + (at - 1)->count <= base);
    ranges_.insert(at, Range{std::move(name), base, count, &chip});
}

const IoBus::Range* IoBus::claimed(u16 base, u32 count) const {
    const auto overlaps = [&](const Range& range) {
        return u32{range.base} < u32{base} + count && u32{base} < u32{range.base} + range.count;
    };
    const auto at = std::find_if(ranges_.begin(), ranges_.end(), overlaps);
    return at == ranges_.end() ? nullptr : &*at;
}

IoBus::Range* IoBus::find(u32 port) {
    const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), port,
                                        [](u32 wanted, const Range& range) { return wanted < range.base; });
    if (after == ranges_.begin()) return nullptr;
    Range& range = *(after - 1);
    return port - range.base < range.count ? &range : nullptr;
}

void IoBus::report(const char* what, u16 port, unsigned size, IoStatus status) {
    if (reported_[port]) return;
    reported_.set(port);
    if (!unclaimed_.pass()) return;
    log_.info(Area::Devices, "port 0x{:04x}: {} of {} bytes unanswered: {}", port, what, size, describe(status));
}

u32 IoBus::read(u16 port, unsigned size) {
    IoStatus status = IoStatus::NoRegister;
    if (Range* range = find(port); range != nullptr) {
        const u32 offset = u32{port} - range->base;
        status = IoStatus::BadSize;
        if (offset + size <= range->count) {
            u32 value = 0;
            status = range->chip->port_read(static_cast<u16>(offset), size, value);
            if (status == IoStatus::Ok) {
                ++range->reads;
                return static_cast<u32>(value & low_mask(size * 8));
            }
        }
    } else if (size > 1 && port + size <= 0x10000) {
        // A wide access that starts in a hole still reaches the chip further up.
        for (u32 i = 1; i < size && status == IoStatus::NoRegister; ++i) {
            if (find(port + i) != nullptr) status = IoStatus::BadSize;
        }
    }
    if (status == IoStatus::BadSize && size > 1) {
        const unsigned half = size / 2;
        const u32 low = read(port, half);
        const u32 high = port + half < 0x10000 ? read(static_cast<u16>(port + half), half) : ~u32{0};
        return static_cast<u32>((low | (u64{high} << (half * 8))) & low_mask(size * 8));
    }
    report("read", port, size, status);
    return static_cast<u32>(low_mask(size * 8));
}

void IoBus::write(u16 port, unsigned size, u32 value) {
    value = static_cast<u32>(value & low_mask(size * 8));
    IoStatus status = IoStatus::NoRegister;
    if (Range* range = find(port); range != nullptr) {
        const u32 offset = u32{port} - range->base;
        status = IoStatus::BadSize;
        if (offset + size <= range->count) {
            status = range->chip->port_write(static_cast<u16>(offset), size, value);
            if (status == IoStatus::Ok) {
                ++range->writes;
                return;
            }
        }
    } else if (size > 1 && port + size <= 0x10000) {
        for (u32 i = 1; i < size && status == IoStatus::NoRegister; ++i) {
            if (find(port + i) != nullptr) status = IoStatus::BadSize;
        }
    }
    if (status == IoStatus::BadSize && size > 1) {
        const unsigned half = size / 2;
        write(port, half, value);
        if (port + half < 0x10000) write(static_cast<u16>(port + half), half, value >> (half * 8));
        return;
    }
    report("write", port, size, status);
}

}  // namespace vg::devices
