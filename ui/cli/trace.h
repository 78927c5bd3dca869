// `verdigris trace`, and `run --trace`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine/tracer.h"

namespace vg::cli {

/// What `trace` was asked for.
struct TraceCommand {
    std::string what = "show";  ///< show, stat, diff
    std::vector<std::string> files;
    std::string window, filter, format = "text", output, detail, events = "all", engine = "jit";
    u64 top = 10;  ///< stat: rows of each list; diff: lines of context
    bool json = false, quiet = false;
};
int trace(const TraceCommand& command);

/// Error (Usage): there is no such detail, or kind of event. @param detail  "": `otherwise`
[[nodiscard]] Result<machine::TraceOptions> trace_options(const std::string& detail, const std::string& events,
                                                          machine::TraceDetail otherwise);

/// Traces a machine from now on, with symbols from its memory at the end.
class LiveTrace {
  public:
    /// Creates the file. Error (Usage).
    static Result<std::unique_ptr<LiveTrace>> create(const std::string& path, const machine::TraceOptions& options);
    void attach(machine::Machine& machine) { tracer_.attach(machine); }
    /// The machine is still there. Error (Host): the file could not be written, now or before.
    Result<void> finish(machine::Machine& machine);

    explicit LiveTrace(std::unique_ptr<machine::TraceWriter> file, const machine::TraceOptions& options)
        : tracer_(std::move(file), options) {}

  private:
    machine::Tracer tracer_;
};

}  // namespace vg::cli
