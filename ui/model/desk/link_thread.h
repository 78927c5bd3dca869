// A control link on a thread of its own, so that whoever draws never waits for a machine.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "ui/model/control_link.h"

namespace vg::desk {

using model::ControlLink;
using model::Json;

/// Requests go in, replies and notices come out at deliver(), in order. All public functions: one thread, the owner's.
class LinkThread {
  public:
    using Reply = std::function<void(Result<Json>)>;
    using Notice = std::function<void(const Json&)>;

    explicit LinkThread(std::unique_ptr<ControlLink> link);
    /// Waits for a request that is being answered; forgets the others.
    ~LinkThread();
    LinkThread(const LinkThread&) = delete;
    LinkThread& operator=(const LinkThread&) = delete;

    /// `reply` runs in a later deliver(). Once the connection is gone every request fails with the reason.
    void ask(Json request, Reply reply);
    /// Runs what replies came, and `notice` for each notice. Returns how many there were.
    std::size_t deliver(const Notice& notice);
    /// Requests that are not answered, or answered and not delivered.
    [[nodiscard]] std::size_t pending() const { return pending_; }
    /// Waits until deliver() has something to do; at most so long.
    void wait(int wait_ms);

  private:
    struct Asked {
        Json request;
        Reply reply;
    };
    struct Came {
        Result<Json> answer;
        Reply reply;  ///< empty: a notice
    };
    void work();
    void call_next(std::unique_lock<std::mutex>& lock);

    std::unique_ptr<ControlLink> link_;
    std::mutex mutex_;
    std::condition_variable asked_, came_;
    std::deque<Asked> requests_;
    std::deque<Came> arrivals_;
    bool ending_ = false;
    std::size_t pending_ = 0;  ///< the owner's
    std::thread thread_;
};

}  // namespace vg::desk
