// What is emitted and reported for those who watch translations.
#include "jit/translator.h"

namespace vg::jit {

namespace {

/// Adds one where both scratch registers are free. Leaves the flags alone.
void emit_increment(Assembler& a, u64* counter) {
    if (counter == nullptr) return;
    a.mov_imm(kT0, reinterpret_cast<u64>(counter));
    a.mov(kT1, HostMem{.base = kT0});
    a.lea(kT1, {.base = kT1, .disp = 1});
    a.mov(HostMem{.base = kT0}, kT1);
}

}  // namespace

/// At the start of a block.
void Translator::emit_counters(std::span<const u8> guest) {
    for (TranslationWatcher* watcher : watchers_) emit_increment(a_, watcher->begin(*block_, guest));
}

/// Where the block is left in its middle, behind instruction `index_`.
void Translator::emit_exit_counters() {
    for (TranslationWatcher* watcher : watchers_) emit_increment(a_, watcher->side_exit(index_));
}

/// Out of line, where the flags are in the slot and T1 is free.
void Translator::count_return_miss() {
    a_.mov_imm(kT1, reinterpret_cast<u64>(&stats_.return_misses));
    a_.modrm({.opcode = 0xff, .w = true}, 0, HostMem{.base = kT1});
}

void Translator::report_instruction(u32 code, bool native) {
    for (TranslationWatcher* watcher : watchers_) watcher->instruction(*cur_, code, native);
}

}  // namespace vg::jit
