// Shutdown, key-value exchange, volume snapshots: components that the host gives commands. Rows D-08, D-10, D-11,
// D-104, D-107, D-108.
#pragma once

#include "hv/ic/ic_service.h"

namespace vg::hv::ic {

/// Told how a command ended.
class CommandClient {
  public:
    enum class End : u8 {
        Answered,  ///< by the guest, with a status
        Gone       ///< the guest closed the channel, or knows none of the versions
    };
    virtual ~CommandClient() = default;
    /// May submit the next one.
    virtual void finished(MessageType service, u64 number, End end, u32 status, std::span<const u8> body) = 0;
};

/// Holds one command, from when it is submitted until the guest has answered it. It waits for as long as the guest
/// takes to connect.
class CommandService final : public IcService {
  public:
    /// @param type  Shutdown, Kvp or Vss
    CommandService(MessageType type, CommandClient& client);

    [[nodiscard]] bool busy() const { return size_ != 0; }
    /// False: busy, refused by this guest, or a body that is empty or too long.
    [[nodiscard]] bool submit(u64 number, std::span<const u8> body);
    void fields(StateVisitor& v) override;

  private:
    u32 request(std::span<u8> body) override;
    void requested() override { asked_ = true; }
    void answered(u32 status, std::span<const u8> body) override;
    void lost() override;
    void finish(CommandClient::End end, u32 status, std::span<const u8> body);

    MessageType type_;
    CommandClient& client_;
    u64 number_ = 0;
    u32 size_ = 0;
    bool asked_ = false;  ///< it is with the guest
    std::array<u8, kMaxBody> body_{};
};

}  // namespace vg::hv::ic
