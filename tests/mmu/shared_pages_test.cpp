// Pages that regions of RAM have alike.
#include "mmu/shared_pages.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <random>

#include "base/state.h"

using namespace vg;
using namespace vg::mmu;

namespace {

constexpr u64 kSize = 3 * kHostHugePage, kPages = kSize / kPageSize;

struct Memories {
    PhysicalMemory memory;
    std::vector<Spa> bases;
    explicit Memories(unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            bases.emplace_back((i + 1) * (u64{1} << 30));
            REQUIRE(memory.add_ram("r" + std::to_string(i), bases.back(), kSize));
        }
    }
    [[nodiscard]] std::vector<const Region*> regions() const {
        std::vector<const Region*> all;
        for (const Spa base : bases) all.push_back(memory.find(base));
        return all;
    }
    [[nodiscard]] u64 hash() const {
        StateHasher hasher;
        memory.hash(hasher);
        return hasher.digest();
    }
    void fill(unsigned region, u64 page, u8 value) {
        const std::vector<u8> bytes(kPageSize, value);
        memory.write(bases[region] + page * kPageSize, bytes.data(), kPageSize);
    }
    [[nodiscard]] u8 at(unsigned region, u64 page) { return memory.read<u8>(bases[region] + page * kPageSize + 77); }
};

}  // namespace

TEST_CASE("shared pages: what regions have alike takes the host's memory once, and is seen as before",
          "[mmu][shared]") {
    Memories m(3);
    for (unsigned r = 0; r < 3; ++r)
        for (u64 page = 0; page < kPages; ++page) m.fill(r, page, static_cast<u8>(page % 200 + 1));
    m.fill(2, 100, 0xee);
    const u64 hash = m.hash();
    SharedPages shared;
    const u64 saved = shared.share(m.memory, m.regions(), 0, kSize);
    CHECK(saved == 3 * kSize - kPageSize);
    CHECK(shared.bytes() == kSize);
    CHECK(m.hash() == hash);
    CHECK(shared.share(m.memory, m.regions(), 0, kSize) == 0);
    m.fill(0, 50, 0xdd);  // its own again
    CHECK(m.at(0, 50) == 0xdd);
    CHECK(m.at(1, 50) == 51);
    CHECK(m.at(2, 100) == 0xee);
    m.fill(0, 50, 51);  // and equal again
    CHECK(shared.share(m.memory, m.regions(), 0, kSize) == kPageSize);
    CHECK(m.hash() == hash);
    m.memory.discard(m.bases[1], kSize);
    CHECK(next_touched(m.memory, *m.regions()[1], 0).first == kSize);
    CHECK(m.at(1, 7) == 0);
    CHECK(m.at(2, 7) == 8);
}

TEST_CASE("shared pages: a copy that nobody sees any more can be another", "[mmu][shared]") {
    constexpr u64 kCount = kHostHugePage / kPageSize;
    Memories m(2);
    SharedPages shared;
    for (u8 value = 1; value < 5; ++value) {
        for (unsigned r = 0; r < 2; ++r)
            for (u64 page = 0; page < kCount; ++page) m.fill(r, page, value);
        CHECK(shared.share(m.memory, m.regions(), 0, kSize) == 2 * kHostHugePage);
        for (unsigned r = 0; r < 2; ++r) CHECK(m.at(r, kCount - 1) == value);
    }
    CHECK(shared.bytes() == kHostHugePage);
}

TEST_CASE("shared pages: memory that is shared at any time is as memory that never is", "[mmu][shared]") {
    std::mt19937_64 random(0x5a4e);
    const auto below = [&](u64 limit) { return random() % limit; };
    Memories with(4), without(4);
    SharedPages shared;
    u64 saved = 0;
    for (int step = 0; step < 400; ++step) {
        const u64 first = below(kPages), count = 1 + below(std::min<u64>(200, kPages - first));
        const auto region = static_cast<unsigned>(below(4));
        const auto value = static_cast<u8>(below(3) * 60);
        switch (below(8)) {
            case 0:
                saved += shared.share(with.memory, with.regions(), 0, kSize);
                break;
            case 1:
                for (Memories* m : {&with, &without})
                    m->memory.discard(m->bases[region] + first * kPageSize, count * kPageSize);
                break;
            case 2:
                (void)with.memory.release_zero_pages(*with.regions()[region], 0, kSize);
                break;
            case 3:  // all of them the same
                for (Memories* m : {&with, &without})
                    for (unsigned r = 0; r < 4; ++r)
                        for (u64 page = first; page < first + count; ++page)
                            m->fill(r, page, static_cast<u8>(value + page % 7));
                break;
            default:
                for (Memories* m : {&with, &without})
                    for (u64 page = first; page < first + count; ++page) m->fill(region, page, value);
                break;
        }
        if (step % 20 == 0) {
            REQUIRE(with.hash() == without.hash());
            // What saves memory relies on it: everything that is not zero is found.
            for (unsigned r = 0; r < 4; ++r) {
                std::vector<bool> found(kPages, false);
                PageRun run;
                while ((run = next_touched(with.memory, *with.regions()[r], run.end)).first < kSize)
                    for (u64 at = run.first; at < run.end; at += kPageSize) found[at / kPageSize] = true;
                for (u64 page = 0; page < kPages; ++page)
                    if (without.at(r, page) != 0) REQUIRE(found[page]);
            }
        }
    }
    CHECK(saved > kSize);
}
