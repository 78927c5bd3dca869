// A trace in the forms that others read.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "ui/model/trace_view.h"

namespace vg::model {

/// Takes a form's bytes, in order.
using TraceWrite = std::function<void(std::string_view bytes)>;

/// A sink that writes something of what it was given when it is over.
class TraceOutput : public TraceSink {
  public:
    virtual void finish() {}
    /// What a person should know: what was left out.
    [[nodiscard]] virtual std::string note() const { return ""; }
};

/// "text", "jsonl", "tenet", "drcov", "perfetto". Error (Usage): there is no such form, or the trace has not what it
/// takes.
Result<std::unique_ptr<TraceOutput>> make_trace_output(const std::string& format, const machine::TraceFile& file,
                                                       TraceWrite write);
/// How much a form wants a trace to hold, for those who make one for it.
[[nodiscard]] machine::TraceDetail detail_for(const std::string& format);
[[nodiscard]] bool is_trace_format(const std::string& format);

// ---- the forms (trace_text.cpp, trace_export.cpp, trace_perfetto.cpp)
std::unique_ptr<TraceOutput> make_text_output(const machine::TraceFile& file, TraceWrite write);
std::unique_ptr<TraceOutput> make_jsonl_output(const machine::TraceFile& file, TraceWrite write);
std::unique_ptr<TraceOutput> make_tenet_output(TraceWrite write);
std::unique_ptr<TraceOutput> make_drcov_output(const machine::TraceFile& file, TraceWrite write);
std::unique_ptr<TraceOutput> make_perfetto_output(const machine::TraceFile& file, TraceWrite write);

/// An instruction or event on one line, without its end: what `text` prints.
[[nodiscard]] std::string trace_line(const machine::TraceFile& file, TraceDisassembler& disassembler,
                                     const machine::TraceInstruction& instruction);
[[nodiscard]] std::string trace_line(const machine::TraceEvent& event);
/// Name of a register of a trace: "rax", "rflags", "fs_base".
[[nodiscard]] std::string_view trace_register_name(unsigned number);

}  // namespace vg::model
