#include "devices/storage/vhd_chain.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "devices/storage/image_format.h"
#include "devices/storage/qcow2.h"
#include "devices/storage/raw_image.h"
#include "devices/storage/vhd_image.h"
#include "devices/storage/vhd_path.h"
#include "devices/storage/vhdx_image.h"
#include "devices/storage/vhdx_layout.h"

namespace vg::devices::vhd {

namespace {

namespace fs = std::filesystem;

bool inside(const fs::path& path, const fs::path& folder) {
    return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

/// The parent must be the very disk that the child was made from: any other would be mixed into garbage.
Result<void> check_parent(const BlockFile& child, const Layout& layout, const Identity& parent) {
    const Header& header = layout.header;
    const u64 at = layout.footer.data_offset;
    if (header.parent_id != parent.id) {
        return damaged(child, at + 40, fmt::format("parent id {}", to_string(header.parent_id)),
                       fmt::format("{}, that of {}", to_string(parent.id), parent.name),
                       "it was made from another image or that one has changed since: put the original back, or delete "
                       "this file to start again from the image as it is");
    }
    const u32 stamp = header.parent_time_stamp;
    if (stamp == parent.time_stamp || stamp == parent.modified) return {};
    return damaged(child, at + 56, fmt::format("parent time stamp {}", stamp),
                   fmt::format("{} or {}, those of {}", parent.time_stamp, parent.modified, parent.name),
                   fmt::format("the parent was written since: put the original back; if only its file time changed: "
                               "touch -d @{} {}",
                               stamp + kEpochUnixSeconds, parent.name));
}

/// The same for a VHDX, which knows its parent by the id of that one's last write.
Result<void> check_vhdx_parent(const BlockFile& child, const vhdx::Layout& layout, const IdentifiedImage& parent) {
    bool named = false;
    for (const char* key : {"parent_linkage", "parent_linkage2"}) {
        const auto found = layout.parent.find(key);
        if (found == layout.parent.end()) continue;
        const auto id = vhdx::parse_guid(found->second);
        named = named || (id && *id == parent.identity.linkage);
    }
    if (!named) {
        const auto found = layout.parent.find("parent_linkage");
        return damaged(child, 0, fmt::format("parent linkage {}", found == layout.parent.end() ? "" : found->second),
                       fmt::format("{}, that of {}", vhdx::to_string(parent.identity.linkage), parent.identity.name),
                       "it was made from another image or that one was written since: put the original back, or delete "
                       "this file to start again from the image as it is");
    }
    if (parent.device->logical_sector_bytes() == layout.shape.sector_bytes) return {};
    return damaged(child, 0, fmt::format("sectors of {} bytes", layout.shape.sector_bytes),
                   fmt::format("{}, those of {}", parent.device->logical_sector_bytes(), parent.identity.name));
}

std::vector<std::string> vhdx_candidates(const vhdx::Layout& layout) {
    std::vector<std::string> out;
    for (const char* key : {"relative_path", "volume_path", "absolute_win32_path"}) {
        const auto found = layout.parent.find(key);
        if (found != layout.parent.end()) out.push_back(from_windows(found->second));
    }
    return out;
}

bool is_vhdx(BlockFile& file) {
    std::array<u8, 8> bytes{};
    if (file.size() < bytes.size() || !file.read(0, bytes)) return false;
    return std::equal(bytes.begin(), bytes.end(), vhdx::kFileSignature.begin());
}

Unexpected<Error> no_overlay(const BlockFile& file) {
    return fail(Error::Code::Usage,
                fmt::format("{}: is not an overlay but a whole disk of its own; name it as the image, or choose another "
                            "overlay file",
                            file.name()));
}

/// Time stamp of a file's own time, as other programs store it.
u32 stamp_of(s64 unix_seconds) {
    return static_cast<u32>(std::max<s64>(unix_seconds - static_cast<s64>(kEpochUnixSeconds), 0));
}

class Chain {
  public:
    explicit Chain(ImageFolder& folder) : folder_(folder) {}

    Result<IdentifiedImage> open(std::unique_ptr<BlockFile> file, ImageFormat format) {
        if (format == ImageFormat::Vhd) return open_vhd(std::move(file));
        if (format == ImageFormat::Vhdx) return open_vhdx(std::move(file));
        return open_plain(std::move(file), format);
    }

  private:
    /// Formats that do not say who they are.
    Result<IdentifiedImage> open_plain(std::unique_ptr<BlockFile> file, ImageFormat format) {
        IdentifiedImage image;
        image.identity.name = file->name();
        image.identity.modified = stamp_of(file->modified());
        auto id = raw_identity(*file);
        if (!id) return Unexpected{id.error()};
        image.identity.id = image.identity.linkage = *id;
        auto device = format == ImageFormat::Qcow2 ? open_qcow2(std::move(file)) : open_raw(std::move(file));
        if (!device) return Unexpected{device.error()};
        image.device = *std::move(device);
        return image;
    }

    Result<IdentifiedImage> open_vhd(std::unique_ptr<BlockFile> file) {
        auto layout = load_layout(*file);
        if (!layout) return Unexpected{layout.error()};
        IdentifiedImage image;
        image.identity = {file->name(), layout->footer.unique_id, layout->footer.time_stamp,
                          stamp_of(file->modified())};
        image.identity.linkage = linkage_of(image.identity);
        if (auto checked = count(*file, 68, image.identity.id); !checked) return Unexpected{checked.error()};
        std::unique_ptr<BlockDevice> parent;
        if (layout->differencing()) {
            const auto candidates = parent_candidates(*file, *layout);
            if (!candidates) return Unexpected{candidates.error()};
            auto found = open_parent(*file, *candidates);
            if (!found) return Unexpected{found.error()};
            if (auto checked = check_parent(*file, *layout, found->identity); !checked)
                return Unexpected{checked.error()};
            parent = std::move(found->device);
        }
        auto device = make_image(std::move(file), *std::move(layout), std::move(parent));
        if (!device) return Unexpected{device.error()};
        image.device = *std::move(device);
        return image;
    }

    Result<IdentifiedImage> open_vhdx(std::unique_ptr<BlockFile> file) {
        IdentifiedImage image;
        image.identity.name = file->name();
        image.identity.modified = stamp_of(file->modified());
        auto opened = vhdx::open_layout(std::move(file));
        if (!opened) return Unexpected{opened.error()};
        const vhdx::Layout& layout = opened->layout;
        image.identity.id = image.identity.linkage = layout.header.data_write_guid;
        if (auto checked = count(*opened->file, vhdx::kHeaderOffsets[layout.header_slot], image.identity.id); !checked)
            return Unexpected{checked.error()};
        std::unique_ptr<BlockDevice> parent;
        if (layout.shape.has_parent) {
            auto found = open_parent(*opened->file, vhdx_candidates(layout));
            if (!found) return Unexpected{found.error()};
            if (auto checked = check_vhdx_parent(*opened->file, layout, *found); !checked)
                return Unexpected{checked.error()};
            parent = std::move(found->device);
        }
        image.device = vhdx::make_image(*std::move(opened), std::move(parent));
        return image;
    }

    /// One more file of the chain, known by an id that it has at byte `at`.
    Result<void> count(const BlockFile& file, u64 at, const Id& id) {
        if (std::find(seen_.begin(), seen_.end(), id) != seen_.end()) {
            return damaged(file, at, fmt::format("unique id {} a second time in one chain", to_string(id)),
                           "an id of its own: the chain of parents is a loop");
        }
        seen_.push_back(id);
        if (seen_.size() <= kMaxChain) return {};
        return damaged(file, 0, fmt::format("parent number {}", seen_.size()), fmt::format("at most {}", kMaxChain),
                       "merge the chain into one image");
    }

    Result<IdentifiedImage> open_parent(const BlockFile& child, const std::vector<std::string>& candidates) {
        std::string looked;
        for (const std::string& path : candidates) {
            auto file = folder_.find(child.name(), path);
            if (!file) return Unexpected{file.error()};
            if (*file == nullptr) {
                looked += (looked.empty() ? "" : ", ") + path;
                continue;
            }
            const auto format = format_of_name(path);
            if (!format) return Unexpected{format.error()};
            auto parent = open(*std::move(file), *format);
            if (!parent) return Unexpected{parent.error().in("parent of " + child.name())};
            return parent;
        }
        return fail(Error::Code::Usage,
                    fmt::format("{}: its parent image is missing (looked for {}); put it next to this file",
                                child.name(), looked.empty() ? "no name at all" : looked));
    }

    ImageFolder& folder_;
    std::vector<Id> seen_;
};

}  // namespace

Result<std::unique_ptr<BlockFile>> HostFolder::find(const std::string& child, const std::string& path) {
    std::error_code error;
    const fs::path folder = fs::canonical(fs::absolute(fs::path(child)).parent_path(), error);
    if (error) return std::unique_ptr<BlockFile>{};
    const fs::path target = fs::canonical(folder / path, error);  // an absolute path replaces the folder
    if (error) return std::unique_ptr<BlockFile>{};
    const bool named = std::any_of(named_.begin(), named_.end(), [&](const std::string& name) {
        std::error_code ignored;
        return fs::equivalent(name, target, ignored);
    });
    if (!named && !inside(target, folder)) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: names {} as its parent, outside of its own folder, and a disk image is not "
                                "trusted to choose files; name that image yourself and this one as its overlay",
                                child, target.string()));
    }
    return open_file(target.string(), FileAccess::ReadOnly);
}

