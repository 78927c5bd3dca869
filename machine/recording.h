// Recordings: one run of a machine in a file, to be run again.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"
#include "machine/input.h"
#include "machine/machine.h"

namespace vg::machine {

/// Where a run is: both numbers only grow. Between two rounds the time says it, in the middle of one the instructions.
struct Position {
    VTime time = 0;
    u64 instructions = 0;
    bool in_round = false;
    [[nodiscard]] static Position of(const Machine& machine) {
        return {machine.now(), machine.instructions(), machine.scheduler().in_round()};
    }
    bool operator==(const Position&) const = default;
};

/// What the state was at a position, as hashes.
struct StateMark {
    Position position;
    std::vector<u32> parts;     ///< in the order of their names
    std::optional<u32> memory;  ///< only now and then: it is the slow one
};

/// How a recorded run ended.
struct RecordedEnd {
    Position position;
    u64 hash = 0;  ///< Machine::state_hash
    int code = 0;  ///< exit code of the run
    std::string text;
};

/// Writes a recording while the machine runs. Files of at most kEmbeddedFileBytes that the machine reads (kernels,
/// small images, overlays that are there already) are stored in it, larger ones are named with size and time of change.
class Recorder {
  public:
    static constexpr u64 kEmbeddedFileBytes = u64{64} << 20;

    /// Creates the file, before the machine is built: images are stored as they are now. Error (Usage): it cannot be
    /// written, or a disk's writes go into an image (`write = "direct"`) that is too large to be stored.
    static Result<std::unique_ptr<Recorder>> create(const std::string& path, const Config& config);
    ~Recorder();
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;

    /// From now on everything that enters is written down. Before the first instruction; the machine outlives neither.
    void attach(Machine& machine);
    /// Wants to be called wherever a run pauses, before input enters there: marks the state when it is time to, and
    /// hands what is older than a second to the host.
    void look();
    /// The run is over. Error (Host): the file could not be written, now or before.
    Result<void> finish(int code, const std::string& text);
    /// Bytes of journal in the file so far, without configuration and stored files.
    [[nodiscard]] u64 journal_bytes() const;

  private:
    struct Impl;
    explicit Recorder(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// A recording, read and checked.
class Recording {
  public:
    /// Error: Usage for a missing file; Damaged for anything that is no whole recording of this version, or that needs
    /// a file which is not what it was. One whose end is missing is good up to there.
    static Result<std::shared_ptr<const Recording>> open(const std::string& path);
    ~Recording();

    /// Of a machine that reads the stored files and keeps its disks' writes in memory, without network of the host.
    /// Good as long as this object lives.
    [[nodiscard]] const Config& config() const;
    [[nodiscard]] const std::vector<Input>& inputs() const;
    [[nodiscard]] const std::vector<StateMark>& marks() const;
    [[nodiscard]] const std::vector<std::string>& part_names() const;
    /// None: the recorder was killed.
    [[nodiscard]] const std::optional<RecordedEnd>& end() const;
    /// The last position that the file vouches for.
    [[nodiscard]] Position last() const;
    /// What a person should know: another version recorded it, its end is missing.
    [[nodiscard]] const std::vector<std::string>& notes() const;

  private:
    struct Impl;
    explicit Recording(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Feeds a recording's inputs to a machine that was built from its configuration.
class Replay final : public InputSource {
  public:
    explicit Replay(std::shared_ptr<const Recording> recording) : recording_(std::move(recording)) {}
    /// The machine has executed nothing yet.
    void attach(Machine& machine) { machine.set_input_source(this); }

    [[nodiscard]] VTime next() const override;
    const Input& take() override;
    void refused(const Input& input) override;
    /// Why the run is not the recorded one, if an input was refused.
    [[nodiscard]] const std::string& difference() const { return difference_; }
    [[nodiscard]] const Recording& recording() const { return *recording_; }

  private:
    std::shared_ptr<const Recording> recording_;
    std::size_t next_ = 0;
    std::string difference_;
};

/// Runs to a position of this very run, exactly; behind it already: stays. False if the machine ended, or hangs,
/// before.
bool run_to(Machine& machine, const Position& position);
/// Compares with a mark at its position. Empty: equal; else a sentence that names the parts.
[[nodiscard]] std::string compare(Machine& machine, const StateMark& mark, const std::vector<std::string>& part_names);

}  // namespace vg::machine
