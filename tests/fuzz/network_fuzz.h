// Runs of the network path on arbitrary bytes: shared by the fuzz target and a short random test. Nothing an input does
// may assert, leave a buffer, grow without bound, or leave a message unanswered or answered twice.
#pragma once

#include <cstdlib>
#include <map>
#include <set>

#include "devices/net/offload.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/network_guest.h"

namespace vg::test {

inline void require_network(bool condition) {
    if (!condition) std::abort();
}

/// Counts what a driver's frame becomes.
class CountingWire final : public devices::FrameSink {
  public:
    void put(std::span<const u8> frame) override {
        require_network(frame.size() >= 60 && frame.size() <= devices::kMaxFrameBytes);
        ++frames;
    }
    u64 frames = 0;
};

class NetworkFuzz {
  public:
    explicit NetworkFuzz(std::span<const u8> bytes) : input_(bytes), bed_(3, (bytes.size() & 1) == 0) {}

    void run() {
        while (!input_.empty()) {
            step();
            drain();
            check();
        }
        finish_all();
        drain();
        for (const auto& [id, answers] : answers_) require_network(answers == 1);  // D-57
        require_network(bed_.core->in_flight() == 0);
    }

  private:
    void step() {
        switch (input_.take<u8>() % 12) {
            case 0:
            case 1:
                return message(input_.take<u8>() % 2 == 0 ? 107 : input_.take<u8>());
            case 2:
                return rndis(netvsc::kChannelControl, control());
            case 3:
            case 4:
                return rndis(netvsc::kChannelData, data());
            case 5: {  // a frame arrives
                Bytes frame = tcp_frame(input_.take<u8>(), input_.take<u32>(), input_.take<u16>());
                const auto noise = input_.span(input_.take<u8>() % 40);
                for (std::size_t i = 0; i < noise.size() && i < frame.size(); ++i) frame[i] = static_cast<u8>(frame[i] ^ noise[i]);
                if (input_.take<u8>() % 4 == 0) frame.resize(14 + input_.take<u16>() % 2000);
                return bed_.core->receive(frame, {input_.take<u8>() % 2 == 0, std::nullopt, false});
            }
            case 6:
                if (pending_.empty()) return bed_.core->on_completion(channel(), input_.take<u64>());
                bed_.core->on_completion(pending_.begin()->second, pending_.begin()->first);
                pending_.erase(pending_.begin());
                return;
            case 7:
                if (bed_.world.scheduled.empty()) return bed_.core->finish(input_.take<u16>() % vsp::Network::kMaxInFlight);
                bed_.core->finish(bed_.world.scheduled.front().first);
                bed_.world.scheduled.pop_front();
                return;
            case 8:
                return open_or_close();
            case 9:
                bed_.world.failing = input_.take<u8>() % 4 == 0;
                return;
            case 10:
                return bed_.core->buffer_gone(input_.take<u8>() % 4);
            default:
                return bed_.core->set_link(input_.take<u8>() % 2 == 0);
        }
    }
    u32 channel() {
        const u8 which = input_.take<u8>() % 4;
        return which == 0 ? NetworkBed::kPrimary : 10u + which;
    }
    void open_or_close() {
        const u32 which = input_.take<u8>() % 4, relid = which == 0 ? NetworkBed::kPrimary : 10 + which;
        if (input_.take<u8>() % 2 == 0) {
            bed_.core->channel_closed(relid);
            // Nobody waits for what went with its channel.
            std::erase_if(asked_, [&](const auto& each) { return which == 0 || each.second == relid; });
            std::erase_if(answers_, [&](const auto& each) { return !asked_.contains(each.first); });
            std::erase_if(pending_, [&](const auto& each) { return which == 0 || each.second == relid; });
            std::erase_if(bed_.world.scheduled, [&](const auto& each) { return !bed_.core->is_scheduled(each.first); });
        } else if (which == 0) {
            bed_.core->channel_closed(relid);
            asked_.clear();
            answers_.clear();
            pending_.clear();
            bed_.world.scheduled.clear();
            bed_.core->channel_opened(relid, 0);
        } else {
            bed_.core->channel_opened(relid, which);
        }
    }
    void send(const netvsc::Message& header, std::size_t size, vsp::GuestData* data) {
        if (!bed_.core->can_accept()) finish_all();
        auto packet = bed_.packet(bytes_of(header).first(size), input_.take<u8>() % 8 != 0);
        packet.channel = channel();
        packet.sub_channel = packet.channel != NetworkBed::kPrimary;
        packet.data = data;
        packet.data_malformed = input_.take<u8>() % 32 == 0;
        if (packet.completion_requested) {
            asked_[packet.transaction_id] = packet.channel;
            answers_[packet.transaction_id] = 0;
        }
        bed_.core->on_packet(packet);
    }
    void message(u32 type) {
        netvsc::Message header{};
        const auto raw = input_.span(input_.take<u8>() % sizeof header);
        if (!raw.empty()) std::memcpy(header.raw, raw.data(), std::min(raw.size(), sizeof header.raw));
        header.type = type;
        send(header, input_.take<u8>() % 8 == 0 ? input_.take<u8>() % 41 : sizeof header, nullptr);
    }
    void rndis(u32 channel_type, Bytes content) {
        const u8 how = input_.take<u8>();
        if (how % 4 == 0 && !content.empty()) {  // in the send buffer
            const std::size_t head = how % 8 == 0 ? content.size() : input_.take<u8>() % content.size();
            auto& memory = bed_.world.buffers[NetworkBed::kSendGpadl];
            const std::size_t fit = std::min<std::size_t>(head, vsp::Network::kSendSection);
            std::copy_n(content.begin(), fit, memory.begin());
            PacketData rest(Bytes(content.begin() + static_cast<std::ptrdiff_t>(fit), content.end()));
            return send(nvsp_rndis(channel_type, 0, static_cast<u32>(fit)), 40, rest.bytes.empty() ? nullptr : &rest);
        }
        PacketData data(std::move(content));
        send(nvsp_rndis(channel_type), 40, &data);
    }
    void spoil(Bytes& bytes) {
        if (bytes.empty() || input_.take<u8>() % 2 == 0) return;
        for (u32 i = input_.take<u8>() % 4; i != 0; --i) bytes[input_.take<u16>() % bytes.size()] = input_.take<u8>();
        if (input_.take<u8>() % 4 == 0) bytes.resize(input_.take<u16>() % (bytes.size() + 1));
    }
    Bytes control() {
        static constexpr u32 kObjects[] = {rndis::kOidPacketFilter,  rndis::kOidOffloadParameters, rndis::kOidRssParameters,
                                           rndis::kOidConfigParameter, rndis::kOidMulticastList,  rndis::kOidOffloadCapabilities,
                                           rndis::kOidRssCapabilities, rndis::kOidSupportedList};
        Bytes made;
        if (input_.take<u8>() % 8 == 0) {
            made = rndis_initialize(input_.take<u32>());
        } else {
            const u32 oid = input_.take<u8>() % 4 == 0 ? input_.take<u32>() : kObjects[input_.take<u8>() % std::size(kObjects)];
            const auto type = static_cast<rndis::MessageType>(input_.take<u8>() % 2 == 0 ? 5 : input_.take<u8>() % 9);
            made = rndis_request(type, input_.take<u32>(), oid, input_.span(input_.take<u8>()));
        }
        spoil(made);
        return made;
    }
    Bytes data() {
        Bytes all;
        for (u32 count = 1 + input_.take<u8>() % 3; count != 0; --count) {
            std::vector<std::pair<u32, u32>> infos;
            for (u32 i = input_.take<u8>() % 3; i != 0; --i) infos.emplace_back(input_.take<u8>() % 9, input_.take<u32>());
            Bytes one = rndis_frame(tcp_frame(input_.take<u16>() % 3000), infos, input_.take<u8>() % 8);
            spoil(one);
            all.insert(all.end(), one.begin(), one.end());
        }
        return all;
    }
    void finish_all() {
        for (; !bed_.world.scheduled.empty(); bed_.world.scheduled.pop_front()) bed_.core->finish(bed_.world.scheduled.front().first);
    }
    void drain() {
        for (const auto& each : bed_.world.completions) {
            if (const auto it = answers_.find(each.transaction_id); it != answers_.end()) ++it->second;
        }
        for (const auto& each : bed_.world.indications) {
            require_network(each.range.byte_count <= 64 * 1024 && pending_.emplace(each.transaction_id, each.channel).second);
        }
        for (auto& each : bed_.world.sent) {
            CountingWire wire;
            devices::send_offloaded(each.bytes, {each.ip, each.tcp, each.udp, each.segment_bytes}, wire);
            require_network(wire.frames <= each.bytes.size() + 1);
        }
        bed_.forget();
    }
    void check() {
        require_network(bed_.core->in_flight() <= vsp::Network::kMaxInFlight);
        require_network(bed_.core->sections_used() <= vsp::Network::kMaxSections);
        for (const auto& [id, answers] : answers_) require_network(answers <= 1);
        std::erase_if(answers_, [](const auto& each) { return each.second == 1; });
    }

    InputBytes input_;
    NetworkBed bed_;
    std::map<u64, u32> asked_;    ///< channel, by transaction
    std::map<u64, u32> answers_;  ///< how many, by transaction
    std::map<u64, u32> pending_;  ///< what the guest has not given back: channel, by transaction
};

inline void fuzz_network(std::span<const u8> bytes) { NetworkFuzz(bytes).run(); }

}  // namespace vg::test
