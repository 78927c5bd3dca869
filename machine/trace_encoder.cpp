#include "machine/trace_encoder.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace vg::machine {

namespace format = trace_format;
using format::Mark;
using format::Stream;

namespace {

constexpr std::size_t kNumberBytes = 10;
constexpr u8 kCalls = 1 << 2, kReturns = 1 << 3, kRepeats = 1 << 4;
constexpr u8 kWrite = 1 << 0, kRepeated = 1 << 1, kDown = 1 << 2;

u64 distance(u64 to, u64 from) {
    const auto value = static_cast<s64>(to - from);
    return static_cast<u64>(value < 0 ? -value : value);
}

}  // namespace

std::size_t TraceEncoder::bytes() const {
    std::size_t all = 0;
    for (const Bytes& each : streams_) all += each.size();
    return all;
}

void TraceEncoder::begin(u64 number, u64 time) {
    if (begun_) return;
    begun_ = true;
    first_number_ = number_ = end_number_ = number;
    first_time_ = time_ = last_time_ = time;
}

TraceEncoder::Bytes& TraceEncoder::mark(Mark kind, std::size_t room) {
    flush_count();
    flush_flow();
    stream(Stream::Flow).room(1);
    stream(Stream::Flow).put(format::flow::kMark);
    Bytes& out = stream(Stream::Marks);
    out.room(1 + room);
    out.put(static_cast<u8>(kind));
    return out;
}

void TraceEncoder::at(u64 partition, u32 vp, u64 number, u64 time) {
    if (begun_ && thread_ != nullptr && partition_ == partition && vp_ == vp && number_ == number && time_ == time)
        return;
    begin(number, time);
    Bytes& out = mark(Mark::Position, 4 * kNumberBytes);
    out.number(partition);
    out.number(vp);
    out.signed_number(number - first_number_);
    out.signed_number(time - first_time_);
    partition_ = partition;
    vp_ = vp;
    number_ = number;
    time_ = time;
    Thread& thread = threads_[{partition, vp}];
    if (thread.number == 0)
        thread.number = static_cast<u32>(std::min<std::size_t>(threads_.size(), format::kMostVps - 1));
    thread_ = &thread;
    model_.select(thread.number);
}

void TraceEncoder::context(const TraceContext& now) {
    VG_ASSERT(thread_ != nullptr);
    if (thread_->context == now) return;
    const TraceContext before = thread_->context.value_or(TraceContext{});
    thread_->context = now;
    Bytes& out = mark(Mark::Context, 2 * kNumberBytes + 3);
    out.put(static_cast<u8>(now.cpl | static_cast<u8>(now.mode) << 2));
    out.put(now.level);
    out.number(now.cr3 ^ before.cr3);
    out.number(now.cs_base ^ before.cs_base);
}

void TraceEncoder::event(u64 number, u64 time, const TapEvent& event) {
    begin(number, time);
    const auto kind = static_cast<unsigned>(event.kind);
    const auto payload = event.payload.first(std::min<std::size_t>(event.payload.size(), format::kMostPayload));
    Bytes& out = mark(Mark::Event, 9 * kNumberBytes + 2 + payload.size());
    out.put(static_cast<u8>(kind));
    out.signed_number(number - number_);
    out.signed_number(time - time_);
    out.number(event.partition);
    out.number(event.vp == TapEvent::kNoVp ? 0 : u64{event.vp} + 1);
    for (unsigned k = 0; k < 4; ++k) {
        if (tap_row(event.kind).fields[k].empty()) continue;
        out.signed_number(event.values[k] - last_values_[kind][k]);
        last_values_[kind][k] = event.values[k];
    }
    out.number(payload.size());
    out.bytes(payload);
    events_ |= tap_bit(event.kind);
    last_time_ = std::max(last_time_, time);
    end_number_ = std::max(end_number_, number);
}

/// A repeated instruction that was left in the middle goes on with nothing in between: one record for both.
bool TraceEncoder::goes_on(const cpu::TracedCode& code, const cpu::TracedRun& run) {
    if (!counting_ || !code.repeats || run.from + 1 != run.to || run.to != code.lengths.size() ||
        detail_ >= TraceDetail::Values)
        return false;
    u64 rip = run.rip;
    for (u32 k = 0; k < run.from; ++k) rip += code.lengths[k];
    return rip == counted_rip_ && run.iterations != 0 && counted_ != 0;
}

