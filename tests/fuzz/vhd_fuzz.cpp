// Any bytes as a VHD file, and as the parent of one: opened, read, written, closed, opened again.
//
// The first byte chooses: bit 0 corrects the checksums, so that the damage gets past them; bit 1 opens for writing;
// bit 2 takes the rest not as the file but as patches (offset of 16 bits, value of 8) to a good one, which bit 3 makes
// a differencing one.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "devices/storage/create.h"
#include "devices/storage/vhd_chain.h"

namespace {

using namespace vg;
using namespace vg::devices;

/// Parents are the same bytes again: a chain that only limits can end.
class Mirror final : public vhd::ImageFolder {
  public:
    explicit Mirror(std::vector<u8> content) : content_(std::move(content)) {}
    Result<std::unique_ptr<BlockFile>> find(const std::string&, const std::string& path) override {
        std::vector<u8> copy = content_;
        if (copy.size() > 84) copy[83] = ++generation_;  // another unique id each time
        return std::unique_ptr<BlockFile>(std::make_unique<MemoryFile>(path, std::move(copy), false));
    }

  private:
    std::vector<u8> content_;
    u8 generation_ = 0;
};

void correct_checksums(std::vector<u8>& bytes) {
    const auto correct = [&](std::size_t at, std::size_t size, std::size_t field) {
        if (bytes.size() < at + size) return;
        const u32 sum = vhd::checksum(std::span<const u8>(bytes).subspan(at, size), field);
        vhd::Codec<false> codec(std::span<u8>(bytes).subspan(at, size));
        u32 value = sum;
        codec.number(field, value);
    };
    if (bytes.size() < 2048) return;
    correct(512, vhd::kHeaderBytes, vhd::kHeaderChecksumOffset);
    correct(0, vhd::kFooterBytes, vhd::kFooterChecksumOffset);
    std::copy_n(bytes.begin(), 512, bytes.end() - 512);
}

std::vector<u8> good_image(bool differencing) {
    MemoryFile file("good.vhd");
    vhd::Plan plan;
    plan.kind = differencing ? VhdKind::Differencing : VhdKind::Dynamic;
    plan.size_bytes = 64 * 1024;
    plan.block_bytes = 4096;
    plan.parent_path = "parent.vhd";
    if (!vhd::write_new(file, plan)) return {};
    return file.content();
}

/// Blocks so large that writing some would fill the memory file's limit, which says nothing and takes long.
bool has_large_blocks(const std::vector<u8>& bytes) {
    MemoryFile file("probe.vhd", bytes, false);
    const auto layout = vhd::load_layout(file);
    return layout && !layout->fixed() && layout->header.block_size > 1 << 20;
}

void exercise(BlockDevice& disk) {
    std::vector<u8> buffer(4096);
    const u64 size = disk.size_bytes();
    const std::size_t count = static_cast<std::size_t>(std::min<u64>(size, buffer.size()));
    for (const u64 offset : {u64{0}, (size - count) / 1024 * 512, size - count}) {
        (void)disk.read(offset, std::span<u8>(buffer).first(count));
        if (disk.read_only()) continue;
        (void)disk.write(offset, std::span<const u8>(buffer).first(512));
        (void)disk.discard(offset, count);
    }
    (void)disk.flush();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0 || size > 64 * 1024) return 0;
    const u8 choice = data[0];
    std::vector<u8> bytes;
    if ((choice & 4) != 0) {
        bytes = good_image((choice & 8) != 0);
        for (std::size_t i = 1; i + 2 < size; i += 3) {
            bytes[(std::size_t{data[i]} << 8 | data[i + 1]) % bytes.size()] = data[i + 2];
        }
    } else {
        bytes.assign(data + 1, data + size);
    }
    if ((choice & 1) != 0) correct_checksums(bytes);
    Mirror folder(bytes);
    const bool writable = (choice & 2) != 0 && !has_large_blocks(bytes);
    auto image =
        vhd::open_chain(std::make_unique<MemoryFile>("fuzz.vhd", std::move(bytes), writable), ImageFormat::Vhd, folder);
    if (image) exercise(*image->device);
    return 0;
}
