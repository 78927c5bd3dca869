#include "devices/ide_channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace ide;

namespace {

constexpr u64 kChunk = 64 * 1024;
constexpr u8 kDiskReady = ata::kReady | ata::kSeekComplete;
/// The geometry that IDENTIFY DEVICE gives every disk.
constexpr u64 kHeads = 16, kSectorsPerTrack = 63;

constexpr bool is_multiple(ata::Command command) {
    using ata::Command;
    return command == Command::ReadMultiple || command == Command::WriteMultiple || command == Command::ReadMultipleExt ||
           command == Command::WriteMultipleExt;
}

constexpr bool addresses_sectors(ata::Command command) {
    using ata::Command;
    return command == Command::ReadSectors || command == Command::WriteSectors || command == Command::ReadMultiple ||
           command == Command::WriteMultiple || command == Command::ReadDma || command == Command::WriteDma ||
           command == Command::ReadVerify;
}

}  // namespace

IdeChannel::IdeChannel(u32 index, EventQueue& events, mmu::Dma& dma, IrqLine& irq)
    : index_(index),
      events_(events),
      dma_(dma),
      irq_(irq),
      timer_(events.add(fmt::format("ide.channel{}", index), [this](VTime) { advance(); })),
      state_(fresh()) {}

void IdeChannel::attach(u32 drive, std::unique_ptr<AtaDisk> disk) {
    VG_ASSERT(drive < disks_.size() && disks_[drive] == nullptr && disk->transport() == AtaDisk::Transport::Parallel);
    disks_[drive] = std::move(disk);
    state_ = fresh();
}

IdeChannel::State IdeChannel::fresh() const {
    State state;
    for (u32 i = 0; i < disks_.size(); ++i) {
        if (disks_[i] == nullptr) continue;
        state.drive[i].status = kDiskReady;
        state.drive[i].error = ata::kDiagnosticPassed;
        state.master_status |= static_cast<u8>(0x20 << i);
    }
    return state;
}

void IdeChannel::reset() {
    events_.cancel(timer_);
    state_ = fresh();
    for (const auto& disk : disks_)
        if (disk != nullptr) disk->reset();
    update_irq();
}

// ---- Registers

bool IdeChannel::busy() const {
    return state_.phase != Phase::Idle && (state_.drive[state_.active].status & ata::kBusy) != 0;
}

u8 IdeChannel::alternate_status() const {
    return disks_[selected()] == nullptr ? u8{0} : state_.drive[selected()].status;
}

u8 IdeChannel::read_register(u16 offset) {
    if (disks_[selected()] == nullptr) return 0;
    TaskFile& file = state_.drive[selected()];
    const u32 shift = (state_.control & kHighOrderByte) != 0 ? 8 : 0;
    switch (static_cast<Register>(offset)) {
        case kErrorFeatures:
            return file.error;
        case kCount:
            return static_cast<u8>(file.count >> shift);
        case kLbaLow:
            return static_cast<u8>(file.lba_low >> shift);
        case kLbaMid:
            return static_cast<u8>(file.lba_mid >> shift);
        case kLbaHigh:
            return static_cast<u8>(file.lba_high >> shift);
        case kDevice:
            return state_.device;
        case kStatusCommand:
            file.interrupt = false;
            update_irq();
            return file.status;
        case kData:
            break;
    }
    return 0xff;
}

IoStatus IdeChannel::read(u16 offset, unsigned size, u32& value) {
    if (offset != kData) {
        if (size != 1) return IoStatus::BadSize;
        value = read_register(offset);
        return IoStatus::Ok;
    }
    if (size == 1) return IoStatus::BadSize;
    value = read_word();
    if (size == 4) value |= u32{read_word()} << 16;
    return IoStatus::Ok;
}

