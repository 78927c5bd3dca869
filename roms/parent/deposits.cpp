#include "roms/parent/deposits.h"

#include <vector>

#include "roms/parent/platform.h"

namespace vg::parent {

HvStatus Deposits::give(u32 pages) {
    for (u32 i = 0; i < pages; ++i) {
        const u64 page = allocate_pages(1);
        if (page == 0) return HvStatus::InsufficientMemory;
        const u64 number = page / kPageSize;
        const auto deposit = [&] {
            return call_list(Call::DepositMemory, hv::DepositHeader{partition_id_}, std::span<const u64>(&number, 1))
                .status;
        };
        HvStatus status = deposit();
        if (status == HvStatus::InsufficientRootMemory && this != &root_deposits()) {
            if (const HvStatus more = root_deposits().give(8); more != HvStatus::Success) return more;
            status = deposit();
        }
        if (status != HvStatus::Success) {
            free_pages(page, 1);
            return status;
        }
        pages_.insert(page);
    }
    return HvStatus::Success;
}

bool Deposits::take_back() {
    bool right = true;
    for (;;) {
        u64 numbers[256];
        const CallResult result =
            call_outputs(Call::WithdrawMemory, hv::WithdrawHeader{partition_id_, {}}, std::span<u64>(numbers));
        for (u32 i = 0; i < result.reps; ++i) {
            const u64 page = numbers[i] * kPageSize;
            if (pages_.erase(page) == 0) {
                log("parent: partition {}: the hypervisor returned page {:#x}, which was not deposited", partition_id_,
                    page);
                right = false;
                continue;
            }
            free_pages(page, 1);
        }
        if (result.status != HvStatus::Success || result.reps == 0) break;
    }
    if (!pages_.empty()) {
        log("parent: partition {}: the hypervisor keeps {} deposited pages", partition_id_, pages_.size());
        right = false;
    }
    return right;
}

Deposits& root_deposits() {
    static Deposits deposits(hv::kPartitionSelf);
    return deposits;
}

}  // namespace vg::parent
