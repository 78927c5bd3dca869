// A remapping unit under any sequence of register accesses, table contents, queue descriptors, transfers and
// interrupts. The first page of RAM stands for everything that no table maps: the unit must never write there. A
// completed transfer must agree with the tables as they are or were, at least in that its page is RAM; messages that
// leave with remapping on are what an entry or the compatibility rule allows; and at any point the state can be saved
// and restored.
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "base/bits.h"
#include "iommu/vtd.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/devices.h"
#include "tests/support/state_tape.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::iommu;
using vg::test::InputBytes;

constexpr u64 kPages = 32;

struct Memory {
    mmu::PhysicalMemory memory;
    Memory() { VG_ASSERT(memory.add_ram("ram", Spa(0), kPages * kPageSize)); }
};

class Bench {
  public:
    Bench(mmu::PhysicalMemory& memory, u8 options) : memory_(memory), options_(options) {
        const std::vector<u8> zero(kPages * kPageSize);
        memory_.write(Spa(0), zero.data(), zero.size());
        unit_ = make();
    }

    void act(InputBytes& input) {
        const u8 action = input.take<u8>();
        switch (action % 8) {
            case 0:
            case 1: {  // a register, likely one that exists
                const u8 place = input.take<u8>();
                const u64 offset = (action & 8) != 0 ? input.take<u16>() % (reg::kSize - 8) : (place * 4u) % 0x280;
                const unsigned size = (action & 16) != 0 ? 8 : 4;
                if ((action & 32) != 0) {
                    (void)unit_->mmio_read(offset, (action & 64) != 0 ? 1u << (place % 4) : size);
                } else {
                    unit_->mmio_write(align_down(offset, size), size,
                                      size == 8 ? input.take<u64>() : input.take<u32>());
                }
                break;
            }
            case 2:  // a table entry: page, index, target page and bits
            case 3: {
                const u64 page = 1 + input.take<u8>() % (kPages - 1), index = input.take<u8>();
                const u64 target = input.take<u8>() % (kPages + 2) * kPageSize;
                const u64 low = (action & 8) != 0 ? input.take<u64>() : target | input.take<u16>() % kPageSize;
                memory_.write<u64>(Spa(page * kPageSize + index * ((action & 16) != 0 ? 16 : 8)), low);
                if ((action & 16) != 0) memory_.write<u64>(Spa(page * kPageSize + index * 16 + 8), input.take<u32>());
                break;
            }
            case 4:
                transfer(action, input);
                break;
            case 5:
                interrupt(action, input);
                break;
            case 6:
                time_.run_for(u64{input.take<u8>()} << (action >> 3) % 8);
                break;
            case 7:
                start(action);
                if (copies_++ < 2) replace_by_copy();
                break;
        }
        VG_ASSERT(unit_->history().faults.size() <= 16 && unit_->history().transfers.size() <= 64);
        VG_ASSERT((unit_->mmio_read(reg::kQueueHead, 8) & ~reg::kQueueOffset) == 0);
    }

