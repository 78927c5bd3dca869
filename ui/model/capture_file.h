// A machine's capture as a pcapng file: docs/vmbus-capture.md.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "ui/model/event_record.h"
#include "ui/model/vmbus_capture.h"

namespace vg::model {

/// In front of each record's payload, little-endian. The numbers stay; a longer header has a larger `header_size`.
struct CaptureHeader {
    enum Kind : u8 {
        Hypercall = 1,
        SynicMessage = 2,
        SynicEvent = 3,
        VmbusMessage = 4,
        VmbusPacket = 5,
        VmbusSignal = 6
    };
    static constexpr u8 kVersion = 1, kToGuest = 1;

    u8 version = kVersion;
    u8 kind = 0;
    u8 flags = 0;    ///< kToGuest
    u8 service = 0;  ///< model::Service of the channel
    u16 header_size = 64;
    u16 channel = 0;  ///< relid; 0: none
    u64 partition = 0;
    u32 vp = 0;            ///< TapEvent::kNoVp: none
    u32 payload_size = 0;  ///< before the capture cut it
    u64 instructions = 0;  ///< 0: not known. Within a slice the machine's count depends on where it was paused
    u64 values[4] = {};  ///< as base/tap_kinds.def names them
};
static_assert(sizeof(CaptureHeader) == 64);

/// Makes the file's bytes, in order. Interfaces are described when they are first needed.
class CaptureFile {
  public:
    static constexpr TapMask kKinds = VmbusCapture::kKinds | tap_bit(TapKind::Hypercall) |
                                      tap_bit(TapKind::SynicMessage) | tap_bit(TapKind::SynicEvent) |
                                      tap_bit(TapKind::Frame);
    using Write = std::function<void(std::string_view bytes)>;

    /// @param start_unix_seconds  the guest's wall clock at virtual time 0
    CaptureFile(s64 start_unix_seconds, Write write);

    /// A record of kKinds; others are left out. @param channels  knows the service of each channel
    void add(const EventRecord& event, const VmbusCapture& channels);
    [[nodiscard]] u64 records() const { return records_; }

  private:
    void frame(const EventRecord& event);
    s64 start_;
    Write write_;
    u64 records_ = 0;
    u32 interfaces_ = 0;
    std::map<u64, u32> cards_;  ///< interface of each network card, at most kMaxCards
    static constexpr std::size_t kMaxCards = 256;
};

}  // namespace vg::model
