#include "machine/trace_model.h"

namespace vg::machine {

namespace format = trace_format;

TraceModel::TraceModel() { reset(); }

void TraceModel::reset() {
    places_.clear();
    sites_.clear();
    // Way 0: nowhere yet.
    next_.assign(1, {kNoStep, kNoStep, kNoStep});
    returns_ = next_;
    history_.assign(format::kHistory, 0);
    threads_.clear();
    select(0);
}

u32 TraceModel::add(Place place) {
    place.first_site = static_cast<u32>(sites_.size());
    place.first_way = static_cast<u32>(next_.size());
    sites_.resize(sites_.size() + place.code.accesses.size());
    next_.resize(next_.size() + place.count() + 1, {kNoStep, kNoStep, kNoStep});
    returns_.resize(next_.size(), {kNoStep, kNoStep, kNoStep});
    places_.push_back(std::move(place));
    return static_cast<u32>(places_.size() - 1);
}

void TraceModel::select(u32 vp) {
    if (vp >= threads_.size()) threads_.resize(vp + 1);
    thread_ = vp;
    if (threads_[vp].calls.empty()) threads_[vp].calls.resize(format::kMostCalls);
}

TraceModel::Followers& TraceModel::here() {
    Thread& thread = threads_[thread_];
    return thread.returned ? returns_[thread.calls[thread.top]] : next_[thread.way];
}

void TraceModel::followed(Step step) {
    Followers& followers = here();
    if (followers[0] != step) {
        if (followers[1] != step) followers[2] = followers[1];
        followers[1] = followers[0];
        followers[0] = step;
    }
    Thread& thread = threads_[thread_];
    if (thread.returned) {
        thread.top = (thread.top + format::kMostCalls - 1) % format::kMostCalls;
        --thread.depth;
    }
    const Place& place = places_[step.place];
    thread.way = place.first_way + step.to;
    thread.returned = false;
    if (step.to != place.count()) return;
    if (place.code.calls) {
        thread.top = (thread.top + 1) % format::kMostCalls;
        thread.calls[thread.top] = thread.way;
        if (thread.depth < format::kMostCalls) ++thread.depth;
    } else if (place.code.returns && thread.depth != 0) {
        thread.returned = true;
    }
}

u32 TraceModel::history_index(u32 site, u64 last) {
    return static_cast<u32>(((last ^ u64{site} << 40) * 0x9e3779b97f4a7c15) >> (64 - 14));
}
static_assert(format::kHistory == 1u << 14);

u64 TraceModel::predict(u32 number, u8 base, unsigned predictor) const {
    const Site& site = sites_[number];
    switch (predictor) {
        case 0:
            return threads_[thread_].bases[base] + static_cast<u64>(site.distance);
        case 1:
            return site.last + static_cast<u64>(site.stride);
        default:
            return history_[history_index(number, site.last)];
    }
}

void TraceModel::learn(u32 number, u8 base, u64 address, unsigned right) {
    Site& site = sites_[number];
    u64& near = threads_[thread_].bases[base];
    history_[history_index(number, site.last)] = address;
    site.distance = static_cast<s64>(address - near);
    site.stride = static_cast<s64>(address - site.last);
    site.last = address;
    near = address;
    if (right < format::kPredictors) site.favourite = right;
}

}  // namespace vg::machine