IoStatus IdeChannel::write(u16 offset, unsigned size, u32 value) {
    if (offset != kData) {
        if (size != 1) return IoStatus::BadSize;
        write_register(offset, static_cast<u8>(value));
        return IoStatus::Ok;
    }
    if (size == 1) return IoStatus::BadSize;
    write_word(static_cast<u16>(value));
    if (size == 4) write_word(static_cast<u16>(value >> 16));
    return IoStatus::Ok;
}

/// Both drives have what is written to a channel; only the selected one executes.
void IdeChannel::write_register(u16 offset, u8 value) {
    state_.control &= static_cast<u8>(~kHighOrderByte);
    if (busy() || (state_.control & ata::kControlSoftReset) != 0) return;
    const auto both = [&](u16 TaskFile::*field) {
        for (TaskFile& file : state_.drive) file.*field = static_cast<u16>((file.*field) << 8 | value);
    };
    switch (static_cast<Register>(offset)) {
        case kErrorFeatures:
            return both(&TaskFile::features);
        case kCount:
            return both(&TaskFile::count);
        case kLbaLow:
            return both(&TaskFile::lba_low);
        case kLbaMid:
            return both(&TaskFile::lba_mid);
        case kLbaHigh:
            return both(&TaskFile::lba_high);
        case kDevice:
            state_.device = value;
            return update_irq();
        case kStatusCommand:
            return write_command(value);
        case kData:
            break;
    }
}

/// What a drive says of itself behind a reset (ATA/ATAPI-6 "Signature and persistence").
void IdeChannel::set_signatures() {
    state_.device = 0;
    for (u32 i = 0; i < disks_.size(); ++i) {
        TaskFile& file = state_.drive[i];
        file = {};
        if (disks_[i] == nullptr) continue;
        file.status = kDiskReady;
        file.error = ata::kDiagnosticPassed;
    }
}

void IdeChannel::write_control(u8 value) {
    const bool was_reset = (state_.control & ata::kControlSoftReset) != 0;
    const bool reset = (value & ata::kControlSoftReset) != 0;
    state_.control = value;
    if (reset && !was_reset) {
        events_.cancel(timer_);
        state_.phase = Phase::Idle;
        state_.block.clear();
        state_.plan = {};
        state_.at = 0;
        state_.done = 0;
        set_signatures();
        for (u32 i = 0; i < disks_.size(); ++i)
            if (disks_[i] != nullptr) state_.drive[i].status = ata::kBusy;
    } else if (!reset && was_reset) {
        for (const auto& disk : disks_)
            if (disk != nullptr) disk->reset();
        set_signatures();
    }
    update_irq();
}

AtaCommand IdeChannel::command_of(const TaskFile& file, u8 code) const {
    AtaCommand command;
    command.command = static_cast<ata::Command>(code);
    command.device = state_.device;
    const bool wide = ata::is_48bit(command.command);
    const auto value = [wide](u16 reg) { return static_cast<u16>(wide ? reg : reg & 0xff); };
    command.features = value(file.features);
    command.count = value(file.count);
    command.lba = (file.lba_low & 0xffu) | (file.lba_mid & 0xffu) << 8 | (file.lba_high & 0xffu) << 16;
    if (wide) {
        command.lba |= u64{file.lba_low} >> 8 << 24 | u64{file.lba_mid} >> 8 << 32 | u64{file.lba_high} >> 8 << 40;
    } else if (addresses_sectors(command.command) && (state_.device & ata::kDeviceLba) == 0) {
        // Cylinder, head, sector; sectors count from 1, so that sector 0 is beyond the end of any disk.
        const u64 sector = command.lba & 0xff, cylinder = command.lba >> 8 & 0xffff, head = state_.device & 0xf;
        const u64 lba = sector == 0 ? 0x0fff'ffff : (cylinder * kHeads + head) * kSectorsPerTrack + sector - 1;
        command.lba = lba & 0xff'ffff;
        command.device = static_cast<u8>((state_.device & 0xf0) | (lba >> 24 & 0xf));
    }
    return command;
}

