// A capture of a machine of this process while it runs: `run --pcapng`.
#pragma once

#include "machine/machine.h"
#include "ui/model/capture_file.h"

namespace vg::model {

/// Listens from its making to its end. The machine outlives it; the machine's thread only.
class LiveCapture {
  public:
    LiveCapture(machine::Machine& machine, CaptureFile::Write write);
    ~LiveCapture();
    LiveCapture(const LiveCapture&) = delete;
    LiveCapture& operator=(const LiveCapture&) = delete;

    [[nodiscard]] u64 records() const { return file_.records(); }

  private:
    static constexpr std::size_t kEntries = 1;  ///< the file has them; only channels are wanted
    machine::Machine& machine_;
    VmbusCapture channels_{kEntries};
    CaptureFile file_;
    unsigned listener_;
    u64 seq_ = 0;
};

}  // namespace vg::model
