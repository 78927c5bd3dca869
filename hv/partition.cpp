#include "hv/partition.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "base/state.h"
#include "hv/device_guard.h"
#include "hv/gpa_space.h"
#include "hv/hypervisor.h"
#include "hv/overlay.h"
#include "hv/spec/msr.h"
#include "hv/stimer.h"
#include "hv/synic.h"
#include "hv/vp.h"
#include "hv/vp_control.h"

namespace vg::hv {
namespace {

constexpr mmu::SlatPermissions kCodePage{.read = true, .write = false, .execute = true};
constexpr mmu::SlatPermissions kDataPage{.read = true, .write = true, .execute = false};

}  // namespace

struct Partition::Impl {
    explicit Impl(Partition& partition)
        : space(
              partition.hypervisor_.memory(), partition.hypervisor_.log(),
              partition.guest_parent() == nullptr ? nullptr : &partition.hypervisor_.ledger(),
              [&pool = partition.pool()] { return pool.allocate(); },
              [&pool = partition.pool()](Spa page) { pool.free(page); },
              [this, &partition](Gpa first, u64 size) { flush(partition, first, size); }),
          clock(partition.hypervisor_.events().now()),
          hypercall_page(partition, kCodePage),
          reference_page(partition, kDataPage) {}

    void flush(Partition& partition, Gpa first, u64 size) const {
        if (DeviceGuard* guard = partition.hypervisor_.device_guard()) guard->flush(partition.id_, first, size);
        if (closing) return;
        for (const auto& vp : partition.vps_) {
            vp->processor().hold_off();
            vp->processor().tlb().flush_slat(space.mode().root);
        }
    }

    GpaSpace space;
    ReferenceTime clock;
    OverlayPage hypercall_page, reference_page;
    u32 tsc_sequence = 0;
    bool tsc_page_valid = false;
    u64 frozen_time = 0;
    bool closing = false;
};

Partition::Partition(Hypervisor& hypervisor, PartitionNode& node, InterceptSink& sink)
    : hypervisor_(hypervisor),
      node_(node),
      id_(node.id),
      config_(node.config),
      sink_(sink),
      impl_(std::make_unique<Impl>(*this)) {
    VG_ASSERT(impl_->space.mode().root != 0);
    hypercall_msr = impl_->hypercall_page.preset();
    reference_tsc_msr = impl_->reference_page.preset();
}

Partition::~Partition() {
    impl_->closing = true;
    vps_.clear();
    impl_->hypercall_page.remove();
    impl_->reference_page.remove();
}

Partition* Partition::guest_parent() const { return node_.parent == nullptr ? nullptr : node_.parent->partition.get(); }

MemoryPool& Partition::pool() { return node_.pool; }

// ---- memory

Result<void> Partition::map_memory(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions) {
    return impl_->space.map(gpa, spa, size, permissions);
}

Result<void> Partition::unmap_memory(Gpa gpa, u64 size) { return impl_->space.unmap(gpa, size); }

std::optional<Spa> Partition::translate(Gpa gpa) const {
    const std::optional<GpaBacking> backing = impl_->space.find(gpa);
    return backing ? std::optional(backing->spa) : std::nullopt;
}

std::optional<GpaBacking> Partition::backing(Gpa gpa) const { return impl_->space.find(gpa); }

bool Partition::contains(Gpa gpa) const { return impl_->space.contains(gpa); }

void Partition::show_root_pages() {
    impl_->hypercall_page.show_at_home();
    impl_->reference_page.show_at_home();
}

void Partition::release_shown_pages() {
    for (const auto& vp : vps_) vp->control().unmap_pages();
}

mmu::SlatMode Partition::slat() const { return impl_->space.mode(); }

u64 Partition::table_pages() const { return impl_->space.table_pages(); }

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

std::span<u8> Partition::memory_at(Gpa gpa, u64 size, bool write) {
    mmu::PhysicalMemory& memory = hypervisor_.memory();
    u8* first = nullptr;
    u64 found = 0;
    while (found < size) {
        const Gpa at = gpa + found;
        const std::optional<GpaBacking> page = impl_->space.find(at);
        if (!page || !(write ? page->permissions.write : page->permissions.read)) break;
        u8* const host = memory.ram(page->spa);
        if (host == nullptr || (first != nullptr && host != first + found)) break;
        if (write ? !memory.writable_directly(page->spa) : memory.read_watched(page->spa.page_base())) break;
        if (first == nullptr) first = host;
        found += std::min(size - found, kPageSize - at.offset());
    }
    return {first, found};
}

Result<void> Partition::show_memory() { return impl_->space.show(); }

void Partition::discard_memory(Gpa gpa, u64 size) {
    mmu::PhysicalMemory& memory = hypervisor_.memory();
    Spa first;
    u64 run = 0;
    const auto discard = [&] {
        memory.discard(first, run);
        run = 0;
    };
    for (u64 at = 0; at < size; at += kPageSize) {
        const std::optional<GpaBacking> page = impl_->space.find(gpa + at);
        const bool own = page && !page->overlay && page->permissions.write && memory.ram(page->spa) != nullptr;
        if (run != 0 && (!own || page->spa != first + run)) discard();
        if (!own) continue;
        if (run == 0) first = page->spa;
        run += kPageSize;
    }
    discard();
}

void Partition::add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions) {
    impl_->space.add_overlay(gpa, page, permissions);
}

