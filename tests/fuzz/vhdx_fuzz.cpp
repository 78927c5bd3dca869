// Any bytes in the structures of a VHDX file, and as the parent of one: opened, read, written, closed, opened again.
//
// The first byte chooses: bit 0 corrects the checksums of headers, region tables and log entries, so that the damage
// gets past them; bit 1 opens for writing; bit 2 makes the good image below a differencing one; bit 3 marks its log as
// one to be replayed. Then patches: place (a byte that names a structure), offset in it (16 bits), length (8 bits),
// bytes.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "devices/storage/vhd_chain.h"
#include "devices/storage/vhdx_create.h"

namespace {

using namespace vg;
using namespace vg::devices;

constexpr u64 kLog = vhdx::kMiB, kMetadata = 2 * vhdx::kMiB, kBat = 3 * vhdx::kMiB, kFile = 6 * vhdx::kMiB;
constexpr u64 kPlaces[] = {0,
                           vhdx::kHeaderOffsets[0],
                           vhdx::kHeaderOffsets[1],
                           vhdx::kRegionOffsets[0],
                           vhdx::kRegionOffsets[1],
                           kLog,
                           kLog + 4096,
                           kMetadata,
                           kMetadata + vhdx::kTableBytes,
                           kBat,
                           kBat + vhdx::kMiB};

/// A good image in sparse memory that several openings share.
class Shared final : public BlockFile {
  public:
    Shared(std::string name, std::shared_ptr<SparseMemoryFile> file, bool writable)
        : name_(std::move(name)), file_(std::move(file)), writable_(writable) {}
    const std::string& name() const override { return name_; }
    u64 size() const override { return file_->size(); }
    bool writable() const override { return writable_; }
    Result<void> read(u64 offset, std::span<u8> out) override { return file_->read(offset, out); }
    Result<void> write(u64 offset, std::span<const u8> data) override {
        return room(offset, data.size()) ? file_->write(offset, data) : full();
    }
    Result<void> zero(u64 offset, u64 size) override { return file_->zero(offset, size); }
    Result<void> sync() override { return {}; }
    Result<void> resize(u64 size) override { return file_->resize(size); }

  private:
    static bool room(u64 offset, u64 size) { return fits(offset, size, u64{1} << 50); }
    static Result<void> full() { return fail(Error::Code::Host, "full"); }
    std::string name_;
    std::shared_ptr<SparseMemoryFile> file_;
    bool writable_;
};

/// Parents are the same bytes again: a chain that only limits can end.
class Mirror final : public vhd::ImageFolder {
  public:
    explicit Mirror(std::shared_ptr<SparseMemoryFile> file) : file_(std::move(file)) {}
    Result<std::unique_ptr<BlockFile>> find(const std::string&, const std::string& path) override {
        return std::unique_ptr<BlockFile>(std::make_unique<Shared>(path, file_, false));
    }

  private:
    std::shared_ptr<SparseMemoryFile> file_;
};

std::shared_ptr<SparseMemoryFile> good_image(bool differencing) {
    auto file = std::make_shared<SparseMemoryFile>("good.vhdx");
    vhdx::Plan plan;
    plan.kind = differencing ? VhdKind::Differencing : VhdKind::Dynamic;
    plan.size_bytes = 3 * vhdx::kMiB;
    plan.block_bytes = vhdx::kMiB;
    plan.write_id = plan.parent_linkage = vhdx::kBatRegion;
    plan.parent_path = "parent.vhdx";
    if (!vhdx::write_new(*file, plan) || !file->resize(kFile)) return nullptr;
    return file;
}

void seal(BlockFile& file, u64 offset, u64 size, std::size_t field) {
    if (!fits(offset, size, file.size())) return;
    std::vector<u8> bytes(static_cast<std::size_t>(size));
    if (!file.read(offset, bytes)) return;
    vhdx::store(bytes, field, vhdx::checksum(bytes, field));
    (void)file.write(offset, bytes);
}

void correct_checksums(BlockFile& file) {
    for (const u64 at : vhdx::kHeaderOffsets) seal(file, at, vhdx::kHeaderBytes, 4);
    for (const u64 at : vhdx::kRegionOffsets) seal(file, at, vhdx::kTableBytes, 4);
    for (u64 at = kLog; at < kLog + 8 * vhdx::kPage; at += vhdx::kPage) {
        std::array<u8, sizeof(vhdx::LogEntryHeader)> head{};
        if (!file.read(at, head)) return;
        const auto entry = vhdx::load<vhdx::LogEntryHeader>(head);
        if (entry.signature == vhdx::kLogSignature && entry.entry_length >= sizeof entry &&
            entry.entry_length <= 1 << 16)
            seal(file, at, entry.entry_length, 4);
    }
}

/// A log with one entry that writes a page of the block table.
void give_log(BlockFile& file) {
    std::vector<u8> bytes(2 * vhdx::kPage);
    vhdx::LogEntryHeader entry;
    entry.entry_length = static_cast<u32>(bytes.size());
    entry.sequence_number = 1;
    entry.descriptor_count = 1;
    entry.log_guid = vhdx::kMetadataRegion;
    entry.flushed_file_offset = entry.last_file_offset = file.size();
    vhdx::store(bytes, 0, entry);
    vhdx::Descriptor descriptor;
    descriptor.file_offset = kBat;
    descriptor.sequence_number = 1;
    vhdx::store(bytes, sizeof entry, descriptor);
    vhdx::DataSector sector;
    sector.sequence_low = 1;
    vhdx::store(bytes, vhdx::kPage, sector);
    (void)file.write(kLog, bytes);
    for (const u64 at : vhdx::kHeaderOffsets)
        (void)file.write(at + offsetof(vhdx::Header, log_guid), vhdx::kMetadataRegion);
}

void exercise(BlockDevice& disk) {
    std::vector<u8> buffer(8192);
    const u64 size = disk.size_bytes(), sector = disk.logical_sector_bytes();
    const std::size_t count = static_cast<std::size_t>(std::min<u64>(size, buffer.size()));
    for (const u64 offset : {u64{0}, (size - count) / 2 / sector * sector, size - count}) {
        (void)disk.read(offset, std::span<u8>(buffer).first(count));
        if (disk.read_only()) continue;
        (void)disk.write(offset, std::span<const u8>(buffer).first(static_cast<std::size_t>(sector)));
        (void)disk.discard(offset, count);
    }
    (void)disk.flush();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0 || size > 64 * 1024) return 0;
    const u8 choice = data[0];
    const auto file = good_image((choice & 4) != 0);
    if (file == nullptr) __builtin_trap();
    if ((choice & 8) != 0) give_log(*file);
    for (std::size_t i = 1; i + 4 < size;) {
        const u64 at = kPlaces[data[i] % std::size(kPlaces)] + (u64{data[i + 1]} << 8 | data[i + 2]);
        const std::size_t length = std::min<std::size_t>(data[i + 3], size - i - 4);
        (void)file->write(at, {data + i + 4, length});
        i += 4 + length;
    }
    if ((choice & 9) != 0) correct_checksums(*file);
    Mirror folder(file);
    for (int opening = 0; opening < 2; ++opening) {
        auto image =
            vhd::open_chain(std::make_unique<Shared>("fuzz.vhdx", file, (choice & 2) != 0), ImageFormat::Vhdx, folder);
        if (image) exercise(*image->device);
    }
    return 0;
}
