// What the requests of the control protocol work with. Only for control_*.cpp.
#pragma once

#include <span>

#include "ui/model/arguments.h"
#include "ui/model/control_service.h"
#include "ui/model/disassembler.h"
#include "ui/model/event_log.h"
#include "ui/model/places.h"
#include "ui/model/run_control.h"

namespace vg::model {

struct ControlCore {
    ControlCore(machine::Machine& its_machine, machine::Debugger& its_debugger, ControlOptions its_options)
        : machine(its_machine),
          debugger(its_debugger),
          options(std::move(its_options)),
          run(machine, debugger, options.runner, options.running),
          events(machine) {}

    machine::Machine& machine;
    machine::Debugger& debugger;
    ControlOptions options;
    RunControl run;
    EventLog events;
    Disassembler disassembler;
    bool notice_due = false;  ///< a stop that was asked for: told once the request is answered
    std::function<void(Json& hello)> describe_hello;
    std::function<void(Json& status)> describe_status;

    [[nodiscard]] Json status();
    /// The VP that `partition` and `vp` name; without `partition`, the one that people look at.
    [[nodiscard]] Result<FoundVp> vp(Arguments& arguments);
    [[nodiscard]] Result<FoundPartition> partition(Arguments& arguments);
};

/// A request: its name, its keys besides id and op, whether it changes the guest, and what answers it.
struct ControlRow {
    std::string_view op, keys;
    bool changes;
    Result<Json> (*run)(ControlCore& core, Arguments& arguments);
};
/// By what they are about.
[[nodiscard]] std::span<const ControlRow> machine_requests();
[[nodiscard]] std::span<const ControlRow> guest_requests();
[[nodiscard]] std::span<const ControlRow> run_requests();
[[nodiscard]] std::span<const ControlRow> symbol_requests();
[[nodiscard]] std::span<const ControlRow> service_requests();
[[nodiscard]] std::span<const ControlRow> snapshot_requests();

}  // namespace vg::model
