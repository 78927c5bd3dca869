#include "roms/parent/store.h"

#include <fmt/format.h>

#include <optional>

#include "roms/parent/fixed_vhd.h"

namespace vg::parent {

/// A fixed VHD in a member. `taken` names it until it is closed.
class Store::Disk final : public hv::vsp::BlockBackend {
  public:
    Disk(BlockWindow file, std::set<std::string>& taken, std::string name)
        : file_(std::move(file)), taken_(taken), name_(std::move(name)) {
        taken_.insert(name_);
    }
    ~Disk() override { taken_.erase(name_); }
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    Result<void> open() {
        auto vhd = FixedVhd::open(file_);
        if (!vhd) return Unexpected{vhd.error().in(name_)};
        vhd_.emplace(std::move(*vhd));
        return {};
    }
    [[nodiscard]] u64 size_bytes() const override { return vhd_->size_bytes(); }
    [[nodiscard]] bool read_only() const override { return vhd_->read_only(); }
    [[nodiscard]] u32 physical_sector_bytes() const override { return vhd_->physical_sector_bytes(); }
    [[nodiscard]] bool read(u64 offset, std::span<u8> out) override { return vhd_->read(offset, out); }
    [[nodiscard]] bool write(u64 offset, std::span<const u8> data) override { return vhd_->write(offset, data); }
    [[nodiscard]] bool discard(u64 offset, u64 size) override { return vhd_->discard(offset, size); }
    [[nodiscard]] bool flush() override { return vhd_->flush(); }

  private:
    BlockWindow file_;
    std::optional<FixedVhd> vhd_;
    std::set<std::string>& taken_;
    std::string name_;
};

Result<std::unique_ptr<Store>> Store::open(hv::vsp::BlockBackend& disk) {
    auto archive = Archive::open(disk);
    if (!archive) return Unexpected{archive.error()};
    std::unique_ptr<Store> store(new Store(std::move(*archive)));
    const std::string name(kTableName);
    const Archive::Member* member = store->archive_.find(name);
    if (member != nullptr && member->size_bytes > ChildrenTable::kMaxBytes)
        return fail(Error::Code::Usage,
                    fmt::format("{} has {} bytes, more than {}", name, member->size_bytes, ChildrenTable::kMaxBytes));
    auto text = store->read(name);
    if (!text) return Unexpected{text.error()};
    auto table = ChildrenTable::parse({reinterpret_cast<const char*>(text->bytes().data()), text->bytes().size()});
    if (!table) return Unexpected{table.error().in(name)};
    store->table_ = std::move(*table);
    return store;
}

Result<PageBuffer> Store::read(const std::string& name) const {
    const Archive::Member* member = archive_.find(name);
    if (member == nullptr) return fail(Error::Code::Usage, fmt::format("the archive has no \"{}\"", name));
    auto content = member->size_bytes <= kMaxImageBytes ? PageBuffer::create(member->size_bytes) : std::nullopt;
    if (!content)
        return fail(Error::Code::Usage, fmt::format("{}: no room for its {} bytes", name, member->size_bytes));
    if (!archive_.read(*member, content->bytes()))
        return fail(Error::Code::Host, fmt::format("{}: the disk failed", name));
    return std::move(*content);
}

Result<std::unique_ptr<hv::vsp::BlockBackend>> Store::open_disk(const std::string& name) {
    if (taken_.contains(name)) return fail(Error::Code::Usage, fmt::format("{} belongs to a child that runs", name));
    auto window = archive_.open(name);
    if (!window) return Unexpected{window.error()};
    auto disk = std::make_unique<Disk>(std::move(*window), taken_, name);
    if (auto ok = disk->open(); !ok) return Unexpected{ok.error()};
    return std::unique_ptr<hv::vsp::BlockBackend>(std::move(disk));
}

}  // namespace vg::parent
