#include "machine/shared_disk.h"

namespace vg::machine {

class SharedDisk::Way final : public devices::BlockDevice {
  public:
    Way(std::shared_ptr<State> state, bool yields) : state_(std::move(state)), yields_(yields) {}
    u64 size_bytes() const override { return image().size_bytes(); }
    bool read_only() const override { return locked() || image().read_only(); }
    u32 logical_sector_bytes() const override { return image().logical_sector_bytes(); }
    u32 physical_sector_bytes() const override { return image().physical_sector_bytes(); }
    Result<void> read(u64 offset, std::span<u8> out) override { return image().read(offset, out); }
    Result<void> write(u64 offset, std::span<const u8> data) override {
        return locked() ? Result<void>(refuse()) : image().write(offset, data);
    }
    Result<void> read_parts(u64 offset, Parts parts) override { return image().read_parts(offset, parts); }
    Result<void> write_parts(u64 offset, Parts parts) override {
        return locked() ? Result<void>(refuse()) : image().write_parts(offset, parts);
    }
    Result<void> discard(u64 offset, u64 size) override {
        return locked() ? Result<void>(refuse()) : image().discard(offset, size);
    }
    Result<void> flush() override { return image().flush(); }
    Result<void> settle() override { return image().settle(); }
    Result<void> for_each_unsaved(const VisitUnsaved& visit) override { return image().for_each_unsaved(visit); }
    std::string describe() const override { return image().describe(); }

  private:
    [[nodiscard]] devices::BlockDevice& image() const { return *state_->image; }
    [[nodiscard]] bool locked() const { return yields_ && state_->accelerated; }
    static Unexpected<Error> refuse() {
        return fail(Error::Code::Host, "the accelerator of this disk is in use, which alone may write");
    }

    std::shared_ptr<State> state_;
    bool yields_;
};

SharedDisk::SharedDisk(std::unique_ptr<devices::BlockDevice> image)
    : state_(std::make_shared<State>(State{std::move(image), false})) {}

std::unique_ptr<devices::BlockDevice> SharedDisk::emulated() const { return std::make_unique<Way>(state_, true); }
std::unique_ptr<devices::BlockDevice> SharedDisk::accelerated() const { return std::make_unique<Way>(state_, false); }

}  // namespace vg::machine
