// One connection of a Hyper-V socket as a protocol core: packets of the guest, bytes of the host. No I/O of its own;
// freestanding. Rows D-114, D-115.
#pragma once

#include <span>
#include <vector>

#include "base/types.h"
#include "hv/spec/hvsocket.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv::vsp {

class SocketStream {
  public:
    /// Bytes that wait for the guest, at most; and of the guest's that the host has not taken, before its next packet
    /// is left in the ring: one packet more may be on its way then.
    static constexpr std::size_t kMaxQueued = 64 * 1024, kWindow = 64 * 1024;
    /// Data of one packet to the guest: it fits into a ring of a single page.
    static constexpr std::size_t kChunk = 3584;
    static constexpr std::size_t kMaxPacket = sizeof(vmbus::PipeHeader) + kChunk;

    enum class Received : u8 {
        Data,
        End,    ///< the guest sends no more
        Broken  ///< not a packet of this protocol, or one behind the end: the connection is of no use
    };

    // ---- from the guest
    /// Whether the next packet may be read.
    [[nodiscard]] bool may_receive() const { return untaken_ < kWindow; }
    /// A packet in private memory. `data` is in it, and counts as untaken.
    [[nodiscard]] Received receive(std::span<const u8> packet, std::span<const u8>& data);
    /// The host has taken so many bytes. False: it had not got that many.
    [[nodiscard]] bool taken(u64 bytes);
    [[nodiscard]] u64 untaken() const { return untaken_; }
    [[nodiscard]] bool guest_ended() const { return guest_ended_; }

    // ---- to the guest
    /// How many more bytes may be queued; 0 behind the end.
    [[nodiscard]] std::size_t room() const { return host_ended_ ? 0 : kMaxQueued - queued_.size(); }
    /// At most room() bytes.
    void queue(std::span<const u8> data);
    /// The host sends no more.
    void end() { host_ended_ = true; }
    [[nodiscard]] bool host_ended() const { return host_ended_; }
    /// Puts the next packet into `out` (kMaxPacket bytes); returns its size, 0: there is none. The same until sent().
    [[nodiscard]] std::size_t next(std::span<u8> out) const;
    void sent();
    /// Everything is in the ring, the end included.
    [[nodiscard]] bool all_sent() const { return end_sent_; }
    /// Neither side will say anything more.
    [[nodiscard]] bool finished() const { return guest_ended_ && end_sent_; }

    void fields(StateVisitor& v);

  private:
    std::vector<u8> queued_;
    u64 untaken_ = 0;
    bool guest_ended_ = false, host_ended_ = false, end_sent_ = false;
};

}  // namespace vg::hv::vsp
