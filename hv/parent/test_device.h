// The SynIC test device of kvm-unit-tests (QEMU's hyperv-testdev): a partition that makes ports and connections to
// itself.
#pragma once

#include <map>
#include <vector>

#include "devices/core/device.h"
#include "hv/partition.h"

namespace vg::hv::parent {

/// One 32-bit port. A word written there is a command: SINT in bits 7:0, VP in 15:8, command in 23:16, connection id in
/// 31:24. Connections lead to ports of the same partition and are the hypervisor's own (hv/ports.h): the guest posts to
/// them and signals them by hypercalls. What a command cannot do is ignored. Reads as 0.
class TestDevice final : public devices::Device, public devices::PortIo {
  public:
    static constexpr u16 kPort = 0x3000;
    static constexpr u32 kPortCount = 4;

    enum class Command : u8 {
        CreateSintRoute = 1,
        DestroySintRoute,
        SetSint,  ///< interrupts as the SINT of a route says
        CreateMessageConnection,
        DestroyMessageConnection,
        CreateEventConnection,  ///< its one flag is the one with the connection's number
        DestroyEventConnection
    };

    explicit TestDevice(Partition& partition);
    ~TestDevice() override;
    TestDevice(const TestDevice&) = delete;
    TestDevice& operator=(const TestDevice&) = delete;

    [[nodiscard]] std::string_view name() const override { return "hyperv_testdev"; }
    /// Takes all connections away.
    void reset() override;
    void fields(StateVisitor& v) override;
    PortIo* port_io() override { return this; }
    devices::IoStatus port_read(u16 offset, unsigned size, u32& value) override;
    devices::IoStatus port_write(u16 offset, unsigned size, u32 value) override;

  private:
    struct Connection {
        PortKind kind = PortKind::Message;
        u8 vp = 0, sint = 0;
    };

    void create(u8 id, const Connection& connection);
    void destroy(u8 id, PortKind kind);

    Partition& partition_;
    std::vector<u16> routes_;  ///< by VP: SINTs that have one
    std::map<u8, Connection> connections_;
};

}  // namespace vg::hv::parent
