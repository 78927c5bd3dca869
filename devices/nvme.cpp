#include "devices/nvme.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"

namespace vg::devices {

using namespace nvme;

namespace {

constexpr u32 kMsixTable = 0x2000, kMsixPending = 0x3000;

}  // namespace

Nvme::Nvme(const PciSlot& slot, EventQueue& events, u32 index)
    : name_(fmt::format("nvme{}", index)),
      index_(index),
      events_(events),
      pci_(slot, {.vendor = 0x1414,
                  .device = 0xb111,
                  .class_code = 0x010802,
                  .subsystem_vendor = 0x1414,
                  .subsystem = 0xb111}),
      timer_(events.add(name_, [this](VTime) { run_next(); })) {
    pci_.add_memory_bar(0, kRegisterBytes, PciFunction::Memory::Bits64, *this);
    pci_.set_interrupt_pin(1);
    pci_.add_power_management();
    pci_.add_msix(kQueues, 0, kMsixTable, kMsixPending);
    pci_.add_express([this] { reset(); });
}

Nvme::State Nvme::fresh() {
    State state;
    state.features[kFeatureWriteCache] = 1;
    return state;
}

void Nvme::reset() {
    events_.cancel(timer_);
    state_ = fresh();
    pci_.reset();
}

void Nvme::fields(StateVisitor& v) {
    pci_.fields(v);
    v("interrupt_mask", state_.interrupt_mask);
    v("cc", state_.cc);
    v("csts", state_.csts);
    v("aqa", state_.aqa);
    v("asq", state_.asq);
    v("acq", state_.acq);
    v("features", state_.features);
    v("next_queue", state_.next_queue, Fmt::Dec);
    v("event_requests", state_.event_requests, Fmt::Dec);
    v("free_at", state_.free_at, Fmt::Dec);
    for (u32 i = 0; i < kQueues; ++i) {
        VisitScope scope(v, fmt::format("queue{}", i));
        SubmissionQueue& sq = state_.sq[i];
        CompletionQueue& cq = state_.cq[i];
        v("sq_base", sq.base);
        v("sq_entries", sq.entries, Fmt::Dec);
        v("sq_head", sq.head, Fmt::Dec);
        v("sq_tail", sq.tail, Fmt::Dec);
        v("sq_completion", sq.completion, Fmt::Dec);
        v("cq_base", cq.base);
        v("cq_entries", cq.entries, Fmt::Dec);
        v("cq_head", cq.head, Fmt::Dec);
        v("cq_tail", cq.tail, Fmt::Dec);
        v("cq_vector", cq.vector, Fmt::Dec);
        v("cq_phase", cq.phase);
        v("cq_interrupts", cq.interrupts);
        if (v.loading() && sq.completion >= kQueues) sq.completion = 0;
    }
    if (v.loading()) state_.next_queue %= kQueues;
}

// ---- Registers

u32 Nvme::read(u32 offset) const {
    switch (offset) {
        case kCap:
            return static_cast<u32>(kCapValue);
        case kCap + 4:
            return static_cast<u32>(kCapValue >> 32);
        case kVs:
            return kVersion;
        case kIntms:
        case kIntmc:
            return state_.interrupt_mask;
        case kCc:
            return state_.cc;
        case kCsts:
            return state_.csts;
        case kAqa:
            return state_.aqa;
        case kAsq:
            return static_cast<u32>(state_.asq);
        case kAsq + 4:
            return static_cast<u32>(state_.asq >> 32);
        case kAcq:
            return static_cast<u32>(state_.acq);
        case kAcq + 4:
            return static_cast<u32>(state_.acq >> 32);
        default:
            return 0;
    }
}

void Nvme::write(u32 offset, u32 value) {
    if (offset >= kDoorbells) return write_doorbell((offset - kDoorbells) / 4, value);
    switch (offset) {
        case kIntms:
            state_.interrupt_mask |= value;
            update_pin();
            break;
        case kIntmc:
            state_.interrupt_mask &= ~value;
            update_pin();
            break;
        case kCc:
            configure(value);
            break;
        case kAqa:
            state_.aqa = value & 0x0fff0fff;
            break;
        case kAsq:
            state_.asq = with_bits(state_.asq, 31, 0, value & ~u32{0xfff});
            break;
        case kAsq + 4:
            state_.asq = with_bits(state_.asq, 63, 32, value);
            break;
        case kAcq:
            state_.acq = with_bits(state_.acq, 31, 0, value & ~u32{0xfff});
            break;
        case kAcq + 4:
            state_.acq = with_bits(state_.acq, 63, 32, value);
            break;
        default:
            break;
    }
}

u64 Nvme::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; i += 4) {
        const u64 at = align_down(offset + i, 4);
        if (at < kRegisterBytes) value |= u64{read(static_cast<u32>(at))} << (i * 8);
    }
    return (value >> (offset % 4 * 8)) & low_mask(size * 8);
}

