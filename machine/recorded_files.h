// The files that a machine reads, as a recording keeps them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"

namespace vg::machine {

/// What a machine does with a file.
enum class FileUse : u8 {
    Read,     ///< a kernel and the like
    Image,    ///< a disk's base, only read
    Overlay,  ///< takes a disk's writes; need not be there
    Direct    ///< an image that takes writes itself
};
/// Calls for every file that the configuration names as input: its key ("child.0.kernel"), its path, what becomes of
/// it.
void for_each_file(Config& config,
                   const std::function<void(const std::string& key, std::string& path, FileUse use)>& visit);

/// A file as it was when the recording began.
struct RecordedFile {
    std::string key, path;
    u64 size = 0;
    s64 modified = 0;  ///< nanoseconds since 1970
    bool embedded = false;
};
/// Looks at the files that are there; paths in `config` become absolute, overlays that do not exist lose their name.
/// Error (Usage): a file that has to be stored is too large.
[[nodiscard]] Result<std::vector<RecordedFile>> list_files(Config& config);

/// Makes the configuration of a replay: nothing of the host is written or reached, disks' writes stay in memory.
void isolate(Config& config);

}  // namespace vg::machine
