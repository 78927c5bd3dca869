#include "machine/trace_decoder.h"

#include <algorithm>

namespace vg::machine {

namespace format = trace_format;
using format::Mark;
using format::Stream;

namespace {

constexpr u8 kModeMask = 3, kCalls = 1 << 2, kReturns = 1 << 3, kRepeats = 1 << 4;
constexpr u8 kWrite = 1 << 0, kRepeated = 1 << 1, kDown = 1 << 2;
/// More than any chunk of ours has: what is beyond was made to keep a reader busy.
constexpr u64 kMostExecuted = 2 * u64{format::kChunkInstructions};

u64 unfold(u64 value) { return value >> 1 ^ (~(value & 1) + 1); }

}  // namespace

TraceDecoder::TraceDecoder(std::span<const u8> raw, TraceDetail detail)
    : streams_{ByteReader({}), ByteReader({}), ByteReader({}), ByteReader({}),
               ByteReader({}), ByteReader({}), ByteReader({})},
      detail_(detail) {
    ByteReader head(raw);
    first_number_ = head.number();
    end_number_ = first_number_ + head.number();
    first_time_ = head.number();
    last_time_ = first_time_ + head.number();
    u64 sizes[format::kStreams];
    for (u64& size : sizes) size = head.number();
    for (unsigned k = 0; k < format::kStreams; ++k) streams_[k] = ByteReader(head.bytes(sizes[k]));
    if (head.failed() || !head.done()) damaged("the sizes of its parts are wrong");
    number_ = first_number_;
    time_ = first_time_;
}

bool TraceDecoder::damaged(std::string why) {
    if (problem_.empty()) problem_ = std::move(why);
    return false;
}

u8 TraceDecoder::byte(Stream which) {
    const auto one = stream(which).bytes(1);
    return one.empty() ? u8{0} : one[0];
}

u64 TraceDecoder::signed_number(Stream which) { return unfold(stream(which).number()); }

TraceDecoder::Item TraceDecoder::next() {
    while (problem_.empty()) {
        bool told = false;
        if (at_ < step_.to) {
            if (tell_instruction(told) && told) return Item::Instruction;
            continue;
        }
        if (ended_) return Item::End;
        if (read_flow(told) && told) return Item::Event;
    }
    return Item::Damaged;
}

bool TraceDecoder::read_flow(bool& told) {
    if (flow_run_ != 0) {
        --flow_run_;
        return take(model_.expected()[0]);
    }
    const u8 code = byte(Stream::Flow);
    if (stream(Stream::Flow).failed()) return damaged("it ends before its end");
    if (code < format::flow::kRun) {
        flow_run_ = code;
        return take(model_.expected()[0]);
    }
    ByteReader& in = stream(Stream::Flow);
    Step step{};
    switch (code) {
        case format::flow::kSecond:
            return take(model_.expected()[1]);
        case format::flow::kThird:
            return take(model_.expected()[2]);
        case format::flow::kMark:
            return read_mark(told);
        case format::flow::kEnd:
            ended_ = true;
            return in.done() ? true : damaged("something follows its end");
        case format::flow::kWhole:
        case format::flow::kPart: {
            const u64 index = in.number();
            if (index >= model_.places()) return damaged("a place that it does not have");
            step.place = static_cast<u32>(index);
            break;
        }
        case format::flow::kNewWhole:
        case format::flow::kNewPart:
            if (!read_place()) return false;
            step.place = static_cast<u32>(model_.places() - 1);
            break;
        default:
            return damaged("an unknown code in its flow");
    }
    step.to = static_cast<u16>(model_.place(step.place).count());
    if (code == format::flow::kPart || code == format::flow::kNewPart) {
        const u64 from = in.number(), to = in.number();
        if (from >= to || to > step.to) return damaged("a part of a place that it does not have");
        step.from = static_cast<u16>(from);
        step.to = static_cast<u16>(to);
    }
    return take(step);
}

/// The VP executes this step now.
bool TraceDecoder::take(Step step) {
    if (thread_ == nullptr) return damaged("instructions before it says whose");
    if (step.place >= model_.places()) return damaged("a guess that cannot be made");
    executed_ += step.to - step.from;
    if (executed_ > kMostExecuted) return damaged("more instructions than a chunk has");
    model_.followed(step);
    step_ = step;
    at_ = step.from;
    const TraceModel::Place& place = model_.place(step.place);
    byte_at_ = 0;
    for (u32 k = 0; k < step.from; ++k) byte_at_ += place.code.lengths[k];
    access_at_ = 0;
    while (access_at_ < place.code.accesses.size() && place.code.accesses[access_at_].insn < step.from) ++access_at_;
    if (detail_ >= TraceDetail::Memory && !read_step_addresses()) return false;
    iterations_ = 1;
    if (place.code.repeats && step.to == place.count()) iterations_ = stream(Stream::Counts).number();
    if (stream(Stream::Counts).failed()) return damaged("a count is missing");
    return true;
}

bool TraceDecoder::read_step_addresses() {
    const TraceModel::Place& place = model_.place(step_.place);
    addresses_.resize(std::max(addresses_.size(), place.code.accesses.size()));
    for (u32 k = access_at_; k < place.code.accesses.size(); ++k) {
        const cpu::TracedCode::Access& access = place.code.accesses[k];
        if (access.insn >= step_.to) break;
        if (!read_address(place.first_site + k, access.base, addresses_[k])) return false;
    }
    return true;
}

bool TraceDecoder::read_address(u32 site, u8 base, u64& address) {
    unsigned right = model_.favourite(site);
    if (hit_run_ != 0) {
        --hit_run_;
        address = model_.predict(site, base, right);
        model_.learn(site, base, address, right);
        return true;
    }
    const u8 code = byte(Stream::Hits);
    if (stream(Stream::Hits).failed()) return damaged("an address is missing");
    if (code < format::hit::kRun) {
        hit_run_ = code;
        address = model_.predict(site, base, right);
    } else if (code < format::hit::kPredictor + format::kPredictors) {
        right = code - format::hit::kPredictor;
        address = model_.predict(site, base, right);
    } else if (code == format::hit::kFromBase || code == format::hit::kFromLast) {
        address = model_.predict(site, base, code == format::hit::kFromBase ? 0 : 1) + signed_number(Stream::Addresses);
        if (stream(Stream::Addresses).failed()) return damaged("an address is missing");
        right = format::kPredictors;
    } else {
        return damaged("an unknown code among its addresses");
    }
    model_.learn(site, base, address, right);
    return true;
}

bool TraceDecoder::read_place() {
    if (model_.places() >= format::kMostPlaces) return damaged("more places than it may have");
    ByteReader& in = stream(Stream::Places);
    TraceModel::Place place;
    place.rip = last_rip_ += signed_number(Stream::Places);
    const u8 flags = byte(Stream::Places);
    cpu::TracedCode& code = place.code;
    if ((flags & kModeMask) > static_cast<u8>(cpu::CodeMode::Bits64)) return damaged("a code size that there is not");
    code.mode = static_cast<cpu::CodeMode>(flags & kModeMask);
    code.calls = (flags & kCalls) != 0;
    code.returns = (flags & kReturns) != 0;
    code.repeats = (flags & kRepeats) != 0;
    const u32 count = byte(Stream::Places);
    if (count == 0 || count > format::kMostInsns) return damaged("a place of an impossible size");
    u32 size = 0;
    for (u32 k = 0; k < count; ++k) {
        code.lengths.push_back(byte(Stream::Places));
        if (code.lengths.back() == 0 || code.lengths.back() > cpu::kMaxInsnLength)
            return damaged("an instruction of an impossible length");
        size += code.lengths.back();
    }
    const auto bytes = in.bytes(size);
    code.bytes.assign(bytes.begin(), bytes.end());
    if (!read_accesses(code)) return false;
    if (in.failed()) return damaged("a place is missing");
    model_.add(std::move(place));
    return true;
}

bool TraceDecoder::read_accesses(cpu::TracedCode& code) {
    const u64 accesses = stream(Stream::Places).number();
    if (accesses > format::kMostAccesses || (accesses != 0 && detail_ < TraceDetail::Memory))
        return damaged("a place with an impossible number of accesses");
    for (u64 k = 0; k < accesses; ++k) {
        cpu::TracedCode::Access access;
        access.insn = byte(Stream::Places);
        access.size = byte(Stream::Places);
        const u8 flags = byte(Stream::Places);
        access.base = byte(Stream::Places);
        access.write = (flags & kWrite) != 0;
        access.repeated = (flags & kRepeated) != 0;
        access.down = (flags & kDown) != 0;
        const u8 before = code.accesses.empty() ? u8{0} : code.accesses.back().insn;
        if (access.insn < before || access.insn >= code.lengths.size() || access.size == 0 || access.size > 64 ||
            access.base >= cpu::TracedCode::kBases)
            return damaged("an access that cannot be");
        code.accesses.push_back(access);
    }
    return true;
}

bool TraceDecoder::read_mark(bool& told) {
    switch (static_cast<Mark>(byte(Stream::Marks))) {
        case Mark::Position:
            return read_position();
        case Mark::Context:
            return read_context();
        case Mark::Event:
            return read_event(told);
        case Mark::Registers:
            if (thread_ == nullptr || detail_ < TraceDetail::Registers) return damaged("registers where none belong");
            return read_registers(Stream::Marks);
    }
    return damaged("an unknown mark");
}

bool TraceDecoder::read_position() {
    ByteReader& in = stream(Stream::Marks);
    const u64 partition = in.number(), vp = in.number();
    number_ = first_number_ + signed_number(Stream::Marks);
    time_ = first_time_ + signed_number(Stream::Marks);
    if (in.failed() || vp >= TapEvent::kNoVp) return damaged("a position is missing");
    const auto [found, made] = threads_.try_emplace({partition, static_cast<u32>(vp)});
    thread_ = &found->second;
    if (made) {
        if (threads_.size() >= format::kMostVps) return damaged("more processors than there may be");
        thread_->number = static_cast<u32>(threads_.size());
        thread_->context.partition = partition;
        thread_->context.vp = static_cast<u32>(vp);
    }
    model_.select(thread_->number);
    wanted_now_ = !wanted_ || wanted_(thread_->context);
    return true;
}

bool TraceDecoder::read_context() {
    if (thread_ == nullptr) return damaged("a context before it says whose");
    ByteReader& in = stream(Stream::Marks);
    TraceContext& context = thread_->context;
    const u8 packed = byte(Stream::Marks);
    if (packed >> 2 > static_cast<u8>(cpu::CodeMode::Bits64)) return damaged("a code size that there is not");
    context.cpl = packed & 3;
    context.mode = static_cast<cpu::CodeMode>(packed >> 2);
    context.level = byte(Stream::Marks);
    context.cr3 ^= in.number();
    context.cs_base ^= in.number();
    if (in.failed()) return damaged("a context is missing");
    wanted_now_ = !wanted_ || wanted_(context);
    return true;
}

bool TraceDecoder::read_event(bool& told) {
    ByteReader& in = stream(Stream::Marks);
    const unsigned kind = byte(Stream::Marks);
    if (kind >= static_cast<unsigned>(TapKind::Count)) return damaged("an event of an unknown kind");
    event_ = {};
    event_.number = number_ + signed_number(Stream::Marks);
    event_.time = time_ + signed_number(Stream::Marks);
    TapEvent& event = event_.event;
    event.kind = static_cast<TapKind>(kind);
    event.partition = in.number();
    const u64 vp = in.number();
    if (vp > TapEvent::kNoVp) return damaged("an event of an impossible processor");
    event.vp = vp == 0 ? TapEvent::kNoVp : static_cast<u32>(vp - 1);
    for (unsigned k = 0; k < 4; ++k) {
        if (tap_row(event.kind).fields[k].empty()) continue;
        event.values[k] = last_values_[kind][k] += signed_number(Stream::Marks);
    }
    const u64 size = in.number();
    if (size > format::kMostPayload) return damaged("an event that is too large");
    event.payload = in.bytes(size);
    if (in.failed()) return damaged("an event is missing");
    told = event_.number >= first_wanted_ && event_.number < end_wanted_;
    return true;
}

bool TraceDecoder::read_registers(Stream which) {
    ByteReader& in = stream(which);
    const u64 changed = in.number();
    if (changed >> format::kRegisters != 0) return damaged("registers that there are not");
    for (unsigned k = 0; k < format::kRegisters; ++k)
        if ((changed >> k & 1) != 0) thread_->registers[k] += signed_number(which);
    out_.changed = static_cast<u32>(changed);
    return in.failed() ? damaged("registers are missing") : true;
}

bool TraceDecoder::read_values() {
    ByteReader& in = stream(Stream::Values);
    for (std::size_t k = 0; k < accesses_.size(); ++k) {
        const u64 size = in.number();
        if (size > format::kMostRepeatedBytes || size > accesses_[k].bytes)
            return damaged("a value of an impossible size");
        accesses_[k].value = in.bytes(size);
    }
    if (in.failed()) return damaged("a value is missing");
    out_.registers = nullptr;
    if (detail_ < TraceDetail::Registers) return true;
    registers_before_ = thread_->registers;
    out_.registers_before = &registers_before_;
    if (!read_registers(Stream::Values)) return false;
    registers_ = thread_->registers;
    out_.registers = &registers_;
    return true;
}

/// Moves on by one instruction of the step.
bool TraceDecoder::tell_instruction(bool& told) {
    const TraceModel::Place& place = model_.place(step_.place);
    const cpu::TracedCode& code = place.code;
    out_.number = number_;
    out_.time = time_;
    out_.context = &thread_->context;
    out_.iterations = code.repeats && at_ + 1 == place.count() ? iterations_ : 1;
    const u32 index = at_++;
    number_ += out_.count();
    time_ += out_.count();
    const u32 start = byte_at_;
    byte_at_ += code.lengths[index];
    told = wanted_now_ && out_.number >= first_wanted_ && out_.number < end_wanted_;
    if (!told && detail_ < TraceDetail::Values) {
        while (access_at_ < code.accesses.size() && code.accesses[access_at_].insn <= index) ++access_at_;
        return true;
    }
    out_.rip = place.rip + start;
    const bool is_64 = thread_->context.mode == cpu::CodeMode::Bits64;
    if (!is_64) out_.rip = static_cast<u32>(out_.rip);
    out_.linear = is_64 ? out_.rip : static_cast<u32>(out_.rip + thread_->context.cs_base);
    out_.bytes = std::span(code.bytes).subspan(start, code.lengths[index]);
    accesses_.clear();
    for (; access_at_ < code.accesses.size() && code.accesses[access_at_].insn <= index; ++access_at_) {
        const cpu::TracedCode::Access& from = code.accesses[access_at_];
        TraceAccess access{addresses_[access_at_], from.size, from.size, from.write, {}};
        if (from.repeated) {
            access.bytes = out_.iterations * from.size;
            if (from.down) access.address -= access.bytes - std::min<u64>(access.bytes, from.size);
        }
        accesses_.push_back(access);
    }
    if (detail_ >= TraceDetail::Values && !read_values()) return false;
    order_accesses();
    out_.accesses = accesses_;
    return true;
}

/// Reads before writes, each by address; what is read and written is written. Whoever traced, the order is the same.
void TraceDecoder::order_accesses() {
    std::erase_if(accesses_, [](const TraceAccess& a) { return a.bytes == 0; });
    if (accesses_.size() < 2) return;
    std::stable_sort(accesses_.begin(), accesses_.end(), [](const TraceAccess& a, const TraceAccess& b) {
        return a.write != b.write ? b.write : a.address != b.address ? a.address < b.address : a.bytes < b.bytes;
    });
    const auto written = [&](const TraceAccess& a) {
        return std::any_of(accesses_.begin(), accesses_.end(), [&](const TraceAccess& b) {
            return b.write && b.address == a.address && b.bytes == a.bytes;
        });
    };
    std::vector<TraceAccess> kept;
    for (const TraceAccess& each : accesses_) {
        if (!each.write && written(each)) continue;
        if (!kept.empty() && kept.back().write == each.write && kept.back().address == each.address &&
            kept.back().bytes == each.bytes) {
            kept.back() = each;
            continue;
        }
        kept.push_back(each);
    }
    accesses_ = std::move(kept);
}

}  // namespace vg::machine
