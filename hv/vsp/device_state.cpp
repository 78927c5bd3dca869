// Field lists of the small providers, apart from them because they need the hosted library.
#include <algorithm>
#include <string>

#include "base/state.h"
#include "hv/vsp/balloon.h"
#include "hv/vsp/keyboard.h"
#include "hv/vsp/mouse.h"
#include "hv/vsp/video.h"

namespace vg::hv::vsp {

namespace {

/// An enumeration whose saved value may be anything.
template <class E>
void enum_field(StateVisitor& v, std::string_view name, E& field, E last) {
    v(name, field, Fmt::Dec);
    if (v.loading() && field > last) field = E{};
}

}  // namespace

void Keyboard::fields(StateVisitor& v) {
    enum_field(v, "state", state_, State::Ready);
    v("reply_due", reply_due_);
    v("accepted", accepted_);
    v("reply_to", reply_to_);
    v("leds", leds_);
    v("pressed", pressed_, Fmt::Dec);
    v("invalid", invalid_, Fmt::Dec);
    v("queued", queued_, Fmt::Dec);
    if (v.loading()) {
        queued_ = std::min(queued_, kMaxQueued);
        first_ = 0;
    }
    for (u32 i = 0; i < queued_; ++i) {
        const VisitScope each(v, "key" + std::to_string(i));
        Keystroke& key = queue_[(first_ + i) % kMaxQueued];
        v("code", key.code);
        v("flags", key.flags);
    }
}

void Mouse::fields(StateVisitor& v) {
    enum_field(v, "state", state_, State::Ready);
    enum_field(v, "reply", reply_, Reply::Info);
    v("accepted", accepted_);
    v("version", version_);
    v("reply_to", reply_to_);
    v("reports", reports_, Fmt::Dec);
    v("invalid", invalid_, Fmt::Dec);
    v("queued", queued_, Fmt::Dec);
    if (v.loading()) {
        queued_ = std::min(queued_, kMaxQueued);
        first_ = 0;
    }
    for (u32 i = 0; i < queued_; ++i) {
        const VisitScope each(v, "report" + std::to_string(i));
        MouseReport& report = queue_[(first_ + i) % kMaxQueued];
        v("buttons", report.buttons, Fmt::Bin);
        v("x", report.x, Fmt::Dec);
        v("y", report.y, Fmt::Dec);
        v("wheel", report.wheel, Fmt::Dec);
    }
}

void Video::fields(StateVisitor& v) {
    enum_field(v, "state", state_, State::Ready);
    enum_field(v, "reply", reply_, Reply::Resolutions);
    v("features_due", features_due_);
    v("version", version_);
    v("accepted", accepted_);
    v("most_resolutions", most_resolutions_, Fmt::Dec);
    v("context", context_);
    v("reply_to", reply_to_);
    v("placed", placed_);
    v("gpa", gpa_);
    {
        const VisitScope scope(v, "screen");
        v("on", screen_.on);
        v("offset", screen_.offset);
        v("depth_bits", screen_.depth_bits, Fmt::Dec);
        v("width", screen_.width, Fmt::Dec);
        v("height", screen_.height, Fmt::Dec);
        v("pitch_bytes", screen_.pitch_bytes, Fmt::Dec);
        if (v.loading() && screen_.on &&
            !fits({1, screen_.offset, static_cast<u8>(std::min(screen_.depth_bits, 255u)), screen_.width,
                   screen_.height, screen_.pitch_bytes})) {
            screen_ = {};
        }
    }
    v("pointer_visible", pointer_visible_);
    v("pointer_x", pointer_x_, Fmt::Dec);
    v("pointer_y", pointer_y_, Fmt::Dec);
    v("updates", updates_, Fmt::Dec);
    v("rectangles", rectangles_, Fmt::Dec);
    v("invalid", invalid_, Fmt::Dec);
}

void Balloon::fields(StateVisitor& v) {
    enum_field(v, "state", state_, State::Ready);
    enum_field(v, "reply", reply_, Reply::Capabilities);
    v("accepted", accepted_);
    v("version", version_);
    v("transaction", transaction_, Fmt::Dec);
    v("capabilities", capabilities_);
    v("min_pages", min_pages_, Fmt::Dec);
    {
        const VisitScope scope(v, "pressure");
        u64 available = pressure_.available, committed = pressure_.committed, zero_free = pressure_.zero_free,
            page_file = pressure_.page_file;
        u32 writes = pressure_.page_file_writes, difference = pressure_.io_difference;
        v("available_pages", available, Fmt::Dec);
        v("committed_pages", committed, Fmt::Dec);
        v("page_file_pages", page_file, Fmt::Dec);
        v("zero_free_pages", zero_free, Fmt::Dec);
        v("page_file_writes", writes, Fmt::Dec);
        v("io_difference", difference, Fmt::Dec);
        if (v.loading()) pressure_ = {{}, available, committed, page_file, zero_free, writes, difference};
        v("reports", reports_, Fmt::Dec);
    }
    enum_field(v, "operation", operation_, BalloonOperation::HotAdd);
    v("request_due", request_due_);
    v("wanted", wanted_, Fmt::Dec);
    v("done", done_, Fmt::Dec);
    v("adding_first", adding_.first);
    v("adding_count", adding_.count, Fmt::Dec);
    v("ballooned_pages", ballooned_, Fmt::Dec);
    v("added_pages", added_, Fmt::Dec);
    v("invalid", invalid_, Fmt::Dec);
    v("spans", span_count_, Fmt::Dec);
    if (v.loading()) span_count_ = std::min(span_count_, kMaxSpans);
    for (u32 i = 0; i < span_count_; ++i) {
        const VisitScope each(v, "span" + std::to_string(i));
        v("first", spans_[i].first);
        v("count", spans_[i].count, Fmt::Dec);
    }
}

}  // namespace vg::hv::vsp
