// One child partition under the built-in parent: its partition, board, providers and disks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/model.h"
#include "devices/debug_exit.h"
#include "hv/hypervisor.h"
#include "hv/parent/built_in_parent.h"
#include "hv/parent/test_device.h"
#include "machine/child_services.h"
#include "machine/chipset.h"
#include "machine/config.h"
#include "machine/disk_image.h"
#include "machine/gen1_board.h"
#include "machine/guest_memory.h"
#include "machine/host_sockets.h"
#include "machine/network.h"
#include "machine/shared_disk.h"

namespace vg::hv::parent {
class NetworkAdapter;
}

namespace vg::machine {

/// A child. The machine owns it and hears how it ends through `Events`.
class ChildMachine final : public GuestMemory {
  public:
    struct Events {
        std::function<void(u8)> console;
        std::function<void(std::string why)> powered_off, reset, crashed, shutdown;
        std::function<void(u32 raw)> debug_exit;
        DiskSource disks;  ///< of the child's own, by their places in its table; null: images are opened
    };
    /// Where its memory lies in system-physical space. RAM and frame buffer were added to `memory`.
    struct Places {
        Spa ram;
        Spa video;     ///< of video_bytes(), if it has video
        Spa firmware;  ///< generation 1: free for Gen1Board::kFirmwareBytes
        u64 end = 0;   ///< behind all of it
        /// For a child whose RAM is at `ram`.
        static Places of(const ChildSection& section, Spa ram);
        [[nodiscard]] static u64 video_bytes(const ChildSection& section);
    };
    /// Everything but its disks, which are only checked. Writes nothing.
    static Result<std::unique_ptr<ChildMachine>> create(const Config& config, const ChildSection& section,
                                                        hv::Hypervisor& hypervisor, const Places& places,
                                                        u64 start_unix_seconds, Events handlers);
    ~ChildMachine() override;

    [[nodiscard]] const std::string& name() const { return section_.name; }
    [[nodiscard]] const std::string& kernel_kind() const { return kernel_kind_; }
    [[nodiscard]] hv::Partition& partition() { return *partition_; }
    [[nodiscard]] hv::parent::BuiltInParent& parent() { return *parent_; }
    [[nodiscard]] Chipset& chipset() { return *chipset_; }
    [[nodiscard]] ChildServices& services() { return *services_; }
    /// Null unless of generation 1.
    [[nodiscard]] const Gen1Board* board() const { return board_.get(); }
    [[nodiscard]] const cpu::CpuModel& model() const { return model_; }
    /// Opens the disks, creating overlays that are missing. Once, before the partition runs.
    [[nodiscard]] Result<void> attach_disks();
    /// Offers the network adapters and connects their cables. Once, behind attach_disks.
    [[nodiscard]] Result<void> attach_nics(Network& network, u64 start_unix_seconds);
    /// Offers what its devices section names, behind disks and networks. Once. Error (Usage): its Unix socket cannot be
    /// made.
    [[nodiscard]] Result<void> attach_services();
    /// Flushes every disk, also behind one that fails. The first error.
    [[nodiscard]] Result<void> flush_disks();
    /// Closes the images: the child does not run here any more.
    void close_disks();
    /// Timers of the event queue that are its own, in the order in which they were made: the machine notes them.
    std::vector<EventQueue::TimerId> timers;
    /// In the order of the configuration.
    [[nodiscard]] const std::vector<devices::BlockDevice*>& disks() const { return disks_; }
    /// In the order of the configuration.
    [[nodiscard]] const std::vector<hv::parent::NetworkAdapter*>& adapters() const { return adapters_; }
    /// The host's ends of its sockets; null: it has none.
    [[nodiscard]] HostSockets* host_sockets() const { return host_sockets_.get(); }
    void fields(StateVisitor& v);

    bool write(Gpa gpa, std::span<const u8> data) override { return partition_->write_memory(gpa, data.data(), data.size()); }
    bool read(Gpa gpa, std::span<u8> out) override { return partition_->read_memory(gpa, out.data(), out.size()); }

  private:
    ChildMachine(const ChildSection& section, cpu::CpuModel model, hv::Hypervisor& hypervisor)
        : section_(section), model_(std::move(model)), hypervisor_(hypervisor), io_(hypervisor.log()) {}
    Result<void> build(const Places& places, u64 start_unix_seconds, Events handlers);
    Result<void> map_memory(const Places& places);
    /// Opens an image, as number `index` of the configuration.
    Result<std::unique_ptr<devices::BlockDevice>> open_disk(const DiskSection& disk, std::size_t index);
    Result<void> attach_ide_disk(const DiskSection& disk, std::size_t index);
    /// The tables in its memory, or for its firmware.
    Result<std::vector<AcpiTable>> tables() const;
    Result<void> add_test_devices(std::function<void(u32 raw)> debug_exit);
    /// Refuses what attach_disks would refuse.
    [[nodiscard]] Result<void> check_disks() const;
    Result<void> load();
    Result<void> load_kernel_image(const std::vector<AcpiTable>& tables);

    ChildSection section_;
    cpu::CpuModel model_;
    hv::Hypervisor& hypervisor_;
    devices::IoBus io_;
    std::unique_ptr<ChildServices> services_;  // their cores outlive the devices, which are the parent's
    std::unique_ptr<hv::parent::BuiltInParent> parent_;
    hv::Partition* partition_ = nullptr;
    std::unique_ptr<Chipset> chipset_;
    std::unique_ptr<Gen1Board> board_;
    std::vector<std::unique_ptr<SharedDisk>> ide_disks_;
    std::unique_ptr<hv::parent::TestDevice> test_device_;
    std::unique_ptr<devices::DebugExit> debug_exit_;
    std::vector<devices::BlockDevice*> disks_;
    DiskSource disk_source_;
    std::vector<hv::parent::NetworkAdapter*> adapters_;
    std::unique_ptr<HostSockets> host_sockets_;
    std::string kernel_kind_;
};

}  // namespace vg::machine