/// Registers are written as 32- or 64-bit words (§3.1); narrower writes are dropped.
void Nvme::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset % 4 != 0) return;
    for (unsigned i = 0; i + 4 <= size; i += 4) {
        if (offset + i < kRegisterBytes) write(static_cast<u32>(offset + i), static_cast<u32>(value >> (i * 8)));
    }
}

void Nvme::configure(u32 value) {
    const u32 before = state_.cc;
    state_.cc = value & kCcWritable;
    if ((before & kEnable) == 0 && (value & kEnable) != 0) enable();
    if ((before & kEnable) != 0 && (value & kEnable) == 0) disable();
    if ((value & kShutdownMask) != 0 && (before & kShutdownMask) == 0) {
        if (medium_ != nullptr && !medium_->read_only()) (void)medium_->flush();
        state_.csts |= kShutdownDone;
    } else if ((value & kShutdownMask) == 0) {
        state_.csts &= ~kShutdownDone;
    }
}

void Nvme::enable() {
    constexpr u32 kPageShift = 0xf << 7, kCommandSet = 7 << 4, kArbitration = 7 << 11;
    if ((state_.cc & (kPageShift | kCommandSet | kArbitration)) != 0) return fatal();
    state_.sq[0] = {state_.asq, static_cast<u32>(bits(state_.aqa, 11, 0)) + 1, 0, 0, 0};
    state_.cq[0] = {state_.acq, static_cast<u32>(bits(state_.aqa, 27, 16)) + 1, 0, 0, 0, true, true};
    if (state_.sq[0].entries < 2 || state_.cq[0].entries < 2) return fatal();
    state_.csts |= kReady;
}

/// Controller reset: all but the admin queues' registers (§3.1.5, CC.EN).
void Nvme::disable() {
    events_.cancel(timer_);
    State next = fresh();
    next.cc = state_.cc;
    next.aqa = state_.aqa;
    next.asq = state_.asq;
    next.acq = state_.acq;
    state_ = next;
    pci_.set_intx(false);
}

/// The queues cannot be reached or were never possible: only a reset helps.
void Nvme::fatal() {
    events_.cancel(timer_);
    state_.csts |= kFatal;
}

/// Submission tails are even, completion heads odd. A value outside of its queue, or a queue that is not there, is
/// ignored.
void Nvme::write_doorbell(u32 index, u32 value) {
    const u32 queue = index / 2;
    if (queue >= kQueues || (state_.csts & kReady) == 0) return;
    if (index % 2 == 0) {
        if (value >= state_.sq[queue].entries) return;
        state_.sq[queue].tail = value;
    } else {
        if (value >= state_.cq[queue].entries) return;
        state_.cq[queue].head = value;
        update_pin();
    }
    arm();
}

// ---- Queues

bool Nvme::runnable(const SubmissionQueue& queue) const {
    return queue.entries != 0 && queue.head != queue.tail && state_.cq[queue.completion].entries != 0 &&
           !state_.cq[queue.completion].full();
}

void Nvme::arm() {
    if (events_.armed(timer_) || (state_.csts & kFatal) != 0) return;
    if (std::none_of(state_.sq.begin(), state_.sq.end(), [this](const auto& queue) { return runnable(queue); })) return;
    events_.arm(timer_, std::max(events_.now(), state_.free_at) + kCommandLatency);
}

