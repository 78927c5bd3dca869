// What `verdigris inspect` prints: parts of the machine's state by their paths, as text or JSON.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "jit/survey.h"
#include "machine/machine.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// Where answers come from. Each is called only when the request needs it.
struct InspectSources {
    std::function<std::string()> tree;  ///< everything with a fixed place, as `path = value` lines
    std::function<std::string(const std::string& path, bool json)> jit;  ///< "jit" or below, as text or JSON
    std::function<std::string(const std::string& path)> walk;            ///< "walk/PARTITION/GPA", as lines
    std::function<std::string(const std::string& path)> symbols;         ///< see inspect_symbols.h; empty: none are known
};
/// Those of a machine. @param survey  nullptr: blocks are not counted
[[nodiscard]] InspectSources inspect_sources(machine::Machine& machine, const jit::Survey* survey);

/// The part below `path` ("": everything). A part that does not exist is empty ("{}" as JSON text).
[[nodiscard]] std::string inspect(const std::string& path, bool json, const InspectSources& sources);

}  // namespace vg::model
