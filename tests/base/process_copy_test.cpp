#include "base/process_copy.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "base/types.h"

using namespace vg;

TEST_CASE("process copy: memory that is shared within the process is not shared with the copy", "[base][process]") {
    constexpr u64 kSize = 4 * kPageSize;
    const int file = memfd_create("test", MFD_CLOEXEC);
    REQUIRE(ftruncate(file, kSize) == 0);
    auto* const first = static_cast<u8*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    auto* const second = static_cast<u8*>(mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED, file, kPageSize));
    auto* const nameless =
        static_cast<u8*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    REQUIRE(first != MAP_FAILED);
    REQUIRE(second != MAP_FAILED);
    REQUIRE(nameless != MAP_FAILED);
    auto* const view = static_cast<u8*>(mremap(nameless, 0, kSize, MREMAP_MAYMOVE));
    REQUIRE(view != MAP_FAILED);
    first[kPageSize] = 1;
    nameless[2 * kPageSize] = 2;
    int from_child[2];
    REQUIRE(pipe(from_child) == 0);
    int to_child[2];
    REQUIRE(pipe(to_child) == 0);
    auto child = copy_process();
    REQUIRE(child);
    if (*child == 0) {
        u8 go = 0;
        if (read(to_child[0], &go, 1) != 1) _exit(9);
        // What the parent wrote since is not seen; a write is seen through every view, also one made of the descriptor.
        u8 seen[6] = {second[0], view[2 * kPageSize]};
        first[kPageSize] = 11;
        nameless[2 * kPageSize] = 12;
        auto* const fresh = static_cast<u8*>(mmap(nullptr, kSize, PROT_READ, MAP_SHARED, file, 0));
        seen[2] = second[0];
        seen[3] = view[2 * kPageSize];
        seen[4] = fresh[kPageSize];
        seen[5] = first[0];
        _exit(write(from_child[1], seen, sizeof seen) == sizeof seen ? 0 : 9);
    }
    first[kPageSize] = 21;
    nameless[2 * kPageSize] = 22;
    REQUIRE(write(to_child[1], "", 1) == 1);
    u8 seen[6] = {};
    REQUIRE(read(from_child[0], seen, sizeof seen) == sizeof seen);
    CHECK(std::vector<int>(seen, seen + 6) == std::vector<int>{1, 2, 11, 12, 11, 0});
    CHECK(second[0] == 21);
    CHECK(view[2 * kPageSize] == 22);
    int status = 0;
    REQUIRE(waitpid(*child, &status, 0) == *child);
    CHECK(status == 0);
    munmap(first, kSize);
    munmap(second, kPageSize);
    munmap(nameless, kSize);
    munmap(view, kSize);
    for (const int each : {file, from_child[0], from_child[1], to_child[0], to_child[1]}) close(each);
}
