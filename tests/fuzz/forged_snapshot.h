// Snapshots whose parts are changed and whose checksums are right all the same.
#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "devices/storage/block_file.h"
#include "machine/snapshot_file.h"

namespace vg::test {

/// The parts of a good file with patches (part of 8 bits, offset of 16 bits, value of 8), sealed anew.
inline std::vector<u8> patched(const std::vector<u8>& good, std::span<const u8> patches) {
    auto reader = machine::SnapshotReader::open(std::make_unique<devices::MemoryFile>("good", good, false));
    devices::MemoryFile out("patched");
    machine::SnapshotWriter writer(out);
    std::vector<u8> raw;
    u8 number = 0;
    for (const auto& entry : (*reader)->index()) {
        if (!(*reader)->read(entry, raw)) std::abort();
        for (std::size_t at = 0; at + 4 <= patches.size(); at += 4) {
            const std::size_t offset = patches[at + 1] | std::size_t{patches[at + 2]} << 8;
            if (patches[at] == number) raw[offset % raw.size()] = patches[at + 3];
        }
        ++number;
        if (!writer.add(entry.type, entry.place, raw, entry.number)) std::abort();
    }
    if (!writer.seal()) std::abort();
    return out.content();
}

}  // namespace vg::test