void IdeChannel::write_command(u8 code) {
    const u32 drive = selected();
    if (state_.phase != Phase::Idle || disks_[drive] == nullptr) return;
    TaskFile& file = state_.drive[drive];
    state_.active = static_cast<u8>(drive);
    state_.command = command_of(file, code);
    state_.plan = {};
    state_.done = 0;
    file.interrupt = false;
    file.error = 0;
    begin_phase(Phase::Starting, ata::kBusy);
    update_irq();
    arm(kCommandLatency);
}

void IdeChannel::begin_phase(Phase phase, u8 status) {
    state_.phase = phase;
    state_.drive[state_.active].status = status;
}

bool IdeChannel::wanted_level() const {
    return (state_.control & kNoInterrupt) == 0 && disks_[selected()] != nullptr && state_.drive[selected()].interrupt;
}

void IdeChannel::update_irq() {
    const bool level = wanted_level();
    if (level == line_) return;
    line_ = level;
    if (level) state_.master_status |= kMasterInterrupt;
    irq_.set(level);
}

void IdeChannel::raise() {
    state_.drive[state_.active].interrupt = true;
    update_irq();
}

// ---- Commands

void IdeChannel::advance() {
    switch (state_.phase) {
        case Phase::Starting:
            return start();
        case Phase::Loading:
            return load_block();
        case Phase::Storing:
            return store_block();
        case Phase::Dma:
            return run_dma();
        case Phase::Idle:
        case Phase::ToHost:
        case Phase::FromHost:
        case Phase::Count:
            break;
    }
}

void IdeChannel::start() {
    if (state_.command.command == ata::Command::ExecuteDiagnostic) {  // both drives, whichever is selected
        set_signatures();
        state_.active = 0;
        state_.phase = Phase::Idle;
        return raise();
    }
    state_.plan = disks_[state_.active]->plan(state_.command);
    if (state_.plan.error != 0) return fail(state_.plan.error);
    VG_ASSERT(!state_.plan.queued);  // a parallel disk refuses
    if (state_.plan.data == AtaPlan::Data::None) return succeed();
    if (!state_.plan.pio) {
        begin_phase(Phase::Dma, ata::kBusy);
        if ((state_.master_status & kMasterActive) != 0) run_dma();
        return;
    }
    if (state_.plan.data == AtaPlan::Data::ToHost) return load_block();
    state_.block.assign(block_bytes(), 0);
    state_.at = 0;
    begin_phase(Phase::FromHost, kDiskReady | ata::kDataRequest);  // no interrupt in front of the first block
}

u32 IdeChannel::block_bytes() const {
    const u32 sectors = is_multiple(state_.command.command) ? disks_[state_.active]->multiple() : 1;
    return static_cast<u32>(std::min<u64>(u64{sectors} * ata::kSectorBytes, state_.plan.bytes - state_.done));
}

void IdeChannel::load_block() {
    state_.block.assign(block_bytes(), 0);
    state_.at = 0;
    if (!disks_[state_.active]->read(state_.plan, state_.done, state_.block)) return fail(ata::kUncorrectable);
    begin_phase(Phase::ToHost, kDiskReady | ata::kDataRequest);
    raise();
}

void IdeChannel::store_block() {
    if (!disks_[state_.active]->write(state_.plan, state_.done, state_.block)) return fail(ata::kUncorrectable);
    state_.done += state_.block.size();
    if (state_.done == state_.plan.bytes) return succeed();
    state_.block.assign(block_bytes(), 0);
    state_.at = 0;
    begin_phase(Phase::FromHost, kDiskReady | ata::kDataRequest);
    raise();
}

u16 IdeChannel::read_word() {
    if (state_.phase != Phase::ToHost || state_.active != selected()) return 0;
    u16 word = 0;
    std::memcpy(&word, state_.block.data() + state_.at, sizeof word);
    state_.at += sizeof word;
    if (state_.at < state_.block.size()) return word;
    state_.done += state_.block.size();
    if (state_.done < state_.plan.bytes) {
        begin_phase(Phase::Loading, ata::kBusy);
        arm(kBlockLatency);
    } else {
        begin_phase(Phase::Idle, kDiskReady);  // the interrupt was that of the last block
    }
    return word;
}

