#include "ui/model/png.h"

#include <png.h>

#include <vector>

#include "base/assert.h"

namespace vg::model {
std::string png(u32 width, u32 height, std::span<const u32> pixels) {
    VG_ASSERT(pixels.size() == u64{width} * height);
    std::vector<u8> rgb;
    rgb.reserve(pixels.size() * 3);
    for (const u32 pixel : pixels)
        for (const int shift : {16, 8, 0}) rgb.push_back(static_cast<u8>(pixel >> shift));
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = width;
    image.height = height;
    image.format = PNG_FORMAT_RGB;
    image.flags = PNG_IMAGE_FLAG_FAST;  // a screen is mostly one colour
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    std::string out(size, '\0');
    VG_ASSERT(png_image_write_to_memory(&image, out.data(), &size, 0, rgb.data(), 0, nullptr) != 0);
    out.resize(size);
    return out;
}

std::string base64(std::string_view bytes) {
    static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        u32 group = 0;
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
        for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? static_cast<u8>(bytes[i + k]) : 0u);
        for (std::size_t k = 0; k < 4; ++k) out += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

}  // namespace vg::model
