#include <catch2/catch.hpp>

#include <cstring>
#include <vector>

#include "base/state.h"
#include "mmu/dma.h"
#include "mmu/physical_memory.h"
#include "mmu/slat_builder.h"

using namespace vg;
using namespace vg::mmu;

namespace {

struct Touch {
    bool write;
    u64 offset;
    unsigned size;
    u64 value;
    bool operator==(const Touch&) const = default;
};

struct RecordingDevice final : MmioHandler {
    std::vector<Touch> log;
    u64 mmio_read(u64 offset, unsigned size) override {
        log.push_back({false, offset, size, 0});
        return 0x1122334455667788;
    }
    void mmio_write(u64 offset, unsigned size, u64 value) override { log.push_back({true, offset, size, value}); }
};

struct RecordingObserver final : CodeObserver, TlbObserver {
    std::vector<std::pair<u64, u32>> code;
    std::vector<u64> pages, read_pages;
    unsigned drops = 0;
    void code_written(Spa spa, u32 size) override { code.emplace_back(spa.value, size); }
    void mark_page(Spa) override {}
    void drop_write_entries(Spa page) override { pages.push_back(page.value); }
    void drop_read_entries(Spa page) override { read_pages.push_back(page.value); }
    void drop_all() override { ++drops; }
};

u64 hash_of(const PhysicalMemory& memory) {
    StateHasher hasher;
    memory.hash(hasher);
    return hasher.digest();
}

}  // namespace

TEST_CASE("physical memory: regions are whole pages and do not overlap", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingDevice device;
    REQUIRE(memory.add_ram("low", Spa(0), 0x100000));
    REQUIRE(memory.add_mmio("dev", Spa(0x200000), 0x1000, device));
    REQUIRE(memory.add_rom("rom", Spa(0xfffff000), {1, 2, 3}));
    CHECK(memory.add_ram("next", Spa(0x100000), 0x100000));
    for (const auto& [base, size] : {std::pair<u64, u64>{0xff000, 0x1000}, {0x1ff000, 0x2000}, {0x200000, 0x1000},
                                     {0x300800, 0x1000}, {0x300000, 0x800}, {0x300000, 0},
                                     {0xfffffffffffff000, 0x2000}}) {
        CAPTURE(base, size);
        CHECK_FALSE(memory.add_mmio("bad", Spa(base), size, device));
        CHECK_FALSE(memory.add_ram("bad", Spa(base), size));
    }
    CHECK(memory.regions().size() == 4);
    CHECK(memory.find(Spa(0x1fffff))->name == "next");
    CHECK(memory.find(Spa(0x201000)) == nullptr);
    CHECK(memory.find(Spa(0xffffffff))->kind == RegionKind::Rom);
    CHECK(memory.ram(Spa(0x200000)) == nullptr);
    CHECK(memory.readable(Spa(0xfffff002))[0] == 3);
    CHECK(memory.read<u8>(Spa(0xfffff003)) == 0xff);
}

TEST_CASE("physical memory: accesses cross regions, split MMIO, and treat holes and ROM", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingDevice device;
    REQUIRE(memory.add_ram("low", Spa(0x1000), 0x1000));
    REQUIRE(memory.add_mmio("dev", Spa(0x2000), 0x1000, device));
    REQUIRE(memory.add_rom("rom", Spa(0x3000), std::vector<u8>(0x1000, 0x5a)));

    memory.write<u16>(Spa(0x1ffe), 0xbeef);
    u8 bytes[11];
    memory.read(Spa(0x1ffe), bytes, sizeof bytes);
    CHECK(bytes[0] == 0xef);
    CHECK(bytes[1] == 0xbe);
    CHECK(device.log == std::vector<Touch>{{false, 0, 8, 0}, {false, 8, 1, 0}});
    CHECK(bytes[2] == 0x88);
    CHECK(bytes[10] == 0x88);

    device.log.clear();
    memory.write<u64>(Spa(0x2001), 0x0807060504030201);
    CHECK(device.log ==
          std::vector<Touch>{{true, 1, 1, 0x01}, {true, 2, 2, 0x0302}, {true, 4, 4, 0x07060504}, {true, 8, 1, 0x08}});

    memory.write<u32>(Spa(0x3000), 0);
    CHECK(memory.read<u32>(Spa(0x3000)) == 0x5a5a5a5a);
    memory.write<u32>(Spa(0x0), 0);
    CHECK(memory.read<u64>(Spa(0xffc)) == 0x00000000ffffffff);
    CHECK_FALSE(memory.compare_exchange(Spa(0x3000), 0x5a5a5a5a, 0, 4));
    CHECK(memory.compare_exchange(Spa(0x1000), 0, 7, 8));
    CHECK_FALSE(memory.compare_exchange(Spa(0x1000), 0, 8, 8));
    CHECK(memory.read<u64>(Spa(0x1000)) == 7);
}

