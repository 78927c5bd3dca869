#include "devices/ps2.h"

#include <algorithm>

#include "base/assert.h"

namespace vg::devices {

namespace {

constexpr u8 kAcknowledge = 0xfa, kResend = 0xfe, kSelfTestPassed = 0xaa, kEcho = 0xee, kReleased = 0xf0,
             kExtended = 0xe0;

/// Set 1 code of each set 2 code, 8042 translation table.
constexpr std::array<u8, 0x84> kSet1 = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,  // 00
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,  // 10
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,  // 20
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,  // 30
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,  // 40
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,  // 50
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,  // 60
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,  // 70
    0x80, 0x81, 0x82, 0x41,                                                                          // 80
};

/// The other way round, for keys: the first match.
u8 to_set_2(u8 set_1) {
    const auto at = std::find(kSet1.begin() + 1, kSet1.end(), set_1);
    if (set_1 == 0x41) return 0x83;  // F7 has a code of its own
    return at == kSet1.end() ? u8{0} : static_cast<u8>(at - kSet1.begin());
}

}  // namespace

u8 to_set_1(u8 set_2) { return set_2 < kSet1.size() ? kSet1[set_2] : set_2; }

u8 Ps2Device::take() {
    VG_ASSERT(count_ != 0);
    const u8 byte = bytes_[0];
    std::copy(bytes_.begin() + 1, bytes_.begin() + count_, bytes_.begin());
    bytes_[--count_] = 0;
    return byte;
}

void Ps2Device::queue_fields(StateVisitor& v) {
    v("bytes", bytes_);
    v("count", count_, Fmt::Dec);
    if (v.loading()) count_ = std::min<u8>(count_, kCapacity);
}

// ---- Keyboard

void Ps2Keyboard::reset() {
    clear();
    state_ = State{};
}

void Ps2Keyboard::fields(StateVisitor& v) {
    VisitScope scope(v, "keyboard");
    queue_fields(v);
    v("pending", state_.pending);
    v("set", state_.set, Fmt::Dec);
    v("leds", state_.leds, Fmt::Bin);
    v("rate", state_.rate);
    v("last", state_.last);
    v("scanning", state_.scanning);
}

void Ps2Keyboard::answer(u8 byte) {
    state_.last = byte;
    queue(byte);
}

void Ps2Keyboard::argument(u8 command, u8 byte) {
    answer(kAcknowledge);
    switch (command) {
        case 0xed:
            state_.leds = byte & 7;
            break;
        case 0xf0:
            if (byte == 0) {
                answer(state_.set);
            } else if (byte <= 2) {
                state_.set = byte;
            }
            break;
        default:
            state_.rate = byte & 0x7f;
            break;
    }
}

void Ps2Keyboard::receive(u8 byte) {
    if (byte == kResend) return answer(state_.last);
    clear();
    if (state_.pending != 0 && byte < 0x80) {
        const u8 command = state_.pending;
        state_.pending = 0;
        return argument(command, byte);
    }
    state_.pending = 0;
    switch (byte) {
        case 0xed:
        case 0xf0:
        case 0xf3:
            state_.pending = byte;
            return answer(kAcknowledge);
        case kEcho:
            return answer(kEcho);
        case 0xf2:
            for (const u8 part : {kAcknowledge, u8{0xab}, u8{0x83}}) answer(part);
            return;
        case 0xf4:
            state_.scanning = true;
            return answer(kAcknowledge);
        case 0xf5:
        case 0xf6: {
            const u8 leds = state_.leds;
            state_ = State{};
            state_.leds = leds;
            state_.scanning = byte == 0xf6;
            return answer(kAcknowledge);
        }
        case 0xff:
            state_ = State{};
            answer(kAcknowledge);
            return answer(kSelfTestPassed);
        default:
            return answer(kResend);
    }
}

void Ps2Keyboard::key(u8 make_code, bool extended, bool down) {
    if (!state_.scanning || make_code == 0 || make_code >= 0x80 || room() < 3) return;
    if (extended) queue(kExtended);
    if (state_.set == 1) {
        queue(static_cast<u8>(make_code | (down ? 0 : 0x80)));
    } else {
        if (!down) queue(kReleased);
        queue(to_set_2(make_code));
    }
    announce();
}