void Partition::remove_overlay(Gpa gpa, Spa page) { impl_->space.remove_overlay(gpa, page); }

bool Partition::is_hypercall_page(Gpa gpa) const {
    return translate(gpa.page_base()) == impl_->hypercall_page.page() && impl_->hypercall_page.placed();
}

// ---- virtual processors

Vp& Partition::create_vp(u32 index, const cpu::CpuModel& model, u32 apic_id) {
    VG_ASSERT(index < config_.max_vps && find_vp(index) == nullptr);
    if (vps_.empty()) {
        // H-50..H-52: the vendor's instruction, RET, and breakpoints for whoever runs past it.
        std::array<u8, kPageSize> code;
        code.fill(0xcc);
        const bool intel = model.vendor() == cpu::Vendor::Intel;
        const std::array<u8, 4> call{0x0f, 0x01, static_cast<u8>(intel ? 0xc1 : 0xd9), 0xc3};
        std::copy(call.begin(), call.end(), code.begin());
        hypervisor_.memory().write(impl_->hypercall_page.page(), code.data(), code.size());
    }
    const auto place = std::ranges::lower_bound(vps_, index, {}, [](const auto& vp) { return vp->index(); });
    const std::optional<u64> tsc_offset =
        vps_.empty() ? std::nullopt : std::optional(vps_.front()->processor().state().tsc_offset);
    Vp& vp = **vps_.insert(place, std::make_unique<Vp>(*this, index, model, apic_id));
    // One that comes later has the same TSC as the others (S-93).
    if (tsc_offset) vp.processor().state().tsc_offset = *tsc_offset;
    if (VpHost* host = hypervisor_.vp_host()) host->vp_created(vp.processor());
    return vp;
}

void Partition::delete_vp(u32 index) {
    std::erase_if(vps_, [index](const auto& vp) { return vp->index() == index; });
}

Vp* Partition::find_vp(u32 index) const {
    if (index < vps_.size() && vps_[index]->index() == index) return vps_[index].get();
    const auto it = std::ranges::lower_bound(vps_, index, {}, [](const auto& vp) { return vp->index(); });
    return it != vps_.end() && (*it)->index() == index ? it->get() : nullptr;
}

void Partition::post_own_message(u32 vp_index, u8 sint, u32 type, std::span<const u8> payload, u64 origin) {
    if (Vp* vp = find_vp(vp_index)) vp->synic().post_own(sint, type, payload, origin);
}

void Partition::forget_messages_from(u64 origin) {
    for (const auto& vp : vps_) vp->synic().forget_messages_from(origin);
}

void Partition::apply_cpuid_results(u32 leaf, u32 subleaf, std::span<u32, 4> regs) const {
    for (const u32 key : {ParentPolicy::kAnySubleaf, subleaf}) {
        const auto found = policy_.cpuid_results.find({leaf, key});
        if (found == policy_.cpuid_results.end()) continue;
        const ParentPolicy::CpuidResult& result = found->second;
        for (unsigned i = 0; i < 4; ++i) regs[i] = (regs[i] & ~result.mask[i]) | (result.value[i] & result.mask[i]);
    }
}