void Nvme::run_next() {
    for (u32 i = 0; i < kQueues; ++i) {
        const u32 number = (state_.next_queue + i) % kQueues;
        SubmissionQueue& queue = state_.sq[number];
        if (!runnable(queue)) continue;
        state_.next_queue = (number + 1) % kQueues;
        Command command{};
        if (!pci_.dma().read(Iova(queue.base + queue.head * sizeof command), &command, sizeof command)) return fatal();
        queue.head = (queue.head + 1) % queue.entries;
        state_.free_at = 0;
        // Neither fused commands nor scatter-gather lists.
        const Answer answer = (command.flags & 0xc3) != 0 ? Answer{kInvalidField}
                              : number == 0               ? admin(command)
                                                          : io(command);
        if (!answer.silent) complete(number, command.id, answer);
        break;
    }
    arm();
}

void Nvme::complete(u32 sq, u16 command_id, const Answer& answer) {
    CompletionQueue& queue = state_.cq[state_.sq[sq].completion];
    const u16 phase = queue.phase ? 1 : 0;
    const Completion entry{answer.result,        0,          static_cast<u16>(state_.sq[sq].head),
                           static_cast<u16>(sq), command_id, static_cast<u16>(answer.status << 1 | phase)};
    if (!pci_.dma().write(Iova(queue.base + queue.tail * sizeof entry), &entry, sizeof entry)) return fatal();
    queue.tail = (queue.tail + 1) % queue.entries;
    if (queue.tail == 0) queue.phase = !queue.phase;
    if (!queue.interrupts) return;
    if (pci_.messages_enabled()) {
        pci_.signal(queue.vector);
    } else {
        update_pin();
    }
}

void Nvme::update_pin() {
    const bool pending = std::any_of(state_.cq.begin(), state_.cq.end(), [this](const CompletionQueue& queue) {
        return queue.entries != 0 && queue.interrupts && queue.head != queue.tail &&
               (queue.vector >= 32 || !bit(state_.interrupt_mask, queue.vector));
    });
    pci_.set_intx(pending);
}

// ---- Memory

u16 Nvme::gather(const Command& command, u64 bytes, std::vector<Piece>& pieces) {
    pieces.clear();
    if (command.prp1 % 4 != 0) return kInvalidPrpOffset;
    const u64 first = std::min(bytes, kPageBytes - command.prp1 % kPageBytes);
    pieces.push_back({command.prp1, first});
    u64 left = bytes - first;
    if (left == 0) return kSuccess;
    if (left <= kPageBytes) {
        if (command.prp2 % kPageBytes != 0) return kInvalidPrpOffset;
        pieces.push_back({command.prp2, left});
        return kSuccess;
    }
    u64 list = command.prp2;
    if (list % 8 != 0) return kInvalidPrpOffset;
    std::array<u64, kPageBytes / 8> entries{};
    while (left != 0) {
        // Each list page but a first one that starts late has 512 entries, so that every round moves on.
        const u64 room = (kPageBytes - list % kPageBytes) / 8, needed = (left + kPageBytes - 1) / kPageBytes;
        const u64 count = std::min(room, needed);
        if (!pci_.dma().read(Iova(list), entries.data(), count * 8)) return kTransferError;
        const bool chained = needed > room;
        for (u64 i = 0; i < count - (chained ? 1 : 0); ++i) {
            if (entries[i] % kPageBytes != 0) return kInvalidPrpOffset;
            const u64 part = std::min<u64>(left, kPageBytes);
            pieces.push_back({entries[i], part});
            left -= part;
        }
        if (!chained) break;
        list = entries[count - 1];
        if (list % kPageBytes != 0) return kInvalidPrpOffset;
    }
    return kSuccess;
}

u16 Nvme::to_host(const Command& command, std::span<const u8> data) {
    std::vector<Piece> pieces;
    if (const u16 status = gather(command, data.size(), pieces); status != kSuccess) return status;
    for (const Piece& piece : pieces) {
        if (!pci_.dma().write(Iova(piece.address), data.data(), piece.bytes)) return kTransferError;
        data = data.subspan(piece.bytes);
    }
    return kSuccess;
}

u16 Nvme::from_host(const Command& command, std::span<u8> out) {
    std::vector<Piece> pieces;
    if (const u16 status = gather(command, out.size(), pieces); status != kSuccess) return status;
    for (const Piece& piece : pieces) {
        if (!pci_.dma().read(Iova(piece.address), out.data(), piece.bytes)) return kTransferError;
        out = out.subspan(piece.bytes);
    }
    return kSuccess;
}

}  // namespace vg::devices
