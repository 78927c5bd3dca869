#include "devices/test_device.h"

#include <cstring>

#include "base/bits.h"

namespace vg::devices {

namespace {
constexpr u16 kFlush = 4;
/// Byte lane of a latch port, or 4 for other ports.
constexpr u32 lane(u32 offset) {
    if (offset < 4) return offset;
    return offset >= 8 && offset < 12 ? offset - 8 : 4;
}
}  // namespace

TestDevice::TestDevice(std::vector<IrqLine*> lines, Flush flush)
    : lines_(std::move(lines)),
      flush_(std::move(flush)),
      latch_ports_([this](u16 offset, unsigned size, u32& value) { return read_latch(offset, size, value); },
                   [this](u16 offset, unsigned size, u32 value) { return write_latch(offset, size, value); }),
      line_ports_([](u16, unsigned, u32&) { return IoStatus::NoRegister; },
                  [this](u16 offset, unsigned, u32 value) { return write_line(offset, value); }),
      memory_(kMmioSize) {}

void TestDevice::reset() {
    latch_ = 0;
    flush_count_ = 0;
    memory_.assign(kMmioSize, 0);
    for (IrqLine* line : lines_) line->set(false);
}

void TestDevice::fields(StateVisitor& v) {
    v("latch", latch_);
    v("flush_count", flush_count_, Fmt::Dec);
    v.bytes("memory", memory_);
}

IoStatus TestDevice::read_latch(u16 offset, unsigned size, u32& value) const {
    const u32 byte = lane(offset);
    if (byte + size > 4) return byte < 4 ? IoStatus::BadSize : IoStatus::NoRegister;
    value = static_cast<u32>((latch_ >> (byte * 8)) & low_mask(size * 8));
    return IoStatus::Ok;
}

IoStatus TestDevice::write_latch(u16 offset, unsigned size, u32 value) {
    if (offset == kFlush) {
        ++flush_count_;
        if (flush_) flush_(value);
        return IoStatus::Ok;
    }
    const u32 byte = lane(offset);
    if (byte + size > 4) return byte < 4 ? IoStatus::BadSize : IoStatus::NoRegister;
    latch_ = static_cast<u32>(with_bits(latch_, (byte + size) * 8 - 1, byte * 8, value));
    return IoStatus::Ok;
}

IoStatus TestDevice::write_line(u16 offset, u32 value) {
    if (offset >= lines_.size()) return IoStatus::NoRegister;
    lines_[offset]->set((value & 0xff) != 0);
    return IoStatus::Ok;
}

u64 TestDevice::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    if (fits(offset, size, kMmioSize)) std::memcpy(&value, &memory_[offset], size);
    return value;
}

void TestDevice::mmio_write(u64 offset, unsigned size, u64 value) {
    if (fits(offset, size, kMmioSize)) std::memcpy(&memory_[offset], &value, size);
}

}  // namespace vg::devices
