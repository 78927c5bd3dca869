// What is emitted and reported for those who watch translations.
#include "jit/translator.h"

namespace vg::jit {

/// At the start of a block, where both scratch registers are free. Leaves the flags alone.
void Translator::emit_counters(std::span<const u8> guest) {
    for (TranslationWatcher* watcher : watchers_) {
        u64* counter = watcher->begin(*block_, guest);
        if (counter == nullptr) continue;
        a_.mov_imm(kT0, reinterpret_cast<u64>(counter));
        a_.mov(kT1, HostMem{.base = kT0});
        a_.lea(kT1, {.base = kT1, .disp = 1});
        a_.mov(HostMem{.base = kT0}, kT1);
    }
}

void Translator::report_instruction(u32 code, bool native) {
    for (TranslationWatcher* watcher : watchers_) watcher->instruction(*cur_, code, native);
}

}  // namespace vg::jit
