// A disk in memory that counts, and fails when told to.
#pragma once

#include <algorithm>
#include <vector>

#include "base/bits.h"
#include "devices/storage/block_device.h"

namespace vg::test {

class MemoryDisk final : public devices::BlockDevice {
  public:
    explicit MemoryDisk(u64 size) : data(size) {}
    [[nodiscard]] u64 size_bytes() const override { return data.size(); }
    [[nodiscard]] bool read_only() const override { return locked; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (broken || !fits(offset, out.size(), data.size())) return fail(Error::Code::Host, "no");
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        return {};
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> from) override {
        if (broken || locked || !fits(offset, from.size(), data.size())) return fail(Error::Code::Host, "no");
        std::copy(from.begin(), from.end(), data.begin() + static_cast<std::ptrdiff_t>(offset));
        return {};
    }
    [[nodiscard]] Result<void> discard(u64 offset, u64 size) override {
        if (broken || !fits(offset, size, data.size())) return fail(Error::Code::Host, "no");
        std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(offset), size, u8{0});
        ++discards;
        return {};
    }
    [[nodiscard]] Result<void> flush() override {
        ++flushes;
        if (broken) return fail(Error::Code::Host, "no");
        return {};
    }
    [[nodiscard]] std::string describe() const override { return "memory"; }

    std::vector<u8> data;
    bool broken = false, locked = false;
    int flushes = 0, discards = 0;
};

}  // namespace vg::test
