// Protocol core of the synthetic video device. Rows D-06, D-90..D-98. No I/O, no heap.
#pragma once

#include <array>

#include "hv/spec/video.h"
#include "hv/vsp/message_core.h"

namespace vg::hv::vsp {

/// What the core asks of the world around it.
class VideoHost {
  public:
    virtual ~VideoHost() = default;
    /// The guest puts the frame buffer to this GPA, in place of where it was. False: it cannot be there.
    [[nodiscard]] virtual bool place(u64 gpa) = 0;
};

/// What the guest shows. Lines of 32 bits (blue in the lowest byte) or 16 bits (5-6-5) a pixel.
struct Screen {
    bool on = false;
    u32 offset = 0;  ///< of the first line in the frame buffer
    u32 depth_bits = 0, width = 0, height = 0, pitch_bytes = 0;
};

/// After the channel is closed the last picture stays: a guest that has crashed says there why.
class Video final : public MessageCore {
  public:
    enum class State : u8 { Closed, AwaitVersion, Ready };
    static constexpr u32 kMaxWidth = 7680, kMaxHeight = 4320;

    /// @param memory_bytes  size of the frame buffer
    /// @param standard      resolution that the guest should begin with: one of resolutions()
    Video(VideoHost& host, u32 memory_bytes, video::Resolution standard)
        : host_(host), memory_bytes_(memory_bytes), standard_(standard) {}

    void opened() override;
    void closed() override;
    void receive(std::span<const u8> message, u64 transaction_id) override;
    [[nodiscard]] Outgoing next(std::span<u8> out) override;
    void sent() override;
    void fields(StateVisitor& v) override;

    /// What a guest may choose from.
    [[nodiscard]] static std::span<const video::Resolution> resolutions();

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] u32 version() const { return version_; }
    /// Lies within the frame buffer if it is on.
    [[nodiscard]] const Screen& screen() const { return screen_; }
    /// Counts dirty rectangles and changes of the screen: what is shown may have changed when it has.
    [[nodiscard]] u64 updates() const { return updates_; }
    [[nodiscard]] u64 invalid() const { return invalid_; }

  private:
    enum class Reply : u8 { None, Version, Vram, Situation, Resolutions };
    [[nodiscard]] bool handle(std::span<const u8> inner);
    [[nodiscard]] bool set_version(std::span<const u8> inner);
    [[nodiscard]] bool set_vram(std::span<const u8> inner);
    [[nodiscard]] bool set_situation(std::span<const u8> inner);
    [[nodiscard]] bool mark_dirty(std::span<const u8> inner);
    [[nodiscard]] bool fits(const video::Situation& situation) const;

    VideoHost& host_;
    u32 memory_bytes_;
    video::Resolution standard_;
    State state_ = State::Closed;
    Reply reply_ = Reply::None;
    bool features_due_ = false;  ///< the guest has to be told that dirty rectangles are wanted
    u32 version_ = 0;
    bool accepted_ = false;
    u8 most_resolutions_ = 0;
    u64 context_ = 0, reply_to_ = 0;
    bool placed_ = false;
    u64 gpa_ = 0;
    Screen screen_;
    bool pointer_visible_ = false;
    s32 pointer_x_ = 0, pointer_y_ = 0;
    u64 updates_ = 0, rectangles_ = 0, invalid_ = 0;
};

}  // namespace vg::hv::vsp
