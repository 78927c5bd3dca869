// A hostile guest and a busy host at a child's sockets: any channel messages, packets, ring indices and calls of the
// host in any order, and now and then state that is saved and loaded. One byte says what, the next ones with what.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/support/socket_bed.h"
#include "tests/support/state_tape.h"

namespace {

using namespace vg;
using namespace vg::test;

class Bytes {
  public:
    Bytes(const u8* data, std::size_t size) : data_(data), size_(size) {}
    [[nodiscard]] bool empty() const { return size_ == 0; }
    u8 byte() {
        if (size_ == 0) return 0;
        --size_;
        return *data_++;
    }
    std::vector<u8> take(std::size_t count) {
        count = std::min(count, size_);
        std::vector<u8> out(data_, data_ + count);
        data_ += count;
        size_ -= count;
        return out;
    }

  private:
    const u8* data_;
    std::size_t size_;
};

struct Whole {
    SocketBed& bed;
    void fields(StateVisitor& v) {
        bed.hub.fields(v);
        bed.server.fields(v);
    }
};

void message(SocketBed& bed, Bytes& in) {
    std::vector<u8> bytes(8);
    bytes[0] = in.byte() % 32;
    const std::vector<u8> body = in.take(in.byte() % 64);
    bytes.insert(bytes.end(), body.begin(), body.end());
    bed.server.on_message(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size > 4096) return 0;
    Bytes in(data, size);
    SocketBed bed(256);
    bed.connect();
    std::vector<std::pair<u32, VmbusGuest::Pair>> open;
    while (!in.empty()) {
        const u8 what = in.byte();
        const u32 id = in.byte() % 8;
        switch (what % 16) {
            case 0:
                message(bed, in);
                break;
            case 1:
                bed.request(in.byte(), hv::hvsocket::port_guid(id));
                break;
            case 2:
                (void)bed.hub.accept(id);
                break;
            case 3:
                (void)bed.hub.refuse(id);
                break;
            case 4:
                (void)bed.hub.connect(id, in.byte());
                break;
            case 5:
            case 6:
                if (const auto offer = bed.offer(); offer && open.size() < 8)
                    open.emplace_back(offer->relid, bed.guest.open_rings(offer->relid, 2 + id % 3));
                else
                    bed.guest.forget();
                break;
            case 7:
            case 8:
                if (!open.empty())
                    bed.write(open[id % open.size()].first, open[id % open.size()].second, in.take(in.byte()));
                break;
            case 9:
                if (!open.empty()) (void)open[id % open.size()].second.out.write_raw(in.take(in.byte()));
                break;
            case 10: {
                const auto room = bed.hub.room(id);
                (void)bed.hub.send(id, std::vector<u8>(std::min<std::size_t>(room, std::size_t{in.byte()} * 256)));
                break;
            }
            case 11:
                (void)bed.hub.taken(id, in.byte() * 16);
                break;
            case 12:
                (void)((what & 16) != 0 ? bed.hub.end(id) : bed.hub.close(id));
                break;
            case 13:
                bed.pass(u64{in.byte()} * 20'000'000);
                break;
            case 14:
                for (auto& [relid, rings] : open) {
                    rings.in.set_read_index(rings.in.control().write_index);
                    bed.server.on_signal(hv::vmbus::event_connection(static_cast<u16>(relid)));
                }
                break;
            case 15: {
                Whole whole{bed};
                StateTape tape;
                tape.save(whole);
                tape.restore(whole);
                break;
            }
        }
        if (bed.hub.connections().size() > hv::parent::SocketHub::kMaxConnections) __builtin_trap();
    }
    return 0;
}
