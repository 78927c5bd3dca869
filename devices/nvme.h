// NVM Express controller with one namespace (NVM Express Base 1.4c), as a PCI function.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/events.h"
#include "devices/core/device.h"
#include "devices/core/pci.h"
#include "devices/spec/nvme.h"
#include "devices/storage/block_device.h"

namespace vg::devices {

/// Executes one command per event: kCommandLatency after a doorbell or the command before, plus the time that the data
/// of the command before took. Submission queues take turns.
class Nvme final : public Device, public mmu::MmioHandler {
  public:
    static constexpr u64 kRegisterBytes = 0x4000;
    static constexpr u32 kIoQueues = 16;
    static constexpr u32 kMaxTransferShift = 7;  ///< MDTS: 512 KiB
    static constexpr u64 kMaxTransfer = u64{nvme::kPageBytes} << kMaxTransferShift;
    static constexpr VTime kCommandLatency = 5'000;
    static constexpr u64 kBytesPerMicrosecond = 3000;

    /// @param index  which of the board's controllers: names its timer, serial number and identifiers
    Nvme(const PciSlot& slot, EventQueue& events, u32 index);

    /// The namespace's medium, once, before the machine runs. Without it the controller has no namespace.
    void attach(std::unique_ptr<BlockDevice> medium) { medium_ = std::move(medium); }

    /// Of the namespace.
    [[nodiscard]] u64 eui64() const { return 0x0a76'6567'0000'0000 | index_; }

    [[nodiscard]] std::string_view name() const override { return name_; }
    void reset() override;
    void fields(StateVisitor& v) override;
    PciFunction* pci() override { return &pci_; }
    mmu::MmioHandler* mmio() override { return this; }
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, unsigned size, u64 value) override;

  private:
    static constexpr u32 kQueues = kIoQueues + 1;  // the admin queue is 0
    static constexpr u32 kEventRequests = 4;

    struct SubmissionQueue {
        u64 base = 0;
        u32 entries = 0;  // 0: not there
        u32 head = 0, tail = 0, completion = 0;
    };
    struct CompletionQueue {
        u64 base = 0;
        u32 entries = 0;
        u32 head = 0, tail = 0, vector = 0;
        bool phase = true, interrupts = false;
        [[nodiscard]] bool full() const { return (tail + 1) % entries == head; }
    };
    struct State {
        u32 interrupt_mask = 0, cc = 0, csts = 0, aqa = 0;
        u64 asq = 0, acq = 0;
        std::array<SubmissionQueue, kQueues> sq{};
        std::array<CompletionQueue, kQueues> cq{};
        std::array<u32, nvme::kFeatureCount> features{};
        u32 next_queue = 0;      // whose turn it is
        u32 event_requests = 0;  // commands that wait for an event that never comes
        VTime free_at = 0;
    };
    /// What a command is answered with.
    struct Answer {
        u16 status = nvme::kSuccess;
        u32 result = 0;
        bool silent = false;  // no completion
    };

    [[nodiscard]] static State fresh();
    [[nodiscard]] u32 read(u32 offset) const;
    void write(u32 offset, u32 value);
    void write_doorbell(u32 index, u32 value);
    void configure(u32 value);
    void enable();
    void disable();
    void fatal();
    void arm();
    void run_next();
    [[nodiscard]] bool runnable(const SubmissionQueue& queue) const;
    void complete(u32 sq, u16 command_id, const Answer& answer);
    void update_pin();

    Answer admin(const nvme::Command& command);
    Answer create_completion_queue(const nvme::Command& command);
    Answer create_submission_queue(const nvme::Command& command);
    Answer delete_completion_queue(const nvme::Command& command);
    Answer delete_submission_queue(const nvme::Command& command);
    Answer identify(const nvme::Command& command);
    Answer log_page(const nvme::Command& command);
    Answer features(const nvme::Command& command, bool set);
    [[nodiscard]] std::vector<u8> controller_data() const;
    [[nodiscard]] std::vector<u8> namespace_data() const;
    Answer io(const nvme::Command& command);
    Answer transfer(const nvme::Command& command, bool write);
    Answer write_zeroes(const nvme::Command& command);
    Answer dataset_management(const nvme::Command& command);
    [[nodiscard]] u64 block_bytes() const;
    [[nodiscard]] u64 blocks() const;

    struct Piece {
        u64 address, bytes;
    };
    /// The memory that a command's two PRP entries describe. kSuccess, kInvalidPrpOffset or kTransferError.
    u16 gather(const nvme::Command& command, u64 bytes, std::vector<Piece>& pieces);
    u16 to_host(const nvme::Command& command, std::span<const u8> data);
    u16 from_host(const nvme::Command& command, std::span<u8> out);

    std::string name_;
    u32 index_;
    EventQueue& events_;
    PciFunction pci_;
    EventQueue::TimerId timer_;
    std::unique_ptr<BlockDevice> medium_;
    State state_ = fresh();
};

}  // namespace vg::devices
