// Choosing the format and the write mode of a disk image.
#include <fmt/format.h>

#include <filesystem>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/create.h"
#include "devices/storage/image_format.h"
#include "devices/storage/throwaway.h"
#include "devices/storage/vhd_chain.h"

namespace vg::devices {

namespace {

Result<std::unique_ptr<BlockDevice>> open_overlay(const std::string& path, vhd::IdentifiedImage base) {
    std::error_code error;
    if (path.empty()) {
        return fail(Error::Code::Usage, fmt::format("{}: its overlay has no name; set one", base.identity.name));
    }
    if (std::filesystem::equivalent(path, base.identity.name, error)) {
        return fail(Error::Code::Usage, fmt::format("{}: is its own overlay; name another file", path));
    }
    if (!std::filesystem::exists(path, error)) {
        if (auto made = create_overlay(path, base.identity, base.device->size_bytes()); !made) {
            return Unexpected{made.error()};
        }
    }
    auto file = open_file(path, FileAccess::ReadWrite);
    if (!file) return Unexpected{file.error()};
    return vhd::open_over(*std::move(file), std::move(base));
}

}  // namespace

Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options) {
    const auto format = options.format == ImageFormat::Auto ? format_of_name(options.path) : options.format;
    if (!format) return Unexpected{format.error()};
    const bool direct = options.mode == WriteMode::Direct;
    auto file = open_file(options.path, direct ? FileAccess::ReadWrite : FileAccess::ReadOnly);
    if (!file) return Unexpected{file.error()};
    vhd::HostFolder folder(options.parents);
    auto image = vhd::open_chain(*std::move(file), *format, folder);
    if (!image) return Unexpected{image.error()};
    switch (options.mode) {
        case WriteMode::Direct:
        case WriteMode::ReadOnly:
            return std::move(image->device);
        case WriteMode::Overlay:
            return open_overlay(options.overlay, *std::move(image));
        case WriteMode::Throwaway:
            break;
    }
    auto store = open_unnamed_file(options.path + " (throw-away overlay)");
    if (!store) return Unexpected{store.error()};
    return make_throwaway(std::move(image->device), *std::move(store));
}

}  // namespace vg::devices
