// Pages that show a VP to its parent, and whole images of its state. K-170..K-176.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"
#include "cpu/control_registers.h"
#include "hv/hypercalls/target.h"
#include "hv/page_ledger.h"
#include "hv/spec/vp_state.h"
#include "hv/stimer.h"
#include "hv/synic.h"
#include "hv/vp_control.h"
#include "hv/xsave_image.h"

namespace vg::hv::hypercalls {
namespace {

using Page = std::array<u8, kPageSize>;

LocalApicState apic_state(const cpu::ApicImage& image) {
    LocalApicState out{};
    out.id = image.id;
    out.version = image.version;
    out.ldr = image.ldr;
    out.dfr = image.dfr;
    out.svr = image.svr;
    std::copy(image.isr.begin(), image.isr.end(), out.isr);
    std::copy(image.tmr.begin(), image.tmr.end(), out.tmr);
    std::copy(image.irr.begin(), image.irr.end(), out.irr);
    out.esr = out.error_status = image.esr;
    out.icr_high = static_cast<u32>(image.icr >> 32);
    out.icr_low = static_cast<u32>(image.icr);
    out.lvt_cmci = image.lvt[0];
    out.lvt_timer = image.lvt[1];
    out.lvt_thermal = image.lvt[2];
    out.lvt_perfmon = image.lvt[3];
    out.lvt_lint0 = image.lvt[4];
    out.lvt_lint1 = image.lvt[5];
    out.lvt_error = image.lvt[6];
    out.initial_count = image.initial_count;
    out.current_count = image.current_count;
    out.divide = image.divide;
    return out;
}

cpu::ApicImage apic_image(const LocalApicState& in) {
    cpu::ApicImage out;
    out.ldr = in.ldr;
    out.dfr = in.dfr;
    out.svr = in.svr;
    std::copy(std::begin(in.isr), std::end(in.isr), out.isr.begin());
    std::copy(std::begin(in.tmr), std::end(in.tmr), out.tmr.begin());
    std::copy(std::begin(in.irr), std::end(in.irr), out.irr.begin());
    out.esr = in.esr;
    out.icr = u64{in.icr_high} << 32 | in.icr_low;
    out.lvt = {in.lvt_cmci, in.lvt_timer, in.lvt_thermal, in.lvt_perfmon, in.lvt_lint0, in.lvt_lint1, in.lvt_error};
    out.initial_count = in.initial_count;
    out.current_count = in.current_count;
    out.divide = in.divide;
    return out;
}

/// The image of a state that goes by pages, or its size 0 if there is no such type.
u32 save(Vp& vp, u32 type, Page& out) {
    mmu::PhysicalMemory& memory = vp.partition().hypervisor().memory();
    switch (static_cast<VpStateType>(type)) {
        case VpStateType::LocalApic: {
            const LocalApicState state = apic_state(vp.processor().apic().image());
            std::memcpy(out.data(), &state, sizeof state);
            return sizeof state;
        }
        case VpStateType::Xsave:
            return save_xsave(vp.processor(), out);
        case VpStateType::MessagePage:
            memory.read(vp.synic().message_page(), out.data(), out.size());
            return kPageSize;
        case VpStateType::EventFlagsPage:
            memory.read(vp.synic().event_page(), out.data(), out.size());
            return kPageSize;
        case VpStateType::SyntheticTimers:
            break;
    }
    return 0;
}

HvStatus load(Vp& vp, u32 type, const Page& in) {
    mmu::PhysicalMemory& memory = vp.partition().hypervisor().memory();
    switch (static_cast<VpStateType>(type)) {
        case VpStateType::LocalApic: {
            LocalApicState state;
            std::memcpy(&state, in.data(), sizeof state);
            vp.processor().apic().load(apic_image(state));
            return HvStatus::Success;
        }
        case VpStateType::Xsave:
            return load_xsave(vp.processor(), in) ? HvStatus::Success : HvStatus::InvalidParameter;
        case VpStateType::MessagePage:
            memory.write(vp.synic().message_page(), in.data(), in.size());
            break;
        case VpStateType::EventFlagsPage:
            memory.write(vp.synic().event_page(), in.data(), in.size());
            break;
        case VpStateType::SyntheticTimers:
            return HvStatus::InvalidParameter;
    }
    return HvStatus::Success;
}

bool known(u32 type) {
    switch (static_cast<VpStateType>(type)) {
        case VpStateType::LocalApic:
        case VpStateType::Xsave:
        case VpStateType::MessagePage:
        case VpStateType::EventFlagsPage:
        case VpStateType::SyntheticTimers:
            return true;
    }
    return false;
}

HvStatus check_page_type(u16 type) {
    switch (static_cast<StatePage>(type)) {
        case StatePage::Registers:
        case StatePage::InterceptMessage:
            return HvStatus::Success;
        case StatePage::Ghcb:
            return HvStatus::FeatureUnavailable;
    }
    return HvStatus::InvalidParameter;
}

}  // namespace

HvStatus map_vp_state_page(Vp& caller, const MapStatePageIn& in, u64& pfn) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (const HvStatus status = check_page_type(in.type); status != HvStatus::Success) return status;
    constexpr u8 kLocationProvided = 1;
    if ((in.flags & kLocationProvided) != 0) return HvStatus::FeatureUnavailable;
    Spa page;
    const HvStatus status = target.vp->control().map_page(static_cast<StatePage>(in.type), page);
    pfn = page.page();
    return status;
}

HvStatus unmap_vp_state_page(Vp& caller, const UnmapStatePageIn& in) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (const HvStatus status = check_page_type(in.type); status != HvStatus::Success) return status;
    return target.vp->control().unmap_page(static_cast<StatePage>(in.type));
}

HvStatus get_vp_state(Vp& caller, const VpStateIn& in, VariableHeader pages, SizedOutput<0>& out) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (!known(in.type)) return HvStatus::InvalidParameter;
    if ((in.type & kVpStateByPages) == 0) {
        const SyntheticTimersState state = target.vp->timers().save();
        out.size = sizeof state;
        std::memcpy(out.bytes, &state, sizeof state);
        return HvStatus::Success;
    }
    if (pages.empty()) return HvStatus::InvalidParameter;
    Page image{};
    const u32 size = save(*target.vp, in.type, image);
    if (pages.front() >= u64{1} << 52 || !caller.partition().write_memory(Gpa(pages.front() << 12), image.data(), size))
        return HvStatus::InvalidParameter;
    return HvStatus::Success;
}

HvStatus set_vp_state(Vp& caller, const VpStateIn& in, VariableHeader data) {
    const VpTarget target = find_target_vp(caller, find_child(caller, in.partition_id), in.vp_index);
    if (!target) return target.status;
    if (!known(in.type)) return HvStatus::InvalidParameter;
    if ((in.type & kVpStateByPages) == 0) {
        SyntheticTimersState state;
        if (data.size_bytes() < sizeof state) return HvStatus::InvalidHypercallInput;
        std::memcpy(&state, data.data(), sizeof state);
        return target.vp->timers().load(state) ? HvStatus::Success : HvStatus::InvalidParameter;
    }
    if (data.empty()) return HvStatus::InvalidParameter;
    Page image;
    if (data.front() >= u64{1} << 52 ||
        !caller.partition().read_memory(Gpa(data.front() << 12), image.data(), image.size()))
        return HvStatus::InvalidParameter;
    return load(*target.vp, in.type, image);
}

}  // namespace vg::hv::hypercalls
