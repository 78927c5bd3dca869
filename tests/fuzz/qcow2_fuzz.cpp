// Any bytes as a qcow2 file: opened and read. An odd first byte puts a good header with tables before the rest, and
// the rest over them: 16 bits of place, 8 of value.
#include <algorithm>
#include <memory>
#include <vector>

#include "devices/storage/qcow2.h"

namespace {

using namespace vg;
using namespace vg::devices;

void big_endian(std::vector<u8>& bytes, std::size_t at, u64 value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<u8>(value >> (8 * (size - 1 - i)));
}

std::vector<u8> good_image() {
    constexpr std::size_t kCluster = 512;
    std::vector<u8> out(8 * kCluster);
    big_endian(out, 0, 0x514649fb, 4);
    big_endian(out, 4, 3, 4);
    big_endian(out, 20, 9, 4);
    big_endian(out, 24, 64 * kCluster, 8);
    big_endian(out, 36, 1, 4);
    big_endian(out, 40, kCluster, 8);
    big_endian(out, 100, 112, 4);
    big_endian(out, kCluster, 2 * kCluster, 8);
    big_endian(out, 2 * kCluster, 3 * kCluster, 8);
    big_endian(out, 2 * kCluster + 8, (u64{1} << 62) | (4 * kCluster), 8);
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0 || size > 64 * 1024) return 0;
    std::vector<u8> bytes(data + 1, data + size);
    if ((data[0] & 1) != 0) {
        bytes = good_image();
        for (std::size_t i = 1; i + 2 < size; i += 3) {
            bytes[(std::size_t{data[i]} << 8 | data[i + 1]) % bytes.size()] = data[i + 2];
        }
    }
    auto disk = open_qcow2(std::make_unique<MemoryFile>("fuzz.qcow2", std::move(bytes), false));
    if (!disk) return 0;
    std::vector<u8> buffer(4096);
    const u64 total = (*disk)->size_bytes();
    const std::size_t count = static_cast<std::size_t>(std::min<u64>(total, buffer.size()));
    for (const u64 offset : {u64{0}, (total - count) / 1024 * 512, total - count})
        (void)(*disk)->read(offset, std::span<u8>(buffer).first(count));
    for (u64 at = 0; at < std::min<u64>(total, 64 * 512); at += 512)
        (void)(*disk)->read(at, std::span<u8>(buffer).first(512));
    return 0;
}
