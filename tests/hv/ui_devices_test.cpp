// Protocol cores of keyboard, mouse and video. Rows D-80..D-98.
#include <catch2/catch.hpp>

#include "hv/vsp/keyboard.h"
#include "hv/vsp/mouse.h"
#include "hv/vsp/video.h"
#include "tests/support/message_guest.h"
#include "tests/support/random.h"
#include "tests/support/state_tape.h"

using namespace vg;
using namespace vg::hv;
using namespace vg::test;

namespace {

struct FakeVram final : vsp::VideoHost {
    bool place(u64 gpa) override {
        places.push_back(gpa);
        return good;
    }
    std::vector<u64> places;
    bool good = true;
};

constexpr u32 kVram = 8 << 20;

Bytes video_message(video::MessageType type, const Bytes& body) {
    const video::Header header{static_cast<u32>(type), static_cast<u32>(8 + body.size())};
    return piped(header, body);
}
template <class Message>
Bytes video_message(video::MessageType type, Message message) {
    message.header = {static_cast<u32>(type), sizeof message};
    return piped(message);
}
Bytes situation(u32 width, u32 height, u32 pitch, u8 depth = 32, u32 offset = 0) {
    return video_message(video::MessageType::SituationUpdate,
                         video::SituationUpdate{{}, 0x55, 1, {1, offset, depth, width, height, pitch}});
}

/// As hyperv_fb does.
void start_video(vsp::Video& core) {
    core.opened();
    core.receive(video_message(video::MessageType::VersionRequest, video::VersionRequest{{}, video::kVersion3_5}), 1);
    (void)listen(core);
    core.receive(video_message(video::MessageType::VramLocation, video::VramLocation{{}, 0xf8000000, 1, 0xf8000000}),
                 2);
    (void)listen(core);
}

void start_keyboard(vsp::Keyboard& core) {
    core.opened();
    core.receive(bytes_of(keyboard::ProtocolRequest{1, keyboard::kVersion}), 7);
    const auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(said[0].transaction_id == 7);
    CHECK(as<keyboard::ProtocolResponse>(said[0].bytes).type == 2);
    CHECK(as<keyboard::ProtocolResponse>(said[0].bytes).accepted == 1);
}

void start_mouse(vsp::Mouse& core) {
    core.opened();
    core.receive(piped(mouse::ProtocolRequest{{0, 4}, mouse::kVersion}), 3);
    const auto said = listen(core);
    REQUIRE(said.size() == 2);
    CHECK(as<vmbus::PipeHeader>(said[0].bytes).size == 13);  // D-84: exactly
    CHECK(as<mouse::ProtocolResponse>(said[0].bytes, 8).approved == 1);
    core.receive(piped(mouse::Header{3, 0}), 0);
    REQUIRE(core.state() == vsp::Mouse::State::Ready);
}

}  // namespace

TEST_CASE("keyboard: the version first, then keys in order (D-80, D-81, D-82)", "[hv][keyboard]") {
    vsp::Keyboard core;
    CHECK(core.room() == 0);
    CHECK_FALSE(core.press({0x1e, 0}));
    core.opened();
    core.receive(bytes_of(keyboard::ProtocolRequest{1, 0x00020000}), 1);
    auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<keyboard::ProtocolResponse>(said[0].bytes).accepted == 0);
    CHECK(core.room() == 0);
    start_keyboard(core);
    CHECK(core.press({0x1e, 0}));
    CHECK(core.press({0x48, keyboard::kE0 | keyboard::kBreak}));
    CHECK_FALSE(core.press({0x80, 0}));
    CHECK_FALSE(core.press({0, 0}));
    CHECK_FALSE(core.press({0x1e, keyboard::kUnicode}));
    said = listen(core);
    REQUIRE(said.size() == 2);
    CHECK(as<keyboard::Event>(said[0].bytes).type == 3);
    CHECK(as<keyboard::Event>(said[0].bytes).make_code == 0x1e);
    CHECK(as<keyboard::Event>(said[1].bytes).make_code == 0x48);
    CHECK(as<keyboard::Event>(said[1].bytes).info == (keyboard::kE0 | keyboard::kBreak));
    core.receive(bytes_of(keyboard::Leds{4, 2}), 0);
    CHECK(core.leds() == 2);
    CHECK(core.invalid() == 0);
}

TEST_CASE("keyboard: a guest that does not read fills a queue and no more", "[hv][keyboard]") {
    vsp::Keyboard core;
    start_keyboard(core);
    u32 taken = 0;
    while (core.press({0x1e, 0})) ++taken;
    CHECK(taken == vsp::Keyboard::kMaxQueued);
    CHECK(core.room() == 0);
    CHECK(listen(core).size() == taken);
    CHECK(core.room() == vsp::Keyboard::kMaxQueued);
}

