// Field lists of the integration components, apart from them because they need the hosted library.
#include <algorithm>

#include "base/state.h"
#include "hv/ic/command_service.h"
#include "hv/ic/heartbeat.h"
#include "hv/ic/time_sync.h"

namespace vg::hv::ic {

namespace {

void version_fields(StateVisitor& v, std::string_view name, Version& version) {
    const VisitScope scope(v, name);
    v("major", version.major, Fmt::Dec);
    v("minor", version.minor, Fmt::Dec);
}

constexpr std::string_view kStates[] = {"closed", "negotiating", "ready", "refused"};
constexpr std::string_view kHealth[] = {"unknown", "alive", "late", "lost"};

}  // namespace

void IcService::fields(StateVisitor& v) {
    v("state", state_, Fmt::Dec);
    if (v.loading() && state_ > State::Refused) state_ = State::Refused;
    v.note("connection", kStates[static_cast<unsigned>(state_)]);
    v("waiting", waiting_);
    version_fields(v, "framework", framework_);
    version_fields(v, "version", version_);
    v("transaction", transaction_, Fmt::Dec);
    v("transaction_id", transaction_id_, Fmt::Dec);
    v("answers", answers_, Fmt::Dec);
    v("invalid", invalid_, Fmt::Dec);
}

void HeartbeatService::fields(StateVisitor& v) {
    IcService::fields(v);
    v("health", health_, Fmt::Dec);
    if (v.loading() && health_ > Health::Lost) health_ = Health::Unknown;
    v.note("guest", kHealth[static_cast<unsigned>(health_)]);
    v("due", due_);
    v("sequence", sequence_, Fmt::Dec);
    v("missed", missed_, Fmt::Dec);
}

void TimeSyncService::fields(StateVisitor& v) {
    IcService::fields(v);
    v("sync", sync_);
    v("due", due_);
    v("told_start", told_start_, Fmt::Dec);
    v("samples", samples_, Fmt::Dec);
    v("synchronizations", synchronizations_, Fmt::Dec);
}

void CommandService::fields(StateVisitor& v) {
    IcService::fields(v);
    v("number", number_, Fmt::Dec);
    v("size", size_, Fmt::Dec);
    if (v.loading()) size_ = std::min(size_, kMaxBody);
    v("asked", asked_);
    if (size_ != 0) v.bytes("body", std::span(body_).first(size_));
}

}  // namespace vg::hv::ic
