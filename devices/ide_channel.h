// One IDE channel: the task files of two drives, programmed I/O, and the bus master that moves data for them.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/events.h"
#include "devices/ata_disk.h"
#include "devices/core/io.h"
#include "devices/core/irq.h"
#include "devices/spec/ide.h"
#include "mmu/dma.h"

namespace vg::devices {

/// Executes one command at a time, at events of its own: kCommandLatency after it was written, kBlockLatency between the
/// blocks of programmed I/O, DMA with the speed of Ultra DMA mode 2.
///
/// An absent drive reads as zero beside one that is there, and so do both of an empty channel. While a drive is busy only
/// its status and the control register count.
class IdeChannel {
  public:
    static constexpr VTime kCommandLatency = 10'000, kBlockLatency = 500;
    static constexpr u64 kBytesPerMicrosecond = 33;

    /// @param dma  memory as the bus master reaches it
    IdeChannel(u32 index, EventQueue& events, mmu::Dma& dma, IrqLine& irq);

    /// Before the machine runs. Drive 0 or 1, which must be empty; a disk on a parallel link.
    void attach(u32 drive, std::unique_ptr<AtaDisk> disk);
    [[nodiscard]] AtaDisk* disk(u32 drive) { return disks_[drive].get(); }
    /// Power-on.
    void reset();
    void fields(StateVisitor& v);

    // Offsets are those of spec/ide.h. The data register takes accesses of 2 and 4 bytes, the others of one.
    IoStatus read(u16 offset, unsigned size, u32& value);
    IoStatus write(u16 offset, unsigned size, u32 value);
    [[nodiscard]] u8 alternate_status() const;
    void write_control(u8 value);
    IoStatus read_master(u16 offset, unsigned size, u32& value);
    IoStatus write_master(u16 offset, unsigned size, u32 value);

  private:
    enum class Phase : u8 {
        Idle,
        Starting,  ///< a command waits for its event
        Loading,   ///< the next block to the host does
        ToHost,    ///< the host reads a block
        FromHost,  ///< the host writes one
        Storing,   ///< which waits for its event
        Dma,       ///< the drive waits for the bus master
        Count
    };
    /// A drive's registers. Those of 16 bits hold the byte written before in their upper half (48-bit commands).
    struct TaskFile {
        u16 features = 0, count = 1, lba_low = 1, lba_mid = 0, lba_high = 0;
        u8 status = 0, error = 0;
        bool interrupt = false;
    };
    struct State {
        std::array<TaskFile, 2> drive;
        u8 device = 0, control = 0;
        Phase phase = Phase::Idle;
        u8 active = 0;  ///< the drive whose command it is
        AtaCommand command;
        AtaPlan plan;
        u64 done = 0;            ///< bytes of the plan's data
        std::vector<u8> block;   ///< of programmed I/O
        u32 at = 0;              ///< within it
        u8 master_command = 0, master_status = 0;
        u32 master_table = 0;
    };
    enum class Moved : u8 { All, TableFull, BusError, MediumError };

    [[nodiscard]] u32 selected() const { return (state_.device & ide::kSecondDrive) != 0 ? 1 : 0; }
    [[nodiscard]] bool busy() const;
    [[nodiscard]] State fresh() const;
    [[nodiscard]] AtaCommand command_of(const TaskFile& file, u8 code) const;
    [[nodiscard]] u8 read_register(u16 offset);
    void write_register(u16 offset, u8 value);
    void write_command(u8 code);
    void set_signatures();
    [[nodiscard]] u16 read_word();
    void write_word(u16 value);
    void arm(VTime after) { events_.arm(timer_, events_.now() + after); }
    void advance();
    void start();
    [[nodiscard]] u32 block_bytes() const;
    void load_block();
    void store_block();
    void run_dma();
    [[nodiscard]] Moved move(bool& last_used_up);
    void begin_phase(Phase phase, u8 status);
    void succeed();
    void fail(u8 error);
    void raise();
    [[nodiscard]] bool wanted_level() const;
    void update_irq();

    u32 index_;
    EventQueue& events_;
    mmu::Dma& dma_;
    IrqLine& irq_;
    EventQueue::TimerId timer_;
    std::array<std::unique_ptr<AtaDisk>, 2> disks_;
    std::vector<u8> scratch_;
    bool line_ = false;  // derived
    State state_;
};

}  // namespace vg::devices