TEST_CASE("physical memory: writes to code granules are reported, whoever writes", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingObserver observer;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x10000));
    memory.add_code_observer(&observer);
    memory.add_tlb_observer(&observer);
    CHECK(memory.writable_directly(Spa(0x2000)));
    memory.page_info(Spa(0x2000)).note_write_entry(2);
    memory.mark_code(Spa(0x2080), 16);
    CHECK(observer.pages == std::vector<u64>{0x2000});
    memory.mark_code(Spa(0x2100), 1);
    CHECK(observer.pages.size() == 1);
    CHECK_FALSE(memory.writable_directly(Spa(0x2fff)));
    CHECK(memory.page_info(Spa(0x2000)).code == 0b110);

    memory.write<u8>(Spa(0x207f), 1);
    memory.write<u8>(Spa(0x2180), 1);
    CHECK(observer.code.empty());
    memory.write<u16>(Spa(0x207f), 1);
    memory.write<u64>(Spa(0x1ffc), 1);
    CHECK(memory.compare_exchange(Spa(0x2100), 0, 1, 8));
    const std::vector<u8> big(0x3000);
    memory.write(Spa(0x1800), big.data(), big.size());
    const std::vector<std::pair<u64, u32>> expected{{0x207f, 2}, {0x2100, 8}, {0x2000, 0x1000}};
    CHECK(observer.code == expected);

    memory.remark_code(Spa(0x2000));
    CHECK(memory.writable_directly(Spa(0x2000)));
    memory.page_info(Spa(0x2000)).note_write_entry(2);
    memory.set_tracked(Spa(0x2000), true);
    CHECK(observer.pages.size() == 2);
    CHECK_FALSE(memory.writable_directly(Spa(0x2000)));
    memory.set_tracked(Spa(0x2000), false);
    CHECK(memory.writable_directly(Spa(0x2000)));
    memory.remove_tlb_observer(&observer);
}

TEST_CASE("physical memory: the observer hears who reads and writes watched pages", "[mmu][memory]") {
    struct Listener final : AccessObserver {
        std::vector<std::tuple<u64, u32, bool, Accessor::Kind, u32>> told;
        void accessed(Spa spa, u32 size, bool write, Accessor by) override {
            told.emplace_back(spa.value, size, write, by.kind, by.requester);
        }
    } listener;
    RecordingObserver tlb;
    PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x10000));
    memory.add_tlb_observer(&tlb);
    memory.set_access_observer(&listener);
    memory.page_info(Spa(0x2000)).note_write_entry(2);
    memory.set_watched(Spa(0x2000), true, false);
    memory.set_watched(Spa(0x3123), false, true);
    CHECK(memory.watching());
    CHECK(tlb.pages == std::vector<u64>{0x2000});
    CHECK(tlb.read_pages == std::vector<u64>{0x2000});
    CHECK(memory.read_watched(Spa(0x2000)));
    CHECK_FALSE(memory.read_watched(Spa(0x3000)));
    for (const u64 page : {0x2000, 0x3000}) CHECK_FALSE(memory.writable_directly(Spa(page)));

    std::vector<u8> bytes(0x3000);
    memory.read(Spa(0x1fff), bytes.data(), 2);
    memory.write(Spa(0x2fff), bytes.data(), 2, {Accessor::Kind::Processor});
    DirectDma dma(memory, {}, 0xfa);
    CHECK(dma.read(Iova(0x1000), bytes.data(), bytes.size()));
    CHECK(dma.write(Iova(0x3ff0), bytes.data(), 0x20));
    CHECK(memory.compare_exchange(Spa(0x3008), 0, 1, 4));
    memory.before_write(Spa(0x3010), 8);
    using Who = Accessor::Kind;
    constexpr u32 kNone = Accessor::kUnknown;
    CHECK(listener.told == decltype(listener.told){{0x2000, 1, false, Who::Hypervisor, kNone},
                                                   {0x3000, 1, true, Who::Processor, kNone},
                                                   {0x2000, 0x1000, false, Who::Device, 0xfa},
                                                   {0x3ff0, 0x10, true, Who::Device, 0xfa},
                                                   {0x3008, 4, true, Who::Processor, kNone},
                                                   {0x3010, 8, true, Who::Hypervisor, kNone}});
    for (const u64 page : {0x2000, 0x3000}) memory.set_watched(Spa(page), false, false);
    CHECK_FALSE(memory.watching());
    for (const u64 page : {0x2000, 0x3000}) CHECK(memory.writable_directly(Spa(page)));
    memory.remove_tlb_observer(&tlb);
}

