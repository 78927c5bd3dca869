// Any bytes as the parent's store: the archive's index, every member as a disk, as a VHD, and as a table of children.
//
// The first byte chooses: bit 0 corrects the checksums of headers and footers, so that the damage gets past them; bit 1
// takes the rest as patches (offset of 16 bits, value of 8) to a good store.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/assert.h"
#include "devices/storage/vhd_format.h"
#include "roms/parent/archive.h"
#include "roms/parent/children_table.h"
#include "roms/parent/fixed_vhd.h"
#include "roms/parent/spec/ustar.h"
#include "tests/support/storage_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::parent;
namespace vhd = vg::devices::vhd;

constexpr std::size_t kBlock = ustar::kBlock;

void seal_header(std::vector<u8>& bytes, std::size_t at) {
    u32 sum = 0;
    for (u32 i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? u32{' '} : u32{bytes[at + i]};
    std::snprintf(reinterpret_cast<char*>(&bytes[at + 148]), 8, "%06o", sum);
}

/// Whatever looks like a header or a footer gets its checksum.
void seal(std::vector<u8>& bytes) {
    for (std::size_t at = 0; at + kBlock <= bytes.size(); at += kBlock) {
        if (std::memcmp(&bytes[at + 257], "ustar", 5) == 0) seal_header(bytes, at);
        if (std::memcmp(&bytes[at], "conectix", 8) != 0) continue;
        u32 sum = vhd::checksum(std::span<const u8>(bytes).subspan(at, kBlock), vhd::kFooterChecksumOffset);
        vhd::Codec<false>(std::span<u8>(bytes).subspan(at, kBlock)).number(vhd::kFooterChecksumOffset, sum);
    }
}

void add(std::vector<u8>& bytes, const char* name, std::span<const u8> content) {
    const std::size_t at = bytes.size();
    bytes.resize(at + kBlock + align_up(content.size(), kBlock));
    std::snprintf(reinterpret_cast<char*>(&bytes[at]), 100, "%s", name);
    std::snprintf(reinterpret_cast<char*>(&bytes[at + 124]), 12, "%011zo", content.size());
    bytes[at + 156] = '0';
    std::memcpy(&bytes[at + 257], "ustar\00000", 8);
    std::copy(content.begin(), content.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at + kBlock));
    seal_header(bytes, at);
}

std::vector<u8> good_store() {
    const std::string table = "exit = when-children-stop\n[child a]\nkernel = k\ndisk = d.vhd\nmemory = 64\n";
    vhd::Footer footer;
    footer.current_size = 1024;
    std::vector<u8> disk(1024);
    const auto tail = vhd::encode(footer);
    disk.insert(disk.end(), tail.begin(), tail.end());
    std::vector<u8> bytes;
    add(bytes, "children.conf", {reinterpret_cast<const u8*>(table.data()), table.size()});
    add(bytes, "d.vhd", disk);
    bytes.resize(bytes.size() + 2 * kBlock);
    return bytes;
}

/// Ends of a disk, within it and outside.
void exercise(hv::vsp::BlockBackend& disk) {
    std::vector<u8> buffer(kBlock);
    const u64 size = disk.size_bytes();
    for (const u64 offset : {u64{0}, size - kBlock, size, ~u64{0} - 511}) {
        (void)disk.read(offset, buffer);
        (void)disk.write(offset, buffer);
        (void)disk.discard(offset, size);
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0 || size > 64 * 1024) return 0;
    std::vector<u8> bytes;
    if ((data[0] & 2) != 0) {
        bytes = good_store();
        for (std::size_t i = 1; i + 2 < size; i += 3) {
            bytes[(std::size_t{data[i]} << 8 | data[i + 1]) % bytes.size()] = data[i + 2];
        }
    } else {
        bytes.assign(data + 1, data + size);
    }
    if ((data[0] & 1) != 0) seal(bytes);

    test::MemoryBackend disk(0);
    disk.bytes = std::move(bytes);
    const auto archive = Archive::open(disk);
    VG_ASSERT(!disk.left);
    if (!archive) return 0;
    for (const Archive::Member& member : archive->members()) {
        std::vector<u8> content(member.size_bytes);
        VG_ASSERT(archive->read(member, content));
        (void)ChildrenTable::parse({reinterpret_cast<const char*>(content.data()), content.size()});
        auto window = archive->open(member.name);
        VG_ASSERT(window);
        if (auto inner = FixedVhd::open(*window)) exercise(*inner);
        exercise(*window);
    }
    VG_ASSERT(!disk.left);
    return 0;
}
