// `verdigris vmbus` and `verdigris hypercalls`.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/types.h"
#include "ui/model/control_link.h"

namespace vg::cli {

struct VmbusOptions {
    std::string source;  ///< a recording, or a running machine's "unix:PATH"
    std::string what;    ///< "list", "follow", "export"
    std::string file;    ///< export: where to
    std::optional<u64> partition, transaction, count;
    std::optional<u16> channel;
    bool json = false, signals = false, stat = false;
};

int vmbus(const VmbusOptions& options);
int hypercalls(const VmbusOptions& options);

/// The other end of both: a recording that is run again in this process, or a socket.
[[nodiscard]] Result<std::unique_ptr<model::ControlLink>> open_capture_link(const std::string& name);

}  // namespace vg::cli