TEST_CASE("physical memory: the hash sees content, not how pages were touched", "[mmu][memory]") {
    PhysicalMemory a, b;
    for (PhysicalMemory* m : {&a, &b}) {
        REQUIRE(m->add_ram("low", Spa(0), 0x200000));
        REQUIRE(m->add_ram("high", Spa(u64{1} << 32), u64{4} << 30));
    }
    CHECK(hash_of(a) == hash_of(b));
    const u64 empty = hash_of(a);
    a.write<u64>(Spa((u64{1} << 32) + 0x12345000), 0);
    CHECK(hash_of(a) == empty);
    a.write<u64>(Spa((u64{1} << 32) + 0x12345ff8), 1);
    CHECK(hash_of(a) != empty);
    b.write<u64>(Spa((u64{1} << 32) + 0x12346ff8), 1);
    CHECK(hash_of(a) != hash_of(b));
    b.write<u64>(Spa((u64{1} << 32) + 0x12346ff8), 0);
    b.write<u64>(Spa((u64{1} << 32) + 0x12345ff8), 1);
    CHECK(hash_of(a) == hash_of(b));
    CHECK(a.resident_bytes() >= kPageSize);
    CHECK(a.resident_bytes() < (u64{8} << 20));
}

TEST_CASE("physical memory: discarded pages are zero, cost nothing, and the code observer hears of it", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingObserver observer;
    memory.add_code_observer(&observer);
    REQUIRE(memory.add_ram("ram", Spa(0x100000), 4 << 20));
    REQUIRE(memory.add_ram("more", Spa(0x500000), 1 << 20));  // directly behind it
    const std::vector<u8> ones(0x3000, 1);
    memory.write(Spa(0x4fe000), ones.data(), 0x3000);
    memory.mark_code(Spa(0x4ff000), 16);
    const u64 before = memory.resident_bytes();
    memory.discard(Spa(0x4ff000), 0x2000);
    CHECK(memory.read<u8>(Spa(0x4fe000)) == 1);
    CHECK(memory.read<u64>(Spa(0x4ff000)) == 0);
    CHECK(memory.read<u64>(Spa(0x500ff8)) == 0);
    CHECK(observer.code.size() == 1);
    CHECK(memory.resident_bytes() <= before);
    memory.discard(Spa(0x5ff000), 0x10000);  // the end of RAM, and a hole
    memory.discard(Spa(0), 0x1000);
}

