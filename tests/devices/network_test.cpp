// What users write about networks, capture files, and libslirp's network with a socket of the host.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pcap/pcap.h>
#include <sys/socket.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <fstream>

#include "devices/net/host_forward.h"
#include "devices/net/packet.h"
#include "devices/net/pcap_file.h"
#include "devices/net/user_network.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::devices;

namespace {

using Frame = std::vector<u8>;

struct Card final : FrameSink {
    void put(std::span<const u8> frame) override { frames.emplace_back(frame.begin(), frame.end()); }
    std::vector<Frame> frames;
};

/// "Who has 10.0.2.2?"
Frame arp_request() {
    Frame f(60);
    std::fill(f.begin(), f.begin() + 6, u8{0xff});
    const u8 rest[] = {0x52, 0x54, 0, 1, 2, 3, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 10, 0, 2, 15};
    std::copy(std::begin(rest), std::end(rest), f.begin() + 6);
    const u8 target[] = {10, 0, 2, 2};
    std::copy(std::begin(target), std::end(target), f.begin() + 38);
    return f;
}

}  // namespace

TEST_CASE("network: forwards are read with their defaults, and mistakes are told", "[devices][network]") {
    const auto full = parse_host_forward("udp:192.168.1.7:5353-10.0.2.20:53");
    REQUIRE(full);
    CHECK((full->udp && full->host_address == 0xc0a80107 && full->host_port == 5353));
    CHECK((full->guest_address == 0x0a000214 && full->guest_port == 53));
    for (const char* text : {"tcp:2222-22", "tcp::2222-:22"}) {
        const auto defaults = parse_host_forward(text);
        REQUIRE(defaults);
        CHECK((!defaults->udp && defaults->host_address == 0x7f000001 && defaults->guest_address == 0));
        CHECK((defaults->host_port == 2222 && defaults->guest_port == 22));
    }
    for (const char* text : {"", "tcp", "tcp:2222", "icmp:1-1", "tcp:0-22", "tcp:70000-22", "tcp:1.2.3:1-1",
                             "tcp:1.2.3.256:1-1", "tcp:22-22x", "tcp:-1-1"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_host_forward(text));
    }
}

TEST_CASE("network: a hardware address is one card's", "[devices][network]") {
    CHECK(*parse_mac_address("52:54:00:ab:CD:01") == MacAddress{0x52, 0x54, 0, 0xab, 0xcd, 1});
    for (const char* text : {"", "52:54:00:ab:cd", "01:00:5e:00:00:01", "00:00:00:00:00:00", "52:54:00:ab:cd:0g",
                             "52-54-00-ab-cd-01", "52:54:00:ab:cd:01:"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_mac_address(text));
    }
}

TEST_CASE("network: a capture is what libpcap reads back, in the guest's time", "[devices][network]") {
    test::TempDir dir;
    const std::string path = dir / "out.pcap";
    Frame frame(100);
    for (u8& byte : frame) byte = static_cast<u8>(&byte - frame.data());
    {
        auto file = PcapFile::create(path, 1'700'000'000);
        REQUIRE(file);
        (*file)->write(1'234'567'890, frame);
        (*file)->write(2'000'000'001, Frame(60, 7));
        REQUIRE((*file)->flush());
    }
    char error[PCAP_ERRBUF_SIZE];
    pcap_t* const in = pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error);
    REQUIRE(in != nullptr);
    CHECK(pcap_datalink(in) == DLT_EN10MB);
    pcap_pkthdr* header = nullptr;
    const u8* bytes = nullptr;
    REQUIRE(pcap_next_ex(in, &header, &bytes) == 1);
    CHECK((header->ts.tv_sec == 1'700'000'001 && header->ts.tv_usec == 234'567'890 && header->len == 100));
    CHECK(std::equal(frame.begin(), frame.end(), bytes));
    REQUIRE(pcap_next_ex(in, &header, &bytes) == 1);
    CHECK(pcap_next_ex(in, &header, &bytes) == PCAP_ERROR_BREAK);
    pcap_close(in);
    CHECK_FALSE(PcapFile::create(dir / "none/out.pcap", 0));
}

TEST_CASE("network: the user network answers in exchange() only", "[devices][network]") {
    ManualClock clock;
    auto network = UserNetwork::create(clock, {});
    REQUIRE(network);
    Card card;
    (*network)->put(arp_request());
    CHECK((*network)->has_queued());
    CHECK(card.frames.empty());
    (*network)->exchange(0, 1 << 20, card);
    CHECK_FALSE((*network)->has_queued());
    REQUIRE(card.frames.size() == 1);
    CHECK(read_be16(card.frames[0], 12) == 0x0806);
    CHECK(read_be16(card.frames[0], 20) == 2);
    CHECK(read_be32(card.frames[0], 28) == 0x0a000202);
    // Frames that are none, and more than it holds.
    (*network)->put(Frame(14));
    for (int i = 0; i < 10; ++i) (*network)->put(Frame(kMaxFrameBytes, 0xff));
    for (u64 i = 0; i < UserNetwork::kQueueBytes / kMaxFrameBytes; ++i) (*network)->put(Frame(kMaxFrameBytes));
    (*network)->exchange(0, 1 << 20, card);
    CHECK(card.frames.size() == 1);
}

TEST_CASE("network: a connection to a forwarded port asks for the guest and greets it", "[devices][network]") {
    ManualClock clock;
    UserNetwork::Options options;
    std::unique_ptr<UserNetwork> network;
    u16 port = 0;
    for (u16 i = 0; i < 200 && network == nullptr; ++i) {
        port = static_cast<u16>(40000 + i);
        options.forwards = {{false, 0x7f000001, 0, port, 22}};
        if (auto made = UserNetwork::create(clock, options)) network = std::move(*made);
    }
    REQUIRE(network != nullptr);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    where.sin_port = htons(port);
    const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    REQUIRE(client >= 0);
    (void)::connect(client, reinterpret_cast<sockaddr*>(&where), sizeof where);
    Card card;
    for (int i = 0; i < 20 && card.frames.empty(); ++i) network->exchange(100, 1 << 20, card);
    REQUIRE_FALSE(card.frames.empty());
    CHECK(read_be16(card.frames[0], 12) == 0x0806);
    CHECK(read_be32(card.frames[0], 38) == 0x0a00020f);
    Frame answer = arp_request();
    answer[21] = 2;
    network->put(answer);
    const auto greeted = [&] {
        const Frame& last = card.frames.back();
        return read_be16(last, 12) == 0x0800 && last[23] == 6 && read_be16(last, 36) == 22 && last[47] == 2;  // SYN
    };
    for (int i = 0; i < 20 && !greeted(); ++i) {
        network->exchange(100, 1 << 20, card);
        clock.advance(100'000'000);
    }
    CHECK(greeted());
    CHECK(check_checksums(card.frames.back()).transport == true);
    // A card without room: the host is not looked at.
    const auto before = card.frames.size();
    network->exchange(0, UserNetwork::kNeededRoom - 1, card);
    CHECK(card.frames.size() == before);
    ::close(client);
}

TEST_CASE("network: a forwarded port that is taken is an error", "[devices][network]") {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(listener >= 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    socklen_t size = sizeof where;
    REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&where), &size) == 0);
    ManualClock clock;
    UserNetwork::Options options;
    options.forwards.push_back({false, 0x7f000001, 0, ntohs(where.sin_port), 22});
    const auto network = UserNetwork::create(clock, options);
    REQUIRE_FALSE(network);
    CHECK(network.error().code == Error::Code::Host);
    CHECK(network.error().text.find("is taken") != std::string::npos);
    ::close(listener);
}
