#include "machine/vp_engines.h"

#include "cpu/interp.h"
#include "cpu/vp.h"

namespace vg::machine {

Result<std::unique_ptr<VpEngines>> VpEngines::create(mmu::PhysicalMemory& memory, jit::Options options, Log& log) {
    options.gated = true;
    auto first = jit::JitEngine::create(memory, options);
    if (!first) return Unexpected{first.error()};
    std::unique_ptr<VpEngines> engines(new VpEngines(memory, std::move(options), log));
    engines->spare_ = std::move(*first);
    return engines;
}

cpu::Engine& VpEngines::of(cpu::Vp& vp) {
    for (const Entry& entry : entries_)
        if (entry.vp == &vp) return *entry.engine;
    Entry entry{&vp, std::move(spare_), nullptr};
    if (entry.engine == nullptr) {
        if (auto made = jit::JitEngine::create(memory_, options_)) {
            entry.engine = std::move(*made);
        } else {
            log_.error(Area::Machine, "{} is interpreted: {}", vp.name(), made.error().text);
            entry.engine = std::make_unique<cpu::StepEngine>();
        }
    }
    entry.translator = dynamic_cast<jit::JitEngine*>(entry.engine.get());
    if (breakpoints() != nullptr) entry.engine->set_breakpoints(breakpoints());
    if (observer() != nullptr) entry.engine->set_observer(observer());
    return *entries_.emplace_back(std::move(entry)).engine;
}

void VpEngines::forget(cpu::Vp& vp) {
    std::erase_if(entries_, [&](const Entry& entry) {
        if (entry.vp != &vp) return false;
        if (entry.translator != nullptr) gone_ += entry.translator->stats();
        entry.engine->forget(vp);
        return true;
    });
}

void VpEngines::release_memory() {
    for (const Entry& entry : entries_) entry.engine->release_memory();
}

jit::Stats VpEngines::stats() const {
    jit::Stats sum = gone_;
    for (const Entry& entry : entries_)
        if (entry.translator != nullptr) sum += entry.translator->stats();
    return sum;
}

void VpEngines::breakpoints_changed() {
    for (const Entry& entry : entries_) entry.engine->set_breakpoints(breakpoints());
}

void VpEngines::observer_changed() {
    for (const Entry& entry : entries_) entry.engine->set_observer(observer());
}

}  // namespace vg::machine
