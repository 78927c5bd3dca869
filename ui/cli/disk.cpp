// `verdigris disk`: make disk images, look at them, check and convert them.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "devices/storage/convert.h"
#include "devices/storage/image_format.h"
#include "devices/storage/vhdx_create.h"
#include "machine/config.h"
#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/progress.h"

namespace vg::cli {

namespace {

/// @param overlay  "" for the image alone; else one that a run has written. Neither is changed.
Result<std::unique_ptr<devices::BlockDevice>> open(const std::string& path, const std::string& overlay) {
    devices::ImageOptions options;
    options.path = path;
    options.overlay = overlay;
    options.mode = devices::WriteMode::ReadOnly;
    return devices::open_image(options);
}

int convert(const std::string& image, const std::string& overlay, const devices::ConvertOptions& target,
            const char* what) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    if (::access(target.path.c_str(), F_OK) == 0) {
        return report(
            {Error::Code::Usage, fmt::format("{}: exists already; name a file that does not exist", target.path)});
    }
    catch_interrupts();
    Progress progress(what, (*disk)->size_bytes());
    devices::ConvertOptions options = target;
    options.progress = [&](u64 done) {
        progress.update(done);
        return interrupts() == 0;
    };
    if (auto copied = devices::convert_image(**disk, options); !copied) {
        const int code = report(copied.error());
        return interrupts() > 0 ? kInterrupted : code;
    }
    std::printf("%s: %llu bytes from %s\n", target.path.c_str(), static_cast<unsigned long long>((*disk)->size_bytes()),
                (*disk)->describe().c_str());
    return kPass;
}

/// Takes `--name value` out of the words.
std::optional<std::string> take(std::vector<std::string>& words, const std::string& name) {
    const auto found = std::find(words.begin(), words.end(), name);
    if (found == words.end() || std::next(found) == words.end()) return std::nullopt;
    std::string value = *std::next(found);
    words.erase(found, found + 2);
    return value;
}
bool take_flag(std::vector<std::string>& words, const std::string& name) {
    const auto found = std::find(words.begin(), words.end(), name);
    if (found == words.end()) return false;
    words.erase(found);
    return true;
}

/// What `create` and `convert` say about the new image.
struct Wanted {
    devices::VhdKind kind = devices::VhdKind::Dynamic;
    u32 block_bytes = 0;
    u32 logical = 512, physical = 4096;
    std::string parent;
};

Result<u64> size_of(const std::string& text) {
    const bool digits =
        !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto size = machine::parse_byte_size(digits ? text + " B" : text);
    if (!size) return Unexpected{size.error()};
    return size->bytes;
}

Result<Wanted> wanted(std::vector<std::string>& words) {
    Wanted out;
    if (take_flag(words, "--fixed")) out.kind = devices::VhdKind::Fixed;
    if (const auto text = take(words, "--block")) {
        const auto size = size_of(*text);
        if (!size) return Unexpected{size.error().in("--block")};
        if (*size > devices::vhd::kMaxBlockBytes)
            return fail(Error::Code::Usage, fmt::format("--block {}: at most 256 MiB", *text));
        out.block_bytes = static_cast<u32>(*size);
    }
    if (const auto text = take(words, "--sectors")) {
        if (*text != "512" && *text != "512e" && *text != "4096") {
            return fail(Error::Code::Usage,
                        fmt::format("--sectors {}: use 512, 512e (512 in physical ones of 4096) or 4096", *text));
        }
        out.logical = *text == "4096" ? 4096 : 512;
        out.physical = *text == "512" ? 512 : 4096;
    }
    if (const auto path = take(words, "--parent")) {
        out.kind = devices::VhdKind::Differencing;
        out.parent = *path;
    }
    return out;
}

Result<void> create(const std::string& path, u64 size, const Wanted& wanted) {
    const auto format = devices::format_of_name(path);
    if (!format) return Unexpected{format.error()};
    if (*format == devices::ImageFormat::Vhdx) {
        return devices::create_vhdx({.path = path,
                                     .kind = wanted.kind,
                                     .size_bytes = size,
                                     .parent = wanted.parent,
                                     .block_bytes = wanted.block_bytes,
                                     .logical_sector_bytes = wanted.logical,
                                     .physical_sector_bytes = wanted.physical});
    }
    if (wanted.logical != 512)
        return fail(Error::Code::Usage, fmt::format("{}: only a VHDX has sectors of 4096 bytes; name it .vhdx", path));
    if (*format == devices::ImageFormat::Vhd) {
        return devices::create_vhd(
            {.path = path,
             .kind = wanted.kind,
             .size_bytes = size,
             .parent = wanted.parent,
             .block_bytes = wanted.block_bytes != 0 ? wanted.block_bytes : devices::vhd::kDefaultBlockBytes});
    }
    if (*format == devices::ImageFormat::Qcow2)
        return fail(Error::Code::Usage, fmt::format("{}: qcow2 images are only read; name it .vhdx", path));
    if (!wanted.parent.empty())
        return fail(Error::Code::Usage, fmt::format("{}: a raw image has no parent; name it .vhdx or .vhd", path));
    if (size == 0 || size % 512 != 0)
        return fail(Error::Code::Usage, fmt::format("{}: {} bytes are no whole sectors of 512", path, size));
    return devices::create_file(path, [size](devices::BlockFile& file) { return file.resize(size); });
}

}  // namespace

