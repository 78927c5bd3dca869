// `verdigris disk`: look at an image, and write what a guest would see of it as a raw file.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "devices/storage/block_device.h"
#include "devices/storage/block_file.h"
#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/progress.h"

namespace vg::cli {

namespace {

constexpr u64 kChunk = u64{1} << 20;

/// @param overlay  "" for the image alone; else one that a run has written. Neither is changed.
Result<std::unique_ptr<devices::BlockDevice>> open(const std::string& path, const std::string& overlay) {
    devices::ImageOptions options;
    options.path = path;
    options.overlay = overlay;
    options.mode = devices::WriteMode::ReadOnly;
    return devices::open_image(options);
}

/// Copies the content; zero chunks stay holes.
Result<void> copy(devices::BlockDevice& disk, devices::BlockFile& file) {
    if (auto ok = file.resize(disk.size_bytes()); !ok) return ok;
    Progress progress("export", disk.size_bytes());
    std::vector<u8> chunk(kChunk);
    for (u64 at = 0; at < disk.size_bytes(); at += kChunk) {
        if (interrupts() > 0) return fail(Error::Code::Usage, fmt::format("{}: interrupted; nothing was kept", file.name()));
        const std::span<u8> part(chunk.data(), std::min(kChunk, disk.size_bytes() - at));
        if (auto ok = disk.read(at, part); !ok) return ok;
        progress.update(at);
        if (std::all_of(part.begin(), part.end(), [](u8 byte) { return byte == 0; })) continue;
        if (auto ok = file.write(at, part); !ok) return ok;
    }
    return {};
}

}  // namespace

int disk_export(const std::string& image, const std::string& overlay, const std::string& path) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    if (::access(path.c_str(), F_OK) == 0) {
        return report({Error::Code::Usage, fmt::format("{}: exists already; name a file that does not exist", path)});
    }
    catch_interrupts();
    auto copied = devices::create_file(path, [&](devices::BlockFile& file) { return copy(**disk, file); });
    if (!copied) {
        const int code = report(copied.error());
        return interrupts() > 0 ? kInterrupted : code;
    }
    std::printf("%s: %llu bytes from %s\n", path.c_str(), static_cast<unsigned long long>((*disk)->size_bytes()),
                (*disk)->describe().c_str());
    return kPass;
}

int disk_show(const std::string& image, const std::string& overlay) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    std::printf("%s: %s\nsize: %llu bytes\n", image.c_str(), (*disk)->describe().c_str(),
                static_cast<unsigned long long>((*disk)->size_bytes()));
    return kPass;
}

}  // namespace vg::cli
