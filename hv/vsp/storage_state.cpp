// Field lists of the storage core, apart from it because they need the hosted library.
#include <string>

#include "base/state.h"
#include "hv/vsp/storage.h"

namespace vg::hv::vsp {

void Storage::fields(StateVisitor& v) {
    v("state", state_);
    v("version", version_);
    v("max_sub_channels", max_sub_channels_, Fmt::Dec);
    {
        const VisitScope scope(v, "requests");
        for (u32 slot = 0; slot < kMaxInFlight; ++slot) {
            Request& request = requests_[slot];
            if (!request.used && !v.loading()) continue;
            const VisitScope each(v, std::to_string(slot));
            v("used", request.used);
            v("silent", request.silent);
            v("channel", request.channel, Fmt::Dec);
            v("transaction_id", request.transaction_id);
            v.bytes("reply", {reinterpret_cast<u8*>(&request.reply), sizeof request.reply});
        }
    }
    if (v.loading()) {
        in_flight_ = 0;
        for (const Request& request : requests_) in_flight_ += request.used ? 1 : 0;
    }
    const VisitScope scope(v, "commands");
    for (std::size_t code = 0; code < commands_.size(); ++code) {
        if (commands_[code] != 0 || v.loading()) v(std::to_string(code), commands_[code], Fmt::Dec);
    }
    v("absent", absent_commands_, Fmt::Dec);
    v("invalid", invalid_packets_, Fmt::Dec);
}

}  // namespace vg::hv::vsp
