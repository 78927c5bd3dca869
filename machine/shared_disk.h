// One disk image with two ways to it: an emulated IDE disk, and the accelerator of that disk on VMBus (rows D-02, B-17).
#pragma once

#include <memory>

#include "devices/storage/block_device.h"

namespace vg::machine {

/// While a guest's driver has the accelerator open, the emulated disk is write-protected: two ways to one disk that both
/// write end in a broken file system, however the guest came to use both.
class SharedDisk {
  public:
    explicit SharedDisk(std::unique_ptr<devices::BlockDevice> image);

    // The two ways. Each holds the image.
    [[nodiscard]] std::unique_ptr<devices::BlockDevice> emulated() const;
    [[nodiscard]] std::unique_ptr<devices::BlockDevice> accelerated() const;
    /// The accelerator is in use, or not any more.
    void set_accelerated(bool in_use) { state_->accelerated = in_use; }
    [[nodiscard]] devices::BlockDevice& image() const { return *state_->image; }

  private:
    struct State {
        std::unique_ptr<devices::BlockDevice> image;
        bool accelerated = false;  ///< derived: from the channel's state
    };
    class Way;

    std::shared_ptr<State> state_;
};

}  // namespace vg::machine
