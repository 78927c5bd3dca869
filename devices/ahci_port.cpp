#include "devices/ahci_port.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"

namespace vg::devices {

using namespace ahci;

namespace {

constexpr u64 kChunk = 64 * 1024;
constexpr u32 kDiskReady = ata::kReady | ata::kSeekComplete;
constexpr u32 kAfterReset = kDiskReady | u32{ata::kDiagnosticPassed} << 8;

/// The count of a queued command is in the features register.
constexpr bool is_queued(ata::Command command) {
    return command == ata::Command::ReadFpdmaQueued || command == ata::Command::WriteFpdmaQueued;
}

}  // namespace

class AhciPort::Cursor {
  public:
    Cursor(mmu::Dma& dma, u64 table, u32 entries) : dma_(dma), table_(table), entries_(entries) {}

    Moved to_memory(std::span<const u8> data) {
        return walk(data.size(),
                    [&](u64 address, u64 done, u64 count) { return dma_.write(Iova(address), &data[done], count); });
    }
    Moved from_memory(std::span<u8> out) {
        return walk(out.size(),
                    [&](u64 address, u64 done, u64 count) { return dma_.read(Iova(address), &out[done], count); });
    }
    /// A descriptor with the interrupt bit was used up.
    [[nodiscard]] bool interrupt() const { return interrupt_; }

  private:
    template <class Step>
    Moved walk(u64 size, const Step& step) {
        for (u64 done = 0; done < size;) {
            if (left_ == 0) {
                if (entries_ == 0) return Moved::ShortTable;
                Descriptor next{};
                if (!dma_.read(Iova(table_), &next, sizeof next)) return Moved::BusError;
                --entries_;
                table_ += sizeof next;
                address_ = next.address & ~u64{1};
                left_ = (next.count & kDescriptorCountMask) + u64{1};
                interrupt_ = interrupt_ || bit(next.count, 31);
            }
            const u64 count = std::min(left_, size - done);
            if (!step(address_, done, count)) return Moved::BusError;
            address_ += count;
            left_ -= count;
            done += count;
        }
        return Moved::All;
    }

