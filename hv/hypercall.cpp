#include "hv/hypercall.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.h"
#include "base/log.h"
#include "base/tap.h"
#include "cpu/spec/bits.h"
#include "hv/hypercalls/bodies.h"
#include "hv/hypervisor.h"
#include "hv/intercepts.h"
#include "hv/partition.h"
#include "hv/spec/cpuid.h"
#include "hv/spec/hypercall.h"
#include "hv/vp.h"

namespace vg::hv {
namespace {

using hypercalls::VariableHeader;

/// What a body's adapter gets: private copies of the input, and room for the output.
struct Call {
    Vp& caller;
    const u8* header;
    VariableHeader variable;
    const u8* element;  ///< the current one, of a rep call
    u8* output;         ///< of the call, or of the current element
    u32 index;          ///< of the current element
    u32* output_size;   ///< set by bodies with a SizedOutput
};

enum class Kind : u8 { Simple, Slow, Rep, RepAt, Variable, RepVariable };

struct Row {
    u16 code;
    std::string_view name;
    Kind kind;
    u32 header_size, element_size, output_size;  ///< bytes; output per element for rep calls
    Gate gate;
    HvStatus (*body)(const Call&);
    [[nodiscard]] bool is_rep() const { return kind == Kind::Rep || kind == Kind::RepAt || kind == Kind::RepVariable; }
    [[nodiscard]] bool is_variable() const { return kind == Kind::Variable || kind == Kind::RepVariable; }
};

template <class T>
struct InputOf {
    using Header = T;
    using Element = None;
};
template <class H, class E>
struct InputOf<RepInput<H, E>> {
    using Header = H;
    using Element = E;
};

template <class T>
struct Size {
    static constexpr u32 value = sizeof(T);
};
template <>
struct Size<None> {
    static constexpr u32 value = 0;
};
template <u32 kLeast>
struct Size<SizedOutput<kLeast>> {
    static constexpr u32 value = kLeast;
};

template <class T>
inline constexpr bool kIsSized = false;
template <u32 kLeast>
inline constexpr bool kIsSized<SizedOutput<kLeast>> = true;

template <class T>
constexpr u32 size_of() {
    return Size<T>::value;
}

template <class T>
T load(const u8* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

/// Calls a body with exactly the parameters its kind and types give it.
template <class In, class Out, Kind kKind, auto kBody>
HvStatus adapt(const Call& call) {
    using Header = typename InputOf<In>::Header;
    using Element = typename InputOf<In>::Element;
    const auto with_output = [&](auto&&... input) {
        if constexpr (std::is_same_v<Out, None>) {
            return kBody(call.caller, input...);
        } else {
            Out out{};
            const HvStatus status = kBody(call.caller, input..., out);
            if constexpr (kIsSized<Out>) {
                std::memcpy(call.output, out.bytes, out.size);
                *call.output_size = out.size;
            } else {
                std::memcpy(call.output, &out, sizeof out);
            }
            return status;
        }
    };
    if constexpr (std::is_same_v<Header, None>) {
        return with_output();
    } else {
        const Header header = load<Header>(call.header);
        if constexpr (kKind == Kind::Simple || kKind == Kind::Slow) return with_output(header);
        if constexpr (kKind == Kind::Variable) return with_output(header, call.variable);
        constexpr bool kBare = std::is_same_v<Element, None>;
        if constexpr (kKind == Kind::Rep && kBare) return with_output(header);
        if constexpr (kKind == Kind::Rep && !kBare) return with_output(header, load<Element>(call.element));
        if constexpr (kKind == Kind::RepAt && kBare) return with_output(header, call.index);
        if constexpr (kKind == Kind::RepAt && !kBare)
            return with_output(header, call.index, load<Element>(call.element));
        if constexpr (kKind == Kind::RepVariable)
            return with_output(header, call.variable, load<Element>(call.element));
    }
}

constexpr Row kRows[] = {
#define HYPERCALL(code, name, kind, input, output, gate, body) \
    Row{code,                                                  \
        #name,                                                 \
        Kind::kind,                                            \
        size_of<InputOf<input>::Header>(),                     \
        size_of<InputOf<input>::Element>(),                    \
        size_of<output>(),                                     \
        Gate::gate,                                            \
        adapt<input, output, Kind::kind, hypercalls::body>},
#include "hv/hypercalls.def"
#undef HYPERCALL
};
static_assert(std::ranges::is_sorted(kRows, {}, &Row::code));

const Row* find_row(u16 code) {
    const auto it = std::ranges::lower_bound(kRows, code, {}, &Row::code);
    return it != std::end(kRows) && it->code == code ? &*it : nullptr;
}

/// How much each part of a call's parameters takes. A rep list counts from element 0, whatever the start index.
struct Shape {
    u32 variable = 0, list = 0, input = 0, output = 0;
};

Shape shape_of(const Row& row, const HypercallControl& control) {
    Shape shape;
    shape.variable = control.variable_qwords() * 8;
    shape.list = control.rep_count() * row.element_size;
    shape.input = row.header_size + shape.variable + shape.list;
    shape.output = row.is_rep() ? control.rep_count() * row.output_size : row.output_size;
    return shape;
}

struct Outcome {
    HvStatus status = HvStatus::Success;
    u32 reps = 0;
    bool undefined = false;  ///< #UD instead of a status
};

/// One call in progress: the two register conventions (H-02, H-03) and the two ways to pass parameters.
class Invocation {
  public:
    explicit Invocation(Vp& caller)  // NOLINT: in_ and out_ on purpose
        : caller_(caller),
          partition_(caller.partition()),
          state_(caller.processor().state()),
          long_mode_((state_.efer & cpu::efer::LMA) != 0 && state_.segment(cpu::Seg::CS).l()) {
        control_.raw = long_mode_ ? gpr(cpu::RCX) : pair(cpu::RDX, cpu::RAX);
        input_ = long_mode_ ? gpr(cpu::RDX) : pair(cpu::RBX, cpu::RCX);
        output_ = long_mode_ ? gpr(cpu::R8) : pair(cpu::RDI, cpu::RSI);
    }

    [[nodiscard]] const HypercallControl& control() const { return control_; }
    [[nodiscard]] u64 output() const { return output_; }

    Outcome run(const Row* row) {
        if (row == nullptr) return {HvStatus::InvalidHypercallCode};
        if (const HvStatus status = check_control(*row); status != HvStatus::Success) return {status};
        shape_ = shape_of(*row, control_);
        const Outcome refused = control_.fast() ? check_fast() : Outcome{check_slow()};
        if (refused.undefined || refused.status != HvStatus::Success) return refused;
        if (!partition_.allows(row->gate)) return {HvStatus::AccessDenied};
        if (!read_input()) return {HvStatus::InvalidHypercallInput};
        input_known_ = shape_.input;
        std::memset(out_.data(), 0, shape_.output);
        const u32 promised = shape_.output;
        Outcome outcome = execute(*row);
        if (outcome.status == kDeferredCall) return outcome;
        if (outcome.status == HvStatus::Success && shape_.output > promised) {
            const Outcome late = control_.fast() ? check_fast() : Outcome{check_slow()};
            if (late.undefined || late.status != HvStatus::Success) return late;
        }
        write_output(*row, outcome);
        return outcome;
    }

    void set_result(const Outcome& outcome) {
        const u64 result = hypercall_result(outcome.status, outcome.reps);
        if (long_mode_) {
            gpr(cpu::RAX) = result;
        } else {
            gpr(cpu::RAX) = static_cast<u32>(result);
            gpr(cpu::RDX) = result >> 32;
        }
    }

    void tell(const Outcome& outcome) const {
        TapEvent event;
        event.kind = TapKind::Hypercall;
        event.partition = partition_.id();
        event.vp = caller_.index();
        event.values[0] = control_.raw;
        event.values[1] = input_;
        event.values[2] = output_;
        event.values[3] = hypercall_result(outcome.status, outcome.reps);
        event.payload = std::span(in_).first(input_known_);
        partition_.hypervisor().log().tap().tell(event);
    }

    /// Fetches the input of a call that waited, for tell(): it is what the guest's page holds now.
    void look_again(const Row* row) {
        if (row == nullptr) return;
        shape_ = shape_of(*row, control_);
        if (shape_.input <= kPageSize && (control_.fast() ? shape_.input <= kFastXmmBytes : true) && read_input())
            input_known_ = shape_.input;
    }

  private:
    u64& gpr(cpu::Gpr reg) { return state_.gpr[reg]; }
    u64 pair(cpu::Gpr high, cpu::Gpr low) { return (gpr(high) << 32) | static_cast<u32>(gpr(low)); }
    void set_pair(cpu::Gpr high, cpu::Gpr low, u64 value) {
        gpr(high) = value >> 32;
        gpr(low) = static_cast<u32>(value);
    }

    // H-21; the nested bit is for a hypervisor below this one, which hint bit 12 would announce (H-14).
    HvStatus check_control(const Row& row) const {
        const u32 count = control_.rep_count(), start = control_.rep_start();
        const bool reps_ok = row.is_rep() ? count != 0 && start < count : count == 0 && start == 0;
        const bool variable_ok = row.is_variable() || control_.variable_qwords() == 0;
        const bool fast_ok = row.kind != Kind::Slow || !control_.fast();
        const bool ok = !control_.reserved() && !control_.nested() && reps_ok && variable_ok && fast_ok;
        return ok ? HvStatus::Success : HvStatus::InvalidHypercallInput;
    }

    // H-27..H-30
    Outcome check_fast() const {
        const u32 output_start = static_cast<u32>(align_up(shape_.input, 16));
        if (shape_.input > kFastXmmBytes || (shape_.output != 0 && output_start + shape_.output > kFastXmmBytes))
            return {HvStatus::InvalidHypercallInput};
        if (shape_.input > kFastGprBytes && !partition_.allows(Gate::XmmInput)) return {{}, 0, true};
        if (shape_.output != 0 && !partition_.allows(Gate::XmmOutput) && !partition_.allows(Gate::FastOutput))
            return {{}, 0, true};
        return {};
    }

    // H-22..H-26; a pointer that the call does not use may be anything (H-25).
    HvStatus check_slow() const {
        const bool in = shape_.input != 0, out = shape_.output != 0;
        if ((in && (input_ & 7) != 0) || (out && (output_ & 7) != 0)) return HvStatus::InvalidAlignment;
        // Neither can be more than a page, so nothing below wraps.
        if (shape_.input > kPageSize || shape_.output > kPageSize) return HvStatus::InvalidAlignment;
        if ((in && !within_page(input_, shape_.input)) || (out && !within_page(output_, shape_.output)))
            return HvStatus::InvalidAlignment;
        if (in && out && input_ < output_ + shape_.output && output_ < input_ + shape_.input)
            return HvStatus::InvalidHypercallInput;
        if ((in && !partition_.readable(Gpa(input_))) || (out && !partition_.writable(Gpa(output_))))
            return HvStatus::InvalidHypercallInput;
        return HvStatus::Success;
    }

    static bool within_page(u64 gpa, u32 size) { return (gpa & kPageMask) + size <= kPageSize; }

    [[nodiscard]] bool read_input() {
        if (shape_.input == 0) return true;
        if (!control_.fast()) return partition_.read_memory(Gpa(input_), in_.data(), shape_.input);
        std::memcpy(in_.data(), &input_, 8);
        std::memcpy(in_.data() + 8, &output_, 8);
        for (unsigned i = 0; i < kFastXmmCount; ++i) std::memcpy(in_.data() + 16 + 16 * i, state_.ymm[i], 16);
        return true;
    }

    Outcome execute(const Row& row) {
        std::array<u64, low_mask(10)> variable;
        const u32 variable_count = shape_.variable / 8;
        std::memcpy(variable.data(), in_.data() + row.header_size, shape_.variable);
        const u8* list = in_.data() + row.header_size + shape_.variable;
        Call call{caller_, in_.data(),    VariableHeader(variable).first(variable_count), nullptr, out_.data(),
                  0,       &shape_.output};
        if (!row.is_rep()) return {row.body(call)};
        // H-40: in order, up to the first failure; the count is absolute.
        for (u32 i = control_.rep_start(); i < control_.rep_count(); ++i) {
            call.element = list + i * row.element_size;
            call.output = out_.data() + i * row.output_size;
            call.index = i;
            if (const HvStatus status = row.body(call); status != HvStatus::Success) return {status, i};
        }
        return {HvStatus::Success, control_.rep_count()};
    }

    // H-32: a failed simple call writes nothing, a rep call what its completed elements produced.
    void write_output(const Row& row, const Outcome& outcome) {
        if (shape_.output == 0) return;
        u32 first = 0, last = shape_.output;
        if (row.is_rep()) {
            first = control_.rep_start() * row.output_size;
            last = outcome.reps * row.output_size;
        } else if (outcome.status != HvStatus::Success) {
            return;
        }
        if (first >= last) return;
        if (control_.fast())
            write_fast_output(first, last);
        else if (!partition_.write_memory(Gpa(output_) + first, out_.data() + first, last - first))
            partition_.hypervisor().log().warn(Area::Hv, "hypercall output at GPA {:#x} went away", output_);
    }

    // H-29: output follows the input in the same registers.
    void write_fast_output(u32 first, u32 last) {
        const u32 start = static_cast<u32>(align_up(shape_.input, 16));
        std::array<u8, kFastXmmBytes> file{};
        std::memcpy(file.data(), &input_, 8);
        std::memcpy(file.data() + 8, &output_, 8);
        for (unsigned i = 0; i < kFastXmmCount; ++i) std::memcpy(file.data() + 16 + 16 * i, state_.ymm[i], 16);
        std::memcpy(file.data() + start + first, out_.data() + first, last - first);
        const u64 low = load<u64>(file.data()), high = load<u64>(file.data() + 8);
        if (start == 0 && long_mode_) {
            gpr(cpu::RDX) = low;
            gpr(cpu::R8) = high;
        } else if (start == 0) {
            set_pair(cpu::RBX, cpu::RCX, low);
            set_pair(cpu::RDI, cpu::RSI, high);
        }
        for (unsigned i = 0; i < kFastXmmCount; ++i) std::memcpy(state_.ymm[i], file.data() + 16 + 16 * i, 16);
    }

    Vp& caller_;
    Partition& partition_;
    cpu::VpState& state_;
    bool long_mode_;  ///< 64-bit convention (H-01)
    HypercallControl control_;
    u64 input_ = 0, output_ = 0;
    Shape shape_;
    u32 input_known_ = 0;  ///< bytes of in_ that tell() may show
    // Not cleared as a whole: calls are frequent and small. run() fills or clears what a call uses.
    std::array<u8, kPageSize> in_;
    std::array<u8, kPageSize> out_;
};

void count(Vp& caller, u16 code, const Row* row, HvStatus status) {
    HypercallCount& counter = caller.partition().hypercall_counts()[code];
    ++counter.calls;
    if (status != HvStatus::Success) ++counter.failures;
    if (row == nullptr && counter.calls == 1 && caller.partition().may_complain())
        caller.partition().hypervisor().log().warn(Area::Hv, "{}: hypercall {:#06x} is not implemented",
                                                   caller.partition().config().name, code);
}

/// A guest parent may handle what this hypervisor does not (K-136).
bool is_parents(const ParentPolicy& policy, u16 code, const Row* row, HvStatus status) {
    constexpr u16 kRetargetDeviceInterrupt = 0x7e;
    if (policy.retargets && code == kRetargetDeviceInterrupt) return true;
    if (policy.unknown_connections && status == HvStatus::InvalidConnectionId) return true;
    return policy.hypercalls && (row == nullptr || status == HvStatus::AccessDenied);
}

}  // namespace

std::string_view hypercall_name(u16 code) {
    const Row* row = find_row(code);
    return row == nullptr ? std::string_view("unknown") : row->name;
}

cpu::virt::Action do_hypercall(Vp& caller, cpu::virt::Exit& exit) {
    const cpu::VpState& state = caller.processor().state();
    const auto undefined = [&exit] {
        exit.fault = cpu::Fault{};
        exit.fault.vector = cpu::kInvalidOpcode;
        return cpu::virt::Action::Inject;
    };
    // H-05
    if (state.cpl != 0 || (state.cr0 & cpu::cr0::PE) == 0 || caller.partition().guest_os_id == 0) return undefined();
    Invocation invocation(caller);
    const u16 code = invocation.control().code();
    const Row* row = find_row(code);
    const Outcome outcome = invocation.run(row);
    if (outcome.undefined) return undefined();
    if (outcome.status == kDeferredCall) {
        caller.defer_call(invocation.output(), exit.insn_length);
        return cpu::virt::Action::Leave;
    }
    if (caller.partition().guest_parent() != nullptr &&
        is_parents(caller.partition().policy(), code, row, outcome.status))
        return intercept_hypercall(caller, exit);
    count(caller, code, row, outcome.status);
    if (caller.partition().hypervisor().log().tap().wants(TapKind::Hypercall)) invocation.tell(outcome);
    invocation.set_result(outcome);
    return cpu::virt::Action::Skip;
}

void tell_deferred_hypercall(Vp& caller, HvStatus status) {
    if (!caller.partition().hypervisor().log().tap().wants(TapKind::Hypercall)) return;
    Invocation invocation(caller);
    invocation.look_again(find_row(invocation.control().code()));
    invocation.tell({status});
}

}  // namespace vg::hv