void TraceEncoder::ran(const cpu::TracedCode& code, const cpu::TracedRun& run) {
    const u64 iterations = code.repeats && run.to == code.lengths.size() ? run.iterations : 1;
    const u64 count = run.to - run.from - 1 + (iterations == 0 ? 1 : iterations);
    number_ += count;
    time_ += count;
    executed_ += count;
    last_time_ = std::max(last_time_, time_);
    end_number_ = std::max(end_number_, number_);
    if (goes_on(code, run)) {
        counted_ += iterations;
        return;
    }
    flush_count();
    bool fresh = false;
    const u32 index = place_of(code, run.rip, fresh);
    put_step({index, static_cast<u16>(run.from), static_cast<u16>(run.to)}, fresh);
    const TraceModel::Place& place = model_.place(index);
    if (detail_ >= TraceDetail::Memory && !code.accesses.empty()) {
        stream(Stream::Hits).room(4 * code.accesses.size() + 4);
        stream(Stream::Addresses).room(kNumberBytes * code.accesses.size());
        for (u32 k = 0; k < code.accesses.size(); ++k) {
            const cpu::TracedCode::Access& access = code.accesses[k];
            if (access.insn < run.from || access.insn >= run.to) continue;
            put_address(place.first_site + k, access.base, run.addresses[k]);
        }
    }
    if (code.repeats && run.to == code.lengths.size()) {
        counting_ = true;
        counted_ = iterations;
        counted_rip_ = run.rip;
        for (u32 k = 0; k + 1 < run.to; ++k) counted_rip_ += code.lengths[k];
    }
}

u32 TraceEncoder::place_of(const cpu::TracedCode& code, u64 rip, bool& fresh) {
    cpu::TracedCode::Tag& tag = code.tag;
    if (tag.chunk == chunk_ && tag.rip == rip) return tag.index;
    if (tag.chunk != chunk_) tag.serial = ++serial_;
    const auto [found, made] = places_.try_emplace({tag.serial, rip}, 0);
    if (made) {
        fresh = true;
        found->second = model_.add({rip, code});
        put_place(model_.place(found->second));
        fresh_code_.emplace_back(partition_, rip);
    }
    tag.chunk = chunk_;
    tag.rip = rip;
    return tag.index = found->second;
}

void TraceEncoder::put_place(const TraceModel::Place& place) {
    const cpu::TracedCode& code = place.code;
    Bytes& out = stream(Stream::Places);
    out.room(4 * kNumberBytes + code.lengths.size() + 4 * code.accesses.size());
    out.signed_number(place.rip - last_rip_);
    last_rip_ = place.rip;
    out.put(static_cast<u8>(static_cast<u8>(code.mode) | (code.calls ? kCalls : 0) | (code.returns ? kReturns : 0) |
                            (code.repeats ? kRepeats : 0)));
    out.put(static_cast<u8>(code.lengths.size()));
    for (const u8 length : code.lengths) out.put(length);
    out.bytes(code.bytes);
    const std::size_t accesses = detail_ >= TraceDetail::Memory ? code.accesses.size() : 0;
    out.room(kNumberBytes + 4 * accesses);
    out.number(accesses);
    for (std::size_t k = 0; k < accesses; ++k) {
        const cpu::TracedCode::Access& access = code.accesses[k];
        out.put(access.insn);
        out.put(access.size);
        out.put(static_cast<u8>((access.write ? kWrite : 0) | (access.repeated ? kRepeated : 0) |
                                (access.down ? kDown : 0)));
        out.put(access.base);
    }
}

void TraceEncoder::put_step(const Step& step, bool fresh) {
    const TraceModel::Followers& expected = model_.expected();
    if (!fresh && expected[0] == step) {
        if (++flow_run_ == format::flow::kRun) flush_flow();
        model_.followed(step);
        return;
    }
    flush_flow();
    Bytes& out = stream(Stream::Flow);
    out.room(1 + 3 * kNumberBytes);
    const bool whole = step.from == 0 && step.to == model_.place(step.place).count();
    if (!fresh && expected[1] == step) {
        out.put(format::flow::kSecond);
    } else if (!fresh && expected[2] == step) {
        out.put(format::flow::kThird);
    } else {
        out.put(fresh ? (whole ? format::flow::kNewWhole : format::flow::kNewPart)
                      : (whole ? format::flow::kWhole : format::flow::kPart));
        if (!fresh) out.number(step.place);
        if (!whole) {
            out.number(step.from);
            out.number(step.to);
        }
    }
    model_.followed(step);
}

