#include "hv/vsp/video.h"

#include <algorithm>

#include "hv/spec/vmbus.h"

namespace vg::hv::vsp {

using video::MessageType;
using vmbus::kPipeData;
using vmbus::PipeHeader;

namespace {

/// All of them fit into 8 MiB with 32 bits a pixel.
constexpr video::Resolution kResolutions[] = {{640, 480},  {800, 600},   {1024, 768},  {1152, 864},
                                              {1280, 720}, {1280, 1024}, {1366, 768},  {1440, 900},
                                              {1600, 900}, {1600, 1200}, {1680, 1050}, {1920, 1080}};
static_assert(std::size(kResolutions) <= video::kMaxResolutions);

bool known_version(u32 version) {
    return version == video::kVersion3_2 || version == video::kVersion3_3 || version == video::kVersion3_4 ||
           version == video::kVersion3_5;
}

template <class Message>
u32 put_piped(std::span<u8> out, MessageType type, Message message, u32 size = sizeof(Message)) {
    message.header = {static_cast<u32>(type), size};
    put_message(out, PipeHeader{kPipeData, size});
    put_message(out, message, sizeof(PipeHeader));
    return static_cast<u32>(sizeof(PipeHeader)) + size;
}

/// E-EDID 1.4: a digital display without timings of its own but the standard ones.
void make_edid(std::span<u8, video::kEdidBytes> edid) {
    constexpr u8 kHead[] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,  // header
                            0x5a, 0x44, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,  // manufacturer "VRD", product 1
                            0x01, 0x24, 0x01, 0x04,                          // week 1 of 2026, version 1.4
                            0xa0, 0x00, 0x00, 0x78, 0x06,                    // digital, 8 bits a colour; sRGB
                            0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54,  // chromaticity of sRGB
                            0x21, 0x08, 0x00};  // 640x480, 800x600 and 1024x768 at 60 Hz
    std::ranges::fill(edid, u8{0});
    std::ranges::copy(kHead, edid.begin());
    std::ranges::fill(edid.subspan(sizeof kHead, 16), u8{1});  // standard timings: unused
    constexpr u8 kName[] = {0, 0, 0, 0xfc, 0, 'V', 'e', 'r', 'd', 'i', 'g', 'r', 'i', 's', '\n', ' ', ' ', ' '};
    std::ranges::copy(kName, edid.subspan(54).begin());
    for (const unsigned at : {72u, 90u, 108u}) edid[at + 3] = 0x10;  // descriptors without meaning
    u8 sum = 0;
    for (const u8 byte : edid) sum = static_cast<u8>(sum + byte);
    edid[127] = static_cast<u8>(0 - sum);
}

}  // namespace

std::span<const video::Resolution> Video::resolutions() { return kResolutions; }

void Video::opened() {
    state_ = State::AwaitVersion;
    reply_ = Reply::None;
    features_due_ = false;
    screen_ = {};
    pointer_visible_ = false;
}

void Video::closed() {
    state_ = State::Closed;
    reply_ = Reply::None;
    features_due_ = false;
}

void Video::receive(std::span<const u8> message, u64 transaction_id) {
    bool whole = false;
    const auto pipe = read_message<PipeHeader>(message, whole);
    reply_to_ = transaction_id;
    if (!whole || pipe.type != kPipeData || pipe.size > message.size() - sizeof pipe ||
        !handle(message.subspan(sizeof pipe, pipe.size))) {
        ++invalid_;
    }
}

bool Video::handle(std::span<const u8> inner) {
    bool whole = false;
    const auto header = read_message<video::Header>(inner, whole);
    if (!whole || header.size < sizeof header || header.size > inner.size()) return false;
    inner = inner.first(header.size);
    const auto type = static_cast<MessageType>(header.type);
    if (type == MessageType::VersionRequest) return set_version(inner);
    if (state_ != State::Ready) return false;
    switch (type) {
        case MessageType::VramLocation:
            return set_vram(inner);
        case MessageType::SituationUpdate:
            return set_situation(inner);
        case MessageType::PointerPosition: {
            const auto pointer = read_message<video::PointerPosition>(inner, whole);
            if (!whole) return false;
            pointer_visible_ = pointer.visible != 0;
            pointer_x_ = pointer.x;
            pointer_y_ = pointer.y;
            return true;
        }
        case MessageType::PointerShape: {  // the picture shows none: what draws it draws into the frame buffer
            const auto shape = read_message<video::PointerShape>(inner, whole);
            return whole && shape.width <= video::kMaxPointerSide && shape.height <= video::kMaxPointerSide;
        }
        case MessageType::Dirt:
            return mark_dirty(inner);
        case MessageType::ResolutionRequest: {
            const auto request = read_message<video::ResolutionRequest>(inner, whole);
            if (!whole) return false;
            most_resolutions_ = request.most;
            reply_ = Reply::Resolutions;
            return true;
        }
        case MessageType::VersionRequest:
        case MessageType::VersionResponse:
        case MessageType::VramLocationAck:
        case MessageType::SituationUpdateAck:
        case MessageType::FeatureChange:
        case MessageType::ResolutionResponse:
            break;
    }
    return false;
}

