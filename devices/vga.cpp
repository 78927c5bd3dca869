#include "devices/vga.h"

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

using namespace vga;

namespace {

constexpr u64 kPortsInBar = 0x400;  // the register BAR shows port 3C0H and up from there on
constexpr VTime kFrameNs = 16'683'000, kDisplayedNs = 15'700'000, kLineNs = 31'778, kShownNs = 25'400;

constexpr u32 bytes_per_pixel(u16 bits_per_pixel) { return bits_per_pixel == 15 ? 2 : (bits_per_pixel + 7u) / 8; }

/// Each bit of the nibble as a whole byte.
constexpr u8 spread(u8 nibble, u32 plane) { return bit(u64{nibble}, plane) ? 0xff : 0; }

}  // namespace

Vga::Vga(const PciSlot& slot, EventQueue& events, mmu::Dma& memory, Follow follow,
         const PciFunction::Identity& identity)
    : events_(events),
      memory_(memory),
      follow_(std::move(follow)),
      pci_(slot, identity),
      vga_ports_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 1) return IoStatus::BadSize;
              value = read_port(static_cast<u16>(kFirstPort + offset));
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 1) return IoStatus::BadSize;
              write_port(static_cast<u16>(kFirstPort + offset), static_cast<u8>(value));
              return IoStatus::Ok;
          }),
      dispi_ports_(
          [this](u16 offset, unsigned size, u32& value) {
              if (size != 2) return IoStatus::NoRegister;
              value = offset == 0 ? state_.dispi_index : read_dispi(state_.dispi_index);
              return IoStatus::Ok;
          },
          [this](u16 offset, unsigned size, u32 value) {
              if (size != 2) return IoStatus::NoRegister;
              if (offset == 0)
                  state_.dispi_index = static_cast<u16>(value);
              else
                  write_dispi(state_.dispi_index, static_cast<u16>(value));
              return IoStatus::Ok;
          }),
      home_(follow_(std::nullopt)) {
    pci_.add_memory_bar(kMemoryBar, kMemoryBytes, PciFunction::Memory::Bits32, linear_);
    if (identity.vendor == kStandard.vendor)
        pci_.add_memory_bar(kRegisterBar, kRegisterBytes, PciFunction::Memory::Bits32, *this);
    pci_.on_config_write([this](u32 offset, unsigned) {
        if (offset < pci::kBar0 + 4 && offset + 4 > pci::kCommand) follow_bar();
    });
}

Vga::State Vga::fresh() {
    State state;
    state.dispi[dispi::kId] = dispi::kIdentity;
    state.dispi[dispi::kBitsPerPixel] = 8;
    return state;
}

void Vga::follow_bar() {
    std::optional<u64> bar;
    for (const PciFunction::Decode& decode : pci_.decodes())
        if (decode.bar == kMemoryBar && !decode.io) bar = decode.base;
    home_ = follow_(bar);
}

void Vga::reset() {
    state_ = fresh();
    pci_.reset();
    follow_bar();
}

void Vga::fields(StateVisitor& v) {
    pci_.fields(v);
    v("dispi", state_.dispi);
    v("dispi_index", state_.dispi_index);
    v("sequencer", state_.sequencer);
    v("graphics", state_.graphics);
    v("crtc", state_.crtc);
    v("attribute", state_.attribute);
    v("palette", state_.palette);
    v("latch", state_.latch);
    v("sequencer_index", state_.sequencer_index);
    v("graphics_index", state_.graphics_index);
    v("crtc_index", state_.crtc_index);
    v("attribute_index", state_.attribute_index);
    v("attribute_data", state_.attribute_data);
    v("misc", state_.misc);
    v("dac_mask", state_.dac_mask);
    v("dac_index", state_.dac_index);
    v("dac_component", state_.dac_component);
    v("dac_state", state_.dac_state);
    v("dac_reading", state_.dac_reading);
    if (!v.loading()) return;
    state_.dac_component %= 3;
    follow_bar();
}

// ---- Ports

bool Vga::crtc_here(u16 port) const { return (port >= 0x3d0) == ((state_.misc & kMiscColour) != 0); }

u8 Vga::read_status() {
    state_.attribute_data = false;
    const VTime in_frame = events_.now() % kFrameNs;
    if (in_frame >= kDisplayedNs) return kRetrace | kNotDisplaying;
    return in_frame % kLineNs >= kShownNs ? kNotDisplaying : 0;
}