TEST_CASE("physical memory: zero pages go back to the host, and nothing else changes", "[mmu][memory]") {
    PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0x200000), 8 << 20));
    for (u64 at = 0; at < 8 << 20; at += kPageSize) memory.write<u64>(Spa(0x200000 + at), at / kPageSize + 1);
    for (u64 at = 0x40000; at < 0x240000; at += kPageSize) memory.write<u64>(Spa(0x200000 + at), 0);
    memory.write<u64>(Spa(0x200000 + 0x300000), 0);  // one page alone
    const auto hash = [&] {
        StateHasher hasher;
        memory.hash(hasher);
        return hasher.digest();
    };
    const u64 content = hash(), before = memory.resident_bytes();
    const Region& region = memory.regions().front();
    CHECK(memory.release_zero_pages(region, 0, region.size) == 0x200000);
    CHECK(memory.resident_bytes() + 0x200000 <= before);
    CHECK(hash() == content);
    CHECK(memory.read<u64>(Spa(0x200000 + 0x40000)) == 0);
    CHECK(memory.read<u64>(Spa(0x200000 + 0x3f000)) == 0x40);
    memory.write<u64>(Spa(0x200000 + 0x40000), 7);
    CHECK(memory.read<u64>(Spa(0x200000 + 0x40000)) == 7);
    CHECK(memory.release_zero_pages(region, 0, region.size) == 0);
}

TEST_CASE("dma: the direct view reaches RAM and refuses the rest", "[mmu][dma]") {
    PhysicalMemory memory;
    RecordingDevice device;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x3000));
    REQUIRE(memory.add_mmio("dev", Spa(0x3000), 0x1000, device));
    DirectDma dma(memory);
    const std::vector<u8> data(0x1800, 0x77);
    CHECK(dma.write(Iova(0x1000), data.data(), data.size()));
    CHECK(memory.read<u8>(Spa(0x27ff)) == 0x77);
    CHECK_FALSE(dma.write(Iova(0x2ff0), data.data(), 0x20));
    CHECK(memory.read<u8>(Spa(0x2fff)) == 0x77);
    CHECK(device.log.empty());
    std::vector<u8> back(0x100);
    CHECK_FALSE(dma.read(Iova(0x2fff), back.data(), 2));
    CHECK_FALSE(dma.read(Iova(~u64{0}), back.data(), 2));
    CHECK(dma.read(Iova(0x2f00), back.data(), 0x100));
}

TEST_CASE("dma: with a second level the device sees its partition's addresses", "[mmu][dma]") {
    PhysicalMemory memory;
    REQUIRE(memory.add_ram("ram", Spa(0), 0x20000));
    u64 next = 0x10000;
    SlatBuilder slat(memory, [&]() -> Result<Spa> { return Spa((next += 0x1000) - 0x1000); }, [](Spa) {});
    REQUIRE(slat.map(Gpa(0x8000), Spa(0x1000), 0x1000, {}));
    REQUIRE(slat.map(Gpa(0x9000), Spa(0x5000), 0x1000, {.read = true, .write = false, .execute = false}));
    DirectDma dma(memory, slat.mode());
    const u32 value = 0x12345678;
    CHECK(dma.write(Iova(0x8ffc), &value, 4));
    CHECK(memory.read<u32>(Spa(0x1ffc)) == value);
    CHECK_FALSE(dma.write(Iova(0x9000), &value, 4));
    CHECK_FALSE(dma.write(Iova(0x1000), &value, 4));
    u32 back = 0;
    CHECK(dma.read(Iova(0x9000), &back, 4));
}

