#include "hv/partition.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "hv/gpa_space.h"
#include "hv/hypervisor.h"
#include "hv/overlay.h"
#include "hv/spec/msr.h"
#include "hv/synic.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

constexpr mmu::SlatPermissions kCodePage{.read = true, .write = false, .execute = true};
constexpr mmu::SlatPermissions kDataPage{.read = true, .write = true, .execute = false};

}  // namespace

struct Partition::Impl {
    explicit Impl(Partition& partition)
        : space(
              partition.hypervisor_.memory(), partition.hypervisor_.log(),
              [&hypervisor = partition.hypervisor_] { return hypervisor.allocate_page(); },
              [&hypervisor = partition.hypervisor_](Spa page) { hypervisor.free_page(page); },
              [this, &partition] { flush(partition); }),
          clock(partition.hypervisor_.events().now()),
          hypercall_page(partition, kCodePage),
          reference_page(partition, kDataPage) {}

    void flush(Partition& partition) const {
        if (closing) return;
        for (const auto& vp : partition.vps_) vp->processor().tlb().flush_slat(space.mode().root);
    }

    GpaSpace space;
    ReferenceTime clock;
    OverlayPage hypercall_page, reference_page;
    u32 tsc_sequence = 0;
    bool tsc_page_valid = false;
    bool closing = false;
};

Partition::Partition(Hypervisor& hypervisor, u64 id, PartitionConfig config, InterceptSink& sink)
    : hypervisor_(hypervisor), id_(id), config_(std::move(config)), sink_(sink), impl_(std::make_unique<Impl>(*this)) {
    VG_ASSERT(impl_->space.mode().root != 0);
}

Partition::~Partition() {
    impl_->closing = true;
    vps_.clear();
    impl_->hypercall_page.remove();
    impl_->reference_page.remove();
}

// ---- memory

Result<void> Partition::map_memory(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions) {
    return impl_->space.map(gpa, spa, size, permissions);
}

Result<void> Partition::unmap_memory(Gpa gpa, u64 size) { return impl_->space.unmap(gpa, size); }

std::optional<Spa> Partition::translate(Gpa gpa) const {
    const std::optional<GpaBacking> backing = impl_->space.find(gpa);
    return backing ? std::optional(backing->spa) : std::nullopt;
}

mmu::SlatMode Partition::slat() const { return impl_->space.mode(); }

bool Partition::readable(Gpa gpa) const {
    const std::optional<GpaBacking> backing = impl_->space.find(gpa);
    if (!backing || !backing->permissions.read) return false;
    const mmu::Region* region = hypervisor_.memory().find(backing->spa);
    return region != nullptr && region->kind != mmu::RegionKind::Mmio;
}

bool Partition::writable(Gpa gpa) const {
    const std::optional<GpaBacking> backing = impl_->space.find(gpa);
    return backing && backing->permissions.write && hypervisor_.memory().ram(backing->spa) != nullptr;
}

bool Partition::read_memory(Gpa gpa, void* out, u64 size) const {
    u8* to = static_cast<u8*>(out);
    while (size != 0) {
        const u64 part = std::min(size, kPageSize - gpa.offset());
        if (!readable(gpa)) return false;
        hypervisor_.memory().read(*translate(gpa), to, part);
        to += part;
        size -= part;
        gpa = gpa + part;
    }
    return true;
}

bool Partition::write_memory(Gpa gpa, const void* data, u64 size) {
    const u8* from = static_cast<const u8*>(data);
    while (size != 0) {
        const u64 part = std::min(size, kPageSize - gpa.offset());
        if (!writable(gpa)) return false;
        hypervisor_.memory().write(*translate(gpa), from, part);
        from += part;
        size -= part;
        gpa = gpa + part;
    }
    return true;
}

void Partition::add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions) {
    impl_->space.add_overlay(gpa, page, permissions);
}

void Partition::remove_overlay(Gpa gpa, Spa page) { impl_->space.remove_overlay(gpa, page); }

bool Partition::is_hypercall_page(Gpa gpa) const {
    return translate(gpa.page_base()) == impl_->hypercall_page.page() && impl_->hypercall_page.placed();
}

// ---- virtual processors

Vp& Partition::create_vp(const cpu::CpuModel& model, u32 apic_id) {
    VG_ASSERT(vps_.size() < config_.max_vps);
    if (vps_.empty()) {
        // H-50..H-52: the vendor's instruction, RET, and breakpoints for whoever runs past it.
        std::array<u8, kPageSize> code;
        code.fill(0xcc);
        const bool intel = model.vendor() == cpu::Vendor::Intel;
        const std::array<u8, 4> call{0x0f, 0x01, static_cast<u8>(intel ? 0xc1 : 0xd9), 0xc3};
        std::copy(call.begin(), call.end(), code.begin());
        hypervisor_.memory().write(impl_->hypercall_page.page(), code.data(), code.size());
    }
    vps_.push_back(std::make_unique<Vp>(*this, static_cast<u32>(vps_.size()), model, apic_id));
    return *vps_.back();
}

Vp* Partition::find_vp(u32 index) const { return index < vps_.size() ? vps_[index].get() : nullptr; }

HvStatus Partition::post_message(u32 vp_index, u8 sint, u32 type, std::span<const u8> payload, u64 origin) {
    Vp* vp = find_vp(vp_index);
    return vp == nullptr ? HvStatus::InvalidVpIndex : vp->synic().post(sint, type, origin, payload);
}

