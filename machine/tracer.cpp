#include "machine/tracer.h"

#include <algorithm>
#include <unordered_map>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/execution_observer.h"
#include "cpu/isa/isa.h"

namespace vg::machine {

using cpu::Insn;
using cpu::Op;
using cpu::TracedCode;

namespace {

/// Pieces of single instructions that are kept; behind that all are made again.
constexpr std::size_t kMostSingles = 1u << 17;

TraceContext context_of(const cpu::Vp& vp) {
    const cpu::VpState& s = vp.state();
    TraceContext out;
    out.partition = vp.partition();
    out.vp = vp.index();
    out.cr3 = s.cr3;
    out.cpl = s.cpl;
    out.level = static_cast<u8>(std::min<std::size_t>(vp.levels().size(), 255));
    out.mode = vp.code_mode();
    if (out.mode != cpu::CodeMode::Bits64) out.cs_base = s.segment(cpu::Seg::CS).base;
    return out;
}

TraceRegisters registers_of(const cpu::VpState& s) {
    TraceRegisters out{};
    std::copy(std::begin(s.gpr), std::end(s.gpr), out.begin());
    out[trace_format::kFlagsRegister] = s.rflags;
    out[trace_format::kFsBase] = s.segment(cpu::Seg::FS).base;
    out[trace_format::kGsBase] = s.segment(cpu::Seg::GS).base;
    return out;
}

/// Memory operands of a repeated string instruction.
struct StringOperands {
    bool source = false, destination = false, stores = false;
    u8 size = 1;
};

StringOperands string_operands(const Insn& insn) {
    StringOperands out;
    switch (insn.op) {
        case Op::MOVS:
            out = {true, true, true, 1};
            break;
        case Op::CMPS:
            out = {true, true, false, 1};
            break;
        case Op::LODS:
        case Op::OUTS:
            out = {true, false, false, 1};
            break;
        case Op::STOS:
        case Op::INS:
            out = {false, true, true, 1};
            break;
        default:
            out = {false, true, false, 1};
            break;  // SCAS
    }
    if ((insn.bytes[insn.opcode_offset] & 1) != 0) out.size = insn.op_size;
    if (insn.op == Op::INS || insn.op == Op::OUTS) out.size = std::min<u8>(out.size, 4);
    return out;
}

bool repeats(const Insn& insn) { return insn.rep != cpu::Rep::None && cpu::row(insn.row).has(cpu::attr::String); }

}  // namespace

class Tracer::Observer final : public cpu::ExecutionObserver {
  public:
    Observer(std::unique_ptr<TraceWriter> file, const TraceOptions& options)
        : ExecutionObserver(options.detail >= TraceDetail::Values), file_(std::move(file)), options_(options) {}

    void enter(cpu::Vp&) override {}
    void ran(cpu::Vp& vp, const TracedCode& code, const cpu::TracedRun& run) override;
    void begin(cpu::Vp& vp, const Insn& insn) override;
    void end(cpu::Vp& vp, const Insn& insn, bool completed) override;
    [[nodiscard]] bool wants_each() const override { return options_.detail >= TraceDetail::Values; }
    [[nodiscard]] bool wants_addresses() const override { return options_.detail >= TraceDetail::Memory; }
    void happened(const TapEvent& event);
    void make_room();

    std::unique_ptr<TraceWriter> file_;
    const TraceOptions options_;
    Machine* machine_ = nullptr;
    std::set<std::pair<u64, u64>> code_;

  private:
    struct Key {
        u64 head = 0, tail = 0;  ///< the instruction's bytes
        u64 mode = 0;            ///< and what else its piece says, without accesses
        u64 shape = 0;           ///< hash of those
        bool operator==(const Key&) const = default;
    };
    struct HashKey {
        std::size_t operator()(const Key& key) const {
            constexpr u64 kOdd = 0x9e3779b97f4a7c15;
            return ((key.head * kOdd ^ key.tail) * kOdd ^ key.mode) * kOdd ^ key.shape;
        }
    };
    [[nodiscard]] TraceEncoder& out() { return file_->encoder(); }
    [[nodiscard]] u64 string_address(cpu::Seg seg, cpu::Gpr reg, const Insn& insn, const cpu::VpState& s,
                                     bool is_64) const;
    void note_string(const Insn& insn);
    void note_accesses(const Insn& insn);
    [[nodiscard]] const TracedCode& single(const Insn& insn);
    void put_values(cpu::Vp& vp, const TracedCode& code, u64 iterations);

