#include "machine/parallel.h"

#include <algorithm>

#include "base/assert.h"
#include "mmu/physical_memory.h"

namespace vg::machine {
namespace {

/// How long is waited for something that takes a moment, in turns of the processor's PAUSE.
constexpr unsigned kShortWait = 400, kWait = 2000, kLongWait = 20000;
/// What a VP may overrun the end of a round by rather than be interrupted, in virtual nanoseconds.
constexpr VTime kTolerance = 20'000;

void pause_host() { __builtin_ia32_pause(); }

}  // namespace

/// One VP's thread. All but `inside_` and `calls_` is touched with the lock held only.
class Scheduler::Parallel::Worker final : public cpu::GuestGate {
  public:
    Worker(Parallel& all, Processor& processor) : all_(all), processor_(processor) {
        thread_ = std::thread([this] { main(); });
    }
    ~Worker() override {
        all_.lock();
        quit_ = true;
        call();
        all_.unlock();
        thread_.join();
    }

    [[nodiscard]] cpu::Vp* vp() const { return processor_.vp; }
    [[nodiscard]] bool may_run() const {
        return all_.in_round_ && !in_slice_ && at_ < all_.s_.round_.end && !all_.s_.stopping_ && processor_.runnable();
    }
    [[nodiscard]] VTime at() const { return at_; }
    void begin_round(VTime from) { at_ = from; }
    void call() {
        calls_.fetch_add(1, std::memory_order_release);
        wake_.notify_one();
    }
    /// Comes back to main() soon; not for sure if it is on its way into translated code right now.
    void interrupt() {
        if (!in_slice_) return;
        vp()->request_stop();
        if (inside_.load(std::memory_order_acquire)) target_.kick();
    }
    void round_shortened() {
        if (in_slice_ && end_ > all_.s_.round_.end + kTolerance) interrupt();
    }
    void fetch_out() {
        while (inside_.load(std::memory_order_acquire)) {
            target_.kick();
            for (unsigned i = 0; i < kWait && inside_.load(std::memory_order_acquire); ++i) pause_host();
            if (!all_.may_spin_) std::this_thread::yield();
        }
    }

    void enter(const u8* begin, u64 size) override {
        cpu::VpState& state = vp()->state();
        if (vp()->stop_requested()) state.budget = cpu::with_mark(state.budget);
        changes_ = vp()->tlb().changes();
        target_.set_code(begin, size);
        all_.s_.running_ = nullptr;
        inside_.store(true, std::memory_order_release);
        all_.unlock();
    }
    bool leave() override {
        if (!inside_.load(std::memory_order_relaxed)) return false;
        inside_.store(false, std::memory_order_release);
        all_.lock();
        cpu::VpState& state = vp()->state();
        state.budget = cpu::without_mark(state.budget);
        show();
        return vp()->tlb().changes() != changes_;
    }
    void hold_off() override {
        if (!all_.in_round_ || all_.s_.running_ == vp()) return;
        fetch_out();
        if (in_slice_) {
            vp()->request_stop();
        } else {
            at_ = std::max(at_, all_.s_.clock_.now());  // it sleeps: what happens to it happens now
            call();
        }
    }
    void hold_off_all() override {
        for (const auto& worker : all_.workers_) worker->fetch_out();
    }

    [[nodiscard]] u32 calls() const { return calls_.load(std::memory_order_acquire); }
    std::condition_variable& wake() { return wake_; }
    unsigned& patience() { return patience_; }

  private:
    void main() {
        target_.attach();
        all_.lock();
        while (!quit_) {
            if (may_run())
                run_slice();
            else
                all_.wait(*this);
        }
        all_.unlock();
    }
    void run_slice() {
        cpu::Vp& vp = *processor_.vp;
        from_ = at_;
        end_ = std::min(all_.s_.round_.end, from_ + std::min(all_.s_.longest_slice_, all_.s_.quantum_));
        in_slice_ = true;
        ++all_.slices_;
        vp.state().request = 0;
        vp.begin_slice(from_, end_);
        show();
        (void)all_.s_.engine_.run(vp);
        vp.end_slice();
        at_ = vp.now();
        all_.s_.instructions_ += at_ - from_;
        all_.s_.running_ = nullptr;
        all_.s_.clock_.set_running(nullptr);
        in_slice_ = false;
        --all_.slices_;
        all_.slice_over();
    }
    /// The machine sees this VP run.
    void show() {
        all_.s_.running_ = vp();
        all_.s_.clock_.set_running(vp());
        all_.s_.round_.at = from_;
    }

