// The machine's system-physical address space: RAM, ROM and MMIO.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg {
class StateHasher;
}

namespace vg::mmu {

/// What answers accesses to an MMIO region. Offsets are relative to the region's start; sizes are 1, 2, 4 or 8
/// and never cross the region's end. Called from the thread of the VP that accesses.
class MmioHandler {
  public:
    virtual ~MmioHandler() = default;
    virtual u64 mmio_read(u64 offset, unsigned size) = 0;
    virtual void mmio_write(u64 offset, unsigned size, u64 value) = 0;
};

/// Told when bytes that hold translated code are about to change, whoever changes them.
class CodeObserver {
  public:
    virtual ~CodeObserver() = default;
    /// The bytes [spa, spa+size) within one page are being written and overlap translated code.
    virtual void code_written(Spa spa, u32 size) = 0;
    /// Says of every piece of code in a page that it still has, by mark_code.
    virtual void mark_page(Spa page) = 0;
};

/// Who makes an access that no TLB entry covers.
struct Accessor {
    enum class Kind : u8 {
        Hypervisor,  ///< or whatever else of the machine acts for itself
        Processor,   ///< the VP that is running, its page walks included
        Device
    };
    static constexpr u32 kUnknown = ~u32{0};
    Kind kind = Kind::Hypervisor;
    u32 requester = kUnknown;  ///< Device: bus, device and function as a requester id
};

/// Told of accesses to watched pages (PhysicalMemory::set_watched).
class AccessObserver {
  public:
    virtual ~AccessObserver() = default;
    /// The bytes [spa, spa+size) within one page are being read, or are about to be written. Instruction fetches, and
    /// reads of paging structures by walks, are not told.
    virtual void accessed(Spa spa, u32 size, bool write, Accessor by) = 0;
};

/// Told when cached write permission to a RAM page must go (it now holds code, is watched, ...).
class TlbObserver {
  public:
    virtual ~TlbObserver() = default;
    /// Drop every cached translation that allows direct writes to this page.
    virtual void drop_write_entries(Spa page) = 0;
    /// Drop every cached translation that allows direct reads of this page, but not what walks found.
    virtual void drop_read_entries(Spa page) = 0;
    /// Drop everything cached about any physical address (the map changed).
    virtual void drop_all() = 0;
};

enum class RegionKind : u8 { Ram, Rom, Mmio };

/// A range of the space. Base and size are multiples of 4 KiB; regions do not overlap.
struct Region {
    std::string name;
    Spa base;
    u64 size = 0;
    RegionKind kind = RegionKind::Ram;
    u8* host = nullptr;             ///< RAM and ROM: host address of the first byte
    MmioHandler* handler = nullptr; ///< MMIO
    u64 first_page = 0;             ///< RAM: index of its first PageInfo
};

/// What is known about one RAM page. `code` is a bitmap of 128-byte granules that hold translated code.
struct PageInfo {
    u32 code = 0;
    /// A write entry for this page may sit in some TLB (set at fill, cleared by drop_write_entries).
    static constexpr u8 kWriteCached = 1;
    /// Writes must take the slow path.
    static constexpr u8 kTracked = 2;
    /// Reads and writes, or writes, must take the slow path, and the access observer hears of them.
    static constexpr u8 kReadWatched = 4, kWriteWatched = 8;
    /// Switched RAM: reads, or writes, reach what lies behind it.
    static constexpr u8 kReadsBehind = 16, kWritesBehind = 32;
    u8 flags = 0;
    /// With kWriteCached: the table index of the only write entries for this page, or kManySlots. Lets
    /// drop_write_entries look at one entry per bank instead of at all of them.
    static constexpr u16 kManySlots = 0xffff;
    u16 write_slot = 0;

