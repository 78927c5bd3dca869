// Field lists of the network core, apart from it because they need the hosted library.
#include <algorithm>
#include <string>

#include "base/state.h"
#include "hv/vsp/network.h"

namespace vg::hv::vsp {

void Rndis::fields(StateVisitor& v) {
    v("state", state_);
    v("link", link_);
    v("address", address_);
    v("mtu", mtu_, Fmt::Dec);
    if (v.loading()) set_mtu(mtu_);
    v("packet_filter", filter_);
    v("lookahead", lookahead_, Fmt::Dec);
    v("multicast_count", multicast_count_, Fmt::Dec);
    if (v.loading()) multicast_count_ = std::min(multicast_count_, kMaxMulticast);
    for (u32 i = 0; i < multicast_count_; ++i) v("multicast" + std::to_string(i), multicast_[i]);
    v("receive_ip_checksum", receive_ip_);
    v("receive_tcp4_checksum", receive_tcp4_);
    v("receive_udp4_checksum", receive_udp4_);
    v("receive_tcp6_checksum", receive_tcp6_);
    v("receive_udp6_checksum", receive_udp6_);
    v("rss", rss_);
    v("rss_hash", rss_hash_);
    v("rss_entries", rss_entries_, Fmt::Dec);
    v.bytes("rss_table", rss_table_);
    v.bytes("rss_key", rss_key_);
    if (v.loading()) {
        rss_entries_ = std::min(rss_entries_, rndis::kRssTableEntries);
        rss_ = rss_ && rss_entries_ != 0;
    }
    v("frames_sent", counters.frames_sent, Fmt::Dec);
    v("bytes_sent", counters.bytes_sent, Fmt::Dec);
    v("frames_received", counters.frames_received, Fmt::Dec);
    v("bytes_received", counters.bytes_received, Fmt::Dec);
    v("send_errors", counters.send_errors, Fmt::Dec);
    v("filtered", counters.filtered, Fmt::Dec);
    v("no_buffer", counters.no_buffer, Fmt::Dec);
    v("oversize", counters.oversize, Fmt::Dec);
}

void Network::fields(StateVisitor& v) {
    v("state", state_);
    v("version", version_);
    v("ndis_version", ndis_version_);
    v("capabilities", capabilities_);
    v("invalid", invalid_packets_, Fmt::Dec);
    const auto buffer_fields = [&v](const char* name, Buffer& buffer) {
        const VisitScope scope(v, name);
        v("valid", buffer.valid);
        v("gpadl", buffer.gpadl);
        v("section_bytes", buffer.section_bytes, Fmt::Dec);
        v("sections", buffer.sections, Fmt::Dec);
    };
    buffer_fields("receive_buffer", receive_);
    buffer_fields("send_buffer", send_);
    if (v.loading()) {
        // What is outside of the guest's pages is refused at each access.
        receive_.sections = std::min(receive_.sections, kMaxSections);
        receive_.valid = receive_.valid && receive_.sections >= kMinSections &&
                         receive_.section_bytes >= kMinReceiveSection && receive_.section_bytes <= kMaxMessageBytes;
        send_.section_bytes = std::min(send_.section_bytes, kSendSection);
    }
    for (u32 i = 0; i <= max_sub_channels_; ++i) {
        const VisitScope scope(v, "queue" + std::to_string(i));
        v("open", queues_[i].open);
        v("channel", queues_[i].channel, Fmt::Dec);
        v("frames_received", queues_[i].frames, Fmt::Dec);
    }
    request_fields(v);
    section_fields(v);
    const VisitScope scope(v, "rndis");
    rndis_.fields(v);
}

void Network::request_fields(StateVisitor& v) {
    const VisitScope scope(v, "requests");
    u32 count = in_flight_;
    v("count", count, Fmt::Dec);
    if (v.loading()) forget_requests(std::nullopt);
    u32 slot = 0;
    for (u32 i = 0; i < std::min(count, kMaxInFlight); ++i, ++slot) {
        while (!v.loading() && !requests_[slot].used) ++slot;
        const VisitScope each(v, std::to_string(i));
        v("slot", slot, Fmt::Dec);
        if (slot >= kMaxInFlight || (v.loading() && requests_[slot].used)) break;
        Request& request = requests_[slot];
        if (v.loading()) {
            request.used = true;
            ++in_flight_;
        }
        v("silent", request.silent);
        v("channel", request.channel, Fmt::Dec);
        v("transaction_id", request.transaction_id);
        v("status", request.status, Fmt::Dec);
    }
}

void Network::section_fields(StateVisitor& v) {
    const VisitScope scope(v, "sections");
    v("next_sequence", next_sequence_, Fmt::Dec);
    u32 count = sections_used_;
    v("count", count, Fmt::Dec);
    if (v.loading()) {
        free_sections_of(std::nullopt);
        first_free_ = 0;
    }
    u32 index = 0;
    for (u32 i = 0; i < std::min(count, kMaxSections); ++i, ++index) {
        while (!v.loading() && !sections_[index].used) ++index;
        const VisitScope each(v, std::to_string(i));
        v("index", index, Fmt::Dec);
        if (index >= (!v.loading()     ? kMaxSections
                      : receive_.valid ? receive_.sections
                                       : 0) ||
            (v.loading() && sections_[index].used)) {
            break;
        }
        if (v.loading()) {
            sections_[index].used = true;
            ++sections_used_;
        }
        v("channel", sections_[index].channel, Fmt::Dec);
        v("sequence", sections_[index].sequence, Fmt::Dec);
    }
}

}  // namespace vg::hv::vsp
