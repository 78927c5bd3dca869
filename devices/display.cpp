#include "devices/display.h"

#include <algorithm>
#include <vector>

#include "base/bits.h"

namespace vg::devices {

using namespace dispi;

namespace {

constexpr u32 kBytesPerPixel = 4;

}  // namespace

Display::Display(const PciSlot& slot, mmu::Dma& memory, Iova home)
    : memory_(memory),
      home_(home),
      pci_(slot, {.vendor = 0x1234, .device = 0x1111, .class_code = 0x038000, .revision = 2}) {
    pci_.add_memory_bar(kMemoryBar, kMemoryBytes, PciFunction::Memory::Bits32, window_);
    pci_.add_memory_bar(kRegisterBar, kRegisterBytes, PciFunction::Memory::Bits32, *this);
    pci_.add_express(nullptr);
}

Display::Registers Display::fresh() {
    Registers registers{};
    registers[kBitsPerPixel] = 32;
    return registers;
}

void Display::reset() {
    registers_ = fresh();
    pci_.reset();
}

void Display::fields(StateVisitor& v) {
    pci_.fields(v);
    v("registers", registers_);
}

Display::Mode Display::mode() const {
    Mode mode;
    const u64 width = registers_[kWidth], height = registers_[kHeight];
    const u64 stride = u64{std::max(registers_[kVirtualWidth], registers_[kWidth])} * kBytesPerPixel;
    const u64 offset = registers_[kY] * stride + u64{registers_[kX]} * kBytesPerPixel;
    if ((registers_[kEnable] & kEnabled) == 0 || width == 0 || height == 0 || registers_[kBitsPerPixel] != 32)
        return mode;
    if (!fits(offset, (height - 1) * stride + width * kBytesPerPixel, kMemoryBytes)) return mode;
    return {true, static_cast<u32>(width), static_cast<u32>(height), static_cast<u32>(stride), offset};
}

void Display::set_mode(u16 width, u16 height) {
    write_register(kEnable, 0);
    write_register(kWidth, width);
    write_register(kHeight, height);
    write_register(kBitsPerPixel, 32);
    write_register(kEnable, kEnabled | kLinear);
}

u16 Display::read_register(u32 index) const {
    const bool limits = (registers_[kEnable] & kGetCapabilities) != 0;
    switch (index) {
        case kId:
            return kIdentity;
        case kWidth:
            return limits ? kMaxWidth : registers_[kWidth];
        case kHeight:
            return limits ? kMaxHeight : registers_[kHeight];
        case kBitsPerPixel:
            return limits ? u16{32} : registers_[kBitsPerPixel];
        case kVirtualHeight: {
            // As many lines as there is memory for.
            const u64 stride = u64{registers_[kVirtualWidth]} * kBytesPerPixel;
            return stride == 0 ? u16{0} : static_cast<u16>(std::min<u64>(kMemoryBytes / stride, 0xffff));
        }
        case kMemory64K:
            return kMemoryBytes >> 16;
        default:
            return index < kRegisterCount ? registers_[index] : u16{0};
    }
}

void Display::write_register(u32 index, u16 value) {
    switch (index) {
        case kWidth:
            if (value <= kMaxWidth) registers_[kWidth] = value;
            break;
        case kHeight:
            if (value <= kMaxHeight) registers_[kHeight] = value;
            break;
        case kEnable: {
            const bool turned_on = (value & ~registers_[kEnable] & kEnabled) != 0;
            registers_[kEnable] = value & (kEnabled | kGetCapabilities | kLinear | kKeepMemory);
            if (!turned_on) break;
            registers_[kVirtualWidth] = registers_[kWidth];
            registers_[kX] = registers_[kY] = 0;
            if ((value & kKeepMemory) == 0) clear();
            break;
        }
        case kBitsPerPixel:
        case kBank:
        case kVirtualWidth:
        case kX:
        case kY:
            registers_[index] = value;
            break;
        default:
            break;
    }
}

void Display::clear() {
    const std::vector<u8> zeroes(1 << 16);
    for (u64 at = 0; at < kMemoryBytes; at += zeroes.size()) {
        if (!memory_.write(home_ + at, zeroes.data(), zeroes.size())) return;
    }
}

u64 Display::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
        const u64 at = offset + i - kOffset;  // below the registers: beyond them
        if (at / 2 < kRegisterCount)
            value |= u64{(read_register(static_cast<u32>(at / 2)) >> (at % 2 * 8)) & 0xffu} << (i * 8);
    }
    return value;
}

/// 16-bit writes; wider ones are several, narrower ones are dropped.
void Display::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset % 2 != 0) return;
    for (unsigned i = 0; i + 2 <= size; i += 2) {
        const u64 at = offset + i - kOffset;
        if (at / 2 < kRegisterCount) write_register(static_cast<u32>(at / 2), static_cast<u16>(value >> (i * 8)));
    }
}

u64 Display::Window::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    if (!fits(offset, size, kMemoryBytes) || !display_.memory_.read(display_.home_ + offset, &value, size))
        return low_mask(size * 8);
    return value;
}

void Display::Window::mmio_write(u64 offset, unsigned size, u64 value) {
    if (fits(offset, size, kMemoryBytes)) (void)display_.memory_.write(display_.home_ + offset, &value, size);
}

}  // namespace vg::devices
