// Choosing the format and the write mode of a disk image.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/create.h"
#include "devices/storage/image_format.h"
#include "devices/storage/throwaway.h"
#include "devices/storage/vhd_chain.h"
#include "devices/storage/vhdx_create.h"

namespace vg::devices {

namespace {

Result<void> check_access(const std::string& path) {
    if (::access(path.c_str(), W_OK) == 0) return {};
    return fail(Error::Code::Usage, fmt::format("{}: cannot be written: {}; check its permissions, or use an overlay elsewhere",
                                                path, std::strerror(errno)));
}

/// What holds for an overlay's name, whether the file exists or not.
Result<void> check_overlay_name(const std::string& path, const vhd::Identity& base) {
    std::error_code error;
    if (path.empty()) return fail(Error::Code::Usage, fmt::format("{}: its overlay has no name; set one", base.name));
    if (std::filesystem::equivalent(path, base.name, error)) {
        return fail(Error::Code::Usage, fmt::format("{}: is its own overlay; name another file", path));
    }
    return {};
}

Result<std::unique_ptr<BlockDevice>> open_overlay(const std::string& path, vhd::IdentifiedImage base, FileAccess access) {
    if (auto checked = check_overlay_name(path, base.identity); !checked) return Unexpected{checked.error()};
    std::error_code error;
    if (access == FileAccess::ReadWrite && !std::filesystem::exists(path, error)) {
        const auto format = format_of_name(path);
        if (!format) return Unexpected{format.error()};
        if (*format == ImageFormat::Qcow2) {
            return fail(Error::Code::Usage,
                        fmt::format("{}: an overlay is a VHDX or VHD; name it .avhdx or .avhd", path));
        }
        auto made = *format == ImageFormat::Vhdx
                        ? create_vhdx_overlay(path, base)
                        : create_overlay(path, base.identity, base.device->size_bytes());
        if (!made) return Unexpected{made.error()};
    }
    auto file = open_file(path, access);
    if (!file) return Unexpected{file.error()};
    return vhd::open_over(*std::move(file), std::move(base));
}

Result<void> check_overlay(const std::string& path, vhd::IdentifiedImage base) {
    if (auto checked = check_overlay_name(path, base.identity); !checked) return checked;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return check_new_file(path);
    auto opened = open_overlay(path, std::move(base), FileAccess::ReadOnly);
    if (!opened) return Unexpected{opened.error()};
    return check_access(path);
}

Result<vhd::IdentifiedImage> open_base(const ImageOptions& options, FileAccess access) {
    const auto format = options.format == ImageFormat::Auto ? format_of_name(options.path) : options.format;
    if (!format) return Unexpected{format.error()};
    auto file = open_file(options.path, access);
    if (!file) return Unexpected{file.error()};
    vhd::HostFolder folder(options.parents);
    return vhd::open_chain(*std::move(file), *format, folder);
}

}  // namespace

Result<void> check_image(const ImageOptions& options) {
    auto image = open_base(options, FileAccess::ReadOnly);
    if (!image) return Unexpected{image.error()};
    if (options.mode == WriteMode::Overlay) return check_overlay(options.overlay, *std::move(image));
    return options.mode == WriteMode::Direct ? check_access(options.path) : Result<void>{};
}

Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options) {
    const bool direct = options.mode == WriteMode::Direct;
    auto image = open_base(options, direct ? FileAccess::ReadWrite : FileAccess::ReadOnly);
    if (!image) return Unexpected{image.error()};
    const auto look_through = [&]() -> Result<std::unique_ptr<BlockDevice>> {
        if (options.overlay.empty()) return std::move(image->device);
        return open_overlay(options.overlay, *std::move(image), FileAccess::ReadOnly);
    };
    switch (options.mode) {
        case WriteMode::Direct:
            return std::move(image->device);
        case WriteMode::ReadOnly:
            return look_through();
        case WriteMode::Memory: {
            auto base = look_through();
            if (!base) return base;
            return make_throwaway(*std::move(base), std::make_unique<SparseMemoryFile>(options.path + " (writes in memory)"));
        }
        case WriteMode::Overlay:
            return open_overlay(options.overlay, *std::move(image), FileAccess::ReadWrite);
        case WriteMode::Throwaway:
            break;
    }
    auto store = open_unnamed_file(options.path + " (throw-away overlay)");
    if (!store) return Unexpected{store.error()};
    return make_throwaway(std::move(image->device), *std::move(store));
}

}  // namespace vg::devices
