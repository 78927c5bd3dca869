#include "ui/model/vmbus_services.h"

#include <algorithm>
#include <iterator>

#include "base/types.h"

namespace vg::model {

namespace {

struct Row {
    hv::Guid type;
    Service service;
    std::string_view name;
};

constexpr Row kRows[] = {
    {hv::kScsiControllerClass, Service::Storage, "SCSI controller"},
    {hv::kIdeAcceleratorClass, Service::Ide, "IDE accelerator"},
    {hv::kNetworkClass, Service::Network, "network adapter"},
    {hv::kKeyboardClass, Service::Keyboard, "keyboard"},
    {hv::kMouseClass, Service::Mouse, "mouse"},
    {hv::kVideoClass, Service::Video, "video"},
    {hv::kHeartbeatClass, Service::Heartbeat, "heartbeat"},
    {hv::kShutdownClass, Service::Shutdown, "shutdown"},
    {hv::kTimeSyncClass, Service::TimeSync, "time synchronization"},
    {hv::kKvpClass, Service::Kvp, "key-value pairs"},
    {hv::kVssClass, Service::Vss, "volume snapshots"},
    {hv::guid("34d14be3-dee4-41c8-9ae7-6b174977c192"), Service::FileCopy, "file copy"},
    {hv::kDynamicMemoryClass, Service::DynamicMemory, "dynamic memory"},
    {hv::guid("44c4f61d-4444-4400-9d52-802e27ede19f"), Service::Pci, "PCI pass-through"},
    {hv::guid("f8e65716-3cb3-4a06-9a60-1889c5cccab5"), Service::Other, "activation"},
    {hv::guid("3375baf4-9e15-4b30-b765-67acb10d607b"), Service::Other, "activation (2)"},
    {hv::guid("276aacf4-ac15-426c-98dd-7521ad3f01fe"), Service::Other, "remote desktop"},
    {hv::guid("c376c1c3-d276-48d2-90a9-c04748072c60"), Service::Other, "remote control"},
    {hv::guid("2f9bcc4a-0069-4af3-b76b-6fd0be528cda"), Service::Other, "Fibre Channel"},
};

constexpr std::string_view kNames[] = {"unknown",   "storage",        "ide",      "network",  "keyboard", "mouse",
                                       "video",     "heartbeat",      "shutdown", "timesync", "kvp",      "vss",
                                       "file_copy", "dynamic_memory", "pci",      "socket",   "other"};
static_assert(std::size(kNames) == static_cast<std::size_t>(Service::Count));

/// Sockets have a port number as the first field of a template (D-15).
bool is_socket(const hv::Guid& type) {
    constexpr hv::Guid kTemplate = hv::guid("00000000-facb-11e6-bd58-64006a7986d3");
    return std::equal(type.begin() + 4, type.end(), kTemplate.begin() + 4);
}

const Row* find(const hv::Guid& type) {
    const auto* const found =
        std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.type == type; });
    return found == std::end(kRows) ? nullptr : found;
}

}  // namespace

Service service_of(const hv::Guid& type) {
    if (const Row* const row = find(type)) return row->service;
    return is_socket(type) ? Service::Socket : Service::Unknown;
}

std::string_view service_name(Service service) {
    return kNames[service < Service::Count ? static_cast<unsigned>(service) : 0];
}

std::string_view interface_name(const hv::Guid& type) {
    if (const Row* const row = find(type)) return row->name;
    return is_socket(type) ? "socket" : "";
}

}  // namespace vg::model
