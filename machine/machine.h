// The machine: builds everything from a configuration and owns it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "cpu/engine.h"
#include "machine/config.h"
#include "machine/disk_image.h"
#include "machine/input.h"
#include "machine/scheduler.h"
#include "mmu/physical_memory.h"

namespace vg::hv {
class Hypervisor;
class Partition;
}  // namespace vg::hv

namespace vg::devices {
class BlockDevice;
}

namespace vg::jit {
class TranslationWatcher;
}

namespace vg::machine {

class ChildMachine;
class Network;
class PcMachine;
struct GuestCommand;

/// Why a machine's run is over, as far as its guests are concerned.
struct Outcome {
    enum class Kind : u8 { None, PoweredOff, Reset, Crashed, Shutdown, DebugExit };
    Kind kind = Kind::None;
    std::string text;  ///< for people: who and why
    u32 raw = 0;       ///< DebugExit: the value written
};

/// What is not part of the machine's meaning: where output goes, which engine runs.
struct MachineOptions {
    enum class EngineKind : u8 { Jit, Step };
    EngineKind engine = EngineKind::Jit;
    Log::Sink log_sink;
    bool log_time = false;  ///< each line begins with the virtual time in seconds
    Level log_level = Level::Warn;
    std::vector<std::pair<Area, Level>> log_areas;
    /// A byte from the console of a partition ("" for the bare PC).
    std::function<void(const std::string& partition, u8 byte)> console;
    DiskSource disks;  ///< of children, in the order of Machine::disks(); null: images are opened
    std::vector<jit::TranslationWatcher*> watchers;  ///< told about translations; they outlive the machine
};

/// One whole computer. Everything happens on the thread that calls it; two machines in one process do not know of
/// each other.
class Machine {
  public:
    /// Builds, loads the kernels and opens the disks. Nothing has been written when it fails.
    static Result<std::unique_ptr<Machine>> create(const Config& config, MachineOptions options);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    /// Runs until virtual time `limit`, the machine's end, or stop(); as Scheduler::run_until. Input of a source that is
    /// due at `limit` enters with the next call.
    Pause run_until(VTime limit, u64 instructions = Scheduler::kNoCount);
    /// One instruction of `vp`; as Scheduler::step.
    Pause step(const cpu::Vp& vp, VTime limit, u64 instructions = Scheduler::kNoCount);
    void stop() { scheduler_->stop(); }
    [[nodiscard]] const Outcome& outcome() const { return outcome_; }
    [[nodiscard]] VTime now() const { return clock_.now(); }
    [[nodiscard]] u64 instructions() const { return scheduler_->instructions(); }
    /// The VP that executes right now; null between slices.
    [[nodiscard]] const cpu::Vp* running() const { return clock_.running(); }

    /// Console input for a partition ("" or its name). Returns how many bytes were taken: none in the middle of a round
    /// (Scheduler::in_round). This is a door: what enters here is the only thing that makes two runs of one
    /// configuration differ.
    std::size_t console_input(const std::string& partition, std::string_view text);

    /// Tells the services of a child something, at the present virtual time: another door. Error (Usage): there is no such
    /// service, it refuses, or may_command() says no.
    /// Returns the command's number (ChildServices::run).
    Result<u64> guest_command(const std::string& partition, const GuestCommand& command);
    /// False in the middle of a round: nothing enters.
    [[nodiscard]] bool may_command() const { return !scheduler_->in_round() && source_ == nullptr; }

    /// Whether a network card or a child's sockets reach the host: then exchange_frames() wants to be called between
    /// slices.
    [[nodiscard]] bool reaches_host() const;
    /// Hands frames to the host and its frames to the network cards, and the same with the bytes of sockets, at the
    /// present virtual time: another door, closed in the middle of a round. True if a guest got something. Virtual time should not run ahead of the wall clock then, or a
    /// guest's time-outs pass before the host can answer.
    /// @param wait_ms  how long to wait if the host has nothing
    bool exchange_frames(int wait_ms);

    /// Told of everything that enters from outside, in order.
    void on_input(std::function<void(const Input&)> observer);
    /// From now on input comes from here; what else would enter does not. It outlives the machine; null: as before.
    void set_input_source(InputSource* source) { source_ = source; }

