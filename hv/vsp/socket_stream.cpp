#include "hv/vsp/socket_stream.h"

#include <algorithm>

#include "base/assert.h"
#include "base/state.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::vsp {

SocketStream::Received SocketStream::receive(std::span<const u8> packet, std::span<const u8>& data) {
    bool whole = false;
    const auto header = read_message<vmbus::PipeHeader>(packet, whole);
    // The ring pads packets to 8 bytes, so that more may follow than the header says.
    if (!whole || header.type != vmbus::kPipeData || header.size > hvsocket::kMaxPacketData ||
        header.size > packet.size() - sizeof header || guest_ended_)
        return Received::Broken;
    data = packet.subspan(sizeof header, header.size);
    if (data.empty()) {
        guest_ended_ = true;
        return Received::End;
    }
    untaken_ += data.size();
    return Received::Data;
}

bool SocketStream::taken(u64 bytes) {
    if (bytes > untaken_) return false;
    untaken_ -= bytes;
    return true;
}

void SocketStream::queue(std::span<const u8> data) {
    VG_ASSERT(data.size() <= room());
    queued_.insert(queued_.end(), data.begin(), data.end());
}

std::size_t SocketStream::next(std::span<u8> out) const {
    if (queued_.empty() && (!host_ended_ || end_sent_)) return 0;
    const std::size_t size = std::min(queued_.size(), kChunk);  // 0: the end
    put_message(out, vmbus::PipeHeader{vmbus::kPipeData, static_cast<u32>(size)});
    std::copy_n(queued_.begin(), size, out.begin() + sizeof(vmbus::PipeHeader));
    return sizeof(vmbus::PipeHeader) + size;
}

void SocketStream::sent() {
    if (queued_.empty()) {
        end_sent_ = host_ended_;
        return;
    }
    queued_.erase(queued_.begin(), queued_.begin() + static_cast<std::ptrdiff_t>(std::min(queued_.size(), kChunk)));
}

void SocketStream::fields(StateVisitor& v) {
    v("queued", queued_, kMaxQueued);
    v("untaken", untaken_, Fmt::Dec);
    v("guest_ended", guest_ended_);
    v("host_ended", host_ended_);
    v("end_sent", end_sent_);
    if (!v.loading()) return;
    untaken_ = std::min<u64>(untaken_, kWindow + hvsocket::kMaxPacketData);
    end_sent_ = end_sent_ && host_ended_ && queued_.empty();
}

}  // namespace vg::hv::vsp
