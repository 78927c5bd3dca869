// Admin commands. NVM Express Base 1.4c §5.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bits.h"
#include "devices/nvme.h"

namespace vg::devices {

using namespace nvme;

namespace {

template <class T>
void put(std::vector<u8>& data, u64 at, T value) {
    std::memcpy(data.data() + at, &value, sizeof value);
}
/// Padded with spaces, as the specification wants its strings.
void put_text(std::vector<u8>& data, u64 at, u64 size, std::string_view text) {
    std::fill_n(data.begin() + static_cast<std::ptrdiff_t>(at), size, u8{' '});
    std::copy_n(text.begin(), std::min<u64>(size, text.size()), data.begin() + static_cast<std::ptrdiff_t>(at));
}

constexpr u32 kAllNamespaces = 0xffffffff;

}  // namespace

Nvme::Answer Nvme::admin(const Command& command) {
    switch (static_cast<Admin>(command.opcode)) {
        case Admin::CreateCompletionQueue:
            return create_completion_queue(command);
        case Admin::CreateSubmissionQueue:
            return create_submission_queue(command);
        case Admin::DeleteCompletionQueue:
            return delete_completion_queue(command);
        case Admin::DeleteSubmissionQueue:
            return delete_submission_queue(command);
        case Admin::Identify:
            return identify(command);
        case Admin::GetLogPage:
            return log_page(command);
        case Admin::SetFeatures:
            return features(command, true);
        case Admin::GetFeatures:
            return features(command, false);
        case Admin::Abort:
            return {kSuccess, 1};  // not aborted: commands are finished as soon as they are begun
        case Admin::AsynchronousEvent:
            if (state_.event_requests == kEventRequests) return {kTooManyEventRequests};
            ++state_.event_requests;
            return {.silent = true};
    }
    return {kInvalidOpcode};
}

Nvme::Answer Nvme::create_completion_queue(const Command& c) {
    const u32 id = static_cast<u32>(bits(c.dw10, 15, 0)), entries = static_cast<u32>(bits(c.dw10, 31, 16)) + 1;
    const u32 vector = static_cast<u32>(bits(c.dw11, 31, 16));
    if (id == 0 || id >= kQueues || state_.cq[id].entries != 0) return {kInvalidQueueId};
    if (entries < 2 || entries > kMaxEntries) return {kInvalidQueueSize};
    if (vector >= kQueues) return {kInvalidVector};
    if ((c.dw11 & kContiguous) == 0) return {kInvalidField};
    if (c.prp1 % kPageBytes != 0) return {kInvalidPrpOffset};
    state_.cq[id] = {c.prp1, entries, 0, 0, vector, true, (c.dw11 & kInterruptsEnabled) != 0};
    return {};
}

Nvme::Answer Nvme::create_submission_queue(const Command& c) {
    const u32 id = static_cast<u32>(bits(c.dw10, 15, 0)), entries = static_cast<u32>(bits(c.dw10, 31, 16)) + 1;
    const u32 completion = static_cast<u32>(bits(c.dw11, 31, 16));
    if (id == 0 || id >= kQueues || state_.sq[id].entries != 0) return {kInvalidQueueId};
    if (completion == 0 || completion >= kQueues || state_.cq[completion].entries == 0)
        return {kInvalidCompletionQueue};
    if (entries < 2 || entries > kMaxEntries) return {kInvalidQueueSize};
    if ((c.dw11 & kContiguous) == 0) return {kInvalidField};
    if (c.prp1 % kPageBytes != 0) return {kInvalidPrpOffset};
    state_.sq[id] = {c.prp1, entries, 0, 0, completion};
    return {};
}

Nvme::Answer Nvme::delete_submission_queue(const Command& c) {
    const u32 id = static_cast<u32>(bits(c.dw10, 15, 0));
    if (id == 0 || id >= kQueues || state_.sq[id].entries == 0) return {kInvalidQueueId};
    state_.sq[id] = {};
    return {};
}

Nvme::Answer Nvme::delete_completion_queue(const Command& c) {
    const u32 id = static_cast<u32>(bits(c.dw10, 15, 0));
    if (id == 0 || id >= kQueues || state_.cq[id].entries == 0) return {kInvalidQueueId};
    const bool used = std::any_of(state_.sq.begin(), state_.sq.end(),
                                  [id](const auto& queue) { return queue.entries != 0 && queue.completion == id; });
    if (used) return {kInvalidQueueDeletion};
    state_.cq[id] = {};
    update_pin();
    return {};
}

std::vector<u8> Nvme::controller_data() const {
    std::vector<u8> d(4096);
    put<u16>(d, 0, 0x1414);
    put<u16>(d, 2, 0x1414);
    put_text(d, 4, 20, fmt::format("VGNVME{:08}", index_ + 1));
    put_text(d, 24, 40, "Verdigris NVMe disk");
    put_text(d, 64, 8, "1.0");
    d[77] = kMaxTransferShift;
    put<u32>(d, 80, kVersion);
    d[111] = 1;  // an I/O controller
    d[258] = 3;  // abort limit, minus one
    d[259] = kEventRequests - 1;
    d[260] = 3;             // one firmware slot, read-only
    put<u16>(d, 266, 343);  // warning and critical temperature, kelvin
    put<u16>(d, 268, 353);
    d[512] = 0x66;
    d[513] = 0x44;
    put<u32>(d, 516, 1);                // namespaces
    put<u16>(d, 520, 1 << 2 | 1 << 3);  // dataset management, write zeroes
    d[525] = 1;                         // a volatile write cache
    const std::string nqn = fmt::format("nqn.2014-08.org.nvmexpress:uuid:76656772-6469-4e76-8d65-{:012x}", index_);
    std::copy(nqn.begin(), nqn.end(), d.begin() + 768);
    put<u16>(d, 2048, 2500);  // power state 0: 25 W
    return d;
}

std::vector<u8> Nvme::namespace_data() const {
    std::vector<u8> d(4096);
    for (const u64 at : {u64{0}, u64{8}, u64{16}}) put<u64>(d, at, blocks());  // size, capacity, use
    put<u64>(d, 120, __builtin_bswap64(eui64()));
    put<u32>(d, 128, static_cast<u32>(std::countr_zero(block_bytes())) << 16);  // format 0: 512 or 4096 bytes
    return d;
}

Nvme::Answer Nvme::identify(const Command& c) {
    const bool is_namespace = c.nsid == 1 && medium_ != nullptr;
    std::vector<u8> data(4096);
    switch (static_cast<u8>(c.dw10)) {
        case kIdentifyController:
            data = controller_data();
            break;
        case kIdentifyNamespace:
            if (c.nsid != kAllNamespaces && !is_namespace) return {kInvalidNamespace};
            if (is_namespace) data = namespace_data();  // of all: what they have in common, which is nothing here
            break;
        case kIdentifyActiveList:
            if (c.nsid >= 0xfffffffe) return {kInvalidNamespace};
            if (c.nsid == 0 && medium_ != nullptr) put<u32>(data, 0, 1);
            break;
        case kIdentifyDescriptors:
            if (!is_namespace) return {kInvalidNamespace};
            data[0] = 1;  // EUI64
            data[1] = 8;
            put<u64>(data, 4, __builtin_bswap64(eui64()));
            break;
        case kIdentifyCommandSet:
            if (bits(c.dw11, 31, 24) != 0) return {kInvalidField};
            break;  // no limits beyond those of the controller
        default:
            return {kInvalidField};
    }
    return {to_host(c, data)};
}

Nvme::Answer Nvme::log_page(const Command& c) {
    const u64 bytes = ((bits(c.dw11, 15, 0) << 16 | bits(c.dw10, 31, 16)) + 1) * 4;
    if (bytes > kMaxTransfer || c.dw12 != 0 || c.dw13 != 0) return {kInvalidField};
    std::vector<u8> data(std::max<u64>(bytes, 512));
    switch (static_cast<u8>(c.dw10)) {
        case kLogErrors:
            break;  // none
        case kLogHealth:
            put<u16>(data, 1, 300);  // kelvin
            data[3] = 100;           // spare capacity, percent
            data[4] = 10;
            break;
        case kLogFirmware:
            data[0] = 1;
            put_text(data, 8, 8, "1.0");
            break;
        default:
            return {kInvalidLogPage};
    }
    data.resize(bytes);
    return {to_host(c, data)};
}

Nvme::Answer Nvme::features(const Command& c, bool set) {
    const u8 feature = static_cast<u8>(c.dw10);
    if (feature == 0 || feature == 3 || feature >= kFeatureCount) return {kInvalidField};
    if (!set && bits(c.dw10, 10, 8) > 1) return {kInvalidField};  // neither the current nor the default value
    if (feature == kFeatureQueues) {
        if (set && (bits(c.dw11, 15, 0) == 0xffff || bits(c.dw11, 31, 16) == 0xffff)) return {kInvalidField};
        return {kSuccess, (kIoQueues - 1) << 16 | (kIoQueues - 1)};
    }
    if (set) {
        if (bit(c.dw10, 31)) return {0x10d | kNoRetry};  // not saveable
        if (feature == kFeatureWriteCache && (c.dw11 & 1) == 0 && medium_ != nullptr && !medium_->read_only()) {
            if (!medium_->flush()) return {kWriteFault};
        }
        state_.features[feature] = c.dw11;
        return {};
    }
    return {kSuccess, bits(c.dw10, 10, 8) == 1 ? fresh().features[feature] : state_.features[feature]};
}

}  // namespace vg::devices