    /// Flushes every disk and capture to its file, which stays as it is until something is written again.
    Result<void> flush_disks();
    /// The machine's own and the children's, in the order of the configuration.
    [[nodiscard]] std::vector<devices::BlockDevice*> disks() const;
    /// Adds a partition under the built-in parent, of which nothing has run: its state comes from elsewhere. Between rounds.
    /// Error (Usage): a name that is taken, no memory of the hypervisor left for it; (Host).
    Result<ChildMachine*> add_child(const ChildSection& section, DiskSource disks);
    /// A child executes nothing more and lets go of its disks and its memory: it lives elsewhere now. The others go on.
    void put_off(ChildMachine& child, std::string why);
    [[nodiscard]] bool is_on(const ChildMachine& child) const;
    /// A child was added: what snapshots and recordings say of the machine would not make it again.
    [[nodiscard]] bool took_in() const { return took_in_; }
    /// Somebody writes down what enters (on_input).
    [[nodiscard]] bool observed() const { return on_input_ != nullptr; }
    /// Between rounds: no earlier than `time` is it afterwards, for a child that comes from a later time.
    void skip_to(VTime time);
    /// For a machine whose state was loaded: how its run had ended, if it had.
    void restore_outcome(Outcome outcome) { outcome_ = std::move(outcome); }

    void fields(StateVisitor& v);
    /// Hash of all state and touched memory: equal for equal machines.
    [[nodiscard]] u64 state_hash();
    /// The same part by part, without memory: names that hardly ever change, and a hash each.
    [[nodiscard]] std::vector<std::pair<std::string, u64>> part_hashes();

    [[nodiscard]] const Config& config() const { return config_; }
    [[nodiscard]] Log& log() { return log_; }
    [[nodiscard]] mmu::PhysicalMemory& memory() { return memory_; }
    [[nodiscard]] hv::Hypervisor* hypervisor() { return hypervisor_.get(); }
    /// The board that [boot] runs on: bare PC or root partition. Null under the built-in parent.
    [[nodiscard]] PcMachine* pc() { return pc_.get(); }
    [[nodiscard]] const std::vector<std::unique_ptr<ChildMachine>>& children() const { return children_; }
    [[nodiscard]] cpu::Engine& engine() { return *engine_; }
    [[nodiscard]] Scheduler& scheduler() { return *scheduler_; }
    [[nodiscard]] const Scheduler& scheduler() const { return *scheduler_; }

  private:
    /// Processors that the hypervisor makes run here, also those that a guest asks for in the middle of a run.
    class SchedulerHost;

    Machine(const Config& config, MachineOptions options);
    Result<void> build();
    Result<void> build_hypervisor(Spa memory, u64 needed);
    Result<void> build_children();
    Result<void> build_child(const ChildSection& section, u64 start_unix_seconds, DiskSource disks);
    Result<void> connect_child(ChildMachine& child, u64 start_unix_seconds);
    /// All timers that were made since `first` are the child's, but a switch's.
    void note_timers(ChildMachine& child, u32 first);
    [[nodiscard]] static u64 private_bytes(const ChildSection& section);
    Result<void> build_pc();
    /// The cables of the bare PC's cards, or of all children's.
    [[nodiscard]] Network& network() const;
    /// A piece of the state with a name of its own.
    struct Part {
        std::string group, name;  ///< name: "" if the group has only this one
        std::function<void(StateVisitor&)> fields;
    };
    std::vector<Part> parts();
    template <class Run>
    Pause run_fed(VTime limit, Run run);
    void enter(const Input& input);
    Result<u64> type_on_pc(const GuestCommand& command);
    /// Input for the console of child `partition`, or of the bare PC (0): how many bytes were taken.
    std::size_t receive_console(std::size_t partition, std::span<const u8> bytes);
    bool exchange_sockets(int wait_ms);
    void end(Outcome::Kind kind, const std::string& who, std::string why, u32 raw = 0);
    void child_ended(const std::string& name, Outcome::Kind kind, std::string why);

    Config config_;
    MachineOptions options_;
    Log log_;
    MachineClock clock_;
    EventQueue events_{clock_};
    mmu::PhysicalMemory memory_;
    std::unique_ptr<cpu::Engine> engine_;
    std::unique_ptr<Scheduler> scheduler_;
    std::unique_ptr<SchedulerHost> host_;
    std::unique_ptr<hv::Hypervisor> hypervisor_;
    std::unique_ptr<Network> child_network_;
    std::vector<std::unique_ptr<ChildMachine>> children_;
    std::unique_ptr<PcMachine> pc_;
    Outcome outcome_;
    std::set<std::string> children_on_;  ///< names
    Spa next_child_memory_;
    bool took_in_ = false;
    std::function<void(const Input&)> on_input_;
    InputSource* source_ = nullptr;
};

}  // namespace vg::machine