TEST_CASE("keyboard: truncated and unknown messages are counted and change nothing", "[hv][keyboard]") {
    vsp::Keyboard core;
    start_keyboard(core);
    torment(core, bytes_of(keyboard::ProtocolRequest{1, keyboard::kVersion}), 0);
    torment(core, bytes_of(keyboard::Leds{4, 7}), 0);
    core.receive(bytes_of(keyboard::Event{3, 1, 0, 0}), 0);
    core.receive(bytes_of(u32{0xdeadbeef}), 0);
    CHECK(core.invalid() == 8 + 8 + 2);
    CHECK(core.leds() == 0);
    CHECK(core.press({0x1e, 0}));
    CHECK(listen(core).size() == 1);
}

TEST_CASE("mouse: announces itself and its report descriptor, then reports (D-84, D-85, D-86)", "[hv][mouse]") {
    vsp::Mouse core;
    CHECK_FALSE(core.report({}));
    core.opened();
    core.receive(piped(mouse::ProtocolRequest{{0, 4}, 0x00030000}), 3);
    auto said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<mouse::ProtocolResponse>(said[0].bytes, 8).approved == 0);
    core.receive(piped(mouse::ProtocolRequest{{0, 4}, mouse::kVersion}), 3);
    said = listen(core);
    REQUIRE(said.size() == 2);
    const auto info = as<mouse::DeviceInfo>(said[1].bytes, 8);
    CHECK(info.header.type == 2);
    CHECK(info.vendor == 0x045e);
    CHECK(info.product == 0x0621);
    CHECK(info.hid.length == 9);
    CHECK(info.hid.report_bytes == vsp::mouse_report_descriptor().size());
    CHECK(said[1].bytes.size() == 8 + sizeof info + info.hid.report_bytes);
    CHECK(as<vmbus::PipeHeader>(said[1].bytes).size == said[1].bytes.size() - 8);
    CHECK_FALSE(core.report({}));  // not before the guest has said that it understood
    core.receive(piped(mouse::Header{3, 0}), 0);
    CHECK(core.report({1, 100, 32767, -1}));
    CHECK_FALSE(core.report({0, 32768, 0, 0}));
    CHECK_FALSE(core.report({0x20, 0, 0, 0}));
    said = listen(core);
    REQUIRE(said.size() == 1);
    const auto report = as<mouse::InputReport>(said[0].bytes, 8);
    CHECK(report.header.type == 4);
    CHECK(report.header.size == 7);
    CHECK(report.buttons == 1);
    CHECK(report.x == 100);
    CHECK(report.y == 32767);
    CHECK(report.wheel == -1);
}

TEST_CASE("mouse: movements join, clicks do not, and a guest that does not read is not remembered for", "[hv][mouse]") {
    vsp::Mouse core;
    start_mouse(core);
    for (u16 x = 0; x < 1000; ++x) CHECK(core.report({0, x, 5, 0}));
    CHECK(core.report({1, 999, 5, 0}));
    CHECK(core.report({0, 999, 5, 0}));
    const auto said = listen(core);
    REQUIRE(said.size() == 3);
    CHECK(as<mouse::InputReport>(said[0].bytes, 8).x == 999);
    CHECK(as<mouse::InputReport>(said[1].bytes, 8).buttons == 1);
    u32 taken = 0;
    while (core.report({static_cast<u8>(taken % 2), 0, 0, 0})) ++taken;
    CHECK(taken == vsp::Mouse::kMaxQueued);
    torment(core, piped(mouse::ProtocolRequest{{0, 4}, mouse::kVersion}), 0);
    CHECK(core.state() == vsp::Mouse::State::Ready);
    core.receive(piped(mouse::Header{3, 0}), 0);  // once is enough
    CHECK(core.invalid() != 0);
}

