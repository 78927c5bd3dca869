#include "devices/storage/image_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace vg::devices {

Result<ImageFormat> format_of_name(const std::string& path) {
    const std::size_t dot = path.find_last_of("./");
    if (dot == std::string::npos || path[dot] != '.') return ImageFormat::Raw;
    std::string extension = path.substr(dot + 1);
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (extension == "vhd" || extension == "avhd" || extension == "vpc") return ImageFormat::Vhd;
    static constexpr std::array<std::string_view, 4> kForeign = {"vhdx", "avhdx", "qcow2", "vmdk"};
    if (std::find(kForeign.begin(), kForeign.end(), extension) == kForeign.end()) return ImageFormat::Raw;
    return fail(Error::Code::Usage,
                fmt::format("{0}: {1} images are not supported; convert it with: qemu-img convert -O vpc {0} {0}.vhd",
                            path, extension));
}

}  // namespace vg::devices