void IdeChannel::write_word(u16 value) {
    if (state_.phase != Phase::FromHost || state_.active != selected()) return;
    std::memcpy(state_.block.data() + state_.at, &value, sizeof value);
    state_.at += sizeof value;
    if (state_.at < state_.block.size()) return;
    begin_phase(Phase::Storing, ata::kBusy);
    arm(kBlockLatency);
}

void IdeChannel::succeed() {
    if (!disks_[state_.active]->finish(state_.plan)) return fail(ata::kAborted);
    if (state_.plan.data == AtaPlan::Data::None && state_.plan.count != 0)
        state_.drive[state_.active].count = state_.plan.count;
    begin_phase(Phase::Idle, kDiskReady);
    raise();
}

void IdeChannel::fail(u8 error) {
    state_.drive[state_.active].error = error;
    begin_phase(Phase::Idle, kDiskReady | ata::kError);
    raise();
}

// ---- Bus master

IoStatus IdeChannel::read_master(u16 offset, unsigned size, u32& value) {
    if (offset == kMasterTable && size == 4) {
        value = state_.master_table;
        return IoStatus::Ok;
    }
    if (size != 1) return IoStatus::BadSize;
    if (offset == kMasterCommand)
        value = state_.master_command;
    else if (offset == kMasterStatus)
        value = state_.master_status;
    else
        value = offset >= kMasterTable ? state_.master_table >> ((offset - kMasterTable) * 8) & 0xff : 0;
    return IoStatus::Ok;
}

IoStatus IdeChannel::write_master(u16 offset, unsigned size, u32 value) {
    if (offset == kMasterTable && size == 4) {
        state_.master_table = value & ~u32{3};
        return IoStatus::Ok;
    }
    if (size != 1) return IoStatus::BadSize;
    if (offset == kMasterStatus) {
        state_.master_status = static_cast<u8>((state_.master_status & ~kMasterDmaCapable) | (value & kMasterDmaCapable));
        state_.master_status &= static_cast<u8>(~(value & (kMasterError | kMasterInterrupt)));
    } else if (offset == kMasterCommand) {
        const bool was_on = (state_.master_command & kMasterStart) != 0, on = (value & kMasterStart) != 0;
        state_.master_command = static_cast<u8>(value & (kMasterStart | kMasterToMemory));
        if (on && !was_on) {
            state_.master_status |= kMasterActive;
            if (state_.phase == Phase::Dma) arm(kBlockLatency);
        } else if (!on && was_on) {  // what it was doing is not gone on with
            state_.master_status &= static_cast<u8>(~kMasterActive);
            if (state_.phase == Phase::Dma) events_.cancel(timer_);
        }
    } else if (offset >= kMasterTable) {
        const u32 at = (offset - kMasterTable) * 8u;
        state_.master_table = (state_.master_table & ~(0xffu << at)) | ((value & 0xff) << at);
        state_.master_table &= ~u32{3};
    }
    return IoStatus::Ok;
}

/// Walks the table from its beginning, each descriptor read once, until the drive has what it wants.
/// @param last_used_up  the table's last region is full
IdeChannel::Moved IdeChannel::move(bool& last_used_up) {
    AtaDisk& disk = *disks_[state_.active];
    const bool to_host = state_.plan.data == AtaPlan::Data::ToHost;
    scratch_.resize(kChunk);
    for (u32 i = 0; i < kMostRegions && state_.done < state_.plan.bytes; ++i) {
        Region region{};
        if (!dma_.read(Iova(u64{state_.master_table} + i * sizeof region), &region, sizeof region)) return Moved::BusError;
        const u64 address = region.address & ~u32{1}, count = region.count & 0xfffe;
        const u64 size = count == 0 ? kChunk : count;
        const std::span<u8> chunk(scratch_.data(), std::min(size, state_.plan.bytes - state_.done));
        if (to_host) {
            if (!disk.read(state_.plan, state_.done, chunk)) return Moved::MediumError;
            if (!dma_.write(Iova(address), chunk.data(), chunk.size())) return Moved::BusError;
        } else {
            if (!dma_.read(Iova(address), chunk.data(), chunk.size())) return Moved::BusError;
            if (!disk.write(state_.plan, state_.done, chunk)) return Moved::MediumError;
        }
        state_.done += chunk.size();
        last_used_up = (region.count & kRegionLast) != 0 && chunk.size() == size;
        if ((region.count & kRegionLast) != 0) break;
    }
    return state_.done == state_.plan.bytes ? Moved::All : Moved::TableFull;
}

