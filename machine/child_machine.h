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
#include "machine/guest_memory.h"
#include "machine/host_sockets.h"
#include "machine/network.h"

namespace vg::hv::parent {
class NetworkAdapter;
}

namespace vg::machine {

/// A generation-2 child. The machine owns it and hears how it ends through `Events`.
class ChildMachine final : public GuestMemory {
  public:
    struct Events {
        std::function<void(u8)> console;
        std::function<void(std::string why)> powered_off, reset, crashed, shutdown;
        std::function<void(u32 raw)> debug_exit;
    };
    /// Everything but its disks, which are only checked. Writes nothing.
    /// @param ram    where its RAM lies in system-physical space: already added to `memory`
    /// @param video  the same of its frame buffer, if it has one
    static Result<std::unique_ptr<ChildMachine>> create(const Config& config, const ChildSection& section,
                                                        hv::Hypervisor& hypervisor, Spa ram, Spa video,
                                                        u64 start_unix_seconds, Events handlers);
    ~ChildMachine() override;

    [[nodiscard]] const std::string& name() const { return section_.name; }
    [[nodiscard]] const std::string& kernel_kind() const { return kernel_kind_; }
    [[nodiscard]] hv::Partition& partition() { return *partition_; }
    [[nodiscard]] hv::parent::BuiltInParent& parent() { return *parent_; }
    [[nodiscard]] Chipset& chipset() { return *chipset_; }
    [[nodiscard]] ChildServices& services() { return *services_; }
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
    Result<void> add_test_devices(std::function<void(u32 raw)> debug_exit);
    Result<void> build(Spa ram, Spa video, u64 start_unix_seconds, Events handlers);
    /// Refuses what attach_disks would refuse.
    [[nodiscard]] Result<void> check_disks() const;
    Result<void> load();

    ChildSection section_;
    cpu::CpuModel model_;
    hv::Hypervisor& hypervisor_;
    devices::IoBus io_;
    std::unique_ptr<ChildServices> services_;  // their cores outlive the devices, which are the parent's
    std::unique_ptr<hv::parent::BuiltInParent> parent_;
    hv::Partition* partition_ = nullptr;
    std::unique_ptr<Chipset> chipset_;
    std::unique_ptr<hv::parent::TestDevice> test_device_;
    std::unique_ptr<devices::DebugExit> debug_exit_;
    std::vector<devices::BlockDevice*> disks_;
    std::vector<hv::parent::NetworkAdapter*> adapters_;
    std::unique_ptr<HostSockets> host_sockets_;
    std::string kernel_kind_;
};

}  // namespace vg::machine
