// An image and, if it is a differencing VHD or VHDX, its parents.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "devices/storage/vhd_layout.h"

namespace vg::devices::vhd {

/// Files of one chain, the opened one included.
inline constexpr std::size_t kMaxChain = 32;

/// How a chain reaches its parents: the host's folders, or a table in tests.
class ImageFolder {
  public:
    virtual ~ImageFolder() = default;
    /// Opens `path`, which the image `child` names as its parent, read-only; a relative path starts at the child's
    /// folder. Null if there is no such file. Error (Usage) if the path may not be followed.
    [[nodiscard]] virtual Result<std::unique_ptr<BlockFile>> find(const std::string& child,
                                                                  const std::string& path) = 0;
};

/// Follows paths that stay, links resolved, in the child's folder or below, and files that the user named. What an
/// image says must not make the program read any other file.
class HostFolder final : public ImageFolder {
  public:
    explicit HostFolder(std::vector<std::string> named) : named_(std::move(named)) {}
    [[nodiscard]] Result<std::unique_ptr<BlockFile>> find(const std::string& child, const std::string& path) override;

  private:
    std::vector<std::string> named_;
};

/// What a child remembers of its parent.
struct Identity {
    std::string name;
    Id id{};
    u32 time_stamp = 0;  ///< of the footer; 0 for raw images
    u32 modified = 0;    ///< the file's own time, seconds since 2000
    Id linkage{};        ///< what a VHDX remembers instead: changes with the content
};

struct IdentifiedImage {
    std::unique_ptr<BlockDevice> device;
    Identity identity;
};

/// Identity of a raw image: XXH3-128 of its size and of a sample of its content, wherever the file lies: the first
/// 2 MiB, the last 4 KiB, and 256 pages of 4 KiB at equal distances between.
[[nodiscard]] Result<Id> raw_identity(BlockFile& file);

/// The linkage of an image that is no VHDX: made from what identifies it for a VHD.
[[nodiscard]] Id linkage_of(const Identity& identity);

/// Opens an image of the given format and, for a differencing one, its chain of parents, read-only. Errors: Usage for
/// a missing parent, Damaged for a loop, a chain of more than kMaxChain, or a parent that is not the one the child
/// was made from.
[[nodiscard]] Result<IdentifiedImage> open_chain(std::unique_ptr<BlockFile> file, ImageFormat format,
                                                 ImageFolder& folder);

/// Opens a differencing VHD or VHDX, by its signature, over a parent that the user named; the paths in the file are
/// not followed.
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> open_over(std::unique_ptr<BlockFile> file, IdentifiedImage parent);

/// Whether a file of this format has part of its content in other files. False for what cannot be opened.
[[nodiscard]] bool has_parent(const std::string& path, ImageFormat format);

}  // namespace vg::devices::vhd