int disk_export(const std::string& image, const std::string& overlay, const std::string& path) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    // Whatever the name says: this is the raw content.
    const auto format = devices::format_of_name(path);
    if (!format || *format != devices::ImageFormat::Raw) {
        return report(
            {Error::Code::Usage, fmt::format("{}: an export is raw; name it so, or use: verdigris disk convert "
                                             "{} {}",
                                             path, image, path)});
    }
    return convert(image, overlay, {.path = path}, "export");
}

int disk_convert(std::vector<std::string> words) {
    const auto options = wanted(words);
    if (!options) return report(options.error());
    if (words.size() < 2 || words.size() > 3 || !options->parent.empty())
        return report(
            {Error::Code::Usage, "disk convert: write disk convert IMAGE [OVERLAY] OUT; see: verdigris disk --help"});
    return convert(words[0], words.size() == 3 ? words[1] : "",
                   {.path = words.back(), .kind = options->kind, .block_bytes = options->block_bytes}, "convert");
}

int disk_create(std::vector<std::string> words) {
    const auto options = wanted(words);
    if (!options) return report(options.error());
    if (words.size() != (options->parent.empty() ? 2u : 1u)) {
        return report(
            {Error::Code::Usage,
             "disk create: write disk create FILE SIZE or disk create FILE --parent IMAGE; see: verdigris disk "
             "--help"});
    }
    u64 size = 0;
    if (words.size() == 2) {
        const auto parsed = size_of(words[1]);
        if (!parsed) return report(parsed.error().in("disk create"));
        size = *parsed;
    }
    if (auto made = create(words[0], size, *options); !made) return report(made.error());
    return disk_show(words[0], "");
}

int disk_check(const std::string& image, const std::string& overlay) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    std::printf("%s: ok: %s\n", image.c_str(), (*disk)->describe().c_str());
    return kPass;
}

int disk_show(const std::string& image, const std::string& overlay) {
    auto disk = open(image, overlay);
    if (!disk) return report(disk.error());
    std::printf("%s: %s\nsize: %llu bytes\nsectors: %u bytes, physical %u\n", image.c_str(),
                (*disk)->describe().c_str(), static_cast<unsigned long long>((*disk)->size_bytes()),
                (*disk)->logical_sector_bytes(), (*disk)->physical_sector_bytes());
    return kPass;
}

}  // namespace vg::cli
