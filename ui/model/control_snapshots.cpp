// Requests of the control protocol that save a machine or one child of it, and take a child in.
#include "machine/child_machine.h"
#include "machine/child_transfer.h"
#include "machine/snapshot.h"
#include "ui/model/control_core.h"

namespace vg::model {

namespace {

/// In the middle of a round nothing is saved and nobody comes or goes: the asker comes again.
bool between_rounds(const ControlCore& core) { return !core.machine.scheduler().in_round(); }

machine::ChildMachine* child_of(ControlCore& core, const FoundPartition& partition) {
    for (const auto& child : core.machine.children())
        if (&child->partition() == partition.partition) return child.get();
    return nullptr;
}

Result<Json> save(ControlCore& core, Arguments& arguments) {
    const std::string file = arguments.text("file");
    const bool off = arguments.flag("off", false);
    if (!arguments.ok()) return arguments.failure();
    if (!arguments.has("partition")) {
        if (off) return fail(Error::Code::Usage, "\"off\" is for one partition");
        if (!between_rounds(core)) return Json{{"taken", 0}};
        if (auto ok = machine::save_snapshot(core.machine, file); !ok) return Unexpected{ok.error()};
        return Json{{"taken", 1}};
    }
    const auto partition = core.partition(arguments);
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    machine::ChildMachine* const child = child_of(core, *partition);
    if (child == nullptr)
        return fail(Error::Code::Usage, "only children of the built-in parent can be saved for themselves");
    if (off && (!core.options.live || core.options.recorded))
        return fail(Error::Code::Usage, "a recorded run cannot be changed: its children stay");
    if (!between_rounds(core)) return Json{{"taken", 0}};
    if (auto ok = machine::save_child(core.machine, child->name(), file); !ok) return Unexpected{ok.error()};
    if (off) core.machine.put_off(*child, "it was saved and lives elsewhere");
    return Json{{"taken", 1}};
}

Result<Json> take_in(ControlCore& core, Arguments& arguments) {
    const std::string file = arguments.text("file");
    std::vector<machine::Override> overrides;
    if (arguments.has("settings")) {
        for (const auto& [key, value] : arguments.object("settings").items()) {
            if (value.is_string())
                overrides.emplace_back(key, value.get<std::string>());
            else
                arguments.mistake("\"settings\" has a text for each key");
        }
    }
    if (!arguments.ok()) return arguments.failure();
    if (!between_rounds(core)) return Json{{"taken", 0}};
    const auto snapshot = machine::Snapshot::open(file);
    if (!snapshot) return Unexpected{snapshot.error()};
    const auto config = (*snapshot)->config(overrides);
    if (!config) return Unexpected{config.error()};
    if (auto ok = machine::take_in_child(core.machine, **snapshot, *config); !ok) return Unexpected{ok.error()};
    return Json{{"taken", 1}};
}

constexpr ControlRow kRows[] = {
    {"save", "partition file off", false, save},
    {"take_in", "file settings", true, take_in},
};

}  // namespace

std::span<const ControlRow> snapshot_requests() { return kRows; }

}  // namespace vg::model
