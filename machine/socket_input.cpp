#include "machine/socket_input.h"

#include <cstring>

namespace vg::machine {

namespace {

constexpr std::size_t kHeader = 9;  // kind, id, number

}  // namespace

bool apply(const SocketInput& input, hv::parent::SocketHub& hub) {
    switch (input.kind) {
        case SocketInput::Kind::Connect:
            return hub.connect(input.number, input.id) != 0;
        case SocketInput::Kind::Accept:
            return hub.accept(input.id);
        case SocketInput::Kind::Refuse:
            return hub.refuse(input.id);
        case SocketInput::Kind::Data:
            return hub.send(input.id, input.bytes);
        case SocketInput::Kind::Taken:
            return hub.taken(input.id, input.number);
        case SocketInput::Kind::End:
            return hub.end(input.id);
        case SocketInput::Kind::Close:
            return hub.close(input.id);
    }
    return false;
}

std::vector<u8> encode_socket_input(const SocketInput& input) {
    std::vector<u8> out(kHeader);
    out[0] = static_cast<u8>(input.kind);
    std::memcpy(&out[1], &input.id, 4);
    std::memcpy(&out[5], &input.number, 4);
    out.insert(out.end(), input.bytes.begin(), input.bytes.end());
    return out;
}

std::optional<SocketInput> decode_socket_input(std::span<const u8> bytes) {
    if (bytes.size() < kHeader || bytes[0] > static_cast<u8>(SocketInput::Kind::Close)) return std::nullopt;
    SocketInput out;
    out.kind = static_cast<SocketInput::Kind>(bytes[0]);
    std::memcpy(&out.id, &bytes[1], 4);
    std::memcpy(&out.number, &bytes[5], 4);
    if (out.kind != SocketInput::Kind::Data && bytes.size() != kHeader) return std::nullopt;
    out.bytes.assign(bytes.begin() + kHeader, bytes.end());
    return out;
}

}  // namespace vg::machine
