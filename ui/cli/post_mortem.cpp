#include "ui/cli/post_mortem.h"

#include "hv/hypervisor.h"
#include "ui/cli/commands.h"
#include "ui/model/explain.h"
#include "ui/model/inspect_symbols.h"

namespace vg::cli {
namespace {

/// Processors and frames that are shown: enough to see where, on one screen.
constexpr std::size_t kVps = 4, kFrames = 8;

/// A fault's processor is shut down; one that panics still runs; one that hangs was started.
bool matters(const cpu::Vp& vp, int exit_code) {
    switch (exit_code) {
        case kUnrecoverable:
            return vp.activity() == cpu::Activity::Shutdown;
        case kGuestPanic:
            return vp.activity() == cpu::Activity::Active;
        case kGuestHang:
            return vp.activity() != cpu::Activity::WaitForSipi;
        default:
            return false;
    }
}

}  // namespace

std::string post_mortem(machine::Machine& machine, int exit_code) {
    if (exit_code != kUnrecoverable && exit_code != kGuestPanic && exit_code != kGuestHang) return "";
    model::GuestSymbols symbols;
    std::string text;
    std::size_t shown = 0;
    for (const u64 partition : model::partitions_with_code(machine)) {
        for (u32 index = 0; index < hv::Hypervisor::kMaxVpsPerPartition && shown < kVps; ++index) {
            const model::SymbolPlace place{partition, index};
            const cpu::Vp* vp = model::placed_vp(machine, place).processor;
            if (vp == nullptr || !matters(*vp, exit_code)) continue;
            ++shown;
            std::string where = symbols.explain(machine, place, "where").value();
            if (exit_code == kUnrecoverable) where += symbols.explain(machine, place, "exception").value();
            if (!where.empty()) where.pop_back();
            text += "\n" + where;
            const std::string frames = model::describe_stack(machine, symbols, place, kFrames);
            if (!frames.empty()) text += "\n" + frames.substr(0, frames.size() - 1);
        }
    }
    return text;
}

}  // namespace vg::cli
