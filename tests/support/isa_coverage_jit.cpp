// The same for the translator: every engine that a test makes is watched.
#include "jit/engine.h"
#include "tests/support/isa_coverage.h"

namespace vg::test {

namespace {

class Watcher final : public jit::TranslationWatcher {
  public:
    void instruction(const cpu::Insn& insn, u32, bool native) override {
        exercised(insn.row, native ? Exercise::Native : Exercise::Helper);
    }
};

}  // namespace

using Made = Result<std::unique_ptr<jit::JitEngine>>;

// jit::JitEngine::create(mmu::PhysicalMemory&, const Options&)
Made real_create(mmu::PhysicalMemory& memory, const jit::Options& options)
    __asm__("__real__ZN2vg3jit9JitEngine6createERNS_3mmu14PhysicalMemoryERKNS0_7OptionsE");
Made wrapped_create(mmu::PhysicalMemory& memory, const jit::Options& options)
    __asm__("__wrap__ZN2vg3jit9JitEngine6createERNS_3mmu14PhysicalMemoryERKNS0_7OptionsE");

Made wrapped_create(mmu::PhysicalMemory& memory, const jit::Options& options) {
    static Watcher watcher;
    jit::Options watched = options;
    if (coverage_wanted()) watched.watchers.push_back(&watcher);
    return real_create(memory, watched);
}

}  // namespace vg::test