// ---- Mouse

void Ps2Mouse::reset() {
    clear();
    state_ = State{};
}

void Ps2Mouse::fields(StateVisitor& v) {
    VisitScope scope(v, "mouse");
    queue_fields(v);
    v("pending", state_.pending);
    v("rate", state_.rate, Fmt::Dec);
    v("resolution", state_.resolution, Fmt::Dec);
    v("buttons", state_.buttons, Fmt::Bin);
    v("id", state_.id, Fmt::Dec);
    v("knocks", state_.knocks);
    v("scaling", state_.scaling);
    v("remote", state_.remote);
    v("enabled", state_.enabled);
    v("wrap", state_.wrap);
}

/// Sample rates 200, 100, 80 in a row ask for the wheel.
void Ps2Mouse::set_rate(u8 rate) {
    if (state_.knocks[0] == 200 && state_.knocks[1] == 100 && rate == 80) state_.id = 3;
    state_.knocks = {state_.knocks[1], rate};
    state_.rate = rate;
}

void Ps2Mouse::receive(u8 byte) {
    clear();
    if (state_.wrap && byte != 0xec && byte != 0xff) return queue(byte);
    if (state_.pending != 0) {
        if (state_.pending == 0xf3) set_rate(byte);
        if (state_.pending == 0xe8) state_.resolution = byte & 3;
        state_.pending = 0;
        return queue(kAcknowledge);
    }
    command(byte);
}

void Ps2Mouse::command(u8 byte) {
    if (byte < 0xe6 || (byte > 0xf6 && byte != 0xff) || byte == 0xed || byte == 0xef || byte == 0xf1)
        return queue(kResend);
    queue(kAcknowledge);
    switch (byte) {
        case 0xe6:
        case 0xe7:
            state_.scaling = byte == 0xe7;
            break;
        case 0xe8:
        case 0xf3:
            state_.pending = byte;
            break;
        case 0xe9:
            // Bits 0 and 2 are the right and the left button here.
            queue(static_cast<u8>((state_.remote ? 0x40 : 0) | (state_.enabled ? 0x20 : 0) |
                                  (state_.scaling ? 0x10 : 0) | (state_.buttons & 1) << 2 | (state_.buttons & 4) >> 1 |
                                  (state_.buttons & 2) >> 1));
            queue(state_.resolution);
            queue(state_.rate);
            break;
        case 0xea:
        case 0xf0:
            state_.remote = byte == 0xf0;
            break;
        case 0xeb:
            packet(0, 0, 0);
            break;
        case 0xec:
        case 0xee:
            state_.wrap = byte == 0xee;
            break;
        case 0xf2:
            queue(state_.id);
            break;
        case 0xf4:
        case 0xf5:
            state_.enabled = byte == 0xf4;
            break;
        case 0xf6: {
            const u8 id = state_.id;
            state_ = State{};
            state_.id = id;
            break;
        }
        default:  // reset
            state_ = State{};
            queue(kSelfTestPassed);
            queue(state_.id);
            break;
    }
}

void Ps2Mouse::packet(s32 right, s32 up, s32 wheel) {
    const auto clip = [](s32 value) { return std::clamp(value, -255, 255); };
    const s32 x = clip(right), y = clip(up);
    queue(static_cast<u8>(0x08 | (state_.buttons & 7) | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0) |
                          (x != right ? 0x40 : 0) | (y != up ? 0x80 : 0)));
    queue(static_cast<u8>(x));
    queue(static_cast<u8>(y));
    if (state_.id == 3) queue(static_cast<u8>(std::clamp(wheel, -8, 7)));
}

void Ps2Mouse::move(s32 right, s32 up, s32 wheel, u8 buttons) {
    state_.buttons = buttons & 7;
    if (!state_.enabled || state_.remote || state_.wrap || room() < 4) return;
    packet(right, up, -wheel);
    announce();
}

}  // namespace vg::devices