    /// Records that a write entry for this page sits at `slot` of some bank.
    void note_write_entry(u16 slot) {
        write_slot = (flags & kWriteCached) == 0 || write_slot == slot ? slot : kManySlots;
        flags |= kWriteCached;
    }
};

/// RAM is private memory of the process in the host's large pages, taken lazily. All access that is not
/// through a TLB entry goes through read/write here, which keeps code tracking exact.
class PhysicalMemory {
  public:
    PhysicalMemory();
    ~PhysicalMemory();
    PhysicalMemory(const PhysicalMemory&) = delete;
    PhysicalMemory& operator=(const PhysicalMemory&) = delete;

    /// Adds zeroed RAM. Error: the host cannot map that much (code Host), or the range overlaps (Usage).
    Result<void> add_ram(std::string name, Spa base, u64 size);
    /// Adds read-only memory with this content (padded with 0xff to whole pages).
    Result<void> add_rom(std::string name, Spa base, const std::vector<u8>& content);
    Result<void> add_mmio(std::string name, Spa base, u64 size, MmioHandler& handler);
    /// Adds zeroed RAM whose pages can be switched to what lies behind them, and are at first: reads and fetches give
    /// `rom` (padded with 0xff), or the handler's answer if `rom` is empty, which cannot be executed then; writes
    /// go to the handler, or nowhere if there is none.
    Result<void> add_switched_ram(std::string name, Spa base, u64 size, const std::vector<u8>& rom,
                                  MmioHandler* handler);
    /// Whether reads and fetches, and writes, of whole pages of switched RAM reach it. RAM that is read only is ROM to
    /// its readers. Translated code of these pages goes.
    void switch_pages(Spa base, u64 size, bool reads, bool writes);
    /// Shows the RAM region that was added at `home` at `place` from now on, in front of whatever is there, and nowhere
    /// else. Its name, and what snapshots call it, stay. Whole pages; not over other RAM.
    void move_ram(Spa home, Spa place);
    /// Writes RAM whatever its pages show, for content that comes from elsewhere than the machine. No code is there yet.
    void load(const Region& region, u64 offset, const void* data, u64 size);

    /// Makes whole pages of RAM zero, as a write would, and gives their memory back to the host. What is no RAM stays.
    void discard(Spa base, u64 size);
    /// Gives memory of zero pages back to the host, as far as they lie side by side: nothing that anybody here could see
    /// changes. Looks at [offset, offset + size) of a RAM region, whole pages. Returns bytes.
    u64 release_zero_pages(const Region& region, u64 offset, u64 size);

    /// The region that holds `spa`, or nullptr (a hole: reads give all-ones, writes are dropped).
    [[nodiscard]] const Region* find(Spa spa) const;
    [[nodiscard]] const std::vector<Region>& regions() const { return regions_; }

    /// Host address of a RAM byte, or nullptr if it is not RAM. Valid to the end of its page; writing through it
    /// is allowed only to a page with no code and no tracking (ask `writable_directly`).
    [[nodiscard]] u8* ram(Spa spa) const;
    /// Host address of a RAM or ROM byte, for reading only; nullptr for MMIO and holes. Valid to the end of its page.
    [[nodiscard]] const u8* readable(Spa spa) const;
    /// Metadata of a RAM page; asserts that it is RAM.
    [[nodiscard]] PageInfo& page_info(Spa spa);
    /// True for a RAM page whose bytes may be written through `ram` without asking: it holds no code and is neither
    /// tracked nor watched.
    [[nodiscard]] bool writable_directly(Spa spa);
    /// True for a RAM page whose reads must take the slow path.
    [[nodiscard]] bool read_watched(Spa page) const { return reads_watched_ != 0 && is_read_watched(page); }

    /// Reads or writes any range, of any kind of memory; MMIO is accessed in naturally aligned pieces of at most
    /// 8 bytes. Holes read as all-ones.
    void read(Spa spa, void* out, u64 size, Accessor by = {});
    void write(Spa spa, const void* data, u64 size, Accessor by = {});
    template <class T>
    [[nodiscard]] T read(Spa spa) {
        T value;
        read(spa, &value, sizeof value);
        return value;
    }
    template <class T>
    void write(Spa spa, const T& value) {
        write(spa, &value, sizeof value);
    }
    /// Atomic compare-and-exchange on RAM, for accessed and dirty bits. `spa` naturally aligned.
    /// Returns true if it held `expected`; false also if it is not RAM.
    /// `size` is 1, 2, 4 or 8. Code marks are honoured: the observer hears before the bytes change.
    bool compare_exchange(Spa spa, u64 expected, u64 desired, unsigned size);

