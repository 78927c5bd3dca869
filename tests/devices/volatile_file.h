// A file under power losses: between two syncs the host may keep any part of what was written.
#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "devices/storage/block_file.h"
#include "tests/devices/storage_support.h"

namespace vg::test {

/// Remembers what is durable and what is only written; `lose` ends with a random subset of the latter, by sectors.
class VolatileFile {
  public:
    VolatileFile(std::string name, std::vector<u8> content)
        : name_(std::move(name)), now_(content), durable_(std::move(content)) {}

    class Handle final : public devices::BlockFile {
      public:
        explicit Handle(VolatileFile& file) : file_(file) {}
        const std::string& name() const override { return file_.name_; }
        u64 size() const override { return file_.now_.size(); }
        bool writable() const override { return true; }
        Result<void> read(u64 offset, std::span<u8> out) override {
            REQUIRE(offset + out.size() <= size());
            if (!out.empty()) std::memcpy(out.data(), &file_.now_[offset], out.size());
            return {};
        }
        Result<void> write(u64 offset, std::span<const u8> data) override {
            REQUIRE(offset % 512 == 0);  // so that a sector is never torn
            for (std::size_t i = 0; i < data.size(); i += 512) {
                const auto part = data.subspan(i, std::min<std::size_t>(512, data.size() - i));
                file_.pending_.push_back({offset + i, {part.begin(), part.end()}});
            }
            apply(file_.now_, {offset, {data.begin(), data.end()}});
            return {};
        }
        Result<void> zero(u64 offset, u64 size) override {
            return write(offset, std::vector<u8>(static_cast<std::size_t>(size)));
        }
        Result<void> sync() override {
            for (const Change& change : file_.pending_) apply(file_.durable_, change);
            file_.pending_.clear();
            return {};
        }
        Result<void> resize(u64 size) override {
            file_.pending_.push_back({size, {}});
            apply(file_.now_, file_.pending_.back());
            return {};
        }

      private:
        VolatileFile& file_;
    };

    [[nodiscard]] std::vector<u8> lose(Random& random) const {
        std::vector<u8> out = durable_;
        for (const Change& change : pending_) {
            if (random() % 2 == 0) apply(out, change);
        }
        return out;
    }

  private:
    struct Change {
        u64 offset;
        std::vector<u8> data;  // none: the file gets the size `offset`
    };
    static void apply(std::vector<u8>& bytes, const Change& change) {
        const u64 end = change.offset + change.data.size();
        if (change.data.empty() || bytes.size() < end) bytes.resize(end);
        std::copy(change.data.begin(), change.data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(change.offset));
    }
    std::string name_;
    std::vector<u8> now_, durable_;
    std::vector<Change> pending_;
};

}  // namespace vg::test