TEST_CASE("video: versions 3.5 down to 3.2, a place for the frame buffer, a situation (D-90..D-96)", "[hv][video]") {
    FakeVram vram;
    vsp::Video core(vram, kVram, {1024, 768});
    core.opened();
    for (const u32 version : {video::kVersion3_0, video::version(4, 0), u32{0}}) {
        core.receive(video_message(video::MessageType::VersionRequest, video::VersionRequest{{}, version}), 9);
        const auto said = listen(core);
        REQUIRE(said.size() == 1);
        CHECK(as<video::VersionResponse>(said[0].bytes, 8).accepted == 0);
    }
    core.receive(situation(640, 480, 2560), 9);
    CHECK(listen(core).empty());  // before a version nothing else is answered
    for (const u32 version : {video::kVersion3_5, video::kVersion3_4, video::kVersion3_3, video::kVersion3_2}) {
        core.receive(video_message(video::MessageType::VersionRequest, video::VersionRequest{{}, version}), 9);
        const auto said = listen(core);
        REQUIRE(said.size() == 1);
        CHECK(said[0].transaction_id == 9);
        CHECK(as<video::VersionResponse>(said[0].bytes, 8).header.size == 14);
        CHECK(as<video::VersionResponse>(said[0].bytes, 8).version == version);
        CHECK(as<video::VersionResponse>(said[0].bytes, 8).accepted == 1);
        CHECK(as<video::VersionResponse>(said[0].bytes, 8).outputs == 1);
    }
    core.receive(video_message(video::MessageType::VramLocation, video::VramLocation{{}, 0x1234, 1, 0xf8000000}), 2);
    auto said = listen(core);
    REQUIRE(said.size() == 2);
    CHECK(as<video::Ack>(said[0].bytes, 8).header.type == 4);
    CHECK(as<video::Ack>(said[0].bytes, 8).context == 0x1234);
    CHECK(as<video::FeatureChange>(said[1].bytes, 8).header.type == 9);  // else the guest sends no dirty rectangles
    CHECK(as<video::FeatureChange>(said[1].bytes, 8).dirt == 1);
    CHECK(vram.places == std::vector<u64>{0xf8000000});

    core.receive(situation(1024, 768, 4096), 3);
    said = listen(core);
    REQUIRE(said.size() == 1);
    CHECK(as<video::Ack>(said[0].bytes, 8).header.type == 6);
    CHECK(core.screen().on);
    CHECK(core.screen().width == 1024);
    CHECK(core.screen().pitch_bytes == 4096);
    CHECK(core.invalid() == 1);

    SECTION("a place that cannot be is answered with another context") {
        vram.good = false;
        core.receive(video_message(video::MessageType::VramLocation, video::VramLocation{{}, 0x1234, 1, 0x1000}), 2);
        said = listen(core);
        REQUIRE(said.size() == 1);
        CHECK(as<video::Ack>(said[0].bytes, 8).context != 0x1234);
    }
    SECTION("the picture stays when the channel is closed, and goes when it is opened again") {
        core.closed();
        CHECK(core.screen().on);
        core.opened();
        CHECK_FALSE(core.screen().on);
    }
}

TEST_CASE("video: what does not lie in the frame buffer is not shown (D-94)", "[hv][video]") {
    FakeVram vram;
    vsp::Video core(vram, kVram, {1024, 768});
    start_video(core);
    const auto shown = [&](const Bytes& message) {
        core.receive(message, 0);
        CHECK(listen(core).size() == 1);
        return core.screen().on;
    };
    CHECK(shown(situation(1920, 1080, 7680)));
    CHECK(shown(situation(2048, 1024, 8192)));        // to the last byte
    CHECK_FALSE(shown(situation(2048, 1025, 8192)));  // one line more
    CHECK_FALSE(shown(situation(2048, 1024, 8192, 32, 1)));
    CHECK(shown(situation(2048, 2048, 4096, 16)));
    CHECK_FALSE(shown(situation(1024, 768, 4095)));
    CHECK_FALSE(shown(situation(0, 768, 4096)));
    CHECK_FALSE(shown(situation(1024, 0, 4096)));
    CHECK_FALSE(shown(situation(1024, 768, 4096, 24)));
    CHECK_FALSE(shown(situation(1024, 768, 0xffffffff)));
    CHECK_FALSE(shown(situation(0xffffffff, 0xffffffff, 0xffffffff, 32, 0xffffffff)));
    CHECK_FALSE(shown(video_message(video::MessageType::SituationUpdate,
                                    video::SituationUpdate{{}, 0, 1, {0, 0, 32, 640, 480, 2560}})));
}

TEST_CASE("video: resolutions, at most as many as asked for, with the standard one named (D-95)", "[hv][video]") {
    FakeVram vram;
    vsp::Video core(vram, kVram, {1280, 720});
    start_video(core);
    const auto ask = [&](u8 most) {
        core.receive(video_message(video::MessageType::ResolutionRequest, video::ResolutionRequest{{}, most}), 5);
        const auto said = listen(core);
        REQUIRE(said.size() == 1);
        return as<video::ResolutionResponse>(said[0].bytes, 8);
    };
    const auto all = ask(64);
    CHECK(all.count == vsp::Video::resolutions().size());
    const video::Resolution chosen = all.list[all.standard_index];
    CHECK(chosen.width == 1280);
    CHECK(chosen.height == 720);
    u8 sum = 0;
    for (const u8 byte : all.edid) sum = static_cast<u8>(sum + byte);
    CHECK(sum == 0);  // E-EDID §3.11
    CHECK(all.edid[1] == 0xff);
    for (u32 i = 0; i < all.count; ++i) CHECK(u32{all.list[i].width} * all.list[i].height * 4 <= kVram);
    CHECK(ask(2).count == 2);
    CHECK(ask(2).standard_index == 0);
    CHECK(ask(0).count == 0);
}