Result<Id> raw_identity(BlockFile& file) {
    constexpr u64 kHead = 2 << 20, kPage = 4096, kPages = 256;
    const u64 size = file.size();
    XXH3_state_t* state = XXH3_createState();
    VG_ASSERT(state != nullptr);
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> owner(state, &XXH3_freeState);
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, &size, sizeof size);
    std::vector<u8> bytes;
    const auto mix = [&](u64 offset, u64 count) -> Result<void> {
        bytes.resize(static_cast<std::size_t>(std::min(count, size - std::min(offset, size))));
        if (auto done = file.read(offset, bytes); !done) return done;
        XXH3_128bits_update(state, bytes.data(), bytes.size());
        return {};
    };
    if (auto done = mix(0, kHead); !done) return Unexpected{done.error()};
    if (size > kHead) {
        const u64 stride = align_down((size - kHead) / kPages, kPage);
        for (u64 i = 0; stride != 0 && i < kPages; ++i) {
            if (auto done = mix(kHead + i * stride, kPage); !done) return Unexpected{done.error()};
        }
        if (auto done = mix(size - kPage, kPage); !done) return Unexpected{done.error()};
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    Id id;
    std::copy(std::begin(canonical.digest), std::end(canonical.digest), id.begin());
    return id;
}

Result<IdentifiedImage> open_chain(std::unique_ptr<BlockFile> file, ImageFormat format, ImageFolder& folder) {
    return Chain(folder).open(std::move(file), format);
}

