#include "devices/virtio/console.h"

#include <algorithm>

namespace vg::devices {

VirtioConsole::VirtioConsole(const PciSlot& slot, EventQueue& events, std::function<void(u8)> output)
    : VirtioDevice(slot, events, {"virtio_console", virtio::kConsole, 0x078000, 0, 2}), output_(std::move(output)) {}

std::span<const u8> VirtioConsole::device_config() const {
    return {reinterpret_cast<const u8*>(&config_), sizeof config_};
}

void VirtioConsole::device_fields(StateVisitor& v) {
    std::vector<u8> input(input_.begin(), input_.end());
    v("input", input, kInputBytes);
    if (v.loading()) input_.assign(input.begin(), input.end());
}

std::size_t VirtioConsole::receive(std::span<const u8> bytes) {
    if (!running()) return 0;
    const std::size_t count = std::min(bytes.size(), kInputBytes - std::min(kInputBytes, input_.size()));
    input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    wake();
    return count;
}

VTime VirtioConsole::work() {
    u64 moved = 0;
    for (u32 i = 0; i < kChainsPerEvent && running(); ++i) {
        const auto chain = take(kTransmit);
        if (!chain) break;
        std::vector<u8> text(std::min(chain->readable_bytes, kMaxWrite));
        if (!chain->read(dma(), 0, text)) {
            broken();
            return kNever;
        }
        for (const u8 byte : text) output_(byte);
        give_back(kTransmit, *chain, 0);
        moved += text.size() + 1;
    }
    while (!input_.empty() && running()) {
        const auto chain = take(kReceive);
        if (!chain) break;
        const auto count = static_cast<std::size_t>(std::min<u64>(chain->writable_bytes, input_.size()));
        const std::vector<u8> text(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(count));
        if (!chain->write(dma(), 0, text)) {
            broken();
            return kNever;
        }
        input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(count));
        give_back(kReceive, *chain, static_cast<u32>(count));
        moved += count + 1;
        if (count == 0) break;
    }
    return moved == 0 ? kNever : events().now() + kLatency + moved * kNsPerByte;
}

}  // namespace vg::devices