  private:
    std::unique_ptr<Vtd> make() {
        VtdConfig config;
        config.name = "vtd" + std::to_string(copies_);
        config.levels4 = (options_ & 1) == 0;
        config.caching_mode = (options_ & 2) != 0;
        config.snoop_control = (options_ & 4) == 0;
        config.x2apic = (options_ & 8) == 0;
        config.pages_1g = (options_ & 16) == 0;
        return std::make_unique<Vtd>(memory_, time_.events, log_, sink_, config);
    }
    /// What would take an input many bytes: tables at fixed pages, and everything on.
    void start(u8 action) {
        if ((action & 8) == 0) return;
        unit_->mmio_write(reg::kRootTable, 8, 1 * kPageSize);
        unit_->mmio_write(reg::kInterruptTable, 8, 2 * kPageSize | 7 | u64{action & 16u} << 7);
        unit_->mmio_write(reg::kQueueAddress, 8, 3 * kPageSize);
        unit_->mmio_write(reg::kGlobalCommand, 4, reg::global::kRootPointer | reg::global::kInterruptPointer);
        unit_->mmio_write(reg::kGlobalCommand, 4, 0x86000000);
        for (u64 i = 0; i < 8 && (action & 32) != 0; ++i) {
            memory_.write<u64>(Spa(1 * kPageSize), 4 * kPageSize | 1);
            memory_.write<u64>(Spa(4 * kPageSize + i * 16), (5 + i % 2) * kPageSize | 1);
            memory_.write<u64>(Spa(4 * kPageSize + i * 16 + 8), i << 8 | ((action & 64) != 0 ? 2u : 1u));
        }
    }
    void transfer(u8 action, InputBytes& input) {
        const u16 rid = (action & 8) != 0 ? input.take<u16>() : u16{static_cast<u16>(input.take<u8>() % 8)};
        const u64 iova = (action & 16) != 0 ? input.take<u64>() : u64{input.take<u16>()} << 6;
        u8 buffer[2 * kPageSize + 3];
        std::memset(buffer, 0x5a, sizeof buffer);
        const u64 size = (action & 32) != 0 ? input.take<u16>() % sizeof buffer : 4;
        const bool translating = (unit_->mmio_read(reg::kGlobalStatus, 4) & reg::global::kTranslation) != 0;
        const bool write = (action & 64) != 0;
        const bool ok =
            write ? unit_->dma(rid).write(Iova(iova), buffer, size) : unit_->dma(rid).read(Iova(iova), buffer, size);
        if (size == 0) return;
        const Transfer& last = unit_->history().transfers.last();
        VG_ASSERT(last.rid == rid && last.iova == iova && last.size <= size && last.write == write);
        VG_ASSERT(ok == (last.verdict == Verdict::Ok || last.verdict == Verdict::Interrupt));
        if (last.verdict == Verdict::Ok) VG_ASSERT(last.spa < kPages * kPageSize && (translating || last.spa == iova));
        VG_ASSERT((last.reason != FaultReason::None) == (last.verdict == Verdict::Fault));
    }
    void interrupt(u8 action, InputBytes& input) {
        const u16 rid = input.take<u8>();
        const u64 address = (action & 8) != 0 ? input.take<u64>() : 0xfee00000 | input.take<u32>() % 0x100000;
        const u32 data = input.take<u32>();
        const bool remapping = (unit_->mmio_read(reg::kGlobalStatus, 4) & reg::global::kInterruptRemapping) != 0;
        const std::size_t before = sink_.sent.size();
        (action & 16 ? unit_->messages(rid) : unit_->unidentified_messages()).send(address, data);
        // One message, or the unit's own fault event besides.
        VG_ASSERT(sink_.sent.size() <= before + 2);
        if (!remapping && address >> 20 == 0xfee)
            VG_ASSERT(sink_.sent.size() == before + 1 && sink_.sent.back() == std::pair(address, data));
        if (sink_.sent.size() > 4096) sink_.sent.clear();
    }
    void replace_by_copy() {
        StateHasher before;
        unit_->fields(before);
        test::StateTape tape;
        tape.save(*unit_);
        auto copy = make();
        tape.restore(*copy);
        StateHasher after;
        copy->fields(after);
        VG_ASSERT(before.digest() == after.digest());
        unit_->reset();  // its timer
        retired_.push_back(std::move(unit_));
        unit_ = std::move(copy);
    }

    mmu::PhysicalMemory& memory_;
    u8 options_;
    test::TestTime time_;
    Log log_{[](Area, Level, std::string_view) {}};
    test::RecordingSink sink_;
    std::unique_ptr<Vtd> unit_;
    std::vector<std::unique_ptr<Vtd>> retired_;  // their timers stay registered
    u32 copies_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static Memory memory;
    InputBytes input({data, size});
    Bench bench(memory.memory, input.take<u8>());
    while (!input.empty()) bench.act(input);
    return 0;
}
