#include "ui/model/vmbus_channels.h"

#include "hv/parent/built_in_parent.h"
#include "hv/vmbus/channel.h"
#include "machine/child_machine.h"
#include "machine/config.h"

namespace vg::model {

namespace {

const char* state_name(const hv::vmbus::Channel& channel) {
    switch (channel.state()) {
        case hv::vmbus::Channel::State::Offered:
            return channel.announced() ? "offered" : "not announced";
        case hv::vmbus::Channel::State::Open:
            return channel.broken() ? "broken" : "open";
        case hv::vmbus::Channel::State::Rescinded:
            return "rescinded";
    }
    return "";
}

template <class T>
bool take(const Json& object, const char* key, T& out) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number_unsigned()) return false;
    out = found->get<T>();
    return true;
}

bool take_guid(const Json& object, const char* key, hv::Guid& out) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() && hv::parse_guid(found->get_ref<const std::string&>(), out);
}

std::string text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::vector<VmbusChannel> machine_channels(machine::Machine& machine) {
    std::vector<VmbusChannel> list;
    for (const auto& child : machine.children()) {
        for (const auto& [relid, channel] : child->parent().server().channels()) {
            const hv::vmbus::ChannelStats& stats = channel->stats();
            VmbusChannel out;
            out.partition = child->partition().id();
            out.relid = relid;
            out.interface_type = channel->offer().type;
            out.instance = channel->offer().instance;
            out.service = service_of(out.interface_type);
            out.name = channel->offer().name;
            out.state = state_name(*channel);
            out.sub_channel = channel->sub_channel();
            out.packets[0] = stats.packets_in;
            out.packets[1] = stats.packets_out;
            out.bytes[0] = stats.bytes_in;
            out.bytes[1] = stats.bytes_out;
            out.signals[0] = stats.signals_in;
            out.signals[1] = stats.signals_out;
            list.push_back(std::move(out));
        }
    }
    return list;
}

Json vmbus_request(machine::Machine& machine) {
    Json channels = Json::array();
    for (const VmbusChannel& channel : machine_channels(machine)) channels.push_back(channel_json(channel));
    const auto start = machine::parse_clock(machine.config().machine.clock);
    return {{"start_unix_seconds", start ? *start : 0}, {"channels", std::move(channels)}};
}

Result<VmbusChannel> channel_from_json(const Json& channel) {
    VmbusChannel out;
    const bool good = channel.is_object() && take(channel, "partition", out.partition) &&
                      take(channel, "channel", out.relid) && take_guid(channel, "interface", out.interface_type) &&
                      take_guid(channel, "instance", out.instance) && take(channel, "sub_channel", out.sub_channel);
    if (!good) return Unexpected{Error{Error::Code::Usage, "a channel without a proper form"}};
    out.service = service_of(out.interface_type);
    out.name = text_of(channel, "name");
    out.state = text_of(channel, "state");
    u8 monitor = 0;
    if (take(channel, "monitor", monitor)) out.monitor = monitor;
    constexpr const char* kSides[] = {"to_host", "to_guest"};
    for (unsigned side = 0; side < 2; ++side) {
        const auto found = channel.find(kSides[side]);
        if (found == channel.end() || !found->is_object()) continue;
        (void)take(*found, "packets", out.packets[side]);
        (void)take(*found, "bytes", out.bytes[side]);
        (void)take(*found, "signals", out.signals[side]);
    }
    return out;
}

}  // namespace vg::model