u8 Vga::read_port(u16 port) {
    switch (port) {
        case kAttribute:
            return state_.attribute_data ? 0 : state_.attribute_index;
        case kAttributeRead: {
            const u8 index = state_.attribute_index & 0x1f;
            return index < kAttributeCount ? state_.attribute[index] : u8{0};
        }
        case kMiscWrite:
            return 0x10;  // input status 0: a colour monitor is there
        case kSequencerIndex:
            return state_.sequencer_index;
        case kSequencerData:
            return state_.sequencer_index < kSequencerCount ? state_.sequencer[state_.sequencer_index] : u8{0};
        case kDacMask:
            return state_.dac_mask;
        case kDacReadIndex:
            return state_.dac_state;
        case kDacWriteIndex:
            return state_.dac_index;
        case kDacData:
            return read_dac();
        case kMiscRead:
            return state_.misc;
        case kGraphicsIndex:
            return state_.graphics_index;
        case kGraphicsData:
            return state_.graphics_index < kGraphicsCount ? state_.graphics[state_.graphics_index] : u8{0};
        case kCrtcIndex:
        case kCrtcIndexMono:
            return crtc_here(port) ? state_.crtc_index : u8{0xff};
        case kCrtcData:
        case kCrtcDataMono:
            if (!crtc_here(port)) return 0xff;
            return state_.crtc_index < kCrtcCount ? state_.crtc[state_.crtc_index] : u8{0};
        case kStatus:
        case kStatusMono:
            return crtc_here(port) ? read_status() : u8{0xff};
        case kFeatureRead:
            return 0;
        default:
            return 0xff;
    }
}

void Vga::write_port(u16 port, u8 value) {
    switch (port) {
        case kAttribute:
            return write_attribute(value);
        case kMiscWrite:
            state_.misc = value & 0xef;
            break;
        case kSequencerIndex:
            state_.sequencer_index = value & 7;
            break;
        case kSequencerData: {
            constexpr std::array<u8, kSequencerCount> kBits = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
            if (state_.sequencer_index < kSequencerCount)
                state_.sequencer[state_.sequencer_index] = value & kBits[state_.sequencer_index];
            break;
        }
        case kDacMask:
            state_.dac_mask = value;
            break;
        case kDacReadIndex:
        case kDacWriteIndex:
            state_.dac_index = value;
            state_.dac_component = 0;
            state_.dac_reading = port == kDacReadIndex;
            state_.dac_state = state_.dac_reading ? 3 : 0;
            break;
        case kDacData:
            return write_dac(value);
        case kGraphicsIndex:
            state_.graphics_index = value & 0xf;
            break;
        case kGraphicsData: {
            constexpr std::array<u8, kGraphicsCount> kBits = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
            if (state_.graphics_index < kGraphicsCount)
                state_.graphics[state_.graphics_index] = value & kBits[state_.graphics_index];
            break;
        }
        case kCrtcIndex:
        case kCrtcIndexMono:
            if (crtc_here(port)) state_.crtc_index = value & 0x3f;
            break;
        case kCrtcData:
        case kCrtcDataMono:
            if (crtc_here(port)) write_crtc(value);
            break;
        default:
            break;
    }
}

void Vga::write_attribute(u8 value) {
    if (!state_.attribute_data) {
        state_.attribute_index = value & 0x3f;
    } else if (const u8 index = state_.attribute_index & 0x1f; index < kAttributeCount) {
        // The palette can be written only while it is not shown.
        constexpr std::array<u8, 5> kBits = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
        if (index >= kAttributeMode)
            state_.attribute[index] = value & kBits[index - kAttributeMode];
        else if ((state_.attribute_index & kPaletteShown) == 0)
            state_.attribute[index] = value & 0x3f;
    }
    state_.attribute_data = !state_.attribute_data;
}

void Vga::write_crtc(u8 value) {
    const u8 index = state_.crtc_index;
    if (index >= kCrtcCount) return;
    if (index <= kOverflow && (state_.crtc[kRetraceEnd] & kProtect) != 0) {
        // "... except the line compare bit of register 7"
        if (index == kOverflow) state_.crtc[index] = static_cast<u8>((state_.crtc[index] & ~0x10) | (value & 0x10));
        return;
    }
    state_.crtc[index] = value;
}

u8 Vga::read_dac() {
    const u8 value = state_.palette[state_.dac_index * 3u + state_.dac_component];
    if (++state_.dac_component == 3) {
        state_.dac_component = 0;
        ++state_.dac_index;
    }
    return value;
}

void Vga::write_dac(u8 value) {
    state_.palette[state_.dac_index * 3u + state_.dac_component] = value & 0x3f;
    if (++state_.dac_component == 3) {
        state_.dac_component = 0;
        ++state_.dac_index;
    }
}

