// Choosing the format and the write mode of a disk image.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/raw_image.h"
#include "devices/storage/throwaway.h"

namespace vg::devices {

namespace {

std::string lower_extension(const std::string& path) {
    const std::size_t dot = path.find_last_of("./");
    if (dot == std::string::npos || path[dot] != '.') return {};
    std::string extension = path.substr(dot + 1);
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return extension;
}

Result<ImageFormat> choose_format(const ImageOptions& options) {
    if (options.format != ImageFormat::Auto) return options.format;
    const std::string extension = lower_extension(options.path);
    if (extension == "vhd" || extension == "avhd" || extension == "vpc") return ImageFormat::Vhd;
    static constexpr std::array<std::string_view, 4> kForeign = {"vhdx", "avhdx", "qcow2", "vmdk"};
    if (std::find(kForeign.begin(), kForeign.end(), extension) != kForeign.end()) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: {} images are not supported; convert it with: qemu-img convert -O vpc {} {}.vhd",
                                options.path, extension, options.path, options.path));
    }
    return ImageFormat::Raw;
}

Result<std::unique_ptr<BlockDevice>> open_format(const std::string& path, ImageFormat format, FileAccess access) {
    auto file = open_file(path, access);
    if (!file) return Unexpected{file.error()};
    if (format == ImageFormat::Raw) return open_raw(*std::move(file));
    return fail(Error::Code::Usage, fmt::format("{}: not a raw image", path));
}

}  // namespace

Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options) {
    const auto format = choose_format(options);
    if (!format) return Unexpected{format.error()};
    const bool direct = options.mode == WriteMode::Direct;
    auto image = open_format(options.path, *format, direct ? FileAccess::ReadWrite : FileAccess::ReadOnly);
    if (!image || options.mode != WriteMode::Throwaway) return image;
    auto store = open_unnamed_file(options.path + " (throw-away overlay)");
    if (!store) return Unexpected{store.error()};
    return make_throwaway(*std::move(image), *std::move(store));
}

}  // namespace vg::devices
