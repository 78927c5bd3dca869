#include "ui/model/inspect.h"

#include <sstream>

#include "base/state.h"
#include "ui/model/inspect_hypervisor.h"
#include "ui/model/inspect_jit.h"
#include "ui/model/inspect_symbols.h"

namespace vg::model {
namespace {

/// The printed tree as nested objects.
Json to_json(const std::string& text) {
    Json root = Json::object();
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t equals = line.find(" = ");
        if (equals == std::string::npos) continue;
        Json* node = &root;
        std::istringstream parts(line.substr(0, equals));
        for (std::string part; std::getline(parts, part, '/');) {
            if (!node->is_object()) *node = Json::object();
            node = &(*node)[part];
        }
        *node = line.substr(equals + 3);
    }
    return root;
}

/// The lines below `path` ("hypervisor/").
std::string select(const std::string& tree, std::string_view path) {
    std::string selected;
    std::istringstream lines(tree);
    for (std::string line; std::getline(lines, line);) {
        const bool below = line.size() > path.size() &&
                           (path.empty() || path.back() == '/' || line[path.size()] == '/' || line[path.size()] == ' ');
        if (below && line.compare(0, path.size(), path) == 0) selected += line + "\n";
    }
    return selected;
}

}  // namespace

InspectSources inspect_sources(machine::Machine& machine, const jit::Survey* survey) {
    InspectSources sources;
    sources.tree = [&machine] {
        StatePrinter printer;
        machine.fields(printer);
        show_hypervisor(machine, printer);
        return printer.result();
    };
    sources.jit = [&machine, survey](const std::string& path, bool json) {
        return inspect_jit(machine, survey, path, json);
    };
    sources.walk = [&machine](const std::string& path) { return inspect_walk(machine, path); };
    return sources;
}

std::string inspect(const std::string& path, bool json, const InspectSources& sources) {
    if (is_jit_path(path)) return sources.jit(path, json);
    const bool symbols = is_symbol_path(path) && sources.symbols != nullptr;
    const std::string lines = is_walk_path(path) ? sources.walk(path)
                              : symbols          ? sources.symbols(path)
                                                 : select(sources.tree(), path);
    return json ? json_text(to_json(lines)) : lines;
}

}  // namespace vg::model