// ---- The display interface

u16 Vga::read_dispi(u32 index) const {
    const bool limits = (state_.dispi[dispi::kEnable] & dispi::kGetCapabilities) != 0;
    switch (index) {
        case dispi::kWidth:
            return limits ? kMaxWidth : state_.dispi[index];
        case dispi::kHeight:
            return limits ? kMaxHeight : state_.dispi[index];
        case dispi::kBitsPerPixel:
            return limits ? u16{32} : state_.dispi[index];
        case dispi::kVirtualHeight: {
            const u64 stride =
                u64{state_.dispi[dispi::kVirtualWidth]} * bytes_per_pixel(state_.dispi[dispi::kBitsPerPixel]);
            return stride == 0 ? u16{0} : static_cast<u16>(std::min<u64>(kMemoryBytes / stride, 0xffff));
        }
        case dispi::kMemory64K:
            return kMemoryBytes >> 16;
        default:
            return index < dispi::kRegisterCount ? state_.dispi[index] : u16{0};
    }
}

void Vga::write_dispi(u32 index, u16 value) {
    switch (index) {
        case dispi::kId:
            if (value >= dispi::kFirstIdentity && value <= dispi::kIdentity) state_.dispi[index] = value;
            break;
        case dispi::kWidth:
            if (value <= kMaxWidth) state_.dispi[index] = value;
            break;
        case dispi::kHeight:
            if (value <= kMaxHeight) state_.dispi[index] = value;
            break;
        case dispi::kBank:
            if (value < kMemoryBytes >> 16) state_.dispi[index] = value;
            break;
        case dispi::kVirtualWidth:
            if (value >= state_.dispi[dispi::kWidth]) state_.dispi[index] = value;
            break;
        case dispi::kEnable: {
            const bool turned_on = (value & ~state_.dispi[index] & dispi::kEnabled) != 0;
            state_.dispi[index] =
                value & (dispi::kEnabled | dispi::kGetCapabilities | dispi::kLinear | dispi::kKeepMemory |
                         0x20);  // 0x20: eight bits of each colour, as VESA's DAC
            if (!turned_on) break;
            state_.dispi[dispi::kVirtualWidth] = state_.dispi[dispi::kWidth];
            state_.dispi[dispi::kX] = state_.dispi[dispi::kY] = state_.dispi[dispi::kBank] = 0;
            if ((value & dispi::kKeepMemory) != 0) break;
            const std::vector<u8> zeroes(1 << 16);
            for (u64 at = 0; at < kMemoryBytes; at += zeroes.size()) {
                if (!memory_.write(home_ + at, zeroes.data(), zeroes.size())) break;
            }
            break;
        }
        case dispi::kBitsPerPixel:
        case dispi::kX:
        case dispi::kY:
            state_.dispi[index] = value;
            break;
        default:
            break;
    }
}

u64 Vga::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
        const u64 at = offset + i;
        u8 byte = 0;
        if (at - dispi::kOffset < 2 * dispi::kRegisterCount)
            byte = static_cast<u8>(read_dispi(static_cast<u32>(at - dispi::kOffset) / 2) >> (at % 2 * 8));
        else if (at - kPortsInBar < 0x20)
            byte = read_port(static_cast<u16>(kAttribute + (at - kPortsInBar)));
        value |= u64{byte} << (i * 8);
    }
    return value;
}

void Vga::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset - dispi::kOffset < 2 * dispi::kRegisterCount) {
        for (unsigned i = 0; offset % 2 == 0 && i + 2 <= size; i += 2) {
            if (const u64 at = offset + i - dispi::kOffset; at / 2 < dispi::kRegisterCount)
                write_dispi(static_cast<u32>(at / 2), static_cast<u16>(value >> (i * 8)));
        }
        return;
    }
    for (unsigned i = 0; i < size; ++i) {
        if (const u64 at = offset + i - kPortsInBar; at < 0x20)
            write_port(static_cast<u16>(kAttribute + at), static_cast<u8>(value >> (i * 8)));
    }
}

// ---- Memory

u8 Vga::peek(u64 at) const {
    u8 byte = 0xff;
    if (at < kMemoryBytes) (void)memory_.read(home_ + at, &byte, 1);
    return byte;
}

void Vga::poke(u64 at, u8 value) {
    if (at < kMemoryBytes) (void)memory_.write(home_ + at, &value, 1);
}

void Vga::peek(u64 at, std::span<u8> out) const {
    std::fill(out.begin(), out.end(), u8{0});
    if (fits(at, out.size(), kMemoryBytes)) (void)memory_.read(home_ + at, out.data(), out.size());
}

