// Field lists of the storage core, apart from it because they need the hosted library.
#include <algorithm>
#include <string>

#include "base/state.h"
#include "hv/vsp/storage.h"

namespace vg::hv::vsp {

namespace {

/// Only the operation codes that were used.
void command_fields(StateVisitor& v, std::array<u64, 256>& commands) {
    const VisitScope scope(v, "commands");
    u32 count = static_cast<u32>(std::count_if(commands.begin(), commands.end(), [](u64 each) { return each != 0; }));
    v("count", count, Fmt::Dec);
    if (v.loading()) commands.fill(0);
    u8 code = 0;
    for (u32 i = 0; i < std::min<u32>(count, 256); ++i, ++code) {
        while (!v.loading() && commands[code] == 0) ++code;
        const VisitScope each(v, std::to_string(i));
        v("code", code);
        v("calls", commands[code], Fmt::Dec);
    }
}

}  // namespace

void ScsiDisk::fields(StateVisitor& v) {
    v("checks", stats_.checks, Fmt::Dec);
    v("bytes_read", stats_.bytes_read, Fmt::Dec);
    v("bytes_written", stats_.bytes_written, Fmt::Dec);
    v("bytes_discarded", stats_.bytes_discarded, Fmt::Dec);
    v("flushes", stats_.flushes, Fmt::Dec);
    command_fields(v, stats_.commands);
}

void Storage::fields(StateVisitor& v) {
    v("state", state_);
    v("version", version_);
    v("absent", absent_commands_, Fmt::Dec);
    v("invalid", invalid_packets_, Fmt::Dec);
    request_fields(v);
    command_fields(v, commands_);
}

void Storage::request_fields(StateVisitor& v) {
    const VisitScope scope(v, "requests");
    u32 count = in_flight_;
    v("count", count, Fmt::Dec);
    if (v.loading()) reset_requests();
    u32 slot = 0;
    for (u32 i = 0; i < std::min(count, kMaxInFlight); ++i, ++slot) {
        while (!v.loading() && !requests_[slot].used) ++slot;
        const VisitScope each(v, std::to_string(i));
        v("slot", slot, Fmt::Dec);
        if (slot >= kMaxInFlight || (v.loading() && requests_[slot].used)) break;
        Request& request = requests_[slot];
        if (v.loading()) {
            request.used = true;
            ++in_flight_;
        }
        v("silent", request.silent);
        v("channel", request.channel, Fmt::Dec);
        v("transaction_id", request.transaction_id);
        v.bytes("reply", {reinterpret_cast<u8*>(&request.reply), sizeof request.reply});
    }
}

}  // namespace vg::hv::vsp
