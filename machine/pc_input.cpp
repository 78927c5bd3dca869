#include "machine/pc_input.h"

#include "hv/spec/input_devices.h"

namespace vg::machine {

PcInput::PcInput(EventQueue& events, devices::Ps2Keyboard& keyboard)
    : events_(events), keyboard_(keyboard), timer_(events.add("pc_input", [this](VTime) { feed(); })) {}

bool PcInput::press(std::span<const hv::vsp::Keystroke> keys) {
    if (keys.size() > kMaxQueued - waiting_.size()) return false;
    waiting_.insert(waiting_.end(), keys.begin(), keys.end());
    if (!waiting_.empty() && !events_.armed(timer_)) events_.arm(timer_, events_.now() + kPace);
    return true;
}

void PcInput::feed() {
    if (waiting_.empty()) return;
    if (!keyboard_.has_byte()) {
        const hv::vsp::Keystroke key = waiting_.front();
        waiting_.pop_front();
        keyboard_.key(key.code, (key.flags & hv::keyboard::kE0) != 0, (key.flags & hv::keyboard::kBreak) == 0);
    }
    if (!waiting_.empty()) events_.arm(timer_, events_.now() + kPace);
}

void PcInput::reset() {
    waiting_.clear();
    events_.cancel(timer_);
}

void PcInput::fields(StateVisitor& v) {
    std::vector<u8> keys;
    for (const hv::vsp::Keystroke& key : waiting_) keys.insert(keys.end(), {key.code, key.flags});
    v("waiting", keys, 2 * kMaxQueued);
    if (!v.loading()) return;
    waiting_.clear();
    for (std::size_t i = 0; i + 1 < keys.size(); i += 2)
        waiting_.push_back({static_cast<u8>(keys[i] & 0x7f), keys[i + 1]});
}

}  // namespace vg::machine
