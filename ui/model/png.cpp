#include "ui/model/png.h"

#include <zlib.h>

#include "base/assert.h"

namespace vg::model {
namespace {

std::string big_endian(u32 value) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
    return out;
}

std::string chunk(std::string_view type, std::string_view content) {
    const std::string body = std::string(type) + std::string(content);
    const uLong crc = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    return big_endian(static_cast<u32>(content.size())) + body + big_endian(static_cast<u32>(crc));
}

/// Quick: a screen is mostly one colour.
std::string compress(const std::string& plain) {
    uLongf size = ::compressBound(plain.size());
    std::string out(size, '\0');
    const int status = ::compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                                   reinterpret_cast<const Bytef*>(plain.data()), plain.size(), Z_BEST_SPEED);
    VG_ASSERT(status == Z_OK);
    out.resize(size);
    return out;
}

}  // namespace

std::string png(u32 width, u32 height, std::span<const u32> pixels) {
    VG_ASSERT(pixels.size() == u64{width} * height);
    std::string rows;
    rows.reserve(pixels.size() * 3 + height);
    for (u32 y = 0; y < height; ++y) {
        rows += '\0';  // no filter
        for (u32 x = 0; x < width; ++x) {
            const u32 pixel = pixels[u64{y} * width + x];
            for (const int shift : {16, 8, 0}) rows += static_cast<char>(pixel >> shift);
        }
    }
    const std::string header = big_endian(width) + big_endian(height) + std::string("\x08\x02\x00\x00\x00", 5);  // 8-bit RGB
    return std::string("\x89PNG\r\n\x1a\n", 8) + chunk("IHDR", header) + chunk("IDAT", compress(rows)) + chunk("IEND", "");
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
