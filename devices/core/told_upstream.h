// The way upstream with an ear on it: what functions ask of memory and of interrupt controllers is told as events.
#pragma once

#include <map>
#include <memory>

#include "base/log.h"
#include "devices/core/requester.h"

namespace vg::devices {

/// Passes everything on to another Upstream; a transfer is told (base/tap_kinds.def, `dma` and `msi`) when it is asked
/// for, whether or not it is refused.
class ToldUpstream final : public Upstream {
  public:
    /// @param log  outlives this object
    ToldUpstream(std::unique_ptr<Upstream> inner, Log& log);
    ~ToldUpstream() override;
    [[nodiscard]] mmu::Dma& dma(Rid requester) override;
    [[nodiscard]] MessageSink& messages(Rid requester) override;

  private:
    class View;
    class Messages;

    std::unique_ptr<Upstream> inner_;
    Log& log_;
    std::map<Rid, std::unique_ptr<View>> views_;  // at most one for each function of the board
    std::map<Rid, std::unique_ptr<Messages>> messages_;
};

}  // namespace vg::devices
