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
    if (extension == "vhdx" || extension == "avhdx") return ImageFormat::Vhdx;
    if (extension == "qcow2") return ImageFormat::Qcow2;
    static constexpr std::array<std::string_view, 2> kForeign = {"qcow", "vmdk"};
    if (std::find(kForeign.begin(), kForeign.end(), extension) == kForeign.end()) return ImageFormat::Raw;
    return fail(Error::Code::Usage,
                fmt::format("{0}: {1} images are not supported; convert it with: qemu-img convert -O vhdx {0} {0}.vhdx",
                            path, extension));
}

namespace {

struct Word {
    ImageFormat format;
    std::string_view word;
};
constexpr std::array kWords = {Word{ImageFormat::Auto, "auto"}, Word{ImageFormat::Raw, "raw"},
                               Word{ImageFormat::Vhd, "vhd"}, Word{ImageFormat::Vhdx, "vhdx"},
                               Word{ImageFormat::Qcow2, "qcow2"}};

}  // namespace

std::string_view format_word(ImageFormat format) {
    return std::find_if(kWords.begin(), kWords.end(), [&](const Word& w) { return w.format == format; })->word;
}

ImageFormat format_of_word(std::string_view word) {
    const auto found = std::find_if(kWords.begin(), kWords.end(), [&](const Word& w) { return w.word == word; });
    return found == kWords.end() ? ImageFormat::Auto : found->format;
}

}  // namespace vg::devices
