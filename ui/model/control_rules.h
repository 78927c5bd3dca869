// Stop rules and stops as the control protocol writes them (docs/control.md).
#pragma once

#include "base/result.h"
#include "machine/debugger.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// @param object  the keys of a rule, and perhaps those of a request
[[nodiscard]] Result<machine::StopRule> parse_rule(const Json& object);
[[nodiscard]] Json rule_json(const machine::StopRule& rule);
[[nodiscard]] Json stop_json(const machine::DebugStop& stop);
[[nodiscard]] std::string_view reason_name(machine::DebugStop::Reason reason);

}  // namespace vg::model