    mmu::Dma& dma_;
    u64 table_;
    u32 entries_;
    u64 address_ = 0, left_ = 0;
    bool interrupt_ = false;
};

AhciPort::AhciPort(u32 index, EventQueue& events, mmu::Dma& dma, std::function<void()> changed)
    : index_(index),
      events_(events),
      dma_(dma),
      changed_(std::move(changed)),
      timer_(events.add(fmt::format("ahci.port{}", index), [this](VTime) { run_next(); })) {
    state_ = fresh();
}

void AhciPort::attach(std::unique_ptr<AtaDisk> disk) {
    disk_ = std::move(disk);
    state_ = fresh();
}

AhciPort::State AhciPort::fresh() const {
    State state;
    state.cmd = kCmdSpinUp | kCmdPowerOn;
    if (disk_ != nullptr) {
        state.ssts = kSstsActiveGen3;
        state.tfd = kAfterReset;
        state.sig = ata::kDiskSignature;
    }
    return state;
}

void AhciPort::reset(bool keep_addresses) {
    events_.cancel(timer_);
    State next = fresh();
    if (keep_addresses) next.clb = state_.clb, next.fb = state_.fb;
    state_ = next;
    if (disk_ != nullptr) disk_->reset();
}

void AhciPort::fields(StateVisitor& v) {
    VisitScope scope(v, fmt::format("port{}", index_));
    v("clb", state_.clb);
    v("fb", state_.fb);
    v("is", state_.is);
    v("ie", state_.ie);
    v("cmd", state_.cmd);
    v("tfd", state_.tfd);
    v("sig", state_.sig);
    v("ssts", state_.ssts);
    v("sctl", state_.sctl);
    v("serr", state_.serr);
    v("sact", state_.sact);
    v("ci", state_.ci);
    v("queue", state_.queue);
    v("queued", state_.queued, Fmt::Dec);
    v("free_at", state_.free_at, Fmt::Dec);
    v("soft_reset", state_.soft_reset);
    v("halted", state_.halted);
    if (v.loading()) {
        state_.queued = std::min<u8>(state_.queued, kSlots);
        for (u8& slot : state_.queue) slot %= kSlots;
    }
    if (disk_ != nullptr) disk_->fields(v);
}

// ---- Registers

u32 AhciPort::interrupt_status() const {
    return state_.is | ((state_.serr & kSerrExchanged) != 0 ? kIsConnectChange : 0) |
           ((state_.serr & kSerrPhyReady) != 0 ? kIsPhyReady : 0);
}

u32 AhciPort::read(u32 offset) const {
    switch (offset) {
        case kPxClb:
            return static_cast<u32>(state_.clb);
        case kPxClbu:
            return static_cast<u32>(state_.clb >> 32);
        case kPxFb:
            return static_cast<u32>(state_.fb);
        case kPxFbu:
            return static_cast<u32>(state_.fb >> 32);
        case kPxIs:
            return interrupt_status();
        case kPxIe:
            return state_.ie;
        case kPxCmd:
            return state_.cmd;
        case kPxTfd:
            return state_.tfd;
        case kPxSig:
            return state_.sig;
        case kPxSsts:
            return state_.ssts;
        case kPxSctl:
            return state_.sctl;
        case kPxSerr:
            return state_.serr;
        case kPxSact:
            return state_.sact;
        case kPxCi:
            return state_.ci;
        default:
            return 0;
    }
}

void AhciPort::write(u32 offset, u32 value) {
    switch (offset) {
        case kPxClb:
            state_.clb = with_bits(state_.clb, 31, 0, value & ~u32{0x3ff});
            break;
        case kPxClbu:
            state_.clb = with_bits(state_.clb, 63, 32, value);
            break;
        case kPxFb:
            state_.fb = with_bits(state_.fb, 31, 0, value & ~u32{0xff});
            break;
        case kPxFbu:
            state_.fb = with_bits(state_.fb, 63, 32, value);
            break;
        case kPxIs:
            state_.is &= ~value;
            changed_();
            break;
        case kPxIe:
            state_.ie = value & kIeWritable;
            changed_();
            break;
        case kPxCmd:
            write_command(value);
            break;
        case kPxSctl:
            write_control(value);
            break;
        case kPxSerr:
            state_.serr &= ~value;
            changed_();
            break;
        case kPxSact:
            if ((state_.cmd & kCmdStart) != 0) state_.sact |= value;
            break;
        case kPxCi:
            issue(value);
            break;
        default:
            break;
    }
}

void AhciPort::write_command(u32 value) {
    const bool was_started = (state_.cmd & kCmdStart) != 0;
    state_.cmd = (state_.cmd & ~kCmdWritable) | (value & kCmdWritable);
    if ((value & kCmdOverride) != 0) state_.tfd &= ~u32{ata::kBusy | ata::kDataRequest};
    const bool started = (value & kCmdStart) != 0;
    if (was_started && !started) stop();
    state_.cmd = started ? state_.cmd | kCmdRunning : state_.cmd & ~kCmdRunning;
    state_.cmd = (value & kCmdFisReceive) != 0 ? state_.cmd | kCmdFisRunning : state_.cmd & ~kCmdFisRunning;
}

/// Clears what was issued, as when PxCMD.ST goes to 0.
void AhciPort::stop() {
    events_.cancel(timer_);
    state_.ci = state_.sact = 0;
    state_.queued = 0;
    state_.halted = false;
    state_.cmd &= ~kCmdSlotMask;
}

void AhciPort::write_control(u32 value) {
    const u32 before = state_.sctl & kSctlDetMask, now = value & kSctlDetMask;
    state_.sctl = value & 0xfff;
    if (now == kSctlDetReset) {
        stop();
        state_.ssts = 0;
        state_.tfd = 0x7f;
    } else if (now == kSctlDetOffline) {
        stop();
        state_.ssts = kSstsOffline;
    } else if (before == kSctlDetReset || before == kSctlDetOffline) {
        connect();
    }
}

/// The link comes up and the disk sends its signature.
void AhciPort::connect() {
    if (disk_ == nullptr) {
        state_.ssts = 0;
        return;
    }
    disk_->reset();
    state_.soft_reset = false;
    state_.ssts = kSstsActiveGen3;
    state_.serr |= kSerrExchanged | kSerrPhyReady;
    state_.tfd = kAfterReset;
    state_.sig = ata::kDiskSignature;
    post_register_fis(false, 1, ata::kDiskSignature >> 8);
    changed_();
}

// ---- Commands

void AhciPort::issue(u32 slots) {
    if ((state_.cmd & kCmdStart) == 0) return;
    if (log_ != nullptr) log_->trace(Area::Storage, "ahci port {}: slots {:#x} issued", index_, slots);
    for (u32 slot = 0; slot < kSlots; ++slot) {
        if (!bit(slots & ~state_.ci, slot)) continue;
        state_.ci |= 1u << slot;
        // A slot may be issued again while the refused command it held is still remembered: never more than there are.
        if (state_.queued < kSlots) state_.queue[state_.queued++] = static_cast<u8>(slot);
    }
    if (state_.queued != 0 && !events_.armed(timer_) && !state_.halted) arm();
}

void AhciPort::arm() { events_.arm(timer_, std::max(events_.now(), state_.free_at) + kCommandLatency); }

void AhciPort::run_next() {
    if (state_.queued == 0 || state_.halted) return;
    const u8 slot = state_.queue[0];
    std::copy(state_.queue.begin() + 1, state_.queue.end(), state_.queue.begin());
    --state_.queued;
    run(slot);
    if (state_.queued != 0 && !state_.halted) arm();
}

void AhciPort::run(u32 slot) {
    state_.cmd = (state_.cmd & ~kCmdSlotMask) | slot << kCmdSlotShift;
    if (disk_ == nullptr || (state_.ssts & 0xf) != 3) return;  // nobody takes the command
    CommandHeader header{};
    std::array<u8, 16> fis{};
    if (!dma_.read(Iova(state_.clb + slot * sizeof header), &header, sizeof header) ||
        !dma_.read(Iova(align_down(header.table, kHeaderAlign)), fis.data(), fis.size())) {
        return fail_bus();
    }
    if (fis[0] != ata::kFisHostToDevice || bits(header.flags, 4, 0) < 4) return fail({}, {}, ata::kAborted);
    if ((fis[1] & ata::kFisIsCommand) == 0) {
        const bool reset = (fis[15] & ata::kControlSoftReset) != 0;
        forget(slot);
        if (state_.soft_reset && !reset) {
            disk_->reset();
            state_.tfd = kAfterReset;
            state_.sig = ata::kDiskSignature;
            post_register_fis(false, 1, ata::kDiskSignature >> 8);
        }
        state_.soft_reset = reset;
        return;
    }
    run_command(slot, header, AtaCommand::from_fis(fis));
}

void AhciPort::trace_start(u32 slot, const AtaCommand& command) const {
    if (log_ == nullptr || !log_->wants(Area::Storage, Level::Trace)) return;
    log_->trace(Area::Storage, "ahci port {} slot {}: {} LBA {} sectors {}", index_, slot, to_string(command.command),
                command.lba, is_queued(command.command) ? command.features : command.count);
}

void AhciPort::trace_end(u32 slot, const AtaPlan& plan, u64 bytes) const {
    if (log_ == nullptr) return;
    log_->trace(Area::Storage, "ahci port {} slot {}: done, {} bytes {}", index_, slot, bytes,
                plan.data == AtaPlan::Data::FromHost ? "from memory" : "to memory");
}

void AhciPort::run_command(u32 slot, CommandHeader header, const AtaCommand& command) {
    trace_start(slot, command);
    AtaPlan plan = disk_->plan(command);
    if (plan.error != 0) return fail(command, plan, plan.error);
    if (plan.queued) state_.ci &= ~(1u << slot);
    Cursor cursor(dma_, align_down(header.table, kHeaderAlign) + kTableDescriptors, header.flags >> 16);
    u64 done = 0;
    const Moved moved = move(plan, cursor, done);
    state_.free_at = events_.now() + done * 1000 / kBytesPerMicrosecond;
    const u32 count = static_cast<u32>(done);
    if (!dma_.write(Iova(state_.clb + slot * sizeof header + offsetof(CommandHeader, bytes)), &count, sizeof count)) {
        return fail_bus();
    }
    if (cursor.interrupt()) state_.is |= kIsDescriptor;
    switch (moved) {
        case Moved::All:
            if (!disk_->finish(plan)) return fail(command, plan, ata::kAborted);
            trace_end(slot, plan, done);
            return succeed(slot, plan);
        case Moved::ShortTable:
            state_.is |= kIsOverflow;
            return fail(command, plan, ata::kAborted);
        case Moved::BusError:
            return fail_bus();
        case Moved::MediumError:
            return fail(command, plan, ata::kUncorrectable);
    }
}

AhciPort::Moved AhciPort::move(AtaPlan& plan, Cursor& cursor, u64& done) {
    if (plan.data == AtaPlan::Data::None) return Moved::All;
    scratch_.resize(kChunk);
    while (done < plan.bytes) {
        const std::span<u8> chunk(scratch_.data(), std::min(kChunk, plan.bytes - done));
        if (plan.data == AtaPlan::Data::ToHost) {
            if (!disk_->read(plan, done, chunk)) return Moved::MediumError;
            if (const Moved moved = cursor.to_memory(chunk); moved != Moved::All) return moved;
        } else {
            if (const Moved moved = cursor.from_memory(chunk); moved != Moved::All) return moved;
            if (!disk_->write(plan, done, chunk)) return Moved::MediumError;
        }
        done += chunk.size();
    }
    return Moved::All;
}

void AhciPort::forget(u32 slot) { state_.ci &= ~(1u << slot); }

void AhciPort::succeed(u32 slot, const AtaPlan& plan) {
    state_.tfd = kDiskReady;
    forget(slot);
    if (plan.queued) {
        const u32 finished = 1u << plan.tag;
        std::array<u8, 8> fis = {ata::kFisSetDeviceBits, ata::kFisInterrupt, kDiskReady & 0x77, 0};
        std::memcpy(fis.data() + 4, &finished, 4);
        state_.sact &= ~finished;
        post_fis(kRfisSetDeviceBits, fis);
        return raise(kIsSetDeviceBits);
    }
    if (plan.pio) {
        const bool in = plan.data == AtaPlan::Data::ToHost;
        std::array<u8, 20> fis{};
        fis[0] = ata::kFisPioSetup;
        fis[1] = static_cast<u8>(ata::kFisInterrupt | (in ? ata::kFisToHost : 0));
        fis[2] = kDiskReady | ata::kDataRequest;
        fis[15] = kDiskReady;  // behind the data
        const u16 bytes = static_cast<u16>(std::min<u64>(plan.bytes, 16 * ata::kSectorBytes));
        std::memcpy(fis.data() + 16, &bytes, 2);
        post_fis(kRfisPioSetup, fis);
        if (in) return raise(kIsPioSetup);
        state_.is |= kIsPioSetup;
    }
    post_register_fis(true, plan.count);
    raise(kIsDeviceToHost);
}

/// The list stops at a failed command until software clears PxCMD.ST (AHCI §6.2.2).
void AhciPort::fail(const AtaCommand& command, const AtaPlan& plan, u8 error) {
    constexpr u8 kStatus = kDiskReady | ata::kError;
    state_.halted = true;
    state_.tfd = u32{error} << 8 | kStatus;
    if (plan.queued) {
        disk_->note_queued_error(command, plan, kStatus, error);
        const std::array<u8, 8> fis = {ata::kFisSetDeviceBits, ata::kFisInterrupt, kStatus & 0x77, error};
        post_fis(kRfisSetDeviceBits, fis);
        return raise(kIsSetDeviceBits | kIsTaskFile);
    }
    post_register_fis(true, 0);
    raise(kIsDeviceToHost | kIsTaskFile);
}

/// Memory refused an access: "an uncorrectable hardware fault", fatal to the port.
void AhciPort::fail_bus() {
    state_.halted = true;
    raise(kIsHostBusFatal);
}

void AhciPort::post_fis(u32 offset, std::span<const u8> fis) {
    if ((state_.cmd & kCmdFisReceive) == 0) return;
    if (!dma_.write(Iova(state_.fb + offset), fis.data(), fis.size())) {
        state_.halted = true;
        state_.is |= kIsHostBusFatal;
    }
}

/// Device-to-host register FIS with what is in PxTFD.
void AhciPort::post_register_fis(bool interrupt, u16 count, u32 lba) {
    std::array<u8, 20> fis{};
    fis[0] = ata::kFisDeviceToHost;
    fis[1] = interrupt ? ata::kFisInterrupt : u8{0};
    fis[2] = static_cast<u8>(state_.tfd);
    fis[3] = static_cast<u8>(state_.tfd >> 8);
    for (u32 i = 0; i < 3; ++i) fis[4 + i] = static_cast<u8>(lba >> (8 * i));
    fis[12] = static_cast<u8>(count);
    fis[13] = static_cast<u8>(count >> 8);
    post_fis(kRfisDeviceToHost, fis);
}

void AhciPort::raise(u32 status) {
    state_.is |= status;
    changed_();
}

}  // namespace vg::devices
