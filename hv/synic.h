// The synthetic interrupt controller of one VP: SINTs, message page, event flags page. Rows S-01..S-10, M-15..M-21;
// TLFS 6.0b "Virtual Interrupts".
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <set>
#include <span>

#include "base/types.h"
#include "hv/overlay.h"
#include "hv/spec/status.h"
#include "hv/spec/synic.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

class Vp;

/// Called on the VP's thread (or, from the host side, between slices). Nothing here trusts the pages' content: the
/// guest may write anything into them at any time.
class Synic {
  public:
    /// Messages that wait for one SINT's slot (S-03 asks for at least 16).
    static constexpr std::size_t kQueueLimit = 64;
    /// The hypervisor's own messages wait behind each other up to this; beyond, the SINT's owner gets no more.
    static constexpr std::size_t kOwnQueueLimit = 4096;

    /// What became of an attempt to write a message slot.
    enum class Attempt : u8 {
        Delivered,
        Busy,  ///< slot occupied: its pending flag is set, so the guest will write EOM
        Off    ///< SCONTROL or SIMP disabled
    };

    /// One that waits for its SINT's slot.
    struct Message {
        u32 type = 0;
        u8 size = 0;
        u64 origin = 0;
        std::array<u8, kMessagePayloadMax> payload{};
    };

    explicit Synic(Vp& vp);

    /// Queues a message for a SINT and delivers what the slot allows, first in, first out.
    /// InvalidSynicState if the SynIC is off, InsufficientBuffers if the queue is full, InvalidParameter for a
    /// payload over 240 bytes or type 0. Nothing is queued unless Success is returned.
    HvStatus post(u8 sint, u32 type, u64 origin, std::span<const u8> payload);
    /// The same for the hypervisor's own messages: they wait even while the SynIC is off.
    void post_own(u8 sint, u32 type, std::span<const u8> payload, u64 origin);
    /// Drops what waits and came from `origin`.
    void forget_messages_from(u64 origin);
    /// One attempt without queueing (synthetic timers keep their own pending state, S-85).
    Attempt try_deliver(u8 sint, u32 type, u64 origin, std::span<const u8> payload);
    /// Sets an event flag and interrupts if it was clear (S-06). InvalidSynicState, and nothing set, if SynIC or SIEFP
    /// is off or the SINT masked (S-07); InvalidParameter for a flag beyond the SINT's.
    /// @param fresh  if given: whether the flag was clear
    HvStatus signal(u8 sint, u16 flag, bool* fresh = nullptr);
    /// Puts a port's id into the event ring of a SINT and tells the guest (S-31, S-32). A port whose slot is taken
    /// waits for ring_empty. InvalidSynicState if there is no ring.
    HvStatus ring(u8 sint, u32 port_id);
    /// The guest has drained the ring (K-164).
    void ring_empty(u8 sint);
    /// Raises the SINT's vector, unless it is masked or polled.
    void interrupt(u8 sint);
    /// Delivers what waits, queued messages first, then timers' (M-19; also after anything that may free a slot).
    void rescan();

    // ---- registers; setters return false for #GP(0)
    [[nodiscard]] u64 scontrol() const { return scontrol_; }
    [[nodiscard]] u64 siefp() const { return siefp_; }
    [[nodiscard]] u64 simp() const { return simp_; }
    [[nodiscard]] bool has_sirbp() const { return ring_page_ != nullptr; }
    [[nodiscard]] u64 sirbp() const { return sirbp_; }
    void set_sirbp(u64 value);
    /// The root's pages appear at their own addresses.
    void show_root_pages();
    [[nodiscard]] Spa message_page() const { return message_page_.page(); }
    [[nodiscard]] Spa event_page() const { return event_page_.page(); }
    [[nodiscard]] u64 sint(unsigned index) const { return sint_[index]; }
    /// Whether one that is not masked has this vector.
    [[nodiscard]] bool has_sint_at(u8 vector) const;
    void set_scontrol(u64 value);
    void set_siefp(u64 value);
    void set_simp(u64 value);
    [[nodiscard]] bool set_sint(unsigned index, u64 value);

    [[nodiscard]] std::size_t queued(u8 sint) const { return queue_[sint].size(); }
    /// Oldest first.
    [[nodiscard]] const std::deque<Message>& waiting(u8 sint) const { return queue_[sint]; }
    /// Reset values, pages removed, queues dropped (S-10).
    void reset();
    void fields(StateVisitor& v);

  private:
    [[nodiscard]] bool messages_on() const;
    [[nodiscard]] bool events_on() const;
    void drain(u8 sint);
    /// True if the slot is occupied after its pending flag was set (S-03, S-04).
    bool busy_with_pending(Spa slot);
    /// Puts a message into a slot that is free, and interrupts.
    void deliver(u8 sint, u32 type, u64 origin, std::span<const u8> payload);
    void update_auto_eoi(u8 vector);

    Vp& vp_;
    OverlayPage message_page_, event_page_;
    std::unique_ptr<OverlayPage> ring_page_;  // root only
    u64 scontrol_ = 0, siefp_ = 0, simp_ = 0, sirbp_ = 0;
    std::array<u8, kSintCount> ring_next_{};  // slot of each SINT's ring: goes on as long as the partition lives (S-31)
    std::array<std::set<u32>, kSintCount> ring_waiting_;
    std::array<u64, kSintCount> sint_{};
    std::array<std::deque<Message>, kSintCount> queue_;
};

}  // namespace vg::hv
