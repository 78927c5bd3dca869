// Protocol core of an integration component: negotiation, and one request at a time that the guest answers. Rows
// D-100..D-103. No I/O, no heap.
#pragma once

#include <array>

#include "hv/spec/ic.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::ic {

/// The part that all components share. A guest without the daemon that a component needs may leave the negotiation
/// unanswered for a minute or for ever: that is no mistake.
class IcService : public vsp::MessageCore {
  public:
    enum class State : u8 {
        Closed,
        Negotiating,
        Ready,
        Refused  ///< the guest knows none of the versions
    };
    static constexpr u32 kMaxBody = kMaxMessage - kHeaderBytes;
    static constexpr u32 kMaxVersions = 4;

    void opened() final;
    void closed() final;
    void receive(std::span<const u8> message, u64 transaction_id) final;
    [[nodiscard]] Outgoing next(std::span<u8> out) final;
    void sent() final;
    void fields(StateVisitor& v) override;

    [[nodiscard]] State state() const { return state_; }
    /// A request is with the guest.
    [[nodiscard]] bool waiting() const { return waiting_; }
    [[nodiscard]] Version framework() const { return framework_; }
    [[nodiscard]] Version version() const { return version_; }
    [[nodiscard]] u64 answers() const { return answers_; }
    /// Messages that were no answer to anything.
    [[nodiscard]] u64 invalid() const { return invalid_; }

  protected:
    /// @param frameworks, versions  what is offered, ascending; they outlive the object, at most kMaxVersions of each
    IcService(MessageType type, std::span<const Version> frameworks, std::span<const Version> versions)
        : type_(type), frameworks_(frameworks), versions_(versions) {}

    /// The versions are agreed on.
    virtual void ready() {}
    /// Puts the body of the next request into `body` (kMaxBody bytes, zeroed); its size, 0: nothing to ask.
    [[nodiscard]] virtual u32 request(std::span<u8> body) = 0;
    /// The request is with the guest.
    virtual void requested() {}
    virtual void answered(u32 status, std::span<const u8> body) = 0;
    /// The guest is gone, or knows none of the versions.
    virtual void lost() {}

  private:
    [[nodiscard]] u32 negotiation(std::span<u8> body) const;
    void agree(std::span<const u8> body);

    MessageType type_;
    std::span<const Version> frameworks_, versions_;
    State state_ = State::Closed;
    bool waiting_ = false;
    Version framework_{}, version_{};
    u8 transaction_ = 0;
    u64 transaction_id_ = 0;
    u64 answers_ = 0, invalid_ = 0;
};

}  // namespace vg::hv::ic
