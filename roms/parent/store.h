// The parent's store: an archive on its disk, with the table of children, kernels and disks.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/result.h"
#include "hv/vsp/block_backend.h"
#include "roms/parent/archive.h"
#include "roms/parent/children_table.h"
#include "roms/parent/page_buffer.h"

namespace vg::parent {

class Store {
  public:
    static constexpr std::string_view kTableName = "children.conf";
    static constexpr u64 kMaxImageBytes = u64{1} << 30;  ///< of a kernel or an initrd

    /// @param disk  outlives the store
    static Result<std::unique_ptr<Store>> open(hv::vsp::BlockBackend& disk);

    [[nodiscard]] const ChildrenTable& table() const { return table_; }
    /// A whole member, for a kernel or an initrd. Error: there is none, there is no room for it, the disk failed.
    [[nodiscard]] Result<PageBuffer> read(const std::string& name) const;
    /// The disk in a member that is a fixed VHD. Error: there is none, it is damaged, or a child has it already: it is
    /// nobody else's for as long as the backend lives.
    [[nodiscard]] Result<std::unique_ptr<hv::vsp::BlockBackend>> open_disk(const std::string& name);

  private:
    class Disk;
    explicit Store(Archive archive) : archive_(std::move(archive)) {}

    Archive archive_;
    ChildrenTable table_;
    std::set<std::string> taken_;  ///< disks that are open
};

}  // namespace vg::parent
