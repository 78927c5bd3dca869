#include "devices/fw_cfg.h"

#include <algorithm>

#include "base/assert.h"

namespace vg::devices {

namespace {

constexpr std::size_t kNameBytes = 56;
constexpr u16 kSelectorMask = 0x3fff;  // bit 14 asked for write mode in old boards, bit 15 for architecture items
constexpr u16 kArchitecture = 0x8000;

void append_big_endian(std::vector<u8>& out, u64 value, unsigned bytes) {
    for (unsigned i = bytes; i-- > 0;) out.push_back(static_cast<u8>(value >> (i * 8)));
}

}  // namespace

FwCfg::FwCfg() {
    set(kSignature, {'Q', 'E', 'M', 'U'});
    set_number(kId, 1, 4);  // bit 0: this interface; bit 1 would be DMA
    rebuild_directory();
}

void FwCfg::fields(StateVisitor& v) {
    v("selector", state_.selector);
    v("position", state_.position);
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
    return size == 1 ? IoStatus::Ok : IoStatus::BadSize;  // items are read-only: data writes are dropped
}

}  // namespace vg::devices
