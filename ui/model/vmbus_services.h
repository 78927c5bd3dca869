// Who stands behind a channel: services by the interface GUID of their offer. Rows D-01..D-16.
#pragma once

#include <string_view>

#include "hv/spec/guid.h"

namespace vg::model {

/// The numbers are those of capture files (docs/vmbus-capture.md): they stay.
enum class Service : u8 {
    Unknown = 0,
    Storage = 1,
    Ide = 2,
    Network = 3,
    Keyboard = 4,
    Mouse = 5,
    Video = 6,
    Heartbeat = 7,
    Shutdown = 8,
    TimeSync = 9,
    Kvp = 10,
    Vss = 11,
    FileCopy = 12,
    DynamicMemory = 13,
    Pci = 14,
    Socket = 15,
    Other = 16,  ///< known by name, its packets are not
    Count
};

[[nodiscard]] Service service_of(const hv::Guid& interface_type);
/// "storage"; for Unknown "unknown".
[[nodiscard]] std::string_view service_name(Service service);
/// For people: what the GUID stands for, "" if nobody knows.
[[nodiscard]] std::string_view interface_name(const hv::Guid& interface_type);

}  // namespace vg::model
