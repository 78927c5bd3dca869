#include "roms/parent/hypercalls.h"

#include <cstring>

#include "base/assert.h"
#include "hv/spec/msr.h"
#include "roms/parent/platform.h"
#include "roms/parent/processor.h"

extern "C" {
/// entry.S: HyperCall(RCX control, RDX input, R8 output) through the page at hypercall_entry.
vg::u64 call_hypervisor(vg::u64 control, vg::u64 input, vg::u64 output);
extern vg::u64 hypercall_entry;
vg::u64 hypercall_entry = 0;  // tidy: the machine has one hypervisor
}

namespace vg::parent {

namespace {

// One of each is enough: calls do not nest, and interrupts make none.
u64 input_page = 0, output_page = 0;  // tidy: the machine has one hypervisor

}  // namespace

void start_hypercalls() {
    // the hypervisor has chosen the page.
    write_msr(hv::msr::HYPERCALL, read_msr(hv::msr::HYPERCALL) | hv::hypercall_msr::kEnable);
    hypercall_entry = hv::placed_page(read_msr(hv::msr::HYPERCALL)).value;
    input_page = allocate_pages(1);
    output_page = allocate_pages(1);
}

CallResult invoke(Call call, std::span<const u8> header, std::span<const u8> list, u32 count, u32 start,
                  std::span<u8> output) {
    VG_ASSERT(header.size() + list.size() <= kPageSize && output.size() <= kPageSize);
    if (!header.empty()) std::memcpy(at<>(input_page), header.data(), header.size());
    if (!list.empty()) std::memcpy(at<>(input_page + header.size()), list.data(), list.size());
    const u64 control = static_cast<u64>(call) | u64{count} << 32 | u64{start} << 48;
    const u64 result = call_hypervisor(control, input_page, output_page);
    if (!output.empty()) std::memcpy(output.data(), at<>(output_page), output.size());
    return {static_cast<HvStatus>(result & 0xffff), static_cast<u32>(result >> 32) & 0xfff};
}

}  // namespace vg::parent