    /// Marks [spa, spa+size), within one page, as holding translated code; write entries for the page go.
    void mark_code(Spa spa, u32 size);
    /// The code marks of a page anew, from what its observers still have there.
    void remark_code(Spa page);
    /// Sends writes of a RAM page through the slow path, or lets them go directly again.
    void set_tracked(Spa page, bool tracked);
    /// Has the access observer told of reads, of writes, of both, or of neither to a RAM page.
    void set_watched(Spa page, bool reads, bool writes);
    /// Some page is watched: translated code leaves walks to the interpreter then, so that what they set is told of at its
    /// instruction.
    [[nodiscard]] bool watching() const { return watched_pages_ != 0; }

    void add_code_observer(CodeObserver* observer) { code_observers_.push_back(observer); }
    void remove_code_observer(CodeObserver* observer) { std::erase(code_observers_, observer); }
    /// Called before TLBs and translations change that may belong to VPs of other threads; null: there are none.
    void set_before_change(std::function<void()> hold_off) { before_change_ = std::move(hold_off); }
    void set_access_observer(AccessObserver* observer) { access_observer_ = observer; }
    void add_tlb_observer(TlbObserver* observer);
    void remove_tlb_observer(TlbObserver* observer);

    /// Called by a RAM writer (TLB slow path, DMA) before it changes bytes directly: reports to the code observer and
    /// the access observer.
    void before_write(Spa spa, u32 size, Accessor by = {});

    /// Bytes of guest RAM that the host has really allocated.
    [[nodiscard]] u64 resident_bytes() const;
    /// Mixes all touched RAM pages (address and content; zero pages are as untouched ones) into the hash.
    void hash(StateHasher& hasher) const;

  private:
    /// What the hot paths need of one RAM region.
    struct RamRange {
        u64 base, size;
        u8* host;
        PageInfo* pages;
        bool switched = false;
        const u8* rom = nullptr;          ///< behind it
        MmioHandler* behind = nullptr;
        [[nodiscard]] u8 flags(Spa spa) const { return pages[(spa.value - base) / kPageSize].flags; }
        [[nodiscard]] bool shows(Spa spa, u8 not_flags) const { return !switched || (flags(spa) & not_flags) == 0; }
    };
    struct Impl;
    [[nodiscard]] const RamRange* find_ram(Spa spa) const;
    [[nodiscard]] const RamRange& ram_of(const Region& region) const;
    void drop_code(const RamRange& range, Spa base, u64 size, bool all);
    void read_switched(const RamRange& range, Spa spa, u8* out, u64 size);
    void write_switched(const RamRange& range, Spa spa, const u8* data, u64 size, Accessor by);
    Result<void> insert(Region region);
    [[nodiscard]] bool is_read_watched(Spa page) const;
    void note_read(Spa spa, u64 size, Accessor by);
    void drop_write_entries(PageInfo& info, Spa page);
    void drop_all();
    void tell_code_written(Spa spa, u32 size);
    void hold_off() const {
        if (before_change_) before_change_();
    }
    static void read_mmio(MmioHandler& handler, u64 offset, u8* out, u64 size);
    static void write_mmio(MmioHandler& handler, u64 offset, const u8* data, u64 size);

    std::vector<Region> regions_;  // sorted by base
    std::vector<RamRange> ram_;    // largest first: few, so that a linear search is the fastest
    std::vector<CodeObserver*> code_observers_;
    std::function<void()> before_change_;
    AccessObserver* access_observer_ = nullptr;
    u64 watched_pages_ = 0, reads_watched_ = 0;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg::mmu
