// What every chip must keep, whatever it does: reset equals new, fields cover the state, every access is answered.
#pragma once

#include <catch2/catch.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <variant>

#include "base/state.h"
#include "devices/core/device.h"

namespace vg::test {

inline u64 state_hash(devices::Device& device) {
    StateHasher hasher;
    device.fields(hasher);
    return hasher.digest();
}

/// Records the values of all fields in order, then plays them back into another object of the same kind.
class StateTape {
  public:
    class Recorder final : public StateVisitor {
      public:
        explicit Recorder(StateTape& tape) : tape_(tape) {}
        void bytes(std::string_view, std::span<u8> data) override {
            tape_.items_.emplace_back(std::vector<u8>(data.begin(), data.end()));
        }
        void text(std::string_view, std::string& field) override { tape_.items_.emplace_back(field); }
        void enter(std::string_view) override {}
        void leave() override {}

      protected:
        void number(std::string_view, u64& value, unsigned, Fmt) override { tape_.items_.emplace_back(value); }

      private:
        StateTape& tape_;
    };
    class Player final : public StateVisitor {
      public:
        explicit Player(StateTape& tape) : tape_(tape) {}
        [[nodiscard]] bool loading() const override { return true; }
        void bytes(std::string_view, std::span<u8> data) override {
            const auto& saved = std::get<std::vector<u8>>(next());
            REQUIRE(saved.size() == data.size());
            std::copy(saved.begin(), saved.end(), data.begin());
        }
        void text(std::string_view, std::string& field) override { field = std::get<std::string>(next()); }
        void enter(std::string_view) override {}
        void leave() override {}

      protected:
        void number(std::string_view, u64& value, unsigned, Fmt) override { value = std::get<u64>(next()); }

      private:
        std::variant<u64, std::string, std::vector<u8>>& next() {
            REQUIRE(at_ < tape_.items_.size());
            return tape_.items_[at_++];
        }
        StateTape& tape_;
        std::size_t at_ = 0;
    };

    void save(devices::Device& device) {
        items_.clear();
        Recorder recorder(*this);
        device.fields(recorder);
    }
    void restore(devices::Device& device) {
        Player player(*this);
        device.fields(player);
    }

  private:
    std::deque<std::variant<u64, std::string, std::vector<u8>>> items_;
};

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
    device->reset();
    CHECK(state_hash(*device) == fresh_hash);
}

}  // namespace vg::test