void TraceEncoder::put_address(u32 site, u8 base, u64 address) {
    const unsigned favourite = model_.favourite(site);
    if (model_.predict(site, base, favourite) == address) {
        if (++hit_run_ == format::hit::kRun) flush_hits();
        model_.learn(site, base, address, favourite);
        return;
    }
    flush_hits();
    Bytes& hits = stream(Stream::Hits);
    for (unsigned k = 0; k < format::kPredictors; ++k) {
        if (k == favourite || model_.predict(site, base, k) != address) continue;
        hits.put(static_cast<u8>(format::hit::kPredictor + k));
        model_.learn(site, base, address, k);
        return;
    }
    const u64 from_base = model_.predict(site, base, 0), from_last = model_.predict(site, base, 1);
    const bool near_base = distance(address, from_base) <= distance(address, from_last);
    hits.put(near_base ? format::hit::kFromBase : format::hit::kFromLast);
    stream(Stream::Addresses).signed_number(address - (near_base ? from_base : from_last));
    model_.learn(site, base, address, format::kPredictors);
}

void TraceEncoder::flush_flow() {
    if (flow_run_ == 0) return;
    stream(Stream::Flow).room(1);
    stream(Stream::Flow).put(static_cast<u8>(flow_run_ - 1));
    flow_run_ = 0;
}

void TraceEncoder::flush_hits() {
    if (hit_run_ == 0) return;
    stream(Stream::Hits).room(1);
    stream(Stream::Hits).put(static_cast<u8>(hit_run_ - 1));
    hit_run_ = 0;
}

void TraceEncoder::flush_count() {
    if (!counting_) return;
    counting_ = false;
    stream(Stream::Counts).room(kNumberBytes);
    stream(Stream::Counts).number(counted_);
}

void TraceEncoder::value(std::span<const u8> bytes) {
    Bytes& out = stream(Stream::Values);
    out.room(kNumberBytes);
    out.number(bytes.size());
    out.bytes(bytes);
}

void TraceEncoder::put_registers(Bytes& out, const TraceRegisters& now) {
    TraceRegisters& before = thread_->registers;
    u32 changed = 0;
    for (unsigned k = 0; k < format::kRegisters; ++k)
        if (now[k] != before[k]) changed |= 1u << k;
    out.room((1 + format::kRegisters) * kNumberBytes);
    out.number(changed);
    for (unsigned k = 0; k < format::kRegisters; ++k)
        if (now[k] != before[k]) out.signed_number(now[k] - before[k]);
    before = now;
}

void TraceEncoder::registers(const TraceRegisters& now) { put_registers(stream(Stream::Values), now); }

void TraceEncoder::registers_between(const TraceRegisters& now) {
    VG_ASSERT(thread_ != nullptr);
    if (thread_->registers == now) return;
    put_registers(mark(Mark::Registers, 0), now);
}

std::span<const u8> TraceEncoder::take(Summary& summary) {
    flush_count();
    flush_flow();
    flush_hits();
    stream(Stream::Flow).room(1);
    stream(Stream::Flow).put(format::flow::kEnd);
    Bytes head;
    head.room((4 + format::kStreams) * kNumberBytes);
    head.number(first_number_);
    head.number(end_number_ - first_number_);
    head.number(first_time_);
    head.number(last_time_ - first_time_);
    for (const Bytes& each : streams_) head.number(each.size());
    taken_.assign(head.data().begin(), head.data().end());
    for (Bytes& each : streams_) {
        taken_.insert(taken_.end(), each.data().begin(), each.data().end());
        each.clear();
    }
    VG_ASSERT(taken_.size() <= format::kMostChunkBytes);
    summary = {0, first_number_, end_number_ - first_number_, first_time_, last_time_, executed_, events_};
    forget_chunk();
    return taken_;
}

void TraceEncoder::forget_chunk() {
    model_.reset();
    places_.clear();
    threads_.clear();
    thread_ = nullptr;
    ++chunk_;
    serial_ = 0;
    fresh_code_.clear();
    begun_ = false;
    partition_ = ~u64{0};
    number_ = executed_ = 0;
    first_number_ = 0;
    last_rip_ = 0;
    events_ = 0;
    last_values_ = {};
}

}  // namespace vg::machine
