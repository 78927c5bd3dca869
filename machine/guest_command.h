// What the host tells the services of a child: shut down, exchange a key, press keys. One form for the control
// protocol, the journal of a recording and the services.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"
#include "hv/vsp/keyboard.h"
#include "hv/vsp/mouse.h"

namespace vg::machine {

/// One command. What a kind does not use is left as it is.
struct GuestCommand {
    enum class Kind : u8 {
        Shutdown = 1,  ///< power off: `force`, `text` is the reason
        Reboot = 2,
        Hibernate = 3,
        TimeSync = 4,
        KvpGet = 5,     ///< `pool`, `key`
        KvpSet = 6,     ///< and `value`, `value_type`
        KvpDelete = 7,  ///< `pool`, `key`
        KvpList = 8,    ///< `pool`, `index`
        IpGet = 9,      ///< `ip.adapter`: hardware address
        IpSet = 10,     ///< `ip`; adapter: instance GUID of the network device
        Freeze = 11,
        Thaw = 12,
        HotBackup = 13,  ///< can this guest be frozen?
        Memory = 14,     ///< `bytes`: how much memory the guest shall have
        Keys = 15,
        Mouse = 16
    };
    struct Ip {
        std::string adapter, addresses, subnets, gateways, name_servers;  ///< lists: separated by ';'
        bool dhcp = false;
        bool operator==(const Ip&) const = default;
    };

    Kind kind{};
    bool force = false;
    u32 pool = 0;  ///< 0 external, 1 guest, 2 auto, 3 auto external, 4 auto internal
    u32 index = 0;
    u32 value_type = 1;  ///< hv::ic::kRegSz...
    std::string key, value;
    u64 bytes = 0;
    Ip ip;
    std::vector<hv::vsp::Keystroke> keys;
    hv::vsp::MouseReport mouse;
};

/// As it is journalled. Texts are cut to kMaxCommandText bytes, keys to hv::vsp::Keyboard::kMaxQueued.
[[nodiscard]] std::vector<u8> encode_command(const GuestCommand& command);
/// Nothing for bytes that encode_command does not make.
[[nodiscard]] std::optional<GuestCommand> decode_command(std::span<const u8> bytes);
inline constexpr std::size_t kMaxCommandText = 4096;

/// The body of an integration component's message (D-104, D-107, D-108). Empty: not such a command, or a text is too
/// long for its field.
[[nodiscard]] std::vector<u8> command_body(const GuestCommand& command);

/// What a guest answered.
struct KvpAnswer {
    std::string key, value;  ///< UTF-8; numbers in decimal
    GuestCommand::Ip ip;
};
/// From the body of the answer to a command of this kind; what a guest writes is cut to what fits.
[[nodiscard]] KvpAnswer parse_kvp_answer(GuestCommand::Kind kind, std::span<const u8> body);

}  // namespace vg::machine
