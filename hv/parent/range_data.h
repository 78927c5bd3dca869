// The ranges of a GPA-direct packet as the data of a request.
#pragma once

#include "hv/vmbus/gpadl.h"
#include "hv/vmbus/server.h"
#include "hv/vsp/guest_data.h"

namespace vg::hv::parent {

class RangeData final : public vsp::GuestData {
  public:
    RangeData(const vmbus::GpaRanges& ranges, vmbus::Notifier& memory) : ranges_(ranges), memory_(memory) {}
    u64 size() const override { return ranges_.size(); }
    bool read(u64 offset, std::span<u8> out) override {
        return ranges_.for_each(offset, out.size(), [&](u64 gpa, u64 at, u64 size) {
            return memory_.read_guest(gpa, out.data() + at, size);
        });
    }
    bool write(u64 offset, std::span<const u8> data) override {
        return ranges_.for_each(offset, data.size(), [&](u64 gpa, u64 at, u64 size) {
            return memory_.write_guest(gpa, data.data() + at, size);
        });
    }
    void in_place(u64 offset, u64 size, bool fill, vsp::GuestParts& parts) override {
        (void)ranges_.for_each(offset, size, [&](u64 gpa, u64, u64 left) {
            while (left != 0) {
                const std::span<u8> piece = memory_.guest_memory(gpa, left, fill);
                if (piece.empty() || !parts.add(piece)) return false;
                gpa += piece.size();
                left -= piece.size();
            }
            return true;
        });
    }

  private:
    const vmbus::GpaRanges& ranges_;
    vmbus::Notifier& memory_;
};

}  // namespace vg::hv::parent
