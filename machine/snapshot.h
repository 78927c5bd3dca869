// A machine at one instant, in a file: written from a running one, made into another one in any process.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/storage/block_file.h"
#include "machine/machine.h"
#include "machine/snapshot_file.h"

namespace vg::machine {

/// What a snapshot says about itself.
struct SnapshotInfo {
    struct Region {
        std::string name;
        Spa base;
        u64 size = 0;
    };
    /// A file of the host that a disk's content is in. It has to be as it was.
    struct File {
        std::string path;
        u64 size = 0;
        s64 modified_ns = 0;  ///< since 1970
    };
    struct Disk {
        std::string owner;  ///< the child's name, or "" for the machine's own
        std::string description;
        u64 size = 0;
        std::vector<File> files;
    };
    VTime time = 0;
    u64 instructions = 0, state_hash = 0;
    Outcome outcome;
    std::vector<Region> memory;
    std::vector<Disk> disks;
};

/// Refuses a machine that cannot be saved (Usage): its parent partition is a guest.
[[nodiscard]] Result<void> check_savable(const Config& config);

/// Writes a snapshot between instructions; the machine goes on as if nothing had been. Disks are flushed before.
/// Errors: Usage (the name is taken, or check_savable), Host (no space).
[[nodiscard]] Result<void> save_snapshot(Machine& machine, const std::string& path);

/// The same, with another configuration to go on with than the machine was made from.
[[nodiscard]] Result<void> save_snapshot_as(Machine& machine, const Config& config, const std::string& path);

/// A snapshot's file, opened for reading; it is never written.
class Snapshot {
  public:
    /// Errors: Usage (missing), Damaged (no snapshot, another version, a wrong checksum of what is read at once).
    static Result<std::unique_ptr<Snapshot>> open(const std::string& path);
    static Result<std::unique_ptr<Snapshot>> open(std::unique_ptr<devices::BlockFile> file);

    [[nodiscard]] const SnapshotInfo& info() const { return info_; }
    [[nodiscard]] const SnapshotReader& file() const { return *file_; }
    /// The effective configuration, as it was.
    [[nodiscard]] const std::string& config_text() const { return config_text_; }
    /// The configuration to go on with: nothing of the host is written or reached, but what the overrides name. Writes
    /// to disks go to a layer that is gone afterwards, network cards are connected to nothing, captures are not made.
    [[nodiscard]] Result<Config> config(const std::vector<Override>& overrides) const;
    /// The recorded fields: visit_record() shows them. Error (Damaged).
    [[nodiscard]] Result<std::vector<u8>> state();
    /// Reads everything. Error (Damaged): what is wrong first.
    [[nodiscard]] Result<void> check();
    /// Makes the machine. It is the saved one: fields and memory have been compared.
    /// Errors: Usage (files of disks are missing or were changed, overrides do not fit), Damaged.
    [[nodiscard]] Result<std::unique_ptr<Machine>> restore(const Config& config, MachineOptions options);

  private:
    explicit Snapshot(std::unique_ptr<SnapshotReader> file) : file_(std::move(file)) {}
    [[nodiscard]] Result<void> load_info();
    [[nodiscard]] Result<void> check_files() const;
    [[nodiscard]] Result<void> load_memory(mmu::PhysicalMemory& memory);
    [[nodiscard]] Result<void> load_fields(Machine& machine);
    [[nodiscard]] Result<void> load_disks(Machine& machine);
    [[nodiscard]] Unexpected<Error> damaged(const std::string& what) const;

    std::unique_ptr<SnapshotReader> file_;
    std::string config_text_;
    SnapshotInfo info_;
};

}  // namespace vg::machine
