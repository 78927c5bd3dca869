// Any bytes as a recording: opened, its inputs and marks read, a little of it run.
//
// The first byte chooses: 0 takes the rest as the file; others take it as chunks (type of 8 bits, size of 16 bits, content)
// behind the configuration of a small machine, sealed with right checksums, so that what they hold gets past them.
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "machine/recording.h"
#include "machine/recording_file.h"

namespace {

using namespace vg;
using namespace vg::machine;
namespace format = recording_format;

constexpr const char* kMeta =
    R"({"version": "1", "config": "[machine]\nmemory = \"4 MiB\"\n[boot]\nkernel = \"k\"\n[[nic]]\nbus = \"e1000e\"\n",)"
    R"( "files": [{"key": "boot.kernel", "path": "k", "size": 4, "modified": 0, "embedded": true}]})";

std::span<const u8> bytes_of(const char* text) { return {reinterpret_cast<const u8*>(text), std::strlen(text)}; }

void write_chunks(const std::string& path, std::span<const u8> data) {
    auto writer = ChunkWriter::create(path);
    if (!writer) std::abort();
    (*writer)->write(format::ChunkType::Meta, bytes_of(kMeta));
    while (data.size() >= 3) {
        const auto type = static_cast<format::ChunkType>(data[0] % 6);
        const std::size_t size = std::min<std::size_t>(data[1] | std::size_t{data[2]} << 8, data.size() - 3);
        (*writer)->write(type, data.subspan(3, size));
        data = data.subspan(3 + size);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0) return 0;
    static const std::string path = [] {
        char folder[] = "/tmp/verdigris-fuzz-XXXXXX";
        if (::mkdtemp(folder) == nullptr) std::abort();
        return std::string(folder) + "/m.vgr";
    }();
    const std::span<const u8> rest(data + 1, size - 1);
    if (data[0] == 0) {
        std::FILE* file = std::fopen(path.c_str(), "wb");
        if (file == nullptr || std::fwrite(rest.data(), 1, rest.size(), file) != rest.size()) std::abort();
        std::fclose(file);
    } else {
        write_chunks(path, rest);
    }
    const auto recording = Recording::open(path);
    if (!recording) {
        if (recording.error().text.empty()) std::abort();
        return 0;
    }
    // Of one that opens, everything can be asked.
    const Recording& r = **recording;
    for (const StateMark& mark : r.marks())
        if (mark.parts.size() > r.part_names().size()) std::abort();
    for (std::size_t i = 1; i < r.inputs().size(); ++i)
        if (r.inputs()[i].time < r.inputs()[i - 1].time) std::abort();
    return 0;
}
