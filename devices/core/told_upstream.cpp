#include "devices/core/told_upstream.h"

#include "base/tap.h"

namespace vg::devices {

class ToldUpstream::View final : public mmu::Dma {
  public:
    View(mmu::Dma& inner, Log& log, Rid requester) : inner_(inner), tap_(log.tap()), requester_(requester) {}
    bool read(Iova address, void* out, u64 size) override {
        if (tap_.wants(TapKind::Dma)) tell(address, size, false);
        return inner_.read(address, out, size);
    }
    bool write(Iova address, const void* data, u64 size) override {
        if (tap_.wants(TapKind::Dma)) tell(address, size, true);
        return inner_.write(address, data, size);
    }

  private:
    void tell(Iova address, u64 size, bool write) {
        tap_.tell(
            {TapKind::Dma, 0, TapEvent::kNoVp, {requester_.value, address.value, size, write ? u64{1} : u64{0}}, {}});
    }
    mmu::Dma& inner_;
    Tap& tap_;
    Rid requester_;
};

class ToldUpstream::Messages final : public MessageSink {
  public:
    Messages(MessageSink& inner, Log& log, Rid requester) : inner_(inner), tap_(log.tap()), requester_(requester) {}
    void send(u64 address, u32 data) override {
        if (tap_.wants(TapKind::Msi))
            tap_.tell({TapKind::Msi, 0, TapEvent::kNoVp, {requester_.value, address, data}, {}});
        inner_.send(address, data);
    }

  private:
    MessageSink& inner_;
    Tap& tap_;
    Rid requester_;
};

ToldUpstream::ToldUpstream(std::unique_ptr<Upstream> inner, Log& log) : inner_(std::move(inner)), log_(log) {}
ToldUpstream::~ToldUpstream() = default;

mmu::Dma& ToldUpstream::dma(Rid requester) {
    std::unique_ptr<View>& view = views_[requester];
    if (view == nullptr) view = std::make_unique<View>(inner_->dma(requester), log_, requester);
    return *view;
}

MessageSink& ToldUpstream::messages(Rid requester) {
    std::unique_ptr<Messages>& sink = messages_[requester];
    if (sink == nullptr) sink = std::make_unique<Messages>(inner_->messages(requester), log_, requester);
    return *sink;
}

}  // namespace vg::devices
