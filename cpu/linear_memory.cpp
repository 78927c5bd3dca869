#include "cpu/linear_memory.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/execution_observer.h"
#include "cpu/insn.h"
#include "cpu/segments.h"
#include "cpu/spec/bits.h"
#include "cpu/vp.h"

namespace vg::cpu {
namespace {

using mmu::Access;
using mmu::Privilege;

constexpr u32 kMaxSize = 64;
constexpr mmu::Accessor kBySelf{mmu::Accessor::Kind::Processor};
/// How often one access may have its walk completed from outside (each of up to 4 + 4 table accesses once, and some).
constexpr unsigned kWalkExits = 16;

/// Copies with one host access for the sizes that the architecture makes atomic when aligned.
void copy(void* to, const void* from, u32 size) {
    switch (size) {
        case 1: std::memcpy(to, from, 1); return;
        case 2: std::memcpy(to, from, 2); return;
        case 4: std::memcpy(to, from, 4); return;
        case 8: std::memcpy(to, from, 8); return;
        case 16: std::memcpy(to, from, 16); return;
        case 32: std::memcpy(to, from, 32); return;
        default: std::memcpy(to, from, size); return;
    }
}

bool crosses_page(u64 address, u32 size) { return (address & kPageMask) + size > kPageSize; }

/// SDM 3A "Alignment Check Exception": the alignment that an operand of this size needs; vectors as measured.
u32 alignment_of(u32 size) {
    switch (size) {
        case 10: return 8;   // double extended precision
        case 6: return 4;    // far pointers, pseudo-descriptors
        case 32: return 16;
        case 64: return 2;   // a piece of a save area: the rest of an x87 image tells, the others are aligned anyway
        default: return std::has_single_bit(size) ? size : size % 4 == 0 ? 4 : 2;  // x87 images and what is left of them
    }
}

}  // namespace

/// The part of an access that lies in one page, and what is there.
struct LinearMemory::Piece {
    enum class Kind : u8 { Host, Physical, Apic, Exit };
    Kind kind = Kind::Host;
    u64 address = 0;
    u32 size = 0;
    u8* host = nullptr;
    Gpa gpa;
    Spa spa;
    mmu::SlatFault slat;  ///< Exit
};

struct LinearMemory::Pieces {
    Piece piece[2];
    u32 count = 0;
};

u16 LinearMemory::pcid() const {
    const mmu::PagingMode& mode = vp_.tlb().mode();
    return mode.pcide ? static_cast<u16>(mode.cr3 & 0xfff) : u16{0};
}

Privilege LinearMemory::privilege(As as) const {
    return as == As::Current ? vp_.tlb().privilege() : Privilege::Supervisor;
}

bool LinearMemory::misaligned(u64 address, u32 size, As as) const {
    const VpState& s = vp_.state();
    if ((s.rflags & flag::AC) == 0 || (s.cr0 & cr0::AM) == 0 || s.cpl != 3 || as != As::Current) [[likely]] return false;
    return (address & (alignment_of(size) - 1)) != 0;
}

/// An access that was done, for the data breakpoints and the log. Implicit accesses are neither compared nor noted.
/// @param data  what was read or written; null: not known yet
inline void LinearMemory::watch(u64 address, u32 size, bool write, As as, const void* data) {
    if (as != As::Current) return;
    if ((vp_.state().dr[7] & 0xff) != 0) [[unlikely]] vp_.note_access(address, size, write);
    if (log_ != nullptr) [[unlikely]] log_->add(address, size, write, data);
}

/// Canonical address and alignment; makes the address a 32-bit one outside 4-level paging.
bool LinearMemory::check(u64& address, u32 size, As as, bool stack) {
    VG_ASSERT(size >= 1 && size <= kMaxSize);
    if (vp_.tlb().mode().kind == mmu::PagingKind::Level4) {
        if (!canonical(address) || !canonical(address + size - 1)) {
            vp_.raise(stack ? kStackFault : kGeneralProtection, 0);
            return false;
        }
    } else {
        address &= 0xffffffff;
    }
    if (misaligned(address, size, as)) {
        vp_.raise(kAlignmentCheck, 0);
        return false;
    }
    return true;
}

/// A page that the second level withholds, of a partition's own APIC.
bool LinearMemory::is_apic_page(Gpa gpa) const { return vp_.tlb().is_apic_page(gpa, mmu::Tlb::ApicSpace::Guest); }

/// Finds out what one page's part of an access meets. False: a fault was recorded or the VP leaves.
bool LinearMemory::locate_page(u64 address, u32 size, Access access, Privilege privilege, Piece& out) {
    mmu::Tlb& tlb = vp_.tlb();
    out = {};
    out.address = address;
    out.size = size;
    if (privilege == tlb.privilege() && access != Access::Fetch) {
        out.host = access == Access::Write ? tlb.find_write(address) : tlb.find_read(address);
        if (out.host != nullptr) return true;
    }
    for (unsigned attempt = 0; attempt < kWalkExits; ++attempt) {
        const mmu::Tlb::Mapping mapping = tlb.resolve(address, access, privilege);
        const mmu::Translation& t = mapping.translation;
        switch (t.status) {
            case mmu::Translation::Status::Ok:
                out.host = mapping.host;
                out.gpa = t.gpa;
                out.spa = t.spa;
                if (out.host == nullptr) out.kind = tlb.is_apic_page(t) ? Piece::Kind::Apic : Piece::Kind::Physical;
                if (t.spa.page_base() == tlb.apic_access_page()) [[unlikely]]
                    return offer_apic_access(access, out);
                return true;
            case mmu::Translation::Status::Fault:
                // SDM 3A "Operations that Invalidate TLBs and Paging-Structure Caches": a page fault is one, for its own
                // page and PCID. Systems that copy on write without INVLPG rely on it.
                tlb.flush_page_pcid(address, pcid());
                vp_.raise_page_fault(address, t.fault.error_code);
                return false;
            case mmu::Translation::Status::SlatFault:
                break;
        }
        out.gpa = t.slat_fault.gpa;
        out.slat = t.slat_fault;
        if (!t.slat_fault.during_walk && (t.slat_fault.below || !vp_.controls().switches_worlds)) {
            out.kind = is_apic_page(out.gpa) ? Piece::Kind::Apic : Piece::Kind::Exit;
            return true;
        }
        if (offer_memory(access, out, 0) == Answer::Failed) return false;
    }
    // The owner keeps answering without making the tables readable: to the guest they are not there.
    vp_.raise_page_fault(address, 0);
    return false;
}

bool LinearMemory::locate(u64 address, u32 size, Access access, As as, bool stack, Pieces& out) {
    if (!check(address, size, as, stack)) return false;
    const Privilege who = privilege(as);
    const u32 first = static_cast<u32>(std::min<u64>(size, kPageSize - (address & kPageMask)));
    if (!locate_page(address, first, access, who, out.piece[0])) return false;
    out.count = 1;
    if (first == size) return true;
    u64 next = address + first;
    if (vp_.tlb().mode().kind != mmu::PagingKind::Level4) next &= 0xffffffff;
    out.count = 2;
    return locate_page(next, size - first, access, who, out.piece[1]);
}

/// Registers are 32 bits at multiples of 16; the bytes between read as zero. SDM 3A "Local APIC Register Address Map".
void LinearMemory::apic_read(u32 offset, u8* out, u32 size) {
    while (size != 0) {
        const u32 word = offset & ~3u, skip = offset & 3, count = std::min(size, 4 - skip);
        const u32 value = (word & 15) == 0 ? vp_.apic().mmio_read(word) : 0;
        std::memcpy(out, reinterpret_cast<const u8*>(&value) + skip, count);
        offset += count;
        out += count;
        size -= count;
    }
}

/// Only aligned 32-bit pieces reach a register: what other accesses do is undefined, here they do nothing.
void LinearMemory::apic_write(u32 offset, const u8* data, u32 size) {
    for (; size >= 4 && (offset & 3) == 0; offset += 4, data += 4, size -= 4) {
        u32 value;
        std::memcpy(&value, data, 4);
        if ((offset & 15) == 0) vp_.apic().mmio_write(offset, value);
    }
}

/// An exit for an access that the second level refused. @param size  0: of a paging structure, or nothing to complete
LinearMemory::Answer LinearMemory::offer_memory(Access access, const Piece& piece, u32 size, const u8* data) {
    virt::Exit& exit = vp_.exit();
    exit = {};
    exit.reason = virt::ExitReason::Memory;
    exit.write = access == Access::Write;
    exit.size = static_cast<u8>(size);
    exit.gpa = piece.gpa;
    exit.gva = Gva(piece.address);
    exit.slat = piece.slat;
    describe_instruction();
    if (data != nullptr) std::memcpy(size <= 8 ? static_cast<void*>(&exit.value) : exit.data, data, size);
    switch (vp_.offer_exit()) {
        case virt::Action::Complete:
        case virt::Action::Skip: return Answer::Done;
        case virt::Action::Inject:
        case virt::Action::Leave:
        case virt::Action::Switch: return Answer::Failed;
        case virt::Action::Default: break;
    }
    return Answer::Nobody;
}

void LinearMemory::describe_instruction() {
    virt::Exit& exit = vp_.exit();
    exit.insn = vp_.executing();
    exit.insn_length = exit.insn != nullptr ? exit.insn->length : u8{0};
}

/// An access to the page that stands for a guest's APIC. False: it exits. The owner may send it elsewhere.
bool LinearMemory::offer_apic_access(Access access, Piece& piece) {
    virt::Exit& exit = vp_.exit();
    exit = {};
    exit.reason = virt::ExitReason::ApicAccess;
    exit.write = access == Access::Write;
    exit.size = static_cast<u8>(piece.size);
    exit.gpa = piece.gpa;
    exit.gva = Gva(piece.address);
    exit.slat.access = access;
    describe_instruction();
    const virt::Action action = vp_.offer_exit();
    if (action == virt::Action::Complete) piece.spa = Spa(exit.value);  // where the owner keeps the register
    return action == virt::Action::Default || action == virt::Action::Complete;
}

bool LinearMemory::read_piece(const Piece& piece, u8* out, Privilege privilege) {
    switch (piece.kind) {
        case Piece::Kind::Host: copy(out, piece.host, piece.size); return true;
        case Piece::Kind::Physical: vp_.physical().read(piece.spa, out, piece.size, kBySelf); return true;
        case Piece::Kind::Apic: apic_read(piece.gpa.offset(), out, piece.size); return true;
        case Piece::Kind::Exit: break;
    }
    switch (offer_memory(Access::Read, piece, piece.size)) {
        case Answer::Done:
            std::memcpy(out, piece.size <= 8 ? &vp_.exit().value : vp_.exit().data, piece.size);
            return true;
        case Answer::Failed: return false;
        case Answer::Nobody: break;
    }
    // Nobody claims it. The owner may have mapped the page meanwhile; otherwise it is a hole.
    Piece again;
    if (!locate_page(piece.address, piece.size, piece.slat.access, privilege, again)) return false;
    if (again.kind != Piece::Kind::Exit) return read_piece(again, out, privilege);
    std::memset(out, 0xff, piece.size);
    return true;
}

bool LinearMemory::write_piece(const Piece& piece, const u8* data, Privilege privilege) {
    switch (piece.kind) {
        case Piece::Kind::Host: copy(piece.host, data, piece.size); return true;
        case Piece::Kind::Physical: vp_.physical().write(piece.spa, data, piece.size, kBySelf); return true;
        case Piece::Kind::Apic: apic_write(piece.gpa.offset(), data, piece.size); return true;
        case Piece::Kind::Exit: break;
    }
    switch (offer_memory(Access::Write, piece, piece.size, data)) {
        case Answer::Done: return true;
        case Answer::Failed: return false;
        case Answer::Nobody: break;
    }
    Piece again;
    if (!locate_page(piece.address, piece.size, Access::Write, privilege, again)) return false;
    return again.kind == Piece::Kind::Exit || write_piece(again, data, privilege);
}

bool LinearMemory::read(u64 address, void* out, u32 size, As as, bool stack) {
    mmu::Tlb& tlb = vp_.tlb();
    if (!crosses_page(address, size) && privilege(as) == tlb.privilege() && !misaligned(address, size, as)) [[likely]] {
        if (const u8* host = tlb.find_read(address)) {
            copy(out, host, size);
            watch(address, size, false, as, out);
            return true;
        }
    }
    Pieces pieces;
    if (!locate(address, size, Access::Read, as, stack, pieces)) return false;
    // All of it or nothing: the caller's buffer may be a register.
    u8 data[kMaxSize];
    u32 offset = 0;
    for (u32 i = 0; i < pieces.count; ++i) {
        if (!read_piece(pieces.piece[i], data + offset, privilege(as))) return false;
        offset += pieces.piece[i].size;
    }
    copy(out, data, size);
    watch(address, size, false, as, out);
    return true;
}

bool LinearMemory::write(u64 address, const void* data, u32 size, As as, bool stack) {
    mmu::Tlb& tlb = vp_.tlb();
    if (!crosses_page(address, size) && privilege(as) == tlb.privilege() && !misaligned(address, size, as)) [[likely]] {
        if (u8* host = tlb.find_write(address)) {
            copy(host, data, size);
            watch(address, size, true, as, data);
            return true;
        }
    }
    Pieces pieces;
    if (!locate(address, size, Access::Write, as, stack, pieces)) return false;
    const u8* const from = static_cast<const u8*>(data);
    // Exits first: they can still refuse, and then nothing may have been written.
    for (const bool exits : {true, false}) {
        for (u32 i = 0; i < pieces.count; ++i) {
            const Piece& piece = pieces.piece[i];
            if ((piece.kind == Piece::Kind::Exit) != exits) continue;
            if (!write_piece(piece, from + (i == 0 ? 0 : pieces.piece[0].size), privilege(as))) return false;
        }
    }
    watch(address, size, true, as, data);
    return true;
}

bool LinearMemory::probe_write(u64 address, u32 size, As as, bool stack) {
    // A page that the second level withholds is no failure yet: the write itself will ask its owner.
    Pieces pieces;
    return locate(address, size, Access::Write, as, stack, pieces);
}

u8* LinearMemory::direct(u64 address, u32 size, bool for_write, As as, bool stack) {
    mmu::Tlb& tlb = vp_.tlb();
    direct_failed_ = false;
    if (!crosses_page(address, size) && privilege(as) == tlb.privilege() && !misaligned(address, size, as)) [[likely]] {
        if (u8* host = for_write ? tlb.find_write(address) : tlb.find_read(address)) {
            watch(address, size, for_write, as, for_write ? nullptr : host);
            return host;
        }
    }
    Pieces pieces;
    direct_failed_ = !locate(address, size, for_write ? Access::Write : Access::Read, as, stack, pieces);
    if (direct_failed_ || pieces.count != 1 || pieces.piece[0].kind != Piece::Kind::Host) return nullptr;
    watch(address, size, for_write, as, for_write ? nullptr : pieces.piece[0].host);
    return pieces.piece[0].host;
}

u32 LinearMemory::fetch(u64 address, u8* out, u32 want) {
    VG_ASSERT(want >= 1 && want <= kMaxSize);
    if (vp_.tlb().mode().kind != mmu::PagingKind::Level4) {
        address &= 0xffffffff;
    } else if (!canonical(address)) {
        vp_.raise(kGeneralProtection, 0);
        return 0;
    }
    const u32 count = static_cast<u32>(std::min<u64>(want, kPageSize - (address & kPageMask)));
    const Privilege who = vp_.tlb().privilege();
    Piece piece;
    if (!locate_page(address, count, Access::Fetch, who, piece)) return 0;
    return read_piece(piece, out, who) ? count : 0;
}

bool LinearMemory::peek(u64 address, void* out, u32 size) {
    mmu::Tlb& tlb = vp_.tlb();
    u8* to = static_cast<u8*>(out);
    while (size != 0) {
        if (tlb.mode().kind == mmu::PagingKind::Level4 && !canonical(address)) return false;
        const mmu::Translation t =
            mmu::peek_walk(vp_.physical(), tlb.mode(), tlb.slat(), Gva(address), Access::Read, false);
        if (t.status != mmu::Translation::Status::Ok) return false;
        const u8* host = vp_.physical().readable(t.spa);
        if (host == nullptr) return false;
        const u32 count = static_cast<u32>(std::min<u64>(size, kPageSize - (address & kPageMask)));
        std::memcpy(to, host, count);
        address += count;
        to += count;
        size -= count;
    }
    return true;
}

}  // namespace vg::cpu
