// A split virtqueue from the device's side. VIRTIO 1.2 §2.7.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/state.h"
#include "devices/spec/virtio.h"
#include "mmu/dma.h"

namespace vg::devices {

/// Buffers that the driver offers together: first those the device reads, then those it writes.
struct VirtioChain {
    struct Piece {
        u64 address = 0;
        u32 length = 0;
    };
    u16 head = 0;
    std::vector<Piece> readable, writable;
    u64 readable_bytes = 0, writable_bytes = 0;

    /// Copies [offset, offset+size) of what the device reads, or writes. False: beyond the end, or memory is refused.
    [[nodiscard]] bool read(mmu::Dma& memory, u64 offset, std::span<u8> out) const;
    [[nodiscard]] bool write(mmu::Dma& memory, u64 offset, std::span<const u8> data) const;
};

/// Everything in memory is the driver's to forge: each field is read once, chains end within the queue's size, and
/// what cannot be makes the queue broken.
class VirtioQueue {
  public:
    static constexpr u16 kMaxSize = 256;
    static constexpr u32 kMaxIndirect = 1024;  ///< descriptors of one table

    /// As the driver has set it up.
    struct Setup {
        u16 size = kMaxSize, vector = virtio::kNoVector;
        bool enabled = false;
        u64 descriptors = 0, driver = 0, device = 0;
    };
    Setup setup;

    /// How many chains wait; nullopt: the queue is broken.
    [[nodiscard]] std::optional<u16> waiting(mmu::Dma& memory) const;
    /// Takes the next chain; there is one. nullopt: the queue is broken.
    [[nodiscard]] std::optional<VirtioChain> take(mmu::Dma& memory, bool indirect);
    /// Gives a chain back, with `written` bytes in it. False: the queue is broken.
    [[nodiscard]] bool give_back(mmu::Dma& memory, u16 head, u32 written);
    /// Puts the last chain back that was taken.
    void untake() { --next_; }
    /// Whether the driver wants to hear of what was given back since the last call.
    [[nodiscard]] bool wants_interrupt(mmu::Dma& memory, bool event_index);
    /// With event indexes: asks to be notified of the next chain. False: the queue is broken.
    [[nodiscard]] bool ask_notification(mmu::Dma& memory);
    void reset() { *this = VirtioQueue{}; }
    void fields(StateVisitor& v);

  private:
    [[nodiscard]] bool follow(mmu::Dma& memory, u64 table, u32 entries, u16 first, bool may_nest, bool indirect,
                              VirtioChain& chain) const;

    u16 next_ = 0;  ///< of the available ring
    u16 used_ = 0;  ///< index of the used ring
    u16 told_ = 0;  ///< used index at the last interrupt decision
};

}  // namespace vg::devices
