#include "devices/storage/vhd_chain.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "devices/storage/image_format.h"
#include "devices/storage/raw_image.h"
#include "devices/storage/vhd_image.h"
#include "devices/storage/vhd_path.h"

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

/// Time stamp of a file's own time, as other programs store it.
u32 stamp_of(s64 unix_seconds) {
    return static_cast<u32>(std::max<s64>(unix_seconds - static_cast<s64>(kEpochUnixSeconds), 0));
}

class Chain {
  public:
    explicit Chain(ImageFolder& folder) : folder_(folder) {}

    Result<IdentifiedImage> open(std::unique_ptr<BlockFile> file, ImageFormat format) {
        return format == ImageFormat::Vhd ? open_vhd(std::move(file)) : open_raw_image(std::move(file));
    }

  private:
    Result<IdentifiedImage> open_raw_image(std::unique_ptr<BlockFile> file) {
        IdentifiedImage image;
        image.identity.name = file->name();
        image.identity.modified = stamp_of(file->modified());
        auto id = raw_identity(*file);
        if (!id) return Unexpected{id.error()};
        image.identity.id = *id;
        auto device = open_raw(std::move(file));
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
        if (std::find(seen_.begin(), seen_.end(), image.identity.id) != seen_.end()) {
            return damaged(*file, 68,
                           fmt::format("unique id {} a second time in one chain", to_string(image.identity.id)),
                           "an id of its own: the chain of parents is a loop");
        }
        seen_.push_back(image.identity.id);
        if (seen_.size() > kMaxChain) {
            return damaged(*file, 0, fmt::format("parent number {}", seen_.size()),
                           fmt::format("at most {}", kMaxChain), "merge the chain into one image");
        }
        std::unique_ptr<BlockDevice> parent;
        if (layout->differencing()) {
            auto found = open_parent(*file, *layout);
            if (!found) return Unexpected{found.error()};
            parent = std::move(found->device);
        }
        auto device = make_image(std::move(file), *std::move(layout), std::move(parent));
        if (!device) return Unexpected{device.error()};
        image.device = *std::move(device);
        return image;
    }

    Result<IdentifiedImage> open_parent(BlockFile& child, const Layout& layout) {
        const auto candidates = parent_candidates(child, layout);
        if (!candidates) return Unexpected{candidates.error()};
        std::string looked;
        for (const std::string& path : *candidates) {
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
            if (auto checked = check_parent(child, layout, parent->identity); !checked)
                return Unexpected{checked.error()};
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

Result<std::unique_ptr<BlockDevice>> open_over(std::unique_ptr<BlockFile> file, IdentifiedImage parent) {
    auto layout = load_layout(*file);
    if (!layout) return Unexpected{layout.error()};
    if (!layout->differencing()) {
        return fail(
            Error::Code::Usage,
            fmt::format("{}: is not an overlay but a whole disk of its own; name it as the image, or choose another "
                        "overlay file",
                        file->name()));
    }
    if (auto checked = check_parent(*file, *layout, parent.identity); !checked) return Unexpected{checked.error()};
    return make_image(std::move(file), *std::move(layout), std::move(parent.device));
}

}  // namespace vg::devices::vhd
