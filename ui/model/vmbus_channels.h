// The VMBus channels of a machine's children, asked of their servers: for captures that begin later than the offers.
#pragma once

#include <vector>

#include "machine/machine.h"
#include "ui/model/vmbus_capture.h"

namespace vg::model {

/// Of children under the built-in parent. A guest parent's server runs in the guest: its channels are not here.
[[nodiscard]] std::vector<VmbusChannel> machine_channels(machine::Machine& machine);

/// The request `vmbus` of the control protocol: {start_unix_seconds, channels: [as channel_json()]}.
[[nodiscard]] Json vmbus_request(machine::Machine& machine);
/// A channel of such an answer. Error (Usage): it is none.
[[nodiscard]] Result<VmbusChannel> channel_from_json(const Json& channel);

}  // namespace vg::model
