// Traces what a machine executes into a file, without changing it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "machine/machine.h"
#include "machine/trace_file.h"

namespace vg::machine {

struct TraceOptions {
    TraceDetail detail = TraceDetail::Memory;
    TapMask events = kAllTaps;
};

/// Of one machine, on its thread. Flow and Memory run as translated code, the others one instruction after another.
class Tracer {
  public:
    Tracer(std::unique_ptr<TraceWriter> file, const TraceOptions& options);
    ~Tracer();
    Tracer(const Tracer&) = delete;
    Tracer& operator=(const Tracer&) = delete;

    /// From now on; between two calls of the machine's run functions. The machine outlives this object, or detach() is
    /// called before it goes.
    void attach(Machine& machine);
    void detach();

    /// Where code was executed: partition and RIP of the beginnings of its pieces. At most kMostCode.
    [[nodiscard]] const std::set<std::pair<u64, u64>>& code() const;
    static constexpr std::size_t kMostCode = 1u << 20;
    /// Behind detach(). Error (Host): the file could not be written, now or before.
    Result<void> finish(std::vector<TraceSymbol> symbols);
    /// Error (Host): why some write failed.
    [[nodiscard]] Result<void> status() const;
    /// Instructions and bytes in the file; what is not written yet does not count.
    [[nodiscard]] u64 executed() const;
    [[nodiscard]] u64 file_bytes() const;

  private:
    class Observer;
    std::unique_ptr<Observer> observer_;
    Machine* machine_ = nullptr;
    unsigned listener_ = 0;
};

}  // namespace vg::machine
