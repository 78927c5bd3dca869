// `verdigris disk`: look at an image, and write what a guest would see of it as a raw file.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "devices/storage/block_device.h"
#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

constexpr u64 kChunk = u64{1} << 20;

/// @param overlay  "" for the image alone; else it must exist (opening an overlay creates a missing one)
Result<std::unique_ptr<devices::BlockDevice>> open(const std::string& path, const std::string& overlay) {
    devices::ImageOptions options;
    options.path = path;
    options.mode = devices::WriteMode::ReadOnly;
    if (!overlay.empty()) {
        if (::access(overlay.c_str(), R_OK) != 0) {
            return fail(Error::Code::Usage, fmt::format("{}: {}; name the overlay that a run has written", overlay,
                                                        std::strerror(errno)));
        }
        options.mode = devices::WriteMode::Overlay;
        options.overlay = overlay;
    }
    return devices::open_image(options);
}

/// Copies the content; zero chunks stay holes.
Result<void> copy(devices::BlockDevice& disk, int fd, const std::string& path) {
    std::vector<u8> chunk(kChunk);
    for (u64 at = 0; at < disk.size_bytes(); at += kChunk) {
        const std::span<u8> part(chunk.data(), std::min(kChunk, disk.size_bytes() - at));
        if (auto ok = disk.read(at, part); !ok) return ok;
        if (std::all_of(part.begin(), part.end(), [](u8 byte) { return byte == 0; })) continue;
        if (::pwrite(fd, part.data(), part.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(part.size())) {
            return fail(Error::Code::Usage, fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
        }
    }
    if (::ftruncate(fd, static_cast<off_t>(disk.size_bytes())) != 0 || ::fsync(fd) != 0) {
        return fail(Error::Code::Usage, fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
    }
    return {};
}

int export_raw(const std::string& image, const std::string& overlay, const std::string& path) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return report({Error::Code::Usage, fmt::format("{}: {}; name a file that does not exist", path, std::strerror(errno))});
    }
    auto copied = copy(**disk, fd, path);
    ::close(fd);
    if (!copied) {
        ::unlink(path.c_str());
        return report(copied.error());
    }
    std::printf("%s: %llu bytes from %s\n", path.c_str(), static_cast<unsigned long long>((*disk)->size_bytes()),
                (*disk)->describe().c_str());
    return kPass;
}

int show(const std::string& image, const std::string& overlay) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    std::printf("%s: %s\nsize: %llu bytes\n", image.c_str(), (*disk)->describe().c_str(),
                static_cast<unsigned long long>((*disk)->size_bytes()));
    return kPass;
}

}  // namespace

int disk(const std::vector<std::string>& words) {
    const std::size_t count = words.size();
    if ((count == 2 || count == 3) && words[0] == "show") return show(words[1], count == 3 ? words[2] : "");
    if (count == 3 && words[0] == "export") return export_raw(words[1], "", words[2]);
    if (count == 4 && words[0] == "export") return export_raw(words[1], words[2], words[3]);
    std::fputs("verdigris disk show IMAGE [OVERLAY]            format, chain of parents, size; checks the image\n"
               "verdigris disk export IMAGE [OVERLAY] OUT.raw  the content as the guest sees it, as a raw file\n",
               stdout);
    return !words.empty() && (words[0] == "--help" || words[0] == "-h") ? kPass : kUsage;
}

}  // namespace vg::cli
