#include "devices/cfi_flash.h"

#include <array>
#include <bit>
#include <vector>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

namespace {

constexpr u8 kReady = 0x80, kEraseFailed = 0x20, kProgramFailed = 0x10;

enum Command : u8 {
    kProgram = 0x10,
    kBlockErase = 0x20,
    kProgramToo = 0x40,
    kClearStatus = 0x50,
    kLock = 0x60,
    kReadStatus = 0x70,
    kReadIdentity = 0x90,
    kReadQuery = 0x98,
    kConfirm = 0xd0,
    kWriteBuffer = 0xe8,
    kReadArray = 0xff
};

}  // namespace

CfiFlash::CfiFlash(u64 size, Array& array, Show show) : size_(size), array_(array), show_(std::move(show)) {
    VG_ASSERT(size != 0 && size % kBlockBytes == 0);
}

void CfiFlash::reset() {
    state_ = State{};
    show_(true);
}

void CfiFlash::fields(StateVisitor& v) {
    auto mode = static_cast<u8>(state_.mode), wait = static_cast<u8>(state_.wait);
    v("mode", mode);
    v("wait", wait);
    v("status", state_.status, Fmt::Bin);
    v("left", state_.left, Fmt::Dec);
    v("filled", state_.filled);
    v("buffer_base", state_.buffer_base);
    v("buffer", state_.buffer);
    if (!v.loading()) return;
    state_.mode = mode <= static_cast<u8>(Mode::Query) ? static_cast<Mode>(mode) : Mode::Array;
    state_.wait = wait <= static_cast<u8>(Wait::Lock) ? static_cast<Wait>(wait) : Wait::Command;
    if (state_.left > kBuffer || (state_.wait == Wait::BufferData && state_.left == 0)) state_.wait = Wait::Command;
    if (!fits(state_.buffer_base, kBuffer, size_)) state_.buffer_base = 0;
    show_(state_.mode == Mode::Array);
}

void CfiFlash::set_mode(Mode mode) {
    if (mode != state_.mode) show_(mode == Mode::Array);
    state_.mode = mode;
}

u8 CfiFlash::read_byte(u64 offset) const {
    switch (state_.mode) {
        case Mode::Array: {
            u8 byte = 0xff;
            if (offset < size_) array_.read(offset, std::span(&byte, 1));
            return byte;
        }
        case Mode::Status:
            return state_.status;
        case Mode::Identity: {
            constexpr u8 kMaker = 0x89, kDevice = 0x18;
            const u64 which = offset & 0xff;
            return which == 0 ? kMaker : which == 1 ? kDevice : 0;
        }
        case Mode::Query: {
            const u64 blocks = size_ / kBlockBytes - 1;
            switch (offset & 0xff) {
                case 0x10:
                    return 'Q';
                case 0x11:
                    return 'R';
                case 0x12:
                    return 'Y';
                case 0x13:
                    return 1;  // the Intel command set
                case 0x27:
                    return static_cast<u8>(std::countr_zero(std::bit_ceil(size_)));
                case 0x2a:
                    return static_cast<u8>(std::countr_zero(kBuffer));
                case 0x2c:
                    return 1;  // one kind of block
                case 0x2d:
                    return static_cast<u8>(blocks);
                case 0x2e:
                    return static_cast<u8>(blocks >> 8);
                case 0x2f:
                    return static_cast<u8>(kBlockBytes / 256);
                case 0x30:
                    return static_cast<u8>(kBlockBytes / 256 >> 8);
                default:
                    return 0;
            }
        }
    }
    VG_UNREACHABLE();
}

u64 CfiFlash::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= u64{read_byte(offset + i)} << (i * 8);
    return value;
}

void CfiFlash::mmio_write(u64 offset, unsigned size, u64 value) {
    for (unsigned i = 0; i < size; ++i)
        if (offset + i < size_) write_byte(offset + i, static_cast<u8>(value >> (i * 8)));
}

/// Programming makes zeroes of ones, nothing else.
void CfiFlash::program(u64 offset, std::span<const u8> data) {
    std::vector<u8> held(data.size());
    array_.read(offset, held);
    for (std::size_t i = 0; i < data.size(); ++i) held[i] &= data[i];
    array_.write(offset, held);
    state_.status |= kReady;
}

void CfiFlash::command(u64, u8 value) {
    switch (value) {
        case kProgram:
        case kProgramToo:
            state_.wait = Wait::Program;
            return set_mode(Mode::Status);
        case kBlockErase:
            state_.wait = Wait::EraseConfirm;
            return set_mode(Mode::Status);
        case kWriteBuffer:
            state_.status |= kReady;
            state_.wait = Wait::BufferCount;
            return set_mode(Mode::Status);
        case kLock:
            state_.wait = Wait::Lock;
            return set_mode(Mode::Status);
        case kClearStatus:
            state_.status = 0;
            return set_mode(Mode::Array);
        case kReadStatus:
            return set_mode(Mode::Status);
        case kReadIdentity:
            return set_mode(Mode::Identity);
        case kReadQuery:
            return set_mode(Mode::Query);
        default:
            return set_mode(Mode::Array);
    }
}

void CfiFlash::write_byte(u64 offset, u8 value) {
    const Wait wait = state_.wait;
    state_.wait = Wait::Command;
    switch (wait) {
        case Wait::Command:
            return command(offset, value);
        case Wait::Program:
            return program(offset, std::span(&value, 1));
        case Wait::EraseConfirm: {
            if (value != kConfirm) {
                state_.status |= kReady | kEraseFailed | kProgramFailed;
                return;
            }
            const std::vector<u8> erased(kBlockBytes, 0xff);
            array_.write(align_down(offset, kBlockBytes), erased);
            state_.status |= kReady;
            return;
        }
        case Wait::BufferCount:
            if (value >= kBuffer) {
                state_.status |= kReady | kProgramFailed;
                return;
            }
            state_.left = value + 1u;
            state_.filled = false;
            state_.wait = Wait::BufferData;
            return;
        case Wait::BufferData:
            if (!state_.filled) {
                state_.buffer_base = align_down(offset, kBuffer);
                state_.buffer.fill(0xff);
                state_.filled = true;
            }
            if (offset - state_.buffer_base < kBuffer) state_.buffer[offset - state_.buffer_base] = value;
            state_.wait = --state_.left == 0 ? Wait::BufferConfirm : Wait::BufferData;
            return;
        case Wait::BufferConfirm:
            if (value == kConfirm)
                program(state_.buffer_base, state_.buffer);
            else
                state_.status |= kReady | kProgramFailed;
            return;
        case Wait::Lock:
            state_.status |= kReady;  // blocks have no locks
            return;
    }
}

}  // namespace vg::devices