    Parallel& all_;
    Processor& processor_;
    std::atomic<bool> inside_{false};  ///< its thread executes translated code, or is about to
    std::atomic<u32> calls_{0};
    bool quit_ = false, in_slice_ = false;
    VTime at_ = 0;              ///< how far the VP is in this round
    VTime from_ = 0, end_ = 0;  ///< of its slice
    u64 changes_ = 0;           ///< of its TLB, when it went inside
    unsigned patience_ = kShortWait;
    std::condition_variable wake_;
    jit::KickTarget target_;
    std::thread thread_;
};

Scheduler::Parallel::Parallel(Scheduler& scheduler, mmu::PhysicalMemory& memory) : s_(scheduler), memory_(memory) {
    memory_.set_before_change([this] {
        for (const auto& worker : workers_) worker->fetch_out();
    });
}

Scheduler::Parallel::~Parallel() {
    memory_.set_before_change(nullptr);
    workers_.clear();
}

/// It is held for a moment at a time.
void Scheduler::Parallel::lock() {
    for (unsigned i = 0; i < kShortWait; ++i) {
        if (mutex_.try_lock()) return;
        pause_host();
    }
    mutex_.lock();
}

void Scheduler::Parallel::make_workers() {
    for (const auto& processor : s_.processors_) {
        const cpu::Vp* const vp = processor->vp;
        if (vp != nullptr && std::ranges::none_of(workers_, [vp](const auto& worker) { return worker->vp() == vp; }))
            workers_.push_back(std::make_unique<Worker>(*this, *processor));
    }
    may_spin_ = workers_.size() <= std::thread::hardware_concurrency();
}

void Scheduler::Parallel::set_gates(bool on) {
    for (const auto& worker : workers_)
        if (worker->vp() != nullptr) worker->vp()->set_gate(on ? worker.get() : nullptr);
}

void Scheduler::Parallel::forget(const cpu::Vp& vp) {
    VG_ASSERT(!active_);
    std::erase_if(workers_, [&vp](const auto& worker) { return worker->vp() == &vp; });
}

Pause Scheduler::Parallel::run(VTime limit, u64 count) {
    make_workers();
    lock();
    set_gates(true);
    limit_ = limit;
    count_ = count;
    pause_.reset();
    active_ = true;
    advance();
    std::unique_lock<std::mutex> held(mutex_, std::adopt_lock);
    done_.wait(held, [this] { return pause_.has_value(); });
    active_ = false;
    set_gates(false);
    return *pause_;
}

void Scheduler::Parallel::wait(Worker& worker) {
    const u32 seen = worker.calls();
    unlock();
    // Whoever stayed awake in vain the last time, because the host is busy or the guest idle, waits less.
    unsigned& patience = worker.patience();
    for (unsigned i = 0; i < patience && worker.calls() == seen; ++i) pause_host();
    patience =
        may_spin_ && worker.calls() != seen ? std::min(2 * patience, kLongWait) : std::max(patience / 2, kShortWait);
    lock();
    std::unique_lock<std::mutex> held(mutex_, std::adopt_lock);
    worker.wake().wait(held, [&worker, seen] { return worker.calls() != seen; });
    held.release();
}

void Scheduler::Parallel::round_shortened() {
    for (const auto& worker : workers_) worker->round_shortened();
}

void Scheduler::Parallel::interrupt() {
    for (const auto& worker : workers_) worker->interrupt();
}

/// Called by the thread whose slice it was, which goes on with whatever there is to do.
void Scheduler::Parallel::slice_over() {
    if (slices_ != 0) return;
    if (std::ranges::any_of(workers_, [](const auto& worker) { return worker->may_run(); })) return;
    Round& round = s_.round_;
    for (const auto& worker : workers_) round.reached = std::max(round.reached, worker->at());
    round.active = in_round_ = false;
    s_.clock_.set(round.reached);
    advance();
}

/// No slice is being executed.
void Scheduler::Parallel::advance() {
    pause_ = s_.stopping_ ? std::optional(Pause::Asked) : s_.next_round(limit_, count_);
    if (pause_) {
        done_.notify_one();
        return;
    }
    in_round_ = true;
    for (const auto& worker : workers_) worker->begin_round(s_.round_.from);
    for (const auto& worker : workers_)
        if (worker->may_run()) worker->call();
}

}  // namespace vg::machine