TEST_CASE("video: dirty rectangles are counted when they lie on the screen (D-97)", "[hv][video]") {
    FakeVram vram;
    vsp::Video core(vram, kVram, {1024, 768});
    start_video(core);
    core.receive(situation(1024, 768, 4096), 3);
    (void)listen(core);
    const auto dirt = [&](u8 count, const std::vector<video::Rectangle>& list) {
        Bytes body = {0, count};
        for (const auto& each : list) append(body, bytes_of(each));
        const u64 before = core.invalid();
        core.receive(video_message(video::MessageType::Dirt, body), 0);
        CHECK(listen(core).empty());
        return core.invalid() == before;
    };
    CHECK(dirt(1, {{0, 0, 1024, 768}}));
    CHECK(dirt(0, {}));
    CHECK(dirt(2, {{0, 0, 1, 1}, {5, 5, 5, 5}}));
    CHECK_FALSE(dirt(2, {{0, 0, 1, 1}}));
    CHECK_FALSE(dirt(255, {}));
    CHECK_FALSE(dirt(1, {{0, 0, 1025, 768}}));
    CHECK_FALSE(dirt(1, {{-1, 0, 5, 5}}));
    CHECK_FALSE(dirt(1, {{5, 0, 4, 5}}));
    CHECK_FALSE(dirt(1, {{0, 0, 0x7fffffff, 0x7fffffff}}));
}

TEST_CASE("video: every message cut at every byte, and random ones", "[hv][video]") {
    FakeVram vram;
    vsp::Video core(vram, kVram, {1024, 768});
    start_video(core);
    Bytes rectangle = {0, 1};
    append(rectangle, bytes_of(video::Rectangle{0, 0, 8, 8}));
    const std::vector<Bytes> messages = {
        situation(1024, 768, 4096),
        video_message(video::MessageType::VersionRequest, video::VersionRequest{{}, video::kVersion3_5}),
        video_message(video::MessageType::VramLocation, video::VramLocation{{}, 1, 1, 0xf8000000}),
        video_message(video::MessageType::PointerPosition, video::PointerPosition{{}, 1, 0, 5, 6}),
        video_message(video::MessageType::PointerShape, video::PointerShape{{}, 0xff, 1, 1, 1, 0, 0}),
        video_message(video::MessageType::Dirt, rectangle),
        video_message(video::MessageType::ResolutionRequest, video::ResolutionRequest{{}, 64})};
    const std::size_t places = vram.places.size();
    for (const Bytes& message : messages) torment(core, message, 1);
    CHECK(vram.places.size() == places);
    CHECK_FALSE(core.screen().on);
    Random random(0x71de0);
    for (unsigned round = 0; round < 20'000; ++round) {
        Bytes message = messages[random.below(messages.size())];
        for (u64 i = random.below(4); i-- != 0;) message[random.below(message.size())] = random.byte();
        core.receive(message, round);
        (void)listen(core);
        const vsp::Screen& s = core.screen();
        if (s.on)
            REQUIRE(u64{s.offset} + u64{s.pitch_bytes} * (s.height - 1) + u64{s.width} * s.depth_bits / 8 <= kVram);
        if (core.state() != vsp::Video::State::Ready) start_video(core);
    }
}

TEST_CASE("keyboard, mouse, video: state in the middle is the same in another object", "[hv][video]") {
    FakeVram vram;
    vsp::Keyboard keyboard, keyboard2;
    vsp::Mouse mouse, mouse2;
    vsp::Video video(vram, kVram, {1024, 768}), video2(vram, kVram, {1024, 768});
    start_keyboard(keyboard);
    for (u8 code = 1; code < 40; ++code) CHECK(keyboard.press({code, 0}));
    start_mouse(mouse);
    CHECK(mouse.report({1, 2, 3, 4}));
    start_video(video);
    video.receive(situation(800, 600, 3200), 3);  // the answer is not sent yet
    StateTape tape;
    const auto same = [&](vsp::MessageCore& from, vsp::MessageCore& to) {
        tape.save(from);
        tape.restore(to);
        CHECK(hash_of(to) == hash_of(from));
        const auto a = listen(from), b = listen(to);
        REQUIRE(a.size() == b.size());
        for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i].bytes == b[i].bytes);
        CHECK(hash_of(to) == hash_of(from));
    };
    same(keyboard, keyboard2);
    same(mouse, mouse2);
    same(video, video2);
    CHECK(video2.screen().on);
}
