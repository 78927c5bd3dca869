// A translator for each VP, for VPs that execute at the same time.
#pragma once

#include <memory>
#include <vector>

#include "base/log.h"
#include "cpu/engine.h"
#include "jit/engine.h"

namespace vg::machine {

/// An engine whose run() may be called for different VPs on different threads at once, if they have gates. Everything
/// but translated code itself runs with the machine's lock held.
class VpEngines final : public cpu::Engine {
  public:
    /// Error (Host): as JitEngine::create.
    static Result<std::unique_ptr<VpEngines>> create(mmu::PhysicalMemory& memory, jit::Options options, Log& log);

    cpu::Stop run(cpu::Vp& vp) override { return of(vp).run(vp); }
    cpu::Stop step(cpu::Vp& vp) override { return of(vp).step(vp); }
    void forget(cpu::Vp& vp) override;
    void release_memory() override;
    /// Of all translators together.
    [[nodiscard]] jit::Stats stats() const;

  private:
    struct Entry {
        cpu::Vp* vp;
        std::unique_ptr<cpu::Engine> engine;
        jit::JitEngine* translator;  ///< null: it is not one
    };
    VpEngines(mmu::PhysicalMemory& memory, jit::Options options, Log& log)
        : memory_(memory), options_(std::move(options)), log_(log) {}
    cpu::Engine& of(cpu::Vp& vp);
    void breakpoints_changed() override;
    void observer_changed() override;

    mmu::PhysicalMemory& memory_;
    jit::Options options_;
    Log& log_;
    std::unique_ptr<jit::JitEngine> spare_;  ///< made before anybody needs it, to know that it can be
    std::vector<Entry> entries_;
    jit::Stats gone_;  ///< of VPs that are forgotten
};

}  // namespace vg::machine