/// The drive has data and the bus master was started. A table without room and a refused access leave the drive waiting:
/// the driver notices that nothing comes ("Bus Master IDE Controller" §3.1 "Status Bit Interpretation").
void IdeChannel::run_dma() {
    const bool to_memory = (state_.master_command & kMasterToMemory) != 0;
    if (state_.plan.data == AtaPlan::Data::None) return succeed();  // what was left to do behind the data
    if (to_memory != (state_.plan.data == AtaPlan::Data::ToHost)) return;
    bool last_used_up = false;
    const u64 before = state_.done;
    switch (move(last_used_up)) {
        case Moved::All:
            if (last_used_up) state_.master_status &= static_cast<u8>(~kMasterActive);
            state_.plan.data = AtaPlan::Data::None;  // it is there when the wires have carried it
            return arm((state_.done - before) * 1000 / kBytesPerMicrosecond);
        case Moved::TableFull:
            state_.master_status &= static_cast<u8>(~kMasterActive);
            return;
        case Moved::BusError:
            state_.master_status = static_cast<u8>((state_.master_status & ~kMasterActive) | kMasterError);
            return;
        case Moved::MediumError:
            return fail(ata::kUncorrectable);
    }
}

// ---- State

void IdeChannel::fields(StateVisitor& v) {
    VisitScope scope(v, fmt::format("channel{}", index_));
    for (u32 i = 0; i < state_.drive.size(); ++i) {
        VisitScope each(v, fmt::format("drive{}", i));
        TaskFile& file = state_.drive[i];
        v("features", file.features);
        v("count", file.count);
        v("lba_low", file.lba_low);
        v("lba_mid", file.lba_mid);
        v("lba_high", file.lba_high);
        v("status", file.status);
        v("error", file.error);
        v("interrupt", file.interrupt);
        if (disks_[i] != nullptr) disks_[i]->fields(v);
    }
    v("device", state_.device);
    v("control", state_.control);
    v("phase", state_.phase, Fmt::Dec);
    v("active", state_.active, Fmt::Dec);
    state_.command.fields(v);
    state_.plan.fields(v);
    v("done", state_.done, Fmt::Dec);
    v("block", state_.block, 16 * ata::kSectorBytes);
    v("at", state_.at, Fmt::Dec);
    v("master_command", state_.master_command);
    v("master_status", state_.master_status);
    v("master_table", state_.master_table);
    if (!v.loading()) return;
    state_.active &= 1;
    state_.done = std::min(state_.done, state_.plan.bytes);
    const bool moving = state_.phase == Phase::ToHost || state_.phase == Phase::FromHost || state_.phase == Phase::Storing;
    const bool whole = state_.block.size() % 4 == 0 && state_.at % 2 == 0 && state_.at <= state_.block.size() &&
                       (state_.phase == Phase::Storing || state_.at < state_.block.size()) &&
                       state_.block.size() <= state_.plan.bytes - state_.done;
    if (state_.phase >= Phase::Count || disks_[state_.active] == nullptr || (moving && !whole)) {
        state_.phase = Phase::Idle;
        state_.block.clear();
        state_.at = 0;
    }
    line_ = wanted_level();  // the controller at its end knows it
}

}  // namespace vg::devices
