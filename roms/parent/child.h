// One child partition: made by hypercalls, run by answering its intercepts, taken apart to the last page.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/events.h"
#include "base/log.h"
#include "hv/spec/intercept.h"
#include "machine/loader.h"
#include "roms/parent/child_board.h"
#include "roms/parent/child_bus.h"
#include "roms/parent/child_memory.h"
#include "roms/parent/children_table.h"
#include "roms/parent/deposits.h"
#include "roms/parent/line_writer.h"
#include "roms/parent/store.h"

namespace vg::parent {

/// What all children share.
struct ChildServices {
    const Clock& clock;
    Log& log;
    Ports& ports;
    Store& store;
    s64 unix_seconds_at_zero = 0;  ///< wall clock at virtual time 0
};

class Child final {
  public:
    enum class State : u8 {
        Off,  ///< not started, or stopped from the console
        Running,
        PoweredOff,  ///< by itself
        Failed       ///< could not be started, asked for a reset, shut down, or could not be answered
    };
    struct Counts {
        u64 port_intercepts = 0, memory_intercepts = 0, end_of_interrupts = 0;
    };

    Child(ChildEntry entry, const ChildServices& services);
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    /// Makes the partition, loads it and lets it run. Error: why it is off again, with nothing left behind.
    Result<void> start();
    /// Takes it apart as it is, like pulling the plug; what it flushed is on its disks.
    void stop();

    /// A message about the child (S-50..S-78). What ends it is only noted: collect() acts.
    void on_intercept(hv::MessageType type, std::span<const u8> payload);
    /// Timers that are due, queued work. True if there was anything.
    bool run(VTime now);
    /// When run() has something to do without being told, or kNever.
    [[nodiscard]] VTime next() const;
    /// Takes the partition apart if it has ended. True if it had.
    bool collect();
    /// Says everything of an unfinished line.
    void flush_console() { console_.flush(); }

    [[nodiscard]] const ChildEntry& entry() const { return entry_; }
    [[nodiscard]] State state() const { return state_; }
    /// 0 if there is none.
    [[nodiscard]] u64 partition_id() const { return partition_ != nullptr ? partition_->id : 0; }
    /// Several lines for people.
    [[nodiscard]] std::string describe() const;

  private:
    /// What is there while the partition is; members go in reverse order.
    struct Partition {
        Partition(u64 partition_id, u64 memory_bytes, const Clock& clock)
            : id(partition_id), events(clock), deposits(partition_id), memory(memory_bytes) {}
        u64 id;
        EventQueue events;  ///< its own, so that its timers go with it
        Deposits deposits;
        ChildMemory memory;
        std::unique_ptr<ChildBoard> board;
        std::unique_ptr<ChildBus> bus;
    };

    Result<void> build();
    Result<void> make_partition();
    Result<void> add_disks();
    Result<machine::EntryState> load();
    Result<void> enter(const machine::EntryState& entry);
    Result<void> let_run();
    /// Gives everything back. False (said in the log): something is missing.
    bool take_apart();
    [[nodiscard]] Result<void> check(HvStatus status, const char* what) const;

    void on_port(const hv::IoPortIntercept& io);
    void on_memory(const hv::MemoryIntercept& access);
    void resume(u32 vp_index, std::span<const hv::RegisterAssignment> changes);
    void end(State state, std::string why);

    ChildEntry entry_;
    const ChildServices& services_;
    State state_ = State::Off;
    std::string why_;  ///< how it ended
    bool ended_ = false;
    u64 starts_ = 0;
    std::unique_ptr<Partition> partition_;
    LineWriter console_;
    Counts counts_;
};

}  // namespace vg::parent
