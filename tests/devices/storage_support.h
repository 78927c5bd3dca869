// Disks for storage tests: images in memory, random content, and a flat model to compare with.
#pragma once

#include <catch2/catch.hpp>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "devices/storage/block_device.h"
#include "devices/storage/create.h"
#include "devices/storage/vhd_chain.h"
#include "devices/storage/vhdx_create.h"

namespace vg::test {

using Random = std::mt19937_64;

inline std::vector<u8> random_bytes(Random& random, std::size_t size) {
    std::vector<u8> out(size);
    for (std::size_t i = 0; i < size; i += 8) {
        const u64 word = random();
        std::memcpy(&out[i], &word, std::min<std::size_t>(8, size - i));
    }
    return out;
}

template <class T>
T must(Result<T> result) {
    INFO((result ? std::string() : result.error().text));
    REQUIRE(result.has_value());
    return std::move(result).value();
}
inline void must(const Result<void>& result) {
    INFO((result ? std::string() : result.error().text));
    REQUIRE(result.has_value());
}

/// A memory file that several openings share: what one device writes, the next one finds.
class SharedFile final : public devices::BlockFile {
  public:
    explicit SharedFile(std::shared_ptr<devices::MemoryFile> file, bool writable = true)
        : file_(std::move(file)), writable_(writable) {}
    [[nodiscard]] const std::string& name() const override { return file_->name(); }
    [[nodiscard]] u64 size() const override { return file_->size(); }
    [[nodiscard]] bool writable() const override { return writable_; }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override { return file_->read(offset, out); }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        return file_->write(offset, data);
    }
    [[nodiscard]] Result<void> zero(u64 offset, u64 size) override { return file_->zero(offset, size); }
    [[nodiscard]] Result<void> sync() override { return file_->sync(); }
    [[nodiscard]] Result<void> resize(u64 size) override { return file_->resize(size); }

  private:
    std::shared_ptr<devices::MemoryFile> file_;
    bool writable_;
};

/// A folder of memory files.
class MemoryFolder final : public devices::vhd::ImageFolder {
  public:
    std::shared_ptr<devices::MemoryFile> add(const std::string& name, std::vector<u8> content = {}) {
        return files_[name] = std::make_shared<devices::MemoryFile>(name, std::move(content));
    }
    std::unique_ptr<devices::BlockFile> open(const std::string& name, bool writable = true) {
        return std::make_unique<SharedFile>(files_.at(name), writable);
    }
    [[nodiscard]] Result<std::unique_ptr<devices::BlockFile>> find(const std::string&,
                                                                   const std::string& path) override {
        if (files_.count(path) == 0) return std::unique_ptr<devices::BlockFile>{};
        return open(path, false);
    }
    /// Makes an empty VHD of this plan.
    void create(const std::string& name, const devices::vhd::Plan& plan) {
        add(name);
        must(devices::vhd::write_new(*files_.at(name), plan));
    }
    /// Makes an empty VHDX of this plan.
    void create(const std::string& name, const devices::vhdx::Plan& plan) {
        add(name);
        must(devices::vhdx::write_new(*files_.at(name), plan));
    }
    [[nodiscard]] const std::vector<u8>& content(const std::string& name) const { return files_.at(name)->content(); }

  private:
    std::map<std::string, std::shared_ptr<devices::MemoryFile>> files_;
};

inline devices::vhd::Id test_id(u8 seed) {
    devices::vhd::Id id{};
    id.fill(seed);
    return id;
}

/// The bytes a disk should have.
struct FlatModel {
    std::vector<u8> bytes;

    void check(devices::BlockDevice& disk) const {
        REQUIRE(disk.size_bytes() == bytes.size());
        std::vector<u8> got(bytes.size());
        must(disk.read(0, got));
        REQUIRE(got == bytes);
    }
};

/// One random request of whole logical sectors on both.
inline void random_request(Random& random, devices::BlockDevice& disk, FlatModel& model) {
    const u64 sector = disk.logical_sector_bytes();
    const u64 sectors = model.bytes.size() / sector;
    const u64 first = random() % sectors;
    const u64 longest = std::min<u64>(sectors - first, random() % 8 == 0 ? 200 : 12);
    const u64 count = 1 + random() % longest;
    const u64 offset = first * sector;
    const std::size_t size = static_cast<std::size_t>(count * sector);
    switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
            const std::vector<u8> data = random_bytes(random, size);
            must(disk.write(offset, data));
            std::copy(data.begin(), data.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
            break;
        }
        case 3:
            must(disk.discard(offset, size));
            std::fill_n(model.bytes.begin() + static_cast<std::ptrdiff_t>(offset), size, u8{0});
            break;
        case 4:
            must(disk.flush());
            break;
        default: {
            std::vector<u8> got(size);
            must(disk.read(offset, got));
            REQUIRE(std::equal(got.begin(), got.end(), model.bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
        }
    }
}

}  // namespace vg::test
