#include "ui/model/live_capture.h"

#include "machine/config.h"
#include "ui/model/vmbus_channels.h"

namespace vg::model {

namespace {

s64 start_of(const machine::Machine& machine) {
    const auto start = machine::parse_clock(machine.config().machine.clock);
    return start ? static_cast<s64>(*start) : 0;
}

}  // namespace

LiveCapture::LiveCapture(machine::Machine& machine, CaptureFile::Write write)
    : machine_(machine), file_(start_of(machine), std::move(write)) {
    for (const VmbusChannel& channel : machine_channels(machine)) channels_.know(channel);
    listener_ = machine_.log().tap().listen(CaptureFile::kKinds, [this](const TapEvent& event) {
        EventRecord record = event_from_tap(event, ++seq_, machine_.now(), machine_.instructions());
        file_.add(record, channels_);
        (void)channels_.add(std::move(record));
    });
}

LiveCapture::~LiveCapture() { machine_.log().tap().remove(listener_); }

}  // namespace vg::model