Id linkage_of(const Identity& identity) {
    std::array<u8, 20> bytes{};
    std::copy(identity.id.begin(), identity.id.end(), bytes.begin());
    std::memcpy(bytes.data() + 16, &identity.time_stamp, 4);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
    Id id;
    std::copy(std::begin(canonical.digest), std::end(canonical.digest), id.begin());
    return id;
}

Result<std::unique_ptr<BlockDevice>> open_over(std::unique_ptr<BlockFile> file, IdentifiedImage parent) {
    if (is_vhdx(*file)) {
        auto opened = vhdx::open_layout(std::move(file));
        if (!opened) return Unexpected{opened.error()};
        if (!opened->layout.shape.has_parent) return no_overlay(*opened->file);
        if (auto checked = check_vhdx_parent(*opened->file, opened->layout, parent); !checked)
            return Unexpected{checked.error()};
        return vhdx::make_image(*std::move(opened), std::move(parent.device));
    }
    auto layout = load_layout(*file);
    if (!layout) return Unexpected{layout.error()};
    if (!layout->differencing()) return no_overlay(*file);
    if (auto checked = check_parent(*file, *layout, parent.identity); !checked) return Unexpected{checked.error()};
    return make_image(std::move(file), *std::move(layout), std::move(parent.device));
}

bool has_parent(const std::string& path, ImageFormat format) {
    auto file = open_file(path, FileAccess::ReadOnly);
    if (!file) return false;
    if (format == ImageFormat::Vhdx) {
        const auto opened = vhdx::open_layout(*std::move(file));
        return opened && opened->layout.shape.has_parent;
    }
    if (format != ImageFormat::Vhd) return false;
    const auto layout = load_layout(**file);
    return layout && layout->differencing();
}

}  // namespace vg::devices::vhd
