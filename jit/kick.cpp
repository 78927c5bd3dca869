#include "jit/kick.h"

#include <ucontext.h>

#include "cpu/guest_gate.h"
#include "jit/layout.h"

namespace vg::jit {
namespace {

/// A signal's handler knows nothing but its thread.
thread_local const KickTarget* this_thread = nullptr;

}  // namespace

KickTarget::KickTarget() {
    static const bool installed = [] {
        struct sigaction action {};
        action.sa_sigaction = &KickTarget::on_signal;
        action.sa_flags = SA_SIGINFO | SA_RESTART;
        sigemptyset(&action.sa_mask);
        return sigaction(SIGURG, &action, nullptr) == 0;
    }();
    (void)installed;
}

void KickTarget::attach() {
    thread_ = pthread_self();
    this_thread = this;
}

void KickTarget::on_signal(int, siginfo_t*, void* context) {
    const KickTarget* const target = this_thread;
    if (target == nullptr) return;
    static_assert(kBudget == 10);
    greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    if (static_cast<u64>(registers[REG_RIP]) - target->begin_.load(std::memory_order_relaxed) <
        target->size_.load(std::memory_order_relaxed))
        registers[REG_R10] = cpu::with_mark(registers[REG_R10]);
}

}  // namespace vg::jit