HvStatus Partition::signal_event(u32 vp_index, u8 sint, u16 flag) {
    Vp* vp = find_vp(vp_index);
    return vp == nullptr ? HvStatus::InvalidVpIndex : vp->synic().signal(sint, flag);
}

// ---- time

u64 Partition::reference_time() const { return impl_->clock.at(hypervisor_.events().now()); }
const ReferenceTime& Partition::reference_clock() const { return impl_->clock; }

void Partition::invalidate_reference_page() {
    impl_->tsc_page_valid = false;
    // Readers see sequence 0 and use the counter MSR, which does not depend on any TSC (S-92).
    hypervisor_.memory().write(impl_->reference_page.page(), kTscSequenceInvalid);
}

void Partition::refresh_reference_page() {
    if (impl_->tsc_page_valid || !impl_->reference_page.placed() || vps_.empty()) return;
    const u64 offset = vps_.front()->processor().state().tsc_offset;
    for (const auto& vp : vps_)
        if (vp->processor().state().tsc_offset != offset) return;
    if (!impl_->clock.rebase(hypervisor_.events().now(), offset)) return;
    do {
        ++impl_->tsc_sequence;
    } while (impl_->tsc_sequence == kTscSequenceInvalid || impl_->tsc_sequence == kTscSequenceLegacyInvalid);
    mmu::PhysicalMemory& memory = hypervisor_.memory();
    const Spa page = impl_->reference_page.page();
    memory.write(page, impl_->clock.page(kTscSequenceInvalid));
    memory.write(page + offsetof(ReferenceTscPage, sequence), impl_->tsc_sequence);
    impl_->tsc_page_valid = true;
}

// ---- partition-wide registers

bool Partition::allows(Gate gate) const {
    if (gate == Gate::None) return true;
    const unsigned index = static_cast<unsigned>(gate);
    if (index < 64) return bit(config_.privileges, index);
    return index < 96 ? bit(config_.features_edx, index - 64) : bit(config_.hints_eax, index - 96);
}

void Partition::set_guest_os_id(u64 value) {
    guest_os_id = value;
    if (value != 0) return;
    hypercall_msr &= ~hypercall_msr::kEnable;
    impl_->hypercall_page.remove();
}

bool Partition::set_hypercall_msr(u64 value) {
    if ((hypercall_msr & hypercall_msr::kLocked) != 0 || (value & hypercall_msr::kReserved) != 0) return false;
    if (guest_os_id == 0) value &= ~hypercall_msr::kEnable;
    if ((value & hypercall_msr::kEnable) != 0 && !translate(placed_page(value))) return false;
    hypercall_msr = value;
    impl_->hypercall_page.place(value);
    return true;
}

void Partition::set_reference_tsc_msr(u64 value) {
    reference_tsc_msr = value;
    invalidate_reference_page();
    impl_->reference_page.place_zeroed(value);
    refresh_reference_page();
}

void Partition::reset() {
    // Reference time goes on: it counts from the partition's creation (M-06).
    set_guest_os_id(0);
    hypercall_msr = 0;
    set_reference_tsc_msr(0);
    msrs = {};
    crash_ = {};
    for (const auto& vp : vps_) vp->reset();
}

// ---- state

namespace {

void visit_hypercall_counts(StateVisitor& v, std::map<u16, HypercallCount>& counts) {
    VisitScope scope(v, "hypercall_counts");
    std::vector<std::pair<u16, HypercallCount>> rows(counts.begin(), counts.end());
    constexpr u32 kCodes = 0x10000;
    u32 count = static_cast<u32>(rows.size());
    v("count", count, Fmt::Dec);
    rows.resize(std::min(count, kCodes));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        VisitScope row(v, std::to_string(i));
        v("code", rows[i].first);
        v("calls", rows[i].second.calls, Fmt::Dec);
        v("failures", rows[i].second.failures, Fmt::Dec);
    }
    if (v.loading()) counts = std::map<u16, HypercallCount>(rows.begin(), rows.end());
}

}  // namespace

void Partition::fields(StateVisitor& v) {
    v("guest_os_id", guest_os_id);
    v("hypercall_msr", hypercall_msr);
    v("reference_tsc_msr", reference_tsc_msr);
    v("reenlightenment", msrs.reenlightenment);
    v("tsc_emulation", msrs.tsc_emulation);
    v("tsc_invariant", msrs.tsc_invariant);
    v("tsc_sequence", impl_->tsc_sequence, Fmt::Dec);
    v("tsc_page_valid", impl_->tsc_page_valid);
    const auto group = [&v](std::string_view name, auto& object) {
        VisitScope scope(v, name);
        object.fields(v);
    };
    group("reference_clock", impl_->clock);
    group("gpa_space", impl_->space);
    group("hypercall_page", impl_->hypercall_page);
    group("reference_page", impl_->reference_page);
    {
        VisitScope scope(v, "crash");
        v("notified", crash_.notified);
        v("p", crash_.p);
        v("control", crash_.control);
        v("message", crash_.message);
    }
    visit_hypercall_counts(v, hypercall_counts_);
    for (const auto& vp : vps_) {
        VisitScope scope(v, "vp" + std::to_string(vp->index()));
        vp->fields(v);
    }
}

}  // namespace vg::hv