void Partition::apply_policy() {
    for (const auto& vp : vps_) vp->apply_policy();
}

HvStatus Partition::post_message(u32 vp_index, u8 sint, u32 type, std::span<const u8> payload, u64 origin) {
    Vp* vp = find_vp(vp_index);
    return vp == nullptr ? HvStatus::InvalidVpIndex : vp->synic().post(sint, type, origin, payload);
}

HvStatus Partition::signal_event(u32 vp_index, u8 sint, u16 flag) {
    Vp* vp = find_vp(vp_index);
    return vp == nullptr ? HvStatus::InvalidVpIndex : vp->synic().signal(sint, flag);
}

// ---- time

u64 Partition::reference_time() const {
    return policy_.time_frozen ? impl_->frozen_time : impl_->clock.at(hypervisor_.events().now());
}
const ReferenceTime& Partition::reference_clock() const { return impl_->clock; }

void Partition::freeze_time(bool frozen) {
    if (frozen == policy_.time_frozen) return;
    if (frozen) {
        impl_->frozen_time = reference_time();
        invalidate_reference_page();
        policy_.time_frozen = true;
    } else {
        policy_.time_frozen = false;
        set_reference_time(impl_->frozen_time);
    }
    for (const auto& vp : vps_) vp->timers().time_changed();
}

void Partition::set_reference_time(u64 value) {
    if (policy_.time_frozen) {
        impl_->frozen_time = value;
        return;
    }
    impl_->clock.set(hypervisor_.events().now(), value);
    invalidate_reference_page();
    refresh_reference_page();
}

void Partition::invalidate_reference_page() {
    impl_->tsc_page_valid = false;
    // Readers see sequence 0 and use the counter MSR, which does not depend on any TSC (S-92).
    hypervisor_.memory().write(impl_->reference_page.page(), kTscSequenceInvalid);
}

void Partition::refresh_reference_page() {
    if (impl_->tsc_page_valid || !impl_->reference_page.placed() || vps_.empty() || policy_.time_frozen) return;
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
    if ((value & hypercall_msr::kEnable) != 0 && !contains(placed_page(value))) return false;
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
    hypercall_msr = impl_->hypercall_page.preset();
    set_reference_tsc_msr(impl_->reference_page.preset());
    msrs = {};
    crash_ = {};
    for (const auto& vp : vps_) vp->reset();
}

// ---- state

namespace {

void access_map(StateVisitor& v, std::string_view name, std::map<u32, u32>& map) {
    std::vector<u32> keys, values;
    for (const auto& [key, value] : map) {
        keys.push_back(key);
        values.push_back(value);
    }
    VisitScope scope(v, name);
    v("key", keys, ParentPolicy::kLimit);
    v("access", values, ParentPolicy::kLimit);
    if (!v.loading()) return;
    map.clear();
    for (std::size_t i = 0; i < keys.size() && i < values.size(); ++i) map[keys[i]] = values[i];
}

void policy_fields(StateVisitor& v, ParentPolicy& policy) {
    VisitScope scope(v, "policy");
    access_map(v, "msr_intercepts", policy.msr_intercepts);
    access_map(v, "cpuid_intercepts", policy.cpuid_intercepts);
    v("unknown_msr_access", policy.unknown_msr_access);
    v("exceptions", policy.exceptions);
    v("hypercalls", policy.hypercalls);
    v("unknown_connections", policy.unknown_connections);
    v("retargets", policy.retargets);
    for (auto& [leaf, result] : policy.cpuid_results) {
        VisitScope row(v, fmt::format("cpuid_{:x}_{:x}", leaf.first, leaf.second));
        v("value", result.value);
        v("mask", result.mask);
    }
    v("ignore_unknown_msrs", policy.ignore_unknown_msrs);
    v("suspended", policy.suspended);
    v("time_frozen", policy.time_frozen);
}

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
    policy_fields(v, policy_);
    v("frozen_time", impl_->frozen_time, Fmt::Dec);
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