TEST_CASE("physical memory: switched RAM shows what lies behind it until it is switched", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingObserver observer;
    RecordingDevice device;
    memory.add_code_observer(&observer);
    memory.add_tlb_observer(&observer);
    std::vector<u8> rom(0x3000, 0x77);
    rom[0x1004] = 0x99;
    REQUIRE(memory.add_switched_ram("shadow", Spa(0x10000), 0x4000, rom, nullptr));
    REQUIRE(memory.add_switched_ram("flash", Spa(0x20000), 0x1000, {}, &device));

    SECTION("reads give the ROM, writes go nowhere, and it can be executed") {
        memory.write<u32>(Spa(0x11004), 0x12345678);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0x77777799);
        CHECK(memory.read<u8>(Spa(0x13000)) == 0xff);
        CHECK(memory.ram(Spa(0x11000)) == nullptr);
        CHECK_FALSE(memory.writable_directly(Spa(0x11000)));
        CHECK(memory.readable(Spa(0x11004))[0] == 0x99);
        CHECK_FALSE(memory.compare_exchange(Spa(0x11004), 0x77777799, 0, 4));
    }
    SECTION("each direction is switched by itself, page by page") {
        const u64 drops = observer.drops;
        memory.switch_pages(Spa(0x11000), 0x1000, false, true);
        CHECK(observer.drops == drops + 1);
        memory.write<u32>(Spa(0x11004), 0x12345678);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0x77777799);
        memory.switch_pages(Spa(0x11000), 0x1000, true, false);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0x12345678);
        memory.write<u32>(Spa(0x11004), 0);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0x12345678);
        CHECK(memory.ram(Spa(0x11004)) == nullptr);
        CHECK(memory.readable(Spa(0x11004))[0] == 0x78);
        memory.switch_pages(Spa(0x11000), 0x1000, true, true);
        CHECK(memory.ram(Spa(0x11004)) != nullptr);
        CHECK(memory.writable_directly(Spa(0x11004)));
        memory.write<u32>(Spa(0x11004), 0xabcd);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0xabcd);
        CHECK(memory.read<u32>(Spa(0x12000)) == 0x77777777);  // its neighbour has not been
        u8 across[4];
        memory.read(Spa(0x11ffe), across, 4);
        CHECK(across[1] == 0);
        CHECK(across[2] == 0x77);
    }
    SECTION("without a ROM the handler answers and cannot be executed") {
        CHECK(memory.readable(Spa(0x20000)) == nullptr);
        CHECK(memory.read<u8>(Spa(0x20010)) == 0x88);
        memory.write<u16>(Spa(0x20010), 0x4321);
        CHECK(device.log.back() == Touch{true, 0x10, 2, 0x4321});
        memory.switch_pages(Spa(0x20000), 0x1000, true, false);
        CHECK(memory.read<u8>(Spa(0x20010)) == 0);
        CHECK(memory.readable(Spa(0x20010)) != nullptr);
        memory.write<u16>(Spa(0x20010), 0x1111);
        CHECK(device.log.back() == Touch{true, 0x10, 2, 0x1111});
        CHECK(memory.read<u16>(Spa(0x20010)) == 0);
    }
    SECTION("its hidden content is loaded, kept and hashed") {
        const u64 before = hash_of(memory);
        const u32 value = 0x5566;
        memory.load(*memory.find(Spa(0x10000)), 0x1004, &value, sizeof value);
        CHECK(memory.read<u32>(Spa(0x11004)) == 0x77777799);
        CHECK(hash_of(memory) != before);
        const u64 loaded = hash_of(memory);
        memory.switch_pages(Spa(0x10000), 0x4000, true, true);
        CHECK(memory.read<u32>(Spa(0x11004)) == value);
        CHECK(hash_of(memory) == loaded);
    }
}

TEST_CASE("physical memory: RAM that moves is in front of what is there, and nowhere else", "[mmu][memory]") {
    PhysicalMemory memory;
    RecordingObserver observer;
    RecordingDevice device;
    memory.add_tlb_observer(&observer);
    constexpr u64 kHome = u64{1} << 46;
    REQUIRE(memory.add_mmio("window", Spa(0x100000), 0x100000, device));
    REQUIRE(memory.add_ram("display", Spa(kHome), 0x4000));
    memory.write<u32>(Spa(kHome + 0x1000), 0xfeed);
    const u64 hash = hash_of(memory);
    memory.move_ram(Spa(kHome), Spa(0x140000));
    CHECK(observer.drops != 0);
    CHECK(memory.ram(Spa(kHome)) == nullptr);
    CHECK(memory.read<u32>(Spa(0x141000)) == 0xfeed);
    CHECK(memory.read<u8>(Spa(0x144000)) == 0x88);
    CHECK(memory.find(Spa(kHome))->name == "display");
    CHECK(hash_of(memory) == hash);
    u8 across[2];
    memory.read(Spa(0x13ffff), across, 2);
    CHECK(across[0] == 0x88);
    CHECK(across[1] == 0);
    memory.move_ram(Spa(kHome), Spa(kHome));
    CHECK(memory.read<u8>(Spa(0x141000)) == 0x88);
    CHECK(memory.read<u32>(Spa(kHome + 0x1000)) == 0xfeed);
}
