#include "devices/storage/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "devices/storage/image_format.h"
#include "devices/storage/raw_image.h"
#include "devices/storage/vhdx_create.h"

namespace vg::devices {

namespace {

constexpr u64 kChunk = u64{1} << 20;

/// A file that somebody else owns.
class Borrowed final : public BlockFile {
  public:
    explicit Borrowed(BlockFile& file) : file_(file) {}
    [[nodiscard]] const std::string& name() const override { return file_.name(); }
    [[nodiscard]] u64 size() const override { return file_.size(); }
    [[nodiscard]] bool writable() const override { return file_.writable(); }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override { return file_.read(offset, out); }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8> data) override {
        return file_.write(offset, data);
    }
    [[nodiscard]] Result<void> zero(u64 offset, u64 size) override { return file_.zero(offset, size); }
    [[nodiscard]] Result<void> sync() override { return file_.sync(); }
    [[nodiscard]] Result<void> resize(u64 size) override { return file_.resize(size); }

  private:
    BlockFile& file_;
};

/// No image of a new disk has parents.
class NoFolder final : public vhd::ImageFolder {
  public:
    [[nodiscard]] Result<std::unique_ptr<BlockFile>> find(const std::string&, const std::string&) override {
        return std::unique_ptr<BlockFile>{};
    }
};

Result<void> write_empty(BlockFile& file, ImageFormat format, const BlockDevice& source,
                         const ConvertOptions& options) {
    if (format == ImageFormat::Raw) return file.resize(source.size_bytes());
    if (format == ImageFormat::Vhd) {
        const u32 block = options.block_bytes != 0 ? options.block_bytes : vhd::kDefaultBlockBytes;
        const auto plan = vhd::plan_new(options.path, options.kind, source.size_bytes(), block);
        return plan ? vhd::write_new(file, *plan) : Result<void>(Unexpected{plan.error()});
    }
    const auto plan = vhdx::plan_new({.path = options.path,
                                      .kind = options.kind,
                                      .size_bytes = source.size_bytes(),
                                      .block_bytes = options.block_bytes,
                                      .logical_sector_bytes = source.logical_sector_bytes(),
                                      .physical_sector_bytes = source.physical_sector_bytes()});
    return plan ? vhdx::write_new(file, *plan) : Result<void>(Unexpected{plan.error()});
}

Result<void> copy(BlockDevice& source, BlockDevice& target, const ConvertOptions& options) {
    std::vector<u8> chunk(kChunk);
    for (u64 at = 0; at < source.size_bytes(); at += kChunk) {
        if (options.progress && !options.progress(at))
            return fail(Error::Code::Usage, fmt::format("{}: interrupted; nothing was kept", options.path));
        const std::span<u8> part(chunk.data(), static_cast<std::size_t>(std::min(kChunk, source.size_bytes() - at)));
        if (auto ok = source.read(at, part); !ok) return ok;
        if (std::all_of(part.begin(), part.end(), [](u8 byte) { return byte == 0; })) continue;
        if (auto ok = target.write(at, part); !ok) return ok;
    }
    return target.flush();
}

}  // namespace

Result<void> convert_image(BlockDevice& source, const ConvertOptions& options) {
    const auto format = format_of_name(options.path);
    if (!format) return Unexpected{format.error()};
    if (*format == ImageFormat::Qcow2) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: qcow2 images are only read; name the new file .vhdx, .vhd or .raw", options.path));
    }
    if (*format != ImageFormat::Vhdx && source.logical_sector_bytes() != kSectorBytes) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: has sectors of {} bytes, which only a VHDX can say; name the new file .vhdx",
                                source.describe(), source.logical_sector_bytes()));
    }
    return create_file(options.path, [&](BlockFile& file) -> Result<void> {
        if (auto made = write_empty(file, *format, source, options); !made) return made;
        NoFolder folder;
        auto target = vhd::open_chain(std::make_unique<Borrowed>(file), *format, folder);
        if (!target) return Unexpected{target.error()};
        return copy(source, *target->device, options);
    });
}

}  // namespace vg::devices
