// One port of the AHCI controller with the disk on it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "devices/ata_disk.h"
#include "devices/spec/ahci.h"
#include "mmu/dma.h"

namespace vg::devices {

/// Executes the commands of its list one after the other, each at an event of its own: kCommandLatency after it was
/// issued or after the one before it, plus the time that the data of the one before it took.
class AhciPort {
  public:
    static constexpr VTime kCommandLatency = 10'000;  ///< 10 us
    static constexpr u64 kBytesPerMicrosecond = 2000;

    /// @param changed  PxIS or PxIE may have changed
    AhciPort(u32 index, EventQueue& events, mmu::Dma& dma, std::function<void()> changed);

    /// Plugs in a disk. Before the machine runs.
    void attach(std::unique_ptr<AtaDisk> disk);
    /// Commands are traced there. The log outlives the port.
    void trace_to(Log& log) { log_ = &log; }
    [[nodiscard]] AtaDisk* disk() { return disk_.get(); }
    /// Power-on. HBA reset keeps the addresses of command list and received FISes (AHCI §10.4.3).
    void reset(bool keep_addresses);
    void fields(StateVisitor& v);

    [[nodiscard]] u32 read(u32 offset) const;
    void write(u32 offset, u32 value);
    [[nodiscard]] bool interrupting() const { return (interrupt_status() & state_.ie) != 0; }

  private:
    struct State {
        u64 clb = 0, fb = 0;
        u32 is = 0, ie = 0, cmd = 0, tfd = 0x7f, sig = 0xffffffff, ssts = 0, sctl = 0, serr = 0, sact = 0, ci = 0;
        std::array<u8, ahci::kSlots> queue{};  // slots in order of issue
        u8 queued = 0;
        VTime free_at = 0;        // when the data of the last command has been transferred
        bool soft_reset = false;  // SRST is set in the disk's control register
        bool halted = false;      // an error stopped the list until PxCMD.ST is cleared
    };
    /// Walks a command's descriptor table, each descriptor read once.
    class Cursor;
    enum class Moved : u8 { All, ShortTable, BusError, MediumError };

    [[nodiscard]] State fresh() const;
    [[nodiscard]] u32 interrupt_status() const;
    void write_command(u32 value);
    void write_control(u32 value);
    void connect();
    void stop();
    void issue(u32 slots);
    void arm();
    void run_next();
    void run(u32 slot);
    void run_command(u32 slot, ahci::CommandHeader header, const AtaCommand& command);
    [[nodiscard]] Moved move(AtaPlan& plan, Cursor& cursor, u64& done);
    void succeed(u32 slot, const AtaPlan& plan);
    void fail(const AtaCommand& command, const AtaPlan& plan, u8 error);
    void fail_bus();
    void forget(u32 slot);
    void trace_start(u32 slot, const AtaCommand& command) const;
    void trace_end(u32 slot, const AtaPlan& plan, u64 bytes) const;
    void post_fis(u32 offset, std::span<const u8> fis);
    void post_register_fis(bool interrupt, u16 count, u32 lba = 0);
    void raise(u32 bits);

    u32 index_;
    EventQueue& events_;
    mmu::Dma& dma_;
    std::function<void()> changed_;
    EventQueue::TimerId timer_;
    std::unique_ptr<AtaDisk> disk_;
    Log* log_ = nullptr;
    std::vector<u8> scratch_;
    State state_;
};

}  // namespace vg::devices
