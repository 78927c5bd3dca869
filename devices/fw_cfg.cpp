#include "devices/fw_cfg.h"

#include <algorithm>
#include <array>

#include "base/assert.h"

namespace vg::devices {

namespace {

constexpr std::size_t kNameBytes = 56;
constexpr u16 kSelectorMask = 0x3fff;  // bit 14 asked for write mode in old boards, bit 15 for architecture items
constexpr u16 kArchitecture = 0x8000;
constexpr u32 kHasPorts = 1, kHasDma = 2;  // of the item kId

/// The DMA access structure: control, length, address, each big endian.
constexpr u32 kDmaError = 1, kDmaRead = 2, kDmaSkip = 4, kDmaSelect = 8, kDmaWrite = 16;
constexpr u32 kMaxTransfer = 64 << 20;  ///< of one request, for it is done in one go
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"

u32 big_endian(const u8* bytes) { return u32{bytes[0]} << 24 | u32{bytes[1]} << 16 | u32{bytes[2]} << 8 | bytes[3]; }
u32 swapped(u32 value) { return __builtin_bswap32(value); }

void append_big_endian(std::vector<u8>& out, u64 value, unsigned bytes) {
    for (unsigned i = bytes; i-- > 0;) out.push_back(static_cast<u8>(value >> (i * 8)));
}

}  // namespace

FwCfg::FwCfg() {
    set(kSignature, {'Q', 'E', 'M', 'U'});
    set_number(kId, kHasPorts, 4);
    rebuild_directory();
}

void FwCfg::fields(StateVisitor& v) {
    v("selector", state_.selector);
    v("position", state_.position);
    if (memory_ != nullptr) v("dma_high", state_.dma_high);
}

void FwCfg::enable_dma(mmu::Dma& memory) {
    memory_ = &memory;
    set_number(kId, kHasPorts | kHasDma, 4);
}

void FwCfg::set_number(u16 key, u64 value, unsigned bytes) {
    std::vector<u8> content;
    for (unsigned i = 0; i < bytes; ++i) content.push_back(static_cast<u8>(value >> (i * 8)));
    set(key, std::move(content));
}

void FwCfg::add_file(const std::string& name, std::vector<u8> content) {
    VG_ASSERT(!name.empty() && name.size() < kNameBytes && files_.count(name) == 0);
    const u16 key = static_cast<u16>(kFirstFile + files_.size());
    files_[name] = key;
    set(key, std::move(content));
    rebuild_directory();
}

void FwCfg::rebuild_directory() {
    std::vector<u8> directory;
    append_big_endian(directory, files_.size(), 4);
    for (const auto& [name, key] : files_) {
        append_big_endian(directory, items_[key].size(), 4);
        append_big_endian(directory, key, 2);
        append_big_endian(directory, 0, 2);
        directory.insert(directory.end(), name.begin(), name.end());
        directory.resize(directory.size() + kNameBytes - name.size());
    }
    set(kFileDirectory, std::move(directory));
}

IoStatus FwCfg::port_read(u16 offset, unsigned size, u32& value) {
    if (memory_ != nullptr && offset >= 4 && size == 4) {
        value = swapped(static_cast<u32>(offset == 4 ? kDmaSignature >> 32 : kDmaSignature));
        return IoStatus::Ok;
    }
    if (size != 1) return IoStatus::BadSize;
    if (offset != 1) return IoStatus::NoRegister;
    const auto item = items_.find(state_.selector);
    const bool inside = item != items_.end() && state_.position < item->second.size();
    value = inside ? item->second[state_.position++] : 0;
    return IoStatus::Ok;
}

IoStatus FwCfg::port_write(u16 offset, unsigned size, u32 value) {
    if (offset == 0 && size <= 2) {
        state_.selector = static_cast<u16>(value & (kSelectorMask | kArchitecture));
        state_.position = 0;
        return IoStatus::Ok;
    }
    if (memory_ != nullptr && offset >= 4 && size == 4) {
        if (offset == 4) {
            state_.dma_high = swapped(value);
        } else {
            const u64 address = u64{state_.dma_high} << 32 | swapped(value);
            state_.dma_high = 0;
            run_dma(address);
        }
        return IoStatus::Ok;
    }
    return size == 1 ? IoStatus::Ok : IoStatus::BadSize;  // items are read-only: data writes are dropped
}

void FwCfg::take(std::span<u8> out) {
    const auto item = items_.find(state_.selector);
    const u64 size = item != items_.end() ? item->second.size() : 0;
    const u64 count = state_.position < size ? std::min<u64>(out.size(), size - state_.position) : 0;
    if (count != 0) std::copy_n(item->second.begin() + state_.position, count, out.begin());
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(), u8{0});
    state_.position += static_cast<u32>(count);
}

/// False: an address was refused, or this cannot be done.
bool FwCfg::transfer(u32 control, u32 length, u64 address) {
    if ((control & kDmaSelect) != 0) {
        state_.selector = static_cast<u16>(control >> 16 & (kSelectorMask | kArchitecture));
        state_.position = 0;
    }
    if ((control & kDmaRead) != 0) {
        if (length > kMaxTransfer) return false;
        std::array<u8, 4096> piece{};
        for (u32 done = 0; done < length;) {
            const u32 count = std::min<u32>(length - done, piece.size());
            take(std::span(piece).first(count));
            if (!memory_->write(Iova(address + done), piece.data(), count)) return false;
            done += count;
        }
        return true;
    }
    if ((control & kDmaWrite) != 0) return false;
    if ((control & kDmaSkip) != 0) {
        const auto item = items_.find(state_.selector);
        const u64 size = item != items_.end() ? item->second.size() : 0;
        state_.position = static_cast<u32>(std::min<u64>(u64{state_.position} + length, std::max<u64>(size, state_.position)));
    }
    return true;
}

void FwCfg::run_dma(u64 address) {
    std::array<u8, 16> access{};
    if (!memory_->read(Iova(address), access.data(), access.size())) return;
    const u32 control = big_endian(&access[0]), length = big_endian(&access[4]);
    const u64 target = u64{big_endian(&access[8])} << 32 | big_endian(&access[12]);
    const u32 answer = swapped(transfer(control, length, target) ? 0 : kDmaError);
    (void)memory_->write(Iova(address), &answer, sizeof answer);
}

}  // namespace vg::devices
