#include "machine/flash_store.h"

#include <cstring>
#include <filesystem>
#include <vector>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::machine {

FlashStore::FlashStore(mmu::PhysicalMemory& memory, Spa base, u64 size) : memory_(memory), base_(base), size_(size) {}

const mmu::Region& FlashStore::region() const {
    const mmu::Region* found = memory_.find(base_);
    VG_ASSERT(found != nullptr && found->size == size_);
    return *found;
}

Result<void> FlashStore::keep_in(const std::string& path, std::span<const u8> content) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        auto made = devices::create_file(path, [&](devices::BlockFile& file) { return file.write(0, content); });
        if (!made) return made;
    }
    auto file = devices::open_file(path, devices::FileAccess::ReadWrite);
    if (!file) return Unexpected{file.error()};
    if ((*file)->size() != size_)
        return fail(Error::Code::Usage, path + ": has another size than the flash chip; remove it to begin anew");
    file_ = std::move(*file);
    return {};
}

void FlashStore::read(u64 offset, std::span<u8> out) {
    VG_ASSERT(fits(offset, out.size(), size_));
    std::memcpy(out.data(), region().host + offset, out.size());
}

void FlashStore::write(u64 offset, std::span<const u8> data) {
    VG_ASSERT(fits(offset, data.size(), size_));
    memory_.load(region(), offset, data.data(), data.size());
    if (file_ == nullptr) return;
    // A host that cannot write keeps the old content: the guest goes on with what is in memory.
    (void)file_->write(offset, data);
}

}  // namespace vg::machine
