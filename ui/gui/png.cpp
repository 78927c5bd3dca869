#include "ui/gui/png.h"

#include <fmt/format.h>
#include <png.h>

#include <cstdio>
#include <memory>

namespace vg::gui {

namespace {
constexpr png_uint_32 kMaxSide = 4096;
}

Result<Picture> parse_png(std::string_view file) {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    if (png_image_begin_read_from_memory(&image, file.data(), file.size()) == 0)
        return fail(Error::Code::Usage, fmt::format("not a picture: {}", image.message));
    if (image.width == 0 || image.height == 0 || image.width > kMaxSide || image.height > kMaxSide) {
        png_image_free(&image);
        return fail(Error::Code::Usage, fmt::format("a picture of {} by {}", image.width, image.height));
    }
    image.format = PNG_FORMAT_RGBA;
    Picture picture{static_cast<int>(image.width), static_cast<int>(image.height),
                    std::vector<u32>(std::size_t{image.width} * image.height)};
    if (png_image_finish_read(&image, nullptr, picture.pixels.data(), 0, nullptr) == 0)
        return fail(Error::Code::Usage, fmt::format("a damaged picture: {}", image.message));
    return picture;
}

Result<void> write_png(const std::string& path, const Picture& picture) {
    std::vector<unsigned char> rgb;
    rgb.reserve(picture.pixels.size() * 3);
    for (const u32 pixel : picture.pixels)
        for (unsigned shift = 0; shift < 24; shift += 8)
            rgb.push_back(static_cast<unsigned char>(pixel >> shift & 255));
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(picture.width);
    image.height = static_cast<png_uint_32>(picture.height);
    image.format = PNG_FORMAT_RGB;
    if (png_image_write_to_file(&image, path.c_str(), 0, rgb.data(), 0, nullptr) == 0)
        return fail(Error::Code::Host, fmt::format("{}: {}", path, image.message));
    return {};
}

}  // namespace vg::gui
