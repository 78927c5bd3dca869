#include "devices/core/pci.h"

#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace pci;

namespace {

constexpr bool overlaps(u32 a, u32 a_size, u32 b, u32 b_size) { return a < b + b_size && b < a + a_size; }

}  // namespace

PciFunction::PciFunction(const PciSlot& slot, const Identity& identity) : slot_(slot) {
    VG_ASSERT(identity.class_code <= 0xffffff);
    set_register(kVendorId, 2, identity.vendor);
    set_register(kDeviceId, 2, identity.device);
    set_register(kRevision, 4, identity.class_code << 8 | identity.revision);
    set_register(kSubsystemVendorId, 2, identity.subsystem_vendor);
    set_register(kSubsystemId, 2, identity.subsystem);
    set_register(kCommand, 2, 0, kCommandWritable);
    set_register(kInterruptLine, 1, 0, 0xff);
    clears_[kStatus + 1] = kErrorStatus >> 8;
}

u32 PciFunction::peek(u32 offset, unsigned size) const {
    VG_ASSERT(fits(offset, size, kConfigSize));
    u32 value = 0;
    std::memcpy(&value, &config_[offset], size);
    return value;
}

void PciFunction::poke(u32 offset, unsigned size, u32 value) { std::memcpy(&config_[offset], &value, size); }

void PciFunction::set_register(u32 offset, unsigned size, u32 value, u32 writable) {
    VG_ASSERT(fits(offset, size, kConfigSize));
    poke(offset, size, value);
    std::memcpy(&initial_[offset], &value, size);
    std::memcpy(&writable_[offset], &writable, size);
}

void PciFunction::set_multi_function() { set_register(kHeaderType, 1, kMultiFunction); }

void PciFunction::set_interrupt_pin(u8 pin) {
    VG_ASSERT(pin >= 1 && pin <= 4);
    set_register(kInterruptPin, 1, pin);
}

void PciFunction::add_memory_bar(u32 index, u64 size, Memory kind, mmu::MmioHandler& handler) {
    const bool wide = kind != Memory::Bits32;
    VG_ASSERT(index + (wide ? 1 : 0) < kBarCount && std::has_single_bit(size) && size >= 16 &&
              (wide || size < u64{1} << 32));
    const u32 type = (wide ? kBarMemory64 : 0) | (kind == Memory::Bits64Prefetchable ? kBarPrefetchable : 0);
    bars_[index] = {size, false, wide, &handler, nullptr};
    const u64 writable = ~(size - 1);
    set_register(kBar0 + index * 4, 4, type, static_cast<u32>(writable));
    if (wide) set_register(kBar0 + index * 4 + 4, 4, 0, static_cast<u32>(writable >> 32));
}

void PciFunction::add_io_bar(u32 index, u32 size, PortIo& handler) {
    VG_ASSERT(index < kBarCount && std::has_single_bit(size) && size >= 4 && size <= 256);
    bars_[index] = {size, true, false, nullptr, &handler};
    set_register(kBar0 + index * 4, 4, kBarIo, ~(size - 1));
}

u32 PciFunction::add_capability(u8 id, u32 size) {
    const u32 at = next_capability_;
    next_capability_ += static_cast<u32>(align_up(size, 4));
    VG_ASSERT(next_capability_ <= kLegacyConfigSize);
    set_register(last_link_, 1, at);
    set_register(at, 1, id);
    last_link_ = at + 1;
    set_register(kStatus, 2, kCapabilityList);
    return at;
}

u32 PciFunction::add_vendor_capability(std::span<const u8> body) {
    constexpr u32 kHeaderBytes = 3;
    const u32 size = kHeaderBytes + static_cast<u32>(body.size());
    const u32 at = add_capability(kCapVendor, size);
    set_register(at + 2, 1, size);
    for (u32 i = 0; i < body.size(); ++i) set_register(at + kHeaderBytes + i, 1, body[i]);
    return at;
}

void PciFunction::on_config_read(u32 offset, unsigned size, std::function<u32(u32, unsigned)> reader) {
    VG_ASSERT(!reader_ && fits(offset, size, kConfigSize));
    reader_ = std::move(reader);
    reader_at_ = offset;
    reader_size_ = size;
}

u32 PciFunction::config_read(u32 offset, unsigned size) {
    if (reader_ && overlaps(offset, size, reader_at_, reader_size_)) return reader_(offset, size);
    return peek(offset, size);
}

