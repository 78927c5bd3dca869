// The VMX instructions. SDM 3C "VMX Instruction Reference": the order of #UD, exits, #GP and VMfail is that of the operations there.
#include <cstring>

#include "base/bits.h"
#include "cpu/ops/exits.h"
#include "cpu/segments.h"
#include "cpu/spec/vmx.h"
#include "cpu/vmx/unit.h"

namespace vg::cpu::vmx {

namespace {

constexpr u32 kLock = 1, kVmxOutsideSmx = 4;

bool in_mode(const Interp& in) {
    const bool compatibility = in.vp.long_mode() && !in.s.segment(Seg::CS).l();
    return in.vp.protected_mode() && !in.vp.v8086() && !compatibility;
}

void set_status(VpState& s, u64 flags) { s.rflags = (s.rflags & ~flag::Status) | flags; }

}  // namespace

/// #UD, an exit of a guest, or #GP(0): what comes before everything else. True: the body returns `out`.
bool Unit::refused(Interp& in, const Insn& i, Exec& out) {
    if (!on_ || !in_mode(in)) {
        out = ops::undefined(in);
        return true;
    }
    if (ops::taken(in, i, virt::ExitReason::Vmx, out)) return true;
    if (in.vp.cpl() == 0) return false;
    out = ops::general_protection(in);
    return true;
}

Exec Unit::succeed(Interp& in, const Insn& i) {
    set_status(s_, 0);
    return ops::resync(in, i);
}

Exec Unit::fail_invalid(Interp& in, const Insn& i) {
    set_status(s_, flag::CF);
    return ops::resync(in, i);
}

/// VMfail: with a current VMCS, VMfailValid with the error number; without, VMfailInvalid.
Exec Unit::fail(Interp& in, const Insn& i, u32 error) {
    if (current_ == kNoVmcs) return fail_invalid(in, i);
    vmcs_.set(Field::insn_error, error);
    store_enlightened();
    set_status(s_, flag::ZF);
    return ops::resync(in, i);
}

bool Unit::read_pointer(Interp& in, const Insn& i, u64& pointer) { return in.load_operand(i, &pointer, sizeof pointer); }

/// Writes the current VMCS to its region.
void Unit::write_back() {
    if (current_ == kNoVmcs || enlightened_) return;
    std::array<u8, Vmcs::kUsedBytes> region;
    read_physical(current_, region.data(), Vmcs::kUsedBytes);
    vmcs_.write(region);
    write_physical(current_, region.data(), Vmcs::kUsedBytes);
}

void Unit::make_current(u64 pointer) {
    write_back();
    current_ = pointer;
    enlightened_ = false;
    vmcs_ = {};
    if (pointer == kNoVmcs) return;
    std::array<u8, Vmcs::kUsedBytes> region;
    read_physical(pointer, region.data(), Vmcs::kUsedBytes);
    vmcs_.read(region);
}

Exec Unit::vmxon(Interp& in, const Insn& i) {
    if (!in.vp.protected_mode() || in.vp.v8086() || (s_.cr4 & cr4::VMXE) == 0 || !in_mode(in)) return ops::undefined(in);
    Exec out{};
    if (on_) return refused(in, i, out) ? out : fail(in, i, error::kVmxonInRoot);
    if (in.vp.cpl() != 0) return ops::general_protection(in);
    const bool fixed = (caps_.cr0_must & ~s_.cr0) == 0 && (caps_.cr4_must & ~s_.cr4) == 0;
    const bool enabled = (s_.feature_control & (kLock | kVmxOutsideSmx)) == (kLock | kVmxOutsideSmx);
    if (!fixed || !enabled) return ops::general_protection(in);
    u64 pointer = 0;
    if (!read_pointer(in, i, pointer)) return in.vp.failed();
    if (!caps_.address_valid(pointer, 12)) return fail_invalid(in, i);
    if (read_physical<u32>(pointer) != kRevision) return fail_invalid(in, i);
    vmxon_pointer_ = pointer;
    current_ = kNoVmcs;
    on_ = true;
    vp_.require({caps_.cr0_must, caps_.cr4_must});
    return succeed(in, i);
}

Exec Unit::vmxoff(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    make_current(kNoVmcs);
    vmxon_pointer_ = kNoVmcs;
    on_ = false;
    vp_.require({});
    return succeed(in, i);
}

Exec Unit::vmclear(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    u64 pointer = 0;
    if (!read_pointer(in, i, pointer)) return in.vp.failed();
    if (!caps_.address_valid(pointer, 12)) return fail(in, i, error::kVmclearAddress);
    if (pointer == vmxon_pointer_) return fail(in, i, error::kVmclearVmxonPointer);
    if (pointer == current_) {
        vmcs_.launched = false;
        make_current(kNoVmcs);
    } else if (u64 ignored = 0; !vp_.platform().enlightened_vmcs(vp_, ignored)) {  // its pages have no launch state
        const u32 clear = 0;
        write_physical(pointer + Vmcs::kStateOffset, &clear, sizeof clear);
    }
    return succeed(in, i);
}

Exec Unit::vmptrld(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    u64 pointer = 0;
    if (!read_pointer(in, i, pointer)) return in.vp.failed();
    if (!caps_.address_valid(pointer, 12)) return fail(in, i, error::kVmptrldAddress);
    if (pointer == vmxon_pointer_) return fail(in, i, error::kVmptrldVmxonPointer);
    const u32 revision = read_physical<u32>(pointer);
    const bool shadow = (revision & kShadowIndicator) != 0;
    if ((revision & ~kShadowIndicator) != kRevision || (shadow && !caps_.has(Needs::ShadowVmcs)))
        return fail(in, i, error::kVmptrldRevision);
    if (pointer != current_) make_current(pointer);
    return succeed(in, i);
}

Exec Unit::vmptrst(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    const u64 pointer = enlightened_ ? kNoVmcs : current_;
    if (!in.store_operand(i, &pointer, sizeof pointer)) return in.vp.failed();
    return succeed(in, i);
}

/// The field that an encoding names. @param high  the upper half of a 64-bit field
bool Unit::field_of(u64 encoding, Field& field, bool& high) const {
    if (encoding >> 32 != 0) return false;
    high = (encoding & 1) != 0;
    const std::optional<Field> found = fields_.find(static_cast<u32>(encoding & ~u64{1}));
    if (!found) return false;
    field = *found;
    return !high || field_row(field).width() == Width::W64;
}

/// A guest's VMREAD or VMWRITE that goes to the shadow VMCS. SDM: it does if the bitmap's bit is 0, else it exits.
bool Unit::shadowed(Interp& in, const Insn& i) {
    if (!in.vp.guest_mode() || !proc2(proc2::kShadowVmcs)) return false;
    const bool write = i.op == Op::VMWRITE;
    const u64 encoding = in.gpr(write ? i[0].reg : i[1].reg, ops::in_64_bit(in) ? 8 : 4);
    if (encoding >> 15 != 0) return false;
    const u64 bitmap = vmcs_[write ? Field::vmwrite_bitmap : Field::vmread_bitmap];
    return !bit(read_physical<u8>(bitmap + encoding / 8), encoding & 7);
}

/// A hypervisor in 64-bit mode with a current VMCS in memory: nothing stands between VMREAD or VMWRITE and a field.
bool Unit::plain(const Interp& in) const {
    return on_ && !in.vp.guest_mode() && !enlightened_ && current_ != kNoVmcs && in.vp.cpl() == 0 &&
           in.vp.code_mode() == CodeMode::Bits64;
}

Exec Unit::vmread(Interp& in, const Insn& i) {
    if (i[0].kind == OperandKind::Gpr && plain(in)) [[likely]] {
        const u64 encoding = s_.gpr[i[1].reg];
        if (const auto field = encoding >> 32 == 0 ? fields_.find(static_cast<u32>(encoding)) : std::nullopt) {
            s_.gpr[i[0].reg] = vmcs_[*field];
            set_status(s_, 0);
            return Exec::Next;
        }
    }
    Exec out{};
    const bool shadow = on_ && in_mode(in) && shadowed(in, i);
    if (!shadow && refused(in, i, out)) return out;
    if (shadow && in.vp.cpl() != 0) return ops::general_protection(in);
    const u64 link = vmcs_[Field::vmcs_link_pointer];
    if (shadow ? link == kNoVmcs : current_ == kNoVmcs || enlightened_) return fail_invalid(in, i);
    const unsigned size = ops::in_64_bit(in) ? 8 : 4;
    Field field{};
    bool high = false;
    if (!field_of(in.gpr(i[1].reg, size), field, high)) return fail(in, i, error::kUnsupportedField);
    u64 value = vmcs_[field];
    if (shadow) value = truncate(field, read_physical<u64>(link + Vmcs::kFieldsOffset + 8 * static_cast<u64>(field)));
    if (high) value >>= 32;
    if (i[0].kind == OperandKind::Gpr)
        in.set_gpr(i[0].reg, size, value);
    else if (!in.store_operand(i, &value, size))
        return in.vp.failed();
    set_status(s_, 0);
    return Exec::Next;
}

Exec Unit::vmwrite(Interp& in, const Insn& i) {
    if (i[1].kind == OperandKind::Gpr && plain(in)) [[likely]] {
        const u64 encoding = s_.gpr[i[0].reg];
        if (const auto field = encoding >> 32 == 0 ? fields_.find(static_cast<u32>(encoding)) : std::nullopt) {
            vmcs_.set(*field, s_.gpr[i[1].reg]);
            set_status(s_, 0);
            return Exec::Next;
        }
    }
    Exec out{};
    const bool shadow = on_ && in_mode(in) && shadowed(in, i);
    if (!shadow && refused(in, i, out)) return out;
    if (shadow && in.vp.cpl() != 0) return ops::general_protection(in);
    const u64 link = vmcs_[Field::vmcs_link_pointer];
    const unsigned size = ops::in_64_bit(in) ? 8 : 4;
    u64 value = 0;
    if (i[1].kind == OperandKind::Gpr)
        value = in.gpr(i[1].reg, size);
    else if (!in.load_operand(i, &value, size))
        return in.vp.failed();
    if (shadow ? link == kNoVmcs : current_ == kNoVmcs || enlightened_) return fail_invalid(in, i);
    Field field{};
    bool high = false;
    if (!field_of(in.gpr(i[0].reg, size), field, high)) return fail(in, i, error::kUnsupportedField);
    const bool wide = field_row(field).width() == Width::W64;
    const u64 address = link + Vmcs::kFieldsOffset + 8 * static_cast<u64>(field);
    const u64 old = shadow ? read_physical<u64>(address) : vmcs_[field];
    if (high) value = with_bits(old, 63, 32, value);
    else if (wide && size == 4) value = with_bits(old, 31, 0, value);
    value = truncate(field, value);
    if (shadow) write_physical(address, &value, sizeof value);
    else vmcs_.set(field, value);
    set_status(s_, 0);
    return Exec::Next;
}

Exec Unit::vmcall(Interp& in, const Insn& i) {
    Exec out{};
    if (ops::taken(in, i, virt::ExitReason::Hypercall, out)) return out;  // in a guest, or of hv
    if (!on_) return ops::undefined(in);
    if (!in_mode(in)) return ops::undefined(in);
    if (in.vp.cpl() != 0) return ops::general_protection(in);
    return fail(in, i, error::kVmcallInRoot);
}

namespace {

/// INVEPT and INVVPID: register operand and descriptor.
struct Invalidation {
    u64 type = 0;
    u64 descriptor[2] = {};
};

}  // namespace

Exec Unit::invept(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    enum : u64 { kSingle = 1, kAll = 2 };
    Invalidation what{in.gpr(i[0].reg, ops::in_64_bit(in) ? 8 : 4), {}};
    if (what.type != kSingle && what.type != kAll) return fail(in, i, error::kInvalidInvalidation);
    if (!in.load_operand(i, what.descriptor, sizeof what.descriptor)) return in.vp.failed();
    if (what.type == kSingle && !caps_.ept_pointer_valid(what.descriptor[0])) return fail(in, i, error::kInvalidInvalidation);
    vp_.tlb().flush_slat(what.type == kSingle ? what.descriptor[0] : 0);
    return succeed(in, i);
}

Exec Unit::invvpid(Interp& in, const Insn& i) {
    Exec out{};
    if (refused(in, i, out)) return out;
    enum : u64 { kAddress = 0, kSingle = 1, kAll = 2, kSingleNonGlobal = 3 };
    Invalidation what{in.gpr(i[0].reg, ops::in_64_bit(in) ? 8 : 4), {}};
    if (what.type > kSingleNonGlobal) return fail(in, i, error::kInvalidInvalidation);
    if (!in.load_operand(i, what.descriptor, sizeof what.descriptor)) return in.vp.failed();
    const auto vpid = static_cast<u16>(what.descriptor[0]);
    const u64 address = what.descriptor[1];
    const bool named = what.type == kAll || vpid != 0;
    if (what.descriptor[0] >> 16 != 0 || !named || (what.type == kAddress && !canonical(address)))
        return fail(in, i, error::kInvalidInvalidation);
    mmu::Tlb& tlb = vp_.tlb();
    switch (what.type) {
        case kAddress: tlb.flush_page_tag(address, vpid); break;
        case kSingle: tlb.flush_tag(vpid, true); break;
        case kAll: tlb.flush_tags(); break;
        default: tlb.flush_tag(vpid, false); break;
    }
    return succeed(in, i);
}

/// Function 0 switches the EPT pointer. SDM 3C "VM Functions".
Exec Unit::vmfunc(Interp& in, const Insn& i) {
    if (!in.vp.guest_mode() || !proc2(proc2::kVmFunctions)) return ops::undefined(in);
    const u32 function = static_cast<u32>(s_.gpr[RAX]);
    if (function > 63) return ops::undefined(in);
    Exec out{};
    constexpr u32 kListEntries = 512;
    const u32 index = static_cast<u32>(s_.gpr[RCX]);
    if (bit(vmcs_[Field::vm_function_controls], function) && function == 0 && index < kListEntries) {
        const u64 pointer = read_physical<u64>(vmcs_[Field::eptp_list_address] + 8 * u64{index});
        if (caps_.ept_pointer_valid(pointer)) {
            vmcs_.set(Field::ept_pointer, pointer);
            vmcs_.set(Field::eptp_index, index);
            vp_.levels().back().controls.slat = slat_mode();
            vp_.update_context();
            return ops::resync(in, i);
        }
    }
    return ops::taken(in, i, virt::ExitReason::Vmx, out) ? out : ops::undefined(in);
}

}  // namespace vg::cpu::vmx

namespace vg::cpu::ops {

// Without VMX the rows of these instructions are #UD before their bodies are asked.
Exec VMXON(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmxon(in, i); }
Exec VMXOFF(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmxoff(in, i); }
Exec VMCLEAR(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmclear(in, i); }
Exec VMPTRLD(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmptrld(in, i); }
Exec VMPTRST(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmptrst(in, i); }
Exec VMREAD(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmread(in, i); }
Exec VMWRITE(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmwrite(in, i); }
Exec VMLAUNCH(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->enter(in, i, true); }
Exec VMRESUME(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->enter(in, i, false); }
Exec INVEPT(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->invept(in, i); }
Exec INVVPID(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->invvpid(in, i); }
Exec VMFUNC(Interp& in, const Insn& i) { return vmx::unit_of(in.vp)->vmfunc(in, i); }

}  // namespace vg::cpu::ops
