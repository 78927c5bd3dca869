// One run, from a built machine to a verdict.
#pragma once

#include <poll.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "machine/console_script.h"
#include "machine/idle_memory.h"
#include "machine/machine.h"
#include "machine/recording.h"
#include "ui/cli/console.h"
#include "ui/cli/control.h"
#include "ui/cli/gdb_server.h"
#include "ui/cli/snapshot_plan.h"
#include "ui/cli/statistics.h"
#include "ui/model/control_service.h"

namespace vg::cli {

/// What limits a run and what it is waited for.
struct SessionLimits {
    machine::TestSection test;
    u64 instructions = 0;  ///< from the start of the test proper; 0: no limit
};

/// Who may ask a machine for something while it runs. Null: nobody.
struct SessionServices {
    model::ControlService* service = nullptr;  ///< makes the machine go on, and stand
    ControlSocket* control = nullptr;          ///< with a service only
    GdbServer* gdb = nullptr;                  ///< with `gdb_link` only
    model::ControlLink* gdb_link = nullptr;    ///< leads to the service
};

/// Runs a machine between looks at the host: console, Ctrl-C, control socket, limits. Construct it first, give its
/// on_console to the machine, then run.
class Session {
  public:
    Session(SessionLimits limits, machine::ConsoleScript script, std::unique_ptr<Console> console)
        : limits_(std::move(limits)), script_(std::move(script)), console_(std::move(console)) {}

    /// Tells this recorder of every pause. It outlives the run.
    void record_to(machine::Recorder* recorder) { recorder_ = recorder; }
    /// Snapshots are written as it says; null: none.
    void snapshots_by(SnapshotPlan* plan) { snapshots_ = plan; }
    /// A byte that the guest sent. From the machine's thread.
    void on_console(u8 byte);
    /// Runs to the verdict. With a service the machine may stand for as long as its clients want.
    /// @param announce  tell a person how to leave
    Verdict run(machine::Machine& machine, const SessionServices& services, bool announce);

    [[nodiscard]] double wall_seconds() const { return std::chrono::duration<double>(SteadyClock::now() - start_).count(); }
    [[nodiscard]] const std::vector<BootMark>& marks() const { return marks_; }

  private:
    using SteadyClock = std::chrono::steady_clock;

    Verdict loop();
    /// One stretch of the machine, and what its clients want. False: it stands.
    bool go_on();
    void serve();
    /// The machine stands: waits until somebody wants something.
    void wait_standing();
    /// Waits at most so long for the console's input or for clients. True: something is there.
    bool wait(int most_ms);
    [[nodiscard]] bool attended() const;
    void farewell(const Verdict& verdict);
    void mark(std::string name);
    /// Notes where the test proper starts, once the console has shown it.
    void note_start();
    /// Where the budgets in force end: of virtual time, of instructions. 0: nowhere.
    [[nodiscard]] VTime time_limit() const;
    [[nodiscard]] u64 instruction_limit() const;
    [[nodiscard]] bool may_be_woken() const;
    [[nodiscard]] VTime next_limit() const;
    [[nodiscard]] int milliseconds_to_wait(bool hung);
    /// Hands typed and scripted input to the guest; waits where pacing or a guest that waits for good asks for it. True
    /// if the guest got something.
    bool exchange_input(int wait_ms);
    /// The same for frames of a network that reaches the host.
    bool exchange_frames(int wait_ms);
    [[nodiscard]] std::optional<Verdict> judge() const;
    [[nodiscard]] std::optional<Verdict> judge_host() const;
    [[nodiscard]] std::optional<Verdict> judge_outcome() const;
    [[nodiscard]] std::optional<Verdict> judge_limits() const;
    [[nodiscard]] std::string waiting() const;

    SessionLimits limits_;
    machine::ConsoleScript script_;
    std::unique_ptr<Console> console_;
    machine::Machine* machine_ = nullptr;
    std::optional<machine::IdleMemory> idle_memory_;
    machine::Recorder* recorder_ = nullptr;
    SteadyClock::time_point start_;
    std::vector<BootMark> marks_;
    std::string to_send_;
    SessionServices services_;
    bool paced_ = false, idle_ = false, hung_ = false, networked_ = false;
    SnapshotPlan* snapshots_ = nullptr;
    bool started_ = false;  ///< the test proper
    VTime started_at_ = 0;
    u64 started_after_ = 0;  ///< instructions
    unsigned quiet_looks_ = 0;  ///< at a network, since the last frame
    double pace_lead_s_ = 0;    ///< what guest time may be ahead of the wall clock
};

}  // namespace vg::cli
