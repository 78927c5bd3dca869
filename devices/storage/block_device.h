// A disk as a provider sees it, and how images become one.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::devices {

/// A block device. Requests are whole sectors of `logical_sector_bytes`. Calls are synchronous; the provider decides at which virtual time a request
/// completes. Ranges are checked by the caller; an implementation still refuses what lies outside.
class BlockDevice {
  public:
    virtual ~BlockDevice() = default;
    [[nodiscard]] virtual u64 size_bytes() const = 0;
    [[nodiscard]] virtual bool read_only() const = 0;
    /// 512 or 4096: what a guest addresses.
    [[nodiscard]] virtual u32 logical_sector_bytes() const { return 512; }
    /// At least as large: what is written at once without reading.
    [[nodiscard]] virtual u32 physical_sector_bytes() const { return 512; }
    [[nodiscard]] virtual Result<void> read(u64 offset, std::span<u8> out) = 0;
    [[nodiscard]] virtual Result<void> write(u64 offset, std::span<const u8> data) = 0;
    /// As read and write of all the parts together, whole sectors in all, one part behind the other.
    using Parts = std::span<const std::span<u8>>;
    [[nodiscard]] virtual Result<void> read_parts(u64 offset, Parts parts);
    [[nodiscard]] virtual Result<void> write_parts(u64 offset, Parts parts);
    /// The range may lose its content (reads zeroes afterwards where the format can say so).
    [[nodiscard]] virtual Result<void> discard(u64 offset, u64 size) = 0;
    /// When it returns, everything written before survives kill -9 and a host crash.
    [[nodiscard]] virtual Result<void> flush() = 0;
    /// As flush; and closing the device now would not change its file any more.
    [[nodiscard]] virtual Result<void> settle() { return flush(); }
    /// Every range, in order, that was written here and is gone when the device is closed, in pieces of at most 1 MiB.
    /// None for a device whose writes reach a file. Ends at the first error.
    using VisitUnsaved = std::function<Result<void>(u64 offset, std::span<const u8> data)>;
    [[nodiscard]] virtual Result<void> for_each_unsaved(const VisitUnsaved& visit) {
        (void)visit;
        return {};
    }
    /// For inspect and messages: "vhd (differencing of base.vhd)".
    [[nodiscard]] virtual std::string describe() const = 0;
};

/// Bytes of all of them.
[[nodiscard]] u64 size_of(BlockDevice::Parts parts);

enum class ImageFormat : u8 { Auto, Raw, Vhd, Vhdx, Qcow2 };
enum class WriteMode : u8 {
    Throwaway,  ///< writes go to an unnamed overlay that is gone afterwards
    Overlay,    ///< writes go to `overlay`, created if missing (a differencing VHD, or VHDX by its name, of the image)
    Direct,     ///< writes change the image itself
    Memory,     ///< writes stay in this process's memory and are gone afterwards
    ReadOnly
};

struct ImageOptions {
    std::string path;
    ImageFormat format = ImageFormat::Auto;  ///< Auto: by the name alone, as the content of
                                             ///< a raw file belongs to a guest
    WriteMode mode = WriteMode::Throwaway;
    /// WriteMode::Overlay: its path. ReadOnly, Memory: a file of earlier writes to look through, which must exist; or "".
    std::string overlay{};
    /// Files outside of the image's folder that a differencing image may name as parents.
    std::vector<std::string> parents{};
};

/// Opens an image (and its chain of parents). Errors name the file, the offset, what was found and the remedy:
/// Usage for a missing file or wrong option, Damaged for bad content. Nothing is written on an error.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> open_image(const ImageOptions& options);

/// Refuses, with the same errors, what open_image would refuse. Opens files only for reading and keeps none; a missing
/// overlay is not created.
[[nodiscard]] Result<void> check_image(const ImageOptions& options);

}  // namespace vg::devices
