// The machine's side of the control protocol: answers requests about a machine of this process. docs/control.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jit/survey.h"
#include "machine/debugger.h"
#include "machine/machine.h"
#include "ui/model/arguments.h"
#include "ui/model/console_history.h"
#include "ui/model/control_host.h"
#include "ui/model/run_control.h"
#include "ui/model/symbol_source.h"

namespace vg::model {

/// What a service has besides the machine. Pointers outlive it; null: not there, and requests that need it say so.
struct ControlOptions {
    bool live = true;      ///< else a replay: nothing can be typed or changed
    bool recorded = false; ///< live, and written into a recording, which knows what is typed and of no other change
    bool running = true;  ///< the machine begins as if `continue` had been asked for
    std::string config;   ///< path of its configuration, for `hello`
    SymbolSource* symbols = nullptr;
    std::function<std::string(const std::string& path)> inspect_symbols;  ///< what `inspect` prints of them; empty: nothing
    const jit::Survey* survey = nullptr;      ///< counts blocks
    const ConsoleHistory* console = nullptr;  ///< filled by whoever owns the machine
    Runner runner;                            ///< empty: the debugger makes the machine go on
};

/// One service of one machine; any number of clients. The machine's thread only.
class ControlService final : public ControlHost {
  public:
    ControlService(machine::Machine& machine, machine::Debugger& debugger, ControlOptions options = {});
    ~ControlService() override;
    ControlService(const ControlService&) = delete;
    ControlService& operator=(const ControlService&) = delete;

    [[nodiscard]] Result<Json> call(const Json& request) override;
    void tell_due() override;
    void proceed(int max_host_ms) override;

    /// Requests of whoever owns the service (a replay's `goto`), in place of its own.
    /// @param keys  those that the request may have besides id and op, separated by spaces
    using Operation = std::function<Result<Json>(Arguments& arguments)>;
    void provide(const std::string& op, const std::string& keys, Operation operation);
    /// What is added to `hello` and `status` (`reverse`, `history`), over what they would say.
    void describe(std::function<void(Json& hello)> hello, std::function<void(Json& status)> status);

    /// Lets the machine go on, as far as it was asked to: at most to virtual time `limit`. When it stopped, listeners
    /// have heard of it on return.
    RunControl::Progress run(VTime limit);
    /// The same for about so long, in stretches; the notices that there were. A machine that waits for good stops.
    std::vector<Json> advance(int max_host_ms);
    [[nodiscard]] bool running() const;
    [[nodiscard]] RunControl& run_control();
    /// The machine stands from now on (Hang, Ended) because its owner found so; listeners hear of it.
    void settle(machine::DebugStop::Reason reason, std::string text);
    /// Tells every listener that the machine stopped: what `goto` does when it is there.
    void tell_stopped();

  private:
    struct Core;
    std::unique_ptr<Core> core_;
};

}  // namespace vg::model