bool Video::set_version(std::span<const u8> inner) {
    bool whole = false;
    const auto request = read_message<video::VersionRequest>(inner, whole);
    if (!whole || state_ == State::Closed) return false;
    version_ = request.version;
    accepted_ = known_version(version_);
    state_ = accepted_ ? State::Ready : State::AwaitVersion;
    reply_ = Reply::Version;
    return true;
}

/// D-93. The answer to a place where the frame buffer cannot be has another context: a guest takes that for a failure.
bool Video::set_vram(std::span<const u8> inner) {
    bool whole = false;
    const auto location = read_message<video::VramLocation>(inner, whole);
    if (!whole) return false;
    placed_ = location.specified != 0 && host_.place(location.gpa);
    gpa_ = placed_ ? location.gpa : 0;
    context_ = placed_ ? location.context : ~location.context;
    reply_ = Reply::Vram;
    features_due_ = placed_;  // D-96
    ++updates_;
    return placed_;
}

bool Video::set_situation(std::span<const u8> inner) {
    bool whole = false;
    const auto update = read_message<video::SituationUpdate>(inner, whole);
    if (!whole) return false;
    context_ = update.context;
    reply_ = Reply::Situation;
    ++updates_;
    screen_ = {};
    if (update.outputs == 0 || update.output.active == 0) return true;
    if (!fits(update.output)) return false;
    const video::Situation& s = update.output;
    screen_ = {true, s.vram_offset, s.depth_bits, s.width, s.height, s.pitch_bytes};
    return true;
}

bool Video::fits(const video::Situation& s) const {
    if ((s.depth_bits != 16 && s.depth_bits != 32) || s.width == 0 || s.width > kMaxWidth || s.height == 0 ||
        s.height > kMaxHeight) {
        return false;
    }
    const u64 line = u64{s.width} * (s.depth_bits / 8u);
    return s.pitch_bytes >= line && u64{s.vram_offset} + u64{s.pitch_bytes} * (s.height - 1u) + line <= memory_bytes_;
}

bool Video::mark_dirty(std::span<const u8> inner) {
    bool whole = false;
    const auto dirt = read_message<video::Dirt>(inner, whole);
    if (!whole || (inner.size() - sizeof dirt) / sizeof(video::Rectangle) < dirt.count) return false;
    bool good = true;
    for (u32 i = 0; i < dirt.count; ++i) {
        const auto r = read_message<video::Rectangle>(inner.subspan(sizeof dirt + i * sizeof(video::Rectangle)), whole);
        const bool inside = r.x1 >= 0 && r.y1 >= 0 && r.x1 <= r.x2 && r.y1 <= r.y2 &&
                            static_cast<u32>(r.x2) <= screen_.width && static_cast<u32>(r.y2) <= screen_.height;
        good &= inside;
        if (inside) ++rectangles_;
    }
    ++updates_;
    return good;
}

MessageCore::Outgoing Video::next(std::span<u8> out) {
    switch (reply_) {
        case Reply::Version:
            return {put_piped(out, MessageType::VersionResponse,
                              video::VersionResponse{{}, version_, static_cast<u8>(accepted_ ? 1 : 0), 1}),
                    reply_to_};
        case Reply::Vram:
        case Reply::Situation:
            return {
                put_piped(out, reply_ == Reply::Vram ? MessageType::VramLocationAck : MessageType::SituationUpdateAck,
                          video::Ack{{}, context_}),
                reply_to_};
        case Reply::Resolutions: {
            video::ResolutionResponse response{};
            make_edid(response.edid);
            const std::size_t count = std::min(std::size(kResolutions), std::size_t{most_resolutions_});
            response.count = static_cast<u8>(count);
            std::copy_n(std::begin(kResolutions), count, response.list);
            const auto* const standard = std::find(response.list, response.list + count, standard_);
            response.standard_index = static_cast<u8>(standard == response.list + count ? 0 : standard - response.list);
            response.standard = 1;
            return {put_piped(out, MessageType::ResolutionResponse, response), reply_to_};
        }
        case Reply::None:
            break;
    }
    if (!features_due_) return {};
    return {put_piped(out, MessageType::FeatureChange, video::FeatureChange{{}, 1, 1, 1, 1}), 0};
}

void Video::sent() {
    if (reply_ == Reply::None) features_due_ = false;
    reply_ = Reply::None;
}

}  // namespace vg::hv::vsp