void PciFunction::add_power_management() {
    power_ = add_capability(kCapPowerManagement, kPmSize);
    set_register(power_ + kPmCapabilities, 2, kPmVersion3);
    set_register(power_ + kPmControl, 2, kPmNoSoftReset, kPmStateMask);
}

void PciFunction::add_msi(u32 vectors) {
    VG_ASSERT(std::has_single_bit(vectors) && vectors <= 32);
    msi_ = add_capability(kCapMsi, kMsiSize);
    const u32 capable = static_cast<u32>(std::countr_zero(vectors)) << 1;
    set_register(msi_ + kMsiControl, 2, kMsi64Bit | kMsiPerVectorMask | capable, kMsiEnable | 0x70);
    set_register(msi_ + kMsiAddress, 4, 0, ~u32{3});
    set_register(msi_ + kMsiAddressHigh, 4, 0, ~u32{0});
    set_register(msi_ + kMsiData, 2, 0, 0xffff);
    set_register(msi_ + kMsiMask, 4, 0, static_cast<u32>(low_mask(vectors)));
}

void PciFunction::add_msix(u32 vectors, u32 bar, u32 table_offset, u32 pba_offset) {
    VG_ASSERT(bar < kBarCount && bars_[bar].memory != nullptr);
    VG_ASSERT(fits(table_offset, u64{vectors} * kMsixEntrySize, bars_[bar].size) &&
              fits(pba_offset, align_up(vectors, 64) / 8, bars_[bar].size));
    msix_ = std::make_unique<MsixTable>(vectors, table_offset, pba_offset,
                                        [this](u64 address, u32 data) { send(address, data); });
    msix_bar_ = bar;
    msix_cap_ = add_capability(kCapMsix, kMsixSize);
    set_register(msix_cap_ + kMsixControl, 2, vectors - 1, kMsixEnable | kMsixFunctionMask);
    set_register(msix_cap_ + kMsixTable, 4, table_offset | bar);
    set_register(msix_cap_ + kMsixPba, 4, pba_offset | bar);
}

void PciFunction::add_express(std::function<void()> function_reset) {
    function_reset_ = std::move(function_reset);
    express_ = add_capability(kCapExpress, kExpSize);
    set_register(express_ + kExpCapabilities, 2, kExpVersion2 | kExpRootComplexEndpoint);
    set_register(express_ + kExpDeviceCapabilities, 4, kExpRoleBasedErrors | (function_reset_ ? kExpFunctionReset : 0));
    set_register(express_ + kExpDeviceControl, 2, kExpControlReset, kExpControlWritable);
    clears_[express_ + kExpDeviceStatus] = kExpStatusErrors;
}

void PciFunction::reset() {
    config_ = initial_;
    if (msix_) msix_->reset();
    intx_ = false;
    slot_.intx.set(false);
    update_decodes();
}

void PciFunction::fields(StateVisitor& v) {
    VisitScope scope(v, "pci");
    v("config", config_);
    v("intx", intx_);
    if (msix_) msix_->fields(v);
    if (!v.loading()) return;
    update_intx();
    update_decodes();
}

bool PciFunction::Gate::read(Iova address, void* out, u64 size) {
    return function_.may_master() && function_.slot_.dma.read(address, out, size);
}

bool PciFunction::Gate::write(Iova address, const void* data, u64 size) {
    return function_.may_master() && function_.slot_.dma.write(address, data, size);
}

// ---- Configuration

void PciFunction::config_write(u32 offset, unsigned size, u32 value) {
    VG_ASSERT((size == 1 || size == 2 || size == 4) && offset % size == 0 && fits(offset, size, kConfigSize));
    for (u32 i = 0; i < size; ++i) {
        const u8 byte = static_cast<u8>(value >> (i * 8)), mask = writable_[offset + i];
        u8& held = config_[offset + i];
        held = static_cast<u8>(((held & ~mask) | (byte & mask)) & ~(byte & clears_[offset + i]));
    }
    after_write(offset, size, value);
    if (write_observer_) write_observer_(offset, size);
}