    std::unordered_map<Key, std::unique_ptr<TracedCode>, HashKey> singles_;
    // The instruction that the interpreter is at, as it began.
    TraceContext context_;
    u64 rip_ = 0, time_ = 0, count_ = 0;  ///< count_: RCX of a repeated one
    u64 source_ = 0, destination_ = 0;
    bool down_ = false;
    TraceRegisters registers_{};
    std::vector<TracedCode::Access> accesses_;
    std::vector<u64> addresses_;
};

void Tracer::Observer::make_room() {
    if (!out().full() || out().counting()) return;
    for (const auto& place : out().fresh_code())
        if (code_.size() < kMostCode) code_.insert(place);
    file_->put_chunk();
}

void Tracer::Observer::ran(cpu::Vp& vp, const TracedCode& code, const cpu::TracedRun& run) {
    make_room();
    out().at(vp.partition(), vp.index(), machine_->scheduler().instructions_at(run.time), run.time);
    out().context(context_of(vp));
    out().ran(code, run);
}

void Tracer::Observer::begin(cpu::Vp& vp, const Insn& insn) {
    log().clear();
    const cpu::VpState& s = vp.state();
    context_ = context_of(vp);
    rip_ = s.rip;
    time_ = vp.now();
    if (options_.detail >= TraceDetail::Registers) registers_ = registers_of(s);
    if (!repeats(insn)) return;
    const bool is_64 = context_.mode == cpu::CodeMode::Bits64;
    count_ = s.gpr[cpu::RCX] & low_mask(insn.addr_size * 8u);
    source_ = string_address(insn.seg, cpu::RSI, insn, s, is_64);
    destination_ = string_address(cpu::Seg::ES, cpu::RDI, insn, s, is_64);
    down_ = (s.rflags & cpu::flag::DF) != 0;
}

u64 Tracer::Observer::string_address(cpu::Seg seg, cpu::Gpr reg, const Insn& insn, const cpu::VpState& s,
                                     bool is_64) const {
    const u64 offset = s.gpr[reg] & low_mask(insn.addr_size * 8u);
    if (!is_64) return static_cast<u32>(s.segment(seg).base + offset);
    return seg == cpu::Seg::FS || seg == cpu::Seg::GS ? s.segment(seg).base + offset : offset;
}

void Tracer::Observer::end(cpu::Vp& vp, const Insn& insn, bool completed) {
    // Whoever enters a level (VMLAUNCH, VMRESUME) has completed, though nothing of its own world is left.
    completed = completed || vp.levels().size() > context_.level;
    const bool repeated = repeats(insn);
    u64 iterations = completed ? 1 : 0;
    if (repeated) {
        iterations += vp.now() - time_;
        if (completed && count_ == 0) iterations = 0;
    }
    if (iterations == 0 && !(repeated && completed)) return;
    make_room();
    out().at(context_.partition, context_.vp, machine_->scheduler().instructions_at(time_), time_);
    out().context(context_);
    if (options_.detail >= TraceDetail::Registers) out().registers_between(registers_);
    accesses_.clear();
    addresses_.clear();
    if (options_.detail >= TraceDetail::Memory) repeated ? note_string(insn) : note_accesses(insn);
    const TracedCode& code = single(insn);
    out().ran(code, {rip_, time_, 0, 1, iterations, addresses_.data()});
    if (options_.detail >= TraceDetail::Values) put_values(vp, code, iterations);
    if (options_.detail >= TraceDetail::Registers) out().registers(registers_of(vp.state()));
}

void Tracer::Observer::note_string(const Insn& insn) {
    const StringOperands operands = string_operands(insn);
    const auto note = [&](u64 address, cpu::Gpr base, bool write) {
        accesses_.push_back({.size = operands.size, .write = write, .repeated = true, .down = down_, .base = base});
        addresses_.push_back(address);
    };
    if (operands.source) note(source_, cpu::RSI, false);
    if (operands.destination) note(destination_, cpu::RDI, operands.stores);
}

void Tracer::Observer::note_accesses(const Insn& insn) {
    const bool by_segment = insn.seg == cpu::Seg::FS || insn.seg == cpu::Seg::GS;
    u8 base = cpu::RSP;
    if (insn.memory_operand() != nullptr)
        base = by_segment ? TracedCode::kSegmentBase : insn.base < 16 ? insn.base : TracedCode::kNoBase;
    for (const cpu::AccessLog::Entry& each : log().entries()) {
        accesses_.push_back({.size = each.size, .write = each.write, .base = base});
        addresses_.push_back(each.address);
        base = cpu::RSP;
    }
}

/// The piece of code that this instruction is, with its accesses.
const TracedCode& Tracer::Observer::single(const Insn& insn) {
    Key key;
    static_assert(sizeof insn.bytes == 15);
    std::copy_n(insn.bytes, 8, reinterpret_cast<u8*>(&key.head));
    std::copy_n(insn.bytes + 8, 7, reinterpret_cast<u8*>(&key.tail));
    key.mode = static_cast<u64>(insn.mode) | u64{insn.length} << 8;
    for (const TracedCode::Access& each : accesses_) {
        const u64 packed = u64{each.size} | u64{each.write} << 8 | u64{each.repeated} << 9 | u64{each.down} << 10 |
                           u64{each.base} << 11;
        key.shape = (key.shape ^ (packed + 1)) * 0x100000001b3;
    }
    std::unique_ptr<TracedCode>& made = singles_[key];
    if (made != nullptr) return *made;
    if (singles_.size() > kMostSingles) {
        singles_.clear();
        return single(insn);
    }
    made = std::make_unique<TracedCode>();
    made->mode = insn.mode;
    made->add(insn);
    made->repeats = repeats(insn);
    made->accesses = accesses_;
    return *made;
}

void Tracer::Observer::put_values(cpu::Vp& vp, const TracedCode& code, u64 iterations) {
    u8 data[trace_format::kMostRepeatedBytes];
    const auto entries = log().entries();
    for (std::size_t k = 0; k < code.accesses.size(); ++k) {
        const TracedCode::Access& access = code.accesses[k];
        if (!access.repeated && entries[k].known) {
            out().value({entries[k].data, access.size});
            continue;
        }
        const u64 all = access.repeated ? iterations * access.size : access.size;
        const u64 first =
            access.repeated && access.down && all != 0 ? addresses_[k] - (all - access.size) : addresses_[k];
        const u32 size = static_cast<u32>(std::min<u64>(all, sizeof data));
        // Behind a change of levels its memory is out of sight.
        const bool there = size != 0 && vp.levels().size() == context_.level && vp.memory().peek(first, data, size);
        out().value({data, there ? size : 0});
    }
}

void Tracer::Observer::happened(const TapEvent& event) {
    make_room();
    const cpu::Vp* const running = machine_->running();
    const u64 time = machine_->now();
    const Scheduler& scheduler = machine_->scheduler();
    out().event(running != nullptr ? scheduler.instructions_at(time) : scheduler.instructions(), time, event);
}

Tracer::Tracer(std::unique_ptr<TraceWriter> file, const TraceOptions& options)
    : observer_(std::make_unique<Observer>(std::move(file), options)) {}

Tracer::~Tracer() { detach(); }

void Tracer::attach(Machine& machine) {
    VG_ASSERT(machine_ == nullptr);
    machine_ = observer_->machine_ = &machine;
    machine.engine().set_observer(observer_.get());
    if (observer_->options_.events != 0)
        listener_ = machine.log().tap().listen(observer_->options_.events,
                                               [this](const TapEvent& event) { observer_->happened(event); });
}

void Tracer::detach() {
    if (machine_ == nullptr) return;
    if (observer_->options_.events != 0) machine_->log().tap().remove(listener_);
    machine_->engine().set_observer(nullptr);
    for (cpu::Vp* const vp : machine_->scheduler().processors()) vp->memory().set_log(nullptr);
    machine_ = nullptr;
    TraceEncoder& last = observer_->file_->encoder();
    for (const auto& place : last.fresh_code())
        if (observer_->code_.size() < kMostCode) observer_->code_.insert(place);
    observer_->file_->put_chunk();
}

const std::set<std::pair<u64, u64>>& Tracer::code() const { return observer_->code_; }

Result<void> Tracer::finish(std::vector<TraceSymbol> symbols) {
    VG_ASSERT(machine_ == nullptr);
    return observer_->file_->finish(std::move(symbols));
}

Result<void> Tracer::status() const { return observer_->file_->status(); }
u64 Tracer::executed() const { return observer_->file_->executed(); }
u64 Tracer::file_bytes() const { return observer_->file_->file_bytes(); }

}  // namespace vg::machine