bool Vga::decode(u64& offset) const {
    switch (state_.graphics[kMisc] >> 2 & 3) {
        case 0:
            return true;
        case 1:
            if (offset >= 0x10000) return false;
            // The display interface moves the window over all of the memory.
            if ((state_.dispi[dispi::kEnable] & dispi::kEnabled) != 0) offset += u64{state_.dispi[dispi::kBank]} << 16;
            return true;
        case 2:
            offset -= 0x10000;
            return offset < 0x8000;
        default:
            offset -= 0x18000;
            return offset < 0x8000;
    }
}

u8 Vga::read_memory(u64 offset) {
    if (!decode(offset)) return 0xff;
    if ((state_.sequencer[kMemoryMode] & kChain4) != 0) return peek(offset);
    if ((state_.graphics[kMode] & kOddEven) != 0)
        return peek((offset & ~u64{1}) << 1 | (state_.graphics[kReadMap] & 2u) | (offset & 1));
    if (offset >= kMemoryBytes / 4) return 0xff;
    peek(offset * 4, state_.latch);
    if ((state_.graphics[kMode] & kReadCompare) == 0) return state_.latch[state_.graphics[kReadMap]];
    u8 differ = 0;
    for (u32 plane = 0; plane < 4; ++plane) {
        const u8 wanted = spread(state_.graphics[kColourCompare], plane);
        differ |= static_cast<u8>((state_.latch[plane] ^ wanted) & spread(state_.graphics[kColourCare], plane));
    }
    return static_cast<u8>(~differ);
}

void Vga::write_memory(u64 offset, u8 value) {
    if (!decode(offset)) return;
    const u8 mask = state_.sequencer[kMapMask];
    if ((state_.sequencer[kMemoryMode] & kChain4) != 0) {
        if (bit(u64{mask}, offset & 3)) poke(offset, value);
    } else if ((state_.graphics[kMode] & kOddEven) != 0) {
        const u32 plane = (state_.graphics[kReadMap] & 2u) | static_cast<u32>(offset & 1);
        if (bit(u64{mask}, plane)) poke((offset & ~u64{1}) << 1 | plane, value);
    } else if (offset < kMemoryBytes / 4) {
        write_planes(offset, value);
    }
}

/// The four write modes. PS/2 Hardware Interface Technical Reference "Graphics Mode Register".
void Vga::write_planes(u64 cell, u8 value) {
    const auto& graphics = state_.graphics;
    const u8 mode = graphics[kMode] & 3;
    u8 mask = graphics[kBitMask];
    const unsigned turn = graphics[kRotate] & 7;
    const u8 rotated = static_cast<u8>(value >> turn | value << (8 - turn));
    if (mode == 3) mask &= rotated;
    std::array<u8, 4> planes{};
    peek(cell * 4, planes);
    for (u32 plane = 0; plane < 4; ++plane) {
        if (!bit(u64{state_.sequencer[kMapMask]}, plane)) continue;
        const u8 latched = state_.latch[plane];
        if (mode == 1) {
            planes[plane] = latched;
            continue;
        }
        u8 source = mode == 2 ? spread(value, plane) : mode == 3 ? spread(graphics[kSetReset], plane) : rotated;
        if (mode == 0 && bit(u64{graphics[kEnableSetReset]}, plane)) source = spread(graphics[kSetReset], plane);
        switch (graphics[kRotate] >> 3 & 3) {
            case 1:
                source &= latched;
                break;
            case 2:
                source |= latched;
                break;
            case 3:
                source ^= latched;
                break;
            default:
                break;
        }
        planes[plane] = static_cast<u8>((source & mask) | (latched & ~mask));
    }
    (void)memory_.write(home_ + cell * 4, planes.data(), planes.size());
}

u64 Vga::Window::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= u64{vga_.read_memory(offset + i)} << (i * 8);
    return value;
}

void Vga::Window::mmio_write(u64 offset, unsigned size, u64 value) {
    for (unsigned i = 0; i < size; ++i) vga_.write_memory(offset + i, static_cast<u8>(value >> (i * 8)));
}

u64 Vga::Linear::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    if (!fits(offset, size, kMemoryBytes) || !vga_.memory_.read(vga_.home_ + offset, &value, size))
        return low_mask(size * 8);
    return value;
}

void Vga::Linear::mmio_write(u64 offset, unsigned size, u64 value) {
    if (fits(offset, size, kMemoryBytes)) (void)vga_.memory_.write(vga_.home_ + offset, &value, size);
}

}  // namespace vg::devices
