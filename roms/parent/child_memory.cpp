#include "roms/parent/child_memory.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace {
constexpr u64 kPagesPerPiece = ChildMemory::kPiece / kPageSize;
static_assert(kPagesPerPiece == hv::kPagesPerLargePage);
}  // namespace

ChildMemory::~ChildMemory() {
    for (const u64 piece : pieces_) free_pages(piece, kPagesPerPiece);
}

bool ChildMemory::allocate() {
    while (pieces_.size() < bytes_ / kPiece) {
        const u64 piece = allocate_pages(kPagesPerPiece, kPagesPerPiece);
        if (piece == 0) return false;
        pieces_.push_back(piece);
    }
    return true;
}

HvStatus ChildMemory::map_range(u64 partition_id, Deposits& deposits, u64 gpa, u64 first_piece, u64 count) {
    constexpr u64 kAtOnce = 256;
    namespace flag = hv::map_flag;
    for (u64 done = 0; done < count;) {
        std::vector<u64> list;
        for (u64 i = done; i < std::min(count, done + kAtOnce); ++i)
            list.push_back(pieces_[first_piece + i] / kPageSize);
        const hv::MapGpaHeader header{
            partition_id, gpa / kPageSize + done * kPagesPerPiece,
            flag::kRead | flag::kWrite | flag::kKernelExecute | flag::kUserExecute | flag::kLarge, 0};
        u32 start = 0;
        const HvStatus status = with_deposits(deposits, [&] {
            const CallResult result = call_list(Call::MapGpaPages, header, std::span<const u64>(list), start);
            start = result.reps;
            return result.status;
        });
        if (status != HvStatus::Success) return status;
        done += list.size();
    }
    return HvStatus::Success;
}

HvStatus ChildMemory::map(u64 partition_id, Deposits& deposits) {
    const u64 low = layout_.low / kPiece;
    if (const HvStatus status = map_range(partition_id, deposits, 0, 0, low); status != HvStatus::Success)
        return status;
    return map_range(partition_id, deposits, machine::kFourGiB, low, layout_.high / kPiece);
}

template <class F>
bool ChildMemory::for_each(Gpa gpa, u64 size, F piece) const {
    const bool high = gpa.value >= machine::kFourGiB;
    const u64 base = high ? machine::kFourGiB : 0;
    if (!fits(gpa.value - base, size, high ? layout_.high : layout_.low)) return false;
    u64 at_byte = (high ? layout_.low : 0) + (gpa.value - base);
    for (u64 done = 0; done < size;) {
        const u64 count = std::min(size - done, kPiece - at_byte % kPiece);
        piece(at<>(pieces_[at_byte / kPiece] + at_byte % kPiece), done, count);
        done += count;
        at_byte += count;
    }
    return true;
}

bool ChildMemory::write(Gpa gpa, std::span<const u8> data) {
    return for_each(gpa, data.size(),
                    [&](u8* to, u64 offset, u64 size) { std::memcpy(to, data.data() + offset, size); });
}

bool ChildMemory::read(Gpa gpa, std::span<u8> out) {
    return for_each(gpa, out.size(),
                    [&](const u8* from, u64 offset, u64 size) { std::memcpy(out.data() + offset, from, size); });
}

}  // namespace vg::parent
