// What every chip must keep, whatever it does: reset equals new, fields cover the state, every access is answered.
#pragma once

#include <catch2/catch.hpp>
#include <functional>
#include <memory>

#include "base/state.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "tests/support/state_tape.h"

namespace vg::test {

inline u64 state_hash(devices::Device& device) {
    StateHasher hasher;
    device.fields(hasher);
    return hasher.digest();
}

/// Every port offset and size around the chip, with several values: nothing may crash or hang.
inline void sweep_ports(devices::PortIo& ports, u32 count) {
    for (u32 offset = 0; offset < count + 4; ++offset) {
        for (const unsigned size : {1u, 2u, 4u}) {
            for (const u32 value : {0u, 0xffffffffu, 0x55u, 0xaau, 0x80u, 0x7fu}) {
                (void)ports.port_write(static_cast<u16>(offset), size, value);
                u32 read = 0;
                const devices::IoStatus status = ports.port_read(static_cast<u16>(offset), size, read);
                // What does not fit into the access is the bus's to cut, but a chip has no business producing it.
                if (status == devices::IoStatus::Ok && size < 4) CHECK((read >> (size * 8)) == 0);
            }
        }
    }
}

inline void sweep_mmio(mmu::MmioHandler& handler, u64 region_size) {
    const u64 step = region_size > 0x2000 ? 61 : 1;
    for (u64 offset = 0; offset < region_size; offset += step) {
        for (const unsigned size : {1u, 2u, 4u, 8u}) {
            if (offset + size > region_size) continue;
            for (const u64 value : {u64{0}, ~u64{0}, u64{0x55}}) {
                handler.mmio_write(offset, size, value);
                (void)handler.mmio_read(offset, size);
            }
        }
    }
}

/// Every configuration register with several values, as a driver that has lost its mind: nothing may crash or hang.
inline void sweep_config(devices::PciFunction& function) {
    for (u32 offset = 0; offset < devices::pci::kConfigSize; ++offset) {
        for (const unsigned size : {1u, 2u, 4u}) {
            if (offset % size != 0) continue;
            for (const u32 value : {0xffffffffu, 0u, 0x55555555u, 0xaaaaaaaau}) {
                function.config_write(offset, size, value);
                (void)function.config_read(offset, size);
            }
        }
    }
}

/// @param make     builds a fresh device.
/// @param disturb  drives it, as a guest would, into a state that differs from the fresh one.
template <class D>
void check_device_contract(const std::function<std::unique_ptr<D>()>& make, const std::function<void(D&)>& disturb,
                           u32 port_count = 0, u64 mmio_size = 0) {
    auto fresh = make();
    const u64 fresh_hash = state_hash(*fresh);
    CHECK_FALSE(fresh->name().empty());

    auto device = make();
    REQUIRE(state_hash(*device) == fresh_hash);
    disturb(*device);
    const u64 disturbed = state_hash(*device);
    CHECK(disturbed != fresh_hash);

    StateTape tape;
    tape.save(*device);
    auto restored = make();
    tape.restore(*restored);
    CHECK(state_hash(*restored) == disturbed);

    device->reset();
    CHECK(state_hash(*device) == fresh_hash);

    if (device->port_io() != nullptr) sweep_ports(*device->port_io(), port_count);
    if (device->mmio() != nullptr) sweep_mmio(*device->mmio(), mmio_size);
    if (device->pci() != nullptr) sweep_config(*device->pci());
    device->reset();
    CHECK(state_hash(*device) == fresh_hash);
}

}  // namespace vg::test
