// A disk that holds a ustar archive, as `tar --format=ustar` writes it: the parent's store of kernels and disks. Its
// members are contiguous and begin on sectors, so each is a disk of its own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hv/vsp/block_backend.h"
#include "roms/parent/block_window.h"

namespace vg::parent {

/// Index of the archive on a disk. The disk is not trusted: every number on it is checked against the disk's size.
class Archive {
  public:
    static constexpr u32 kMaxMembers = 256;

    struct Member {
        std::string name;  ///< without a leading "./"
        u64 offset = 0;    ///< on the disk, a multiple of 512
        u64 size_bytes = 0;
    };

    /// Reads all headers. `disk` outlives the archive and every window.
    /// Error (Damaged): the disk cannot be read, a header is not a ustar header, or a member leaves the disk, is
    /// neither file nor directory, or is there twice; says at which byte.
    static Result<Archive> open(hv::vsp::BlockBackend& disk);

    /// The files, in the archive's order.
    [[nodiscard]] const std::vector<Member>& members() const { return members_; }
    /// Null: there is no such file.
    [[nodiscard]] const Member* find(std::string_view name) const;
    /// The member as a disk: its bytes, up to the next sector boundary. Error (Damaged): there is no such file.
    [[nodiscard]] Result<BlockWindow> open(std::string_view name) const;
    /// Reads a whole member into `out`, which has its size. False: the disk failed.
    [[nodiscard]] bool read(const Member& member, std::span<u8> out) const;

  private:
    explicit Archive(hv::vsp::BlockBackend& disk) : disk_(&disk) {}

    hv::vsp::BlockBackend* disk_;
    std::vector<Member> members_;
};

}  // namespace vg::parent
