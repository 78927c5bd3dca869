// One end of the control protocol (docs/control.md), wherever the machine is: in this process, or behind a socket.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "base/result.h"

namespace vg::model {

using Json = nlohmann::ordered_json;

/// What drives a machine by requests. One thread.
class ControlLink {
  public:
    virtual ~ControlLink() = default;
    /// One request, without its `id`; returns the `result`. Error (Usage): what the other side said; (Host): the
    /// connection is gone.
    [[nodiscard]] virtual Result<Json> call(const Json& request) = 0;
    /// The next notice, if one comes within so long; in between the machine may run in this call.
    [[nodiscard]] virtual std::optional<Json> notice(int wait_ms) = 0;
    /// Readable when a notice may be there, for poll(2); -1: call notice() instead.
    [[nodiscard]] virtual int descriptor() const { return -1; }
};

}  // namespace vg::model
