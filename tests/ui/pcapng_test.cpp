// Capture files, read by Wireshark's own program.
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/support/temp_dir.h"
#include "tests/support/vmbus_events.h"
#include "ui/model/capture_file.h"
#include "ui/model/pcapng.h"

using namespace vg;
using namespace vg::hv::vmbus;

namespace {

struct Capture {
    Capture() : file(1'767'225'600, [this](std::string_view part) { bytes += part; }) {}
    void add(model::EventRecord event) {
        file.add(event, channels);
        (void)channels.add(std::move(event));
    }
    std::string bytes;
    model::VmbusCapture channels;
    model::CaptureFile file;
};

/// What the shell command prints.
std::string output_of(const std::string& command) {
    FILE* const pipe = ::popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::string out;
    char part[4096];
    for (std::size_t size; (size = std::fread(part, 1, sizeof part, pipe)) != 0;) out.append(part, size);
    CHECK(::pclose(pipe) == 0);
    return out;
}

nlohmann::json tshark(const std::string& bytes) {
    test::TempDir dir;
    test::write_file(dir / "c.pcapng", {bytes.begin(), bytes.end()});
    return nlohmann::json::parse(output_of("tshark -r '" + (dir / "c.pcapng") +
                                           "' -T json -X lua_script:" VG_SOURCE_DIR "/tools/wireshark/vmbus.lua 2>'" +
                                           (dir / "err") + "'"));
}

bool has_tshark() { return std::system("command -v tshark >/dev/null 2>&1") == 0; }

model::EventRecord frame_event() {
    model::EventRecord event;
    event.kind = TapKind::Frame;
    event.time = 5'000;
    event.payload = std::vector<u8>(60, 0xff);
    event.payload[12] = 0x88;  // for local experiments: nothing dissects it
    event.payload[13] = 0xb5;
    event.payload_size = 60;
    return event;
}

}  // namespace

TEST_CASE("pcapng: blocks have their lengths at both ends and are multiples of four", "[ui][pcapng]") {
    const u8 head[] = {1, 2, 3}, body[] = {4, 5};
    for (const std::string& block : {model::Pcapng::begin("test"), model::Pcapng::interface(147, "a", "abc", -1),
                                     model::Pcapng::packet(0, u64{1} << 40, head, body, 5, true, "x"),
                                     model::Pcapng::packet(0, 0, {}, {}, 0, false)}) {
        u32 first, last;
        std::memcpy(&first, block.data() + 4, 4);
        std::memcpy(&last, block.data() + block.size() - 4, 4);
        CHECK(first == block.size());
        CHECK(last == block.size());
        CHECK(block.size() % 4 == 0);
    }
}

TEST_CASE("pcapng: tshark reads a capture with the dissector and agrees with it", "[ui][pcapng]") {
    if (!has_tshark()) {
        WARN("no tshark here");
        return;
    }
    Capture capture;
    capture.add(test::message_event(test::offer_bytes(hv::kScsiControllerClass, 1), true, 100));
    capture.add(test::packet_event(
        test::packet_bytes(PacketType::GpaDirect, 1, 0x21, test::gpa_direct(4096, 0x200, {0x77, 0x78}),
                           test::storage_request({0x28, 0, 0, 0, 8, 0, 0, 0, 8, 0}, 4096, 1)),
        false, 1'000));
    capture.add(frame_event());
    capture.add(test::packet_event(
        test::packet_bytes(PacketType::Completion, 0, 0x21, {}, test::storage_answer(1, 0, 4096)), true, 24'000));
    const auto packets = tshark(capture.bytes);
    REQUIRE(packets.size() == 4);
    const auto layer = [&](std::size_t i) { return packets[i]["_source"]["layers"]; };
    CHECK(layer(0)["frame"]["frame.time_epoch"] == "1767225600.000000100");
    CHECK(layer(0)["vmbus"]["vmbus.interface"] == "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
    CHECK(layer(0)["vmbus"]["vmbus.relid"] == "1");
    CHECK(layer(1)["hv"]["hv.service"] == "1");
    CHECK(layer(1)["vmbus"]["vmbus.transaction"] == "0x0000000000000021");
    CHECK(layer(1)["vmbus"]["vmbus.range.pfn"] == "0x0000000000000077");
    CHECK(layer(1)["vstor"]["vstor.scsi.opcode"] == "0x28");
    CHECK(layer(1)["vstor"]["vstor.scsi.lba"] == "2048");
    CHECK(layer(1)["vstor"]["vstor.scsi.blocks"] == "8");
    CHECK(layer(2)["frame"]["frame.encap_type"] == "1");
    CHECK(layer(2).contains("eth"));
    CHECK(layer(3)["vmbus"]["vmbus.request_in"] == "2");
    CHECK(layer(3)["vmbus"]["vmbus.latency"] == "2.3e-05");
    CHECK(layer(3)["vstor"]["vstor.srb.status"] == "0x01");
    for (std::size_t i = 0; i < 4; ++i) CHECK(layer(i).dump().find("Malformed") == std::string::npos);
}

TEST_CASE("pcapng: the dissector flags what the decoder flags, and neither falls over", "[ui][pcapng][slow]") {
    if (!has_tshark()) {
        WARN("no tshark here");
        return;
    }
    Capture capture;
    std::vector<bool> flagged;
    const auto good = test::packet_bytes(PacketType::GpaDirect, 1, 7, test::gpa_direct(4096, 0, {1}),
                                         test::storage_request({0x2a, 0, 0, 0, 0, 1, 0, 0, 8, 0}, 4096, 0));
    capture.channels.add(test::message_event(test::offer_bytes(hv::kScsiControllerClass, 1), true));
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const u8 value : {u8{0}, u8{1}, u8{0x7f}, u8{0xff}}) {
            auto bytes = good;
            bytes[at] = value;
            auto event = test::packet_event(bytes, false, 1'000 * (flagged.size() + 1));
            capture.file.add(event, capture.channels);
            flagged.push_back(capture.channels.add(std::move(event))->decoded.malformed);
        }
    }
    const auto packets = tshark(capture.bytes);
    REQUIRE(packets.size() == flagged.size());
    for (std::size_t i = 0; i < flagged.size(); ++i) {
        INFO("packet " << i + 1);
        const std::string text = packets[i]["_source"]["layers"].dump();
        CHECK(text.find("Lua Error") == std::string::npos);
        CHECK((text.find("hv.malformed") != std::string::npos) == flagged[i]);
    }
}
