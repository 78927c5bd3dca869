#include "ui/model/desk/link_thread.h"

#include <chrono>

namespace vg::desk {

namespace {
/// How long the thread listens for a notice before it looks for requests again: bounds the delay of a request.
constexpr int kListen_ms = 3;
/// Arrivals that nobody fetches: notices beyond it are dropped.
constexpr std::size_t kMaxArrivals = 4096;
}  // namespace

LinkThread::LinkThread(std::unique_ptr<ControlLink> link) : link_(std::move(link)), thread_([this] { work(); }) {}

LinkThread::~LinkThread() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
        requests_.clear();
    }
    asked_.notify_all();
    thread_.join();
}

void LinkThread::ask(Json request, Reply reply) {
    {
        const std::lock_guard lock(mutex_);
        requests_.push_back({std::move(request), std::move(reply)});
    }
    ++pending_;
    asked_.notify_one();
}

std::size_t LinkThread::deliver(const Notice& notice) {
    std::deque<Came> arrived;
    {
        const std::lock_guard lock(mutex_);
        arrived.swap(arrivals_);
    }
    for (Came& came : arrived) {
        if (came.reply) {
            --pending_;
            came.reply(std::move(came.answer));
        } else if (came.answer) {
            notice(*came.answer);
        }
    }
    return arrived.size();
}

void LinkThread::wait(int wait_ms) {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return !arrivals_.empty(); });
}

void LinkThread::call_next(std::unique_lock<std::mutex>& lock) {
    Asked next = std::move(requests_.front());
    requests_.pop_front();
    lock.unlock();
    Result<Json> answer = link_->call(next.request);
    lock.lock();
    arrivals_.push_back({std::move(answer), std::move(next.reply)});
}

void LinkThread::work() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
        if (!requests_.empty()) {
            call_next(lock);
        } else {
            lock.unlock();
            std::optional<Json> notice = link_->notice(kListen_ms);
            lock.lock();
            if (notice && arrivals_.size() < kMaxArrivals) arrivals_.push_back({std::move(*notice), {}});
            // A link whose peer is gone returns at once; do not spin on it.
            if (!notice && requests_.empty() && !ending_) asked_.wait_for(lock, std::chrono::milliseconds(1));
        }
        if (!arrivals_.empty()) came_.notify_one();
    }
}

}  // namespace vg::desk
