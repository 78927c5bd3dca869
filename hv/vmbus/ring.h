// Ring buffers in guest memory, seen from the host: one that it reads and one that it writes. V-70..V-78.
//
// Nothing in a ring is read twice: indices and packets are copied into private memory, checked, then used. The host
// keeps its own index privately; what the guest makes of that field is ignored.
#pragma once

#include <span>
#include <vector>

#include "base/types.h"
#include "hv/spec/vmbus.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vmbus {

class Notifier;

/// The pages of one ring: a control page, then data that is addressed modulo its size.
class RingMemory {
  public:
    RingMemory() = default;
    /// @param pfns  control page first; at least two pages
    RingMemory(Notifier& memory, std::span<const u64> pfns);

    [[nodiscard]] u32 data_size() const { return data_size_; }
    /// Accesses one field of the control page; false if that is not RAM. Fields that the guest changes while the host
    /// looks are fetched one by one: which of two comes first is part of the protocol.
    [[nodiscard]] bool read_control(u32 offset, u32& value) const;
    [[nodiscard]] bool write_control(u32 offset, u32 value) const;
    /// Both indices, if they are plausible: for a ring that is being opened.
    [[nodiscard]] bool read_indices(u32& read_index, u32& write_index) const;
    /// Accesses data at `index` < data_size(), wrapping; size <= data_size().
    [[nodiscard]] bool read_data(u32 index, void* out, u32 size) const;
    [[nodiscard]] bool write_data(u32 index, const void* data, u32 size) const;
    /// `index` advanced by `size` <= data_size().
    [[nodiscard]] u32 advance(u32 index, u32 size) const { return (index + size) % data_size_; }
    /// True if a guest may have put this value into an index field: in the ring, on an 8-byte boundary.
    [[nodiscard]] bool plausible(u32 index) const { return index < data_size_ && index % 8 == 0; }

  private:
    template <class Access>
    bool pieces(u32 index, u32 size, Access&& access) const;

    Notifier* memory_ = nullptr;
    std::vector<u64> pages_;  ///< GPAs
    u32 data_size_ = 0;
};

/// A packet in private memory.
struct Packet {
    PacketType type{};  ///< as read; may be a value that no enumerator has
    u16 flags = 0;
    u64 transaction_id = 0;
    std::span<const u8> extension;  ///< between descriptor and data: ranges of a GPA-direct packet
    std::span<const u8> payload;    ///< padded to 8 bytes as the sender padded it
    [[nodiscard]] bool completion_requested() const { return (flags & kPacketCompletionRequested) != 0; }
};

/// Guest to host.
class IncomingRing {
  public:
    enum class Status : u8 { Packet, Empty, Broken };

    IncomingRing() = default;
    explicit IncomingRing(RingMemory memory) : memory_(std::move(memory)) {}

    /// Takes over the guest's indices. False: implausible or not RAM.
    [[nodiscard]] bool open();
    /// Copies the next packet; its spans stay valid until the next call. Broken: index or length is a lie, or the pages
    /// are not RAM; the ring stays broken.
    Status read(Packet& packet);
    /// Publishes what was read. True: the guest waits for this space and must be signalled (V-74).
    [[nodiscard]] bool commit();
    [[nodiscard]] const RingMemory& memory() const { return memory_; }
    void fields(StateVisitor& v);

  private:
    [[nodiscard]] u32 used() const;
    Status broken() {
        broken_ = true;
        return Status::Broken;
    }

    RingMemory memory_;
    u32 read_ = 0;       ///< next byte to read
    u32 published_ = 0;  ///< read index as the guest sees it
    u32 write_ = 0;      ///< the guest's write index as last fetched
    bool broken_ = false;
    std::vector<u8> packet_;
};

/// Host to guest.
class OutgoingRing {
  public:
    enum class Status : u8 { Written, Signal, NoRoom, Broken };

    OutgoingRing() = default;
    explicit OutgoingRing(RingMemory memory) : memory_(std::move(memory)) {}

    /// Takes over the indices and sets the feature bit that makes the guest honour pending sizes (V-74).
    [[nodiscard]] bool open();
    /// Writes a packet. Signal: written, and the guest must be told (V-73). NoRoom: nothing written; the pending size
    /// is set, so that the guest signals once it has freed enough.
    /// @param extension  what lies between descriptor and payload; whole 8-byte units
    Status write(PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload,
                 std::span<const u8> extension = {});
    /// Whether the guest's read index has come to the end of what was written.
    [[nodiscard]] bool all_consumed() const;
    [[nodiscard]] const RingMemory& memory() const { return memory_; }
    void fields(StateVisitor& v);

  private:
    [[nodiscard]] u32 free_bytes(u32 read_index) const;
    [[nodiscard]] bool set_pending(u32 size);
    Status broken() {
        broken_ = true;
        return Status::Broken;
    }

    RingMemory memory_;
    u32 write_ = 0;
    u32 pending_ = 0;
    bool broken_ = false;
};

}  // namespace vg::hv::vmbus
