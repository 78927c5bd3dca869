// What the debugger knows of the machine it drives: the state of the link, where the machine stands, who is looked at.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>

#include "ui/model/desk/json_read.h"
#include "ui/model/desk/link_thread.h"

namespace vg::desk {

/// A position in a run.
struct Moment {
    u64 time_ns = 0;
    u64 instructions = 0;
};

/// A virtual processor, by its partition's id and its index in it.
struct VpId {
    u64 partition = 0;
    u32 vp = 0;
    friend bool operator==(const VpId&, const VpId&) = default;
    friend auto operator<=>(const VpId&, const VpId&) = default;
};

struct VpRow {
    u32 index = 0;
    std::string name, activity;
    u64 rip = 0;
    unsigned cpl = 0, mode = 64;
};
struct PartitionRow {
    u64 id = 0;
    std::string name, kind;
    std::vector<VpRow> vps;
};

struct StopInfo {
    std::string reason, text, who;
    u32 rule = 0;
    std::optional<VpId> where;
    u64 address = 0;
};

enum class Tone : u8 { Plain, Quiet, Good, Warning, Bad, Accent };

/// A line for people: what the debugger did, and what went wrong.
struct Message {
    std::string text;
    Tone tone = Tone::Plain;
};

/// One machine behind one link. One thread; call pump() once a frame.
class Session {
  public:
    using Clock = std::chrono::steady_clock;
    using Reply = LinkThread::Reply;

    Session() = default;
    /// Drives this machine from now on; what was known of another is forgotten.
    void attach(std::unique_ptr<ControlLink> link, std::string target);
    void detach();
    [[nodiscard]] bool attached() const { return link_ != nullptr; }
    /// hello() was answered.
    [[nodiscard]] bool ready() const { return ready_; }
    /// Empty: the link works. Else why not.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }
    [[nodiscard]] const std::string& target() const { return target_; }

    /// Delivers what came, asks for the status now and then. Returns whether anything changed.
    bool pump(Clock::time_point now);
    /// Waits for an arrival, for callers without frames.
    void wait(int wait_ms) {
        if (link_) link_->wait(wait_ms);
    }
    void ask(Json request, Reply reply);
    [[nodiscard]] std::size_t pending() const { return link_ ? link_->pending() : 0; }

    /// Grows whenever what was read from the machine may be old: at stops, after changes, and now and then while it
    /// runs.
    [[nodiscard]] u64 epoch() const { return epoch_; }
    /// Grows at stops and after changes, not while the machine runs.
    [[nodiscard]] u64 stops() const { return stops_; }
    void changed() {
        ++epoch_;
        ++stops_;
    }

    [[nodiscard]] bool running() const { return running_; }
    [[nodiscard]] bool ended() const { return !outcome_.empty(); }
    [[nodiscard]] bool reverse() const { return reverse_; }
    [[nodiscard]] bool live() const { return kind_ == "live"; }
    [[nodiscard]] const std::string& version() const { return version_; }
    [[nodiscard]] const std::string& kind() const { return kind_; }
    [[nodiscard]] const std::string& outcome() const { return outcome_; }
    [[nodiscard]] Moment now() const { return now_; }
    [[nodiscard]] std::optional<Moment> end() const { return end_; }
    [[nodiscard]] std::optional<std::pair<Moment, Moment>> history() const { return history_; }
    [[nodiscard]] const std::optional<StopInfo>& stop() const { return stop_; }
    [[nodiscard]] const std::vector<PartitionRow>& partitions() const { return partitions_; }
    [[nodiscard]] VpId focus() const { return focus_; }
    void set_focus(VpId focus);
    [[nodiscard]] const VpRow* focused() const;

    /// Sends a request that makes the machine move; panels refresh at the stop it ends with.
    /// @param what   for the progress bar and messages: "running back"
    /// @param target  where it ends, if known
    void move(Json request, std::string what, std::optional<u64> target_instructions = {});
    /// Sends `stop`: also ends a move that takes long.
    void interrupt();
    /// Sends a request that changes the machine, and makes everything be read again.
    void change(Json request, std::function<void(const Json&)> done = {});

    /// What takes long now: since when, and how far in 0..1 (negative: not known). Empty text: nothing.
    struct Progress {
        std::string what;
        Clock::time_point since;
        float part = -1;
    };
    [[nodiscard]] std::optional<Progress> progress() const;

    void say(std::string text, Tone tone = Tone::Plain);
    [[nodiscard]] const std::deque<Message>& messages() const { return messages_; }

  private:
    void take_hello(const Json& hello);
    /// @param follow  look at the VP that the machine stands in
    void take_status(const Json& status, bool follow);
    void take_partitions(const Json& list);
    void take_notice(const Json& notice);
    void take_stop(const Json& stop);
    void note_stop();
    void ask_state();
    void lost(const std::string& why);

    std::unique_ptr<LinkThread> link_;
    std::string target_, trouble_, version_, kind_ = "live", outcome_;
    bool ready_ = false, running_ = false, reverse_ = false, asking_status_ = false;
    u64 epoch_ = 1, stops_ = 1;
    u64 moves_ = 0;  ///< that were asked for: a status asked for before one says nothing about it
    Moment now_;
    std::optional<Moment> end_, told_at_;  ///< told_at_: where panels were told to read again
    std::optional<std::pair<Moment, Moment>> history_;
    std::optional<StopInfo> stop_;
    std::vector<PartitionRow> partitions_;
    VpId focus_;
    Clock::time_point asked_status_{};
    std::string moving_;
    Clock::time_point moving_since_{};
    u64 moving_from_ = 0;
    std::optional<u64> moving_to_;
    std::deque<Message> messages_;
    bool changed_in_pump_ = false;
};

}  // namespace vg::desk