void PciFunction::after_write(u32 offset, unsigned size, u32 value) {
    const auto touches = [&](u32 at, u32 count) { return overlaps(offset, size, at, count); };
    if (power_ != 0 && touches(power_ + kPmControl, 1)) {
        // Only D0 and D3hot are there: "If software attempts to write an unsupported, optional state to this field, the
        // write operation must complete normally; however, the data is discarded and no state change occurs."
        const u8 state = config_[power_ + kPmControl] & kPmStateMask;
        if (state == 1 || state == 2) config_[power_ + kPmControl] &= static_cast<u8>(~kPmStateMask);
        update_decodes();
    }
    if (touches(kCommand, 2)) {
        update_decodes();
        update_intx();
    }
    if (touches(kBar0, kBarCount * 4)) update_decodes();
    if (msi_ != 0 && touches(msi_, kMsiSize)) {
        send_pending_msi();
        update_intx();
    }
    if (msix_cap_ != 0 && touches(msix_cap_ + kMsixControl, 2)) {
        msix_->set_active(msix_enabled() && (peek(msix_cap_ + kMsixControl, 2) & kMsixFunctionMask) == 0);
        update_intx();
    }
    if (express_ != 0 && function_reset_ && touches(express_ + kExpDeviceControl + 1, 1)) {
        const u32 high_byte = value >> ((express_ + kExpDeviceControl + 1 - offset) * 8);
        if ((high_byte & (kExpInitiateReset >> 8)) != 0) function_reset_();
    }
}

void PciFunction::update_decodes() {
    decodes_.clear();
    const bool awake = power_ == 0 || (config_[power_ + kPmControl] & kPmStateMask) == 0;
    for (u32 i = 0; awake && i < kBarCount; ++i) {
        const Bar& bar = bars_[i];
        if (bar.size == 0 || (command() & (bar.io ? kIoSpace : kMemorySpace)) == 0) continue;
        u64 base = peek(kBar0 + i * 4, 4);
        if (bar.wide) base |= u64{peek(kBar0 + i * 4 + 4, 4)} << 32;
        base &= bar.io ? ~u64{3} : ~u64{15};
        decodes_.push_back({base, bar.size, i, bar.io});
    }
    if (decode_observer_) decode_observer_();
}

u64 PciFunction::memory_read(u32 bar, u64 offset, unsigned size) {
    if (in_msix(bar, offset)) return msix_->read(offset, size);
    return bars_[bar].memory->mmio_read(offset, size);
}

void PciFunction::memory_write(u32 bar, u64 offset, unsigned size, u64 value) {
    if (in_msix(bar, offset)) return msix_->write(offset, size, value);
    bars_[bar].memory->mmio_write(offset, size, value);
}

// ---- Interrupts

bool PciFunction::msi_enabled() const { return msi_ != 0 && (peek(msi_ + kMsiControl, 2) & kMsiEnable) != 0; }
bool PciFunction::msix_enabled() const {
    return msix_cap_ != 0 && (peek(msix_cap_ + kMsixControl, 2) & kMsixEnable) != 0;
}

u32 PciFunction::enabled_vectors() const {
    if (msix_enabled()) return msix_->vectors();
    if (!msi_enabled()) return 1;
    // "When MSI is enabled, a function will be allocated at least 1 vector"; not more than it asked for.
    const u64 control = peek(msi_ + kMsiControl, 2);
    return 1u << std::min(bits(control, 6, 4), bits(control, 3, 1));
}

void PciFunction::update_intx() {
    config_[kStatus] = static_cast<u8>((config_[kStatus] & ~kInterruptStatus) | (intx_ ? kInterruptStatus : 0));
    slot_.intx.set(intx_ && !messages_enabled() && (command() & kIntxDisable) == 0);
}

void PciFunction::set_intx(bool level) {
    if (intx_ == level) return;
    intx_ = level;
    update_intx();
}

void PciFunction::send(u64 address, u32 data) {
    if (may_master()) slot_.messages.send(address, data);  // a message is a memory write of this function
}

void PciFunction::signal(u32 vector) {
    if (msix_enabled()) return msix_->signal(vector);
    if (!msi_enabled()) return;
    vector &= enabled_vectors() - 1;
    poke(msi_ + kMsiPending, 4, peek(msi_ + kMsiPending, 4) | 1u << vector);
    send_pending_msi();
}

void PciFunction::send_pending_msi() {
    if (!msi_enabled()) return;
    const u32 ready = peek(msi_ + kMsiPending, 4) & ~peek(msi_ + kMsiMask, 4);
    if (ready == 0) return;
    poke(msi_ + kMsiPending, 4, peek(msi_ + kMsiPending, 4) & ~ready);
    const u64 address = peek(msi_ + kMsiAddress, 4) | u64{peek(msi_ + kMsiAddressHigh, 4)} << 32;
    const u32 data = peek(msi_ + kMsiData, 2), vectors = enabled_vectors();
    for (u32 vector = 0; vector < 32; ++vector) {
        if (bit(ready, vector)) send(address, (data & ~(vectors - 1)) | (vector & (vectors - 1)));
    }
}

}  // namespace vg::devices
