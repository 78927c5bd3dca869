// Transmission by the 82574: descriptors, checksum and segmentation offload. Datasheet §7.2, §7.3.
#include <algorithm>

#include "base/bits.h"
#include "devices/e1000e.h"
#include "devices/net/packet.h"

namespace vg::devices {

using namespace e1000e;

namespace {

/// On the wire beside the frame: preamble, check sequence, gap between frames.
constexpr u64 kWireOverheadBytes = 24;
constexpr u64 kNanosecondsPerByte = 8;
constexpr u64 kMinFrameBytes = 60;
constexpr u8 kTcpFin = 0x01, kTcpPush = 0x08;

/// Completes a checksum over frame[start..end], end included (0: the frame's last byte), in the field at `offset`,
/// whose present content counts. Places outside of the frame: nothing.
void insert_checksum(std::span<u8> frame, u64 start, u64 end, u64 offset, bool udp) {
    const u64 stop = end == 0 || end >= frame.size() ? frame.size() : end + 1;
    if (start >= stop || !fits(offset, 2, frame.size())) return;
    u16 sum = static_cast<u16>(~ones_sum(frame.subspan(start, stop - start)));
    if (udp && sum == 0) sum = 0xffff;  // a zero says "no checksum" (RFC 768)
    write_be16(frame, offset, sum);
}

}  // namespace

bool E1000e::runnable(const TransmitQueue& queue) const {
    if ((plain(kTctl) & kTctlEnable) == 0 || !(lasting_.link || loops_back())) return false;
    return queue.segmenting || queue.ring.available() != 0;
}

void E1000e::arm_transmit() {
    if (events_.armed(transmit_timer_)) return;
    if (std::none_of(state_.transmit.begin(), state_.transmit.end(), [this](const auto& q) { return runnable(q); }))
        return;
    events_.arm(transmit_timer_, std::max(events_.now() + kLatency_ns, state_.transmit_free_at));
}

/// What was gathered of a packet is lost.
void E1000e::stop_transmit() {
    events_.cancel(transmit_timer_);
    for (TransmitQueue& queue : state_.transmit) {
        queue.packet.clear();
        queue.started = queue.lost = queue.segmenting = false;
    }
}

/// One event: the queues take turns.
void E1000e::transmit_some() {
    wire_bytes_ = 0;
    for (u32 i = 0; i < kQueues; ++i) {
        const u32 number = (state_.next_queue + i) % kQueues;
        if (!runnable(state_.transmit[number])) continue;
        state_.next_queue = (number + 1) % kQueues;
        serve(state_.transmit[number], number);
        break;
    }
    state_.transmit_free_at = events_.now() + wire_bytes_ * kNanosecondsPerByte;
    arm_transmit();
}

void E1000e::serve(TransmitQueue& queue, u32 number) {
    u32 frames = 0;
    bool written = false;
    for (u32 i = 0; i < kDescriptorsPerEvent && frames < kFramesPerEvent && runnable(queue); ++i) {
        if (!queue.segmenting && !fetch(queue, frames)) return stop_transmit();
        if (queue.segmenting && !send_segments(queue, frames)) break;
        queue.segmenting = false;
        written |= retire(queue, queue.last);
    }
    u32 causes = written ? kTxdw | kTxq0 << number : 0;
    if (queue.ring.available() == 0) causes |= kTxqe;
    if (causes != 0) raise(causes);
}

/// Takes the descriptor at the head: a context, a part of a packet, or its end, which sends it or starts its segments.
/// False if it cannot be read: then the card stops, as after any error on its bus.
bool E1000e::fetch(TransmitQueue& queue, u32& frames) {
    TransmitDescriptor descriptor{};
    if (!pci_.dma().read(Iova(queue.ring.base + u64{queue.ring.head} * kDescriptorBytes), &descriptor,
                         sizeof descriptor)) {
        plain_at(kTctl) &= ~kTctlEnable;
        return false;
    }
    queue.last = descriptor;
    const bool extended = (descriptor.lower & kTxExtension) != 0;
    const u32 kind = descriptor.lower & kTxKindMask;
    if (extended && kind == kTxKindContext) {
        take_context(queue, descriptor);
        return true;
    }
    if (extended && kind != kTxKindData) return true;  // no such kind
    gather(queue, descriptor);
    if ((descriptor.lower & kTxEndOfPacket) == 0) return true;
    queue.started = false;
    if (queue.lost) {
        queue.packet.clear();
        return true;
    }
    const bool segment = (queue.command & kTxExtension) != 0 && (queue.command & kTxSegment) != 0;
    if (segment) {
        queue.segmenting = true;
        queue.sent = queue.segment = 0;
        count(Statistic::Segmentations);
    } else {
        send_packet(queue);
        ++frames;
    }
    return true;
}

void E1000e::take_context(TransmitQueue& queue, const TransmitDescriptor& descriptor) {
    Context context;
    context.ip_start = static_cast<u8>(descriptor.address);
    context.ip_offset = static_cast<u8>(descriptor.address >> 8);
    context.ip_end = static_cast<u16>(descriptor.address >> 16);
    context.transport_start = static_cast<u8>(descriptor.address >> 32);
    context.transport_offset = static_cast<u8>(descriptor.address >> 40);
    context.transport_end = static_cast<u16>(descriptor.address >> 48);
    context.header_bytes = static_cast<u8>(descriptor.upper >> 8);
    context.mss = static_cast<u16>(descriptor.upper >> 16);
    context.tcp = (descriptor.lower & kTxContextTcp) != 0;
    context.ipv4 = (descriptor.lower & kTxContextIpv4) != 0;
    queue.contexts[(descriptor.lower & kTxSegment) != 0 ? 1 : 0] = context;
}

void E1000e::gather(TransmitQueue& queue, const TransmitDescriptor& descriptor) {
    if (!queue.started) {
        queue.packet.clear();
        queue.started = true;
        queue.lost = false;
        queue.options = descriptor.upper;
        queue.command = descriptor.lower;
    }
    const bool extended = (descriptor.lower & kTxExtension) != 0;
    const u64 bytes = descriptor.lower & (extended ? 0xfffff : 0xffff);
    const u64 before = queue.packet.size();
    if (queue.lost || bytes == 0) return;
    if (bytes > kMaxPacketBytes - before) {
        queue.lost = true;
        return;
    }
    queue.packet.resize(before + bytes);
    if (!pci_.dma().read(Iova(descriptor.address), &queue.packet[before], bytes)) queue.lost = true;
}

/// Offloads of a packet that is one frame, and away with it.
void E1000e::send_packet(TransmitQueue& queue) {
    std::vector<u8>& frame = queue.packet;
    const TransmitDescriptor& last = queue.last;
    if ((queue.command & kTxExtension) != 0) {
        const Context& context = queue.contexts[0];
        if ((queue.options & kTxOptionIp) != 0)
            insert_checksum(frame, context.ip_start, context.ip_end, context.ip_offset, false);
        if ((queue.options & kTxOptionTransport) != 0) {
            insert_checksum(frame, context.transport_start, context.transport_end, context.transport_offset,
                            !context.tcp);
        }
    } else if ((last.lower & kTxInsertChecksum) != 0) {
        insert_checksum(frame, bits(last.upper, 15, 8), 0, bits(last.lower, 23, 16), false);
    }
    send_frame(frame, last);
    frame.clear();
}

/// Sends segments until the packet (true) or the event's share of frames is used up.
bool E1000e::send_segments(TransmitQueue& queue, u32& frames) {
    const Context& context = queue.contexts[1];
    const u64 header = context.header_bytes, ip = context.ip_start, transport = context.transport_start;
    const bool sane = context.mss != 0 && header < queue.packet.size() && ip + (context.ipv4 ? 20 : 40) <= transport &&
                      transport + (context.tcp ? 20 : 8) <= header && header + context.mss <= kMaxFrameBytes &&
                      fits(context.ip_offset, 2, header) && fits(context.transport_offset, 2, header);
    if (!sane) {
        count(Statistic::SegmentationsFailed);
        queue.packet.clear();
        return true;
    }
    const u64 payload = queue.packet.size() - header;
    for (; queue.sent < payload; ++frames) {
        if (frames >= kFramesPerEvent) return false;
        const u64 bytes = std::min<u64>(payload - queue.sent, context.mss);
        const auto from = queue.packet.begin() + static_cast<std::ptrdiff_t>(header + queue.sent);
        std::vector<u8> frame(queue.packet.begin(), queue.packet.begin() + static_cast<std::ptrdiff_t>(header));
        frame.insert(frame.end(), from, from + static_cast<std::ptrdiff_t>(bytes));
        const u16 transport_bytes = static_cast<u16>(frame.size() - transport);
        if (context.ipv4) {
            write_be16(frame, ip + 2, static_cast<u16>(frame.size() - ip));
            write_be16(frame, ip + 4, static_cast<u16>(read_be16(frame, ip + 4) + queue.segment));
        } else {
            write_be16(frame, ip + 4, static_cast<u16>(frame.size() - ip - 40));
        }
        if (context.tcp) {
            write_be32(frame, transport + 4, read_be32(frame, transport + 4) + queue.sent);
            if (queue.sent + bytes < payload) frame[transport + 13] &= static_cast<u8>(~(kTcpFin | kTcpPush));
        } else {
            write_be16(frame, transport + 4, transport_bytes);
        }
        if (context.ipv4 && (queue.options & kTxOptionIp) != 0)
            insert_checksum(frame, ip, context.ip_end, context.ip_offset, false);
        if ((queue.options & kTxOptionTransport) != 0) {
            // The driver has left the sum of the pseudo header without its length.
            const auto field = std::span<const u8>(frame).subspan(context.transport_offset, 2);
            write_be16(frame, context.transport_offset, ones_sum(field, transport_bytes));
            insert_checksum(frame, transport, context.transport_end, context.transport_offset, !context.tcp);
        }
        send_frame(frame, queue.last);
        queue.sent += static_cast<u32>(bytes);
        ++queue.segment;
    }
    queue.packet.clear();
    return true;
}

/// Tag, padding, and out. A frame that no Ethernet carries is lost.
void E1000e::send_frame(std::vector<u8>& frame, const TransmitDescriptor& last) {
    if ((last.lower & kTxInsertFcs) == 0 && frame.size() >= 4) frame.resize(frame.size() - 4);  // it brought its own
    if (frame.size() < kEthernetHeaderBytes || frame.size() > kMaxFrameBytes) return;
    if ((last.lower & kTxInsertVlan) != 0 && (state_.ctrl & kCtrlVlanMode) != 0) {
        std::array<u8, 4> tag{};
        write_be16(tag, 0, static_cast<u16>(plain(kVet)));
        write_be16(tag, 2, static_cast<u16>(last.upper >> 16));
        frame.insert(frame.begin() + 12, tag.begin(), tag.end());
        if (frame.size() > kMaxFrameBytes) return;
    }
    if ((plain(kTctl) & kTctlPad) != 0 && frame.size() < kMinFrameBytes) frame.resize(kMinFrameBytes);
    wire_bytes_ += std::max(frame.size(), kMinFrameBytes) + kWireOverheadBytes;
    count_frame(frame, false);
    if (loops_back()) {
        receive(frame);
    } else if (cable_ != nullptr) {
        cable_->put(frame);
    }
}

bool E1000e::retire(TransmitQueue& queue, const TransmitDescriptor& descriptor) {
    Ring& ring = queue.ring;
    if (ring.head >= ring.entries()) return false;  // the guest has shortened the ring meanwhile
    const u64 at = ring.base + u64{ring.head} * kDescriptorBytes;
    ring.head = (ring.head + 1) % ring.entries();
    if ((descriptor.lower & kTxReportStatus) == 0 && (plain(kIvar) & kIvarEveryWriteBack) == 0) return false;
    const u32 upper = descriptor.upper | kTxDone;
    return pci_.dma().write(Iova(at + 12), &upper, sizeof upper);
}

}  // namespace vg::devices
