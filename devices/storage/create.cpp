#include "devices/storage/create.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <filesystem>

#include "devices/storage/image_format.h"
#include "devices/storage/vhd_path.h"

namespace vg::devices {

namespace {

namespace fs = std::filesystem;
using vhd::kSector;

/// "CHS Calculation" of the specification's appendix.
void set_geometry(vhd::Footer& footer) {
    const u64 total = std::min<u64>(footer.current_size / kSector, u64{65535} * 16 * 255);
    u64 per_track = 255, heads = 16, cylinders_heads = total / 255;
    if (total < u64{65535} * 16 * 63) {
        per_track = 17;
        cylinders_heads = total / 17;
        heads = std::max<u64>((cylinders_heads + 1023) / 1024, 4);
        if (cylinders_heads >= heads * 1024 || heads > 16) {
            per_track = 31;
            heads = 16;
            cylinders_heads = total / 31;
        }
        if (cylinders_heads >= heads * 1024) {
            per_track = 63;
            heads = 16;
            cylinders_heads = total / 63;
        }
    }
    footer.cylinders = static_cast<u16>(cylinders_heads / heads);
    footer.heads = static_cast<u8>(heads);
    footer.sectors_per_track = static_cast<u8>(per_track);
}

vhd::Footer make_footer(const vhd::Plan& plan) {
    vhd::Footer footer;
    footer.time_stamp = plan.time_stamp;
    footer.creator_application = {'w', 'i', 'n', ' '};
    footer.creator_version = vhd::kCreatorVersion;
    footer.creator_host = {'W', 'i', '2', 'k'};
    footer.original_size = footer.current_size = plan.size_bytes;
    footer.unique_id = plan.id;
    switch (plan.kind) {
        case VhdKind::Fixed:
            footer.disk_type = vhd::DiskType::Fixed;
            break;
        case VhdKind::Dynamic:
            footer.disk_type = vhd::DiskType::Dynamic;
            break;
        case VhdKind::Differencing:
            footer.disk_type = vhd::DiskType::Differencing;
            break;
    }
    if (plan.kind != VhdKind::Fixed) footer.data_offset = vhd::kFooterBytes;
    set_geometry(footer);
    return footer;
}

Result<void> check_plan(const std::string& name, const vhd::Plan& plan) {
    if (plan.size_bytes == 0 || plan.size_bytes % kSector != 0 || plan.size_bytes > vhd::kMaxDiskBytes) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: a VHD cannot have {} bytes; give a multiple of 512 up to 2040 GiB, or use a VHDX: name it .vhdx", name,
                                plan.size_bytes));
    }
    const u32 block = plan.block_bytes;
    if (block < kSector || block > vhd::kMaxBlockBytes || (block & (block - 1)) != 0 ||
        (plan.size_bytes + block - 1) / block > vhd::kMaxBlocks) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: blocks of {} bytes do not suit a disk of {}; the usual size is {}", name, block,
                                plan.size_bytes, vhd::kDefaultBlockBytes));
    }
    return {};
}

vhd::Id random_id() {
    vhd::Id id{};
    VG_ASSERT(::getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()));
    id[6] = static_cast<u8>((id[6] & 0x0f) | 0x40);  // RFC 4122 §4.4: random
    id[8] = static_cast<u8>((id[8] & 0x3f) | 0x80);
    return id;
}

Result<void> create_finished(const std::string& path, const vhd::Plan& plan) {
    if (auto checked = check_plan(path, plan); !checked) return checked;
    return create_file(path, [&plan](BlockFile& file) { return vhd::write_new(file, plan); });
}

vhd::Plan new_plan(VhdKind kind, u64 size_bytes, u32 block_bytes) {
    vhd::Plan plan;
    plan.kind = kind;
    plan.size_bytes = size_bytes;
    plan.block_bytes = block_bytes;
    plan.id = random_id();
    plan.time_stamp = vhd::time_stamp_now();
    return plan;
}

}  // namespace

namespace vhd {

Result<Plan> plan_new(const std::string& name, VhdKind kind, u64 size_bytes, u32 block_bytes) {
    const Plan plan = new_plan(kind, size_bytes, block_bytes);
    if (auto checked = check_plan(name, plan); !checked) return Unexpected{checked.error()};
    return plan;
}

Result<void> write_new(BlockFile& file, const Plan& plan) {
    const Footer footer = make_footer(plan);
    if (plan.kind == VhdKind::Fixed) {
        if (auto done = file.resize(plan.size_bytes); !done) return done;
        return file.write(plan.size_bytes, encode(footer));
    }
    Header header;
    header.table_offset = kFooterBytes + kHeaderBytes;
    header.max_table_entries = static_cast<u32>((plan.size_bytes + plan.block_bytes - 1) / plan.block_bytes);
    header.block_size = plan.block_bytes;
    const std::vector<u8> table(static_cast<std::size_t>(table_bytes(header.max_table_entries)), 0xff);
    u64 end = header.table_offset + table.size();
    std::vector<u8> path_bytes;
    if (plan.kind == VhdKind::Differencing) {
        header.parent_id = plan.parent.id;
        header.parent_time_stamp = plan.parent.time_stamp;
        const auto path = to_utf16(to_windows(plan.parent_path));
        if (!path) return Unexpected{path.error()};
        const auto name = to_utf16(fs::path(plan.parent_path).filename().string());
        if (!name) return Unexpected{name.error()};
        std::copy_n(name->begin(), std::min(name->size(), header.parent_name.size() - 1), header.parent_name.begin());
        for (const u16 unit : *path) {
            path_bytes.push_back(static_cast<u8>(unit));
            path_bytes.push_back(static_cast<u8>(unit >> 8));
        }
        const u32 length = static_cast<u32>(path_bytes.size());
        path_bytes.resize(static_cast<std::size_t>(align_up(length, kSector)));
        header.locators[0] = {Platform::Utf16Relative, static_cast<u32>(path_bytes.size()), length, end};
    }
    if (auto done = file.write(0, encode(footer)); !done) return done;
    if (auto done = file.write(kFooterBytes, encode(header)); !done) return done;
    if (auto done = file.write(header.table_offset, table); !done) return done;
    if (auto done = file.write(end, path_bytes); !done) return done;
    end += path_bytes.size();
    return file.write(end, encode(footer));
}

}  // namespace vhd

Result<std::string> path_to_parent(const std::string& overlay, const std::string& parent) {
    std::error_code error;
    const fs::path folder = fs::weakly_canonical(fs::absolute(overlay).parent_path(), error);
    const std::string path = fs::weakly_canonical(fs::absolute(parent), error).lexically_relative(folder).string();
    if (path.find('\\') == std::string::npos) return path;
    return fail(Error::Code::Usage,
                fmt::format("{}: a VHD cannot name a parent with a backslash in its path; rename it", parent));
}

Result<vhd::IdentifiedImage> open_parent_image(const std::string& path) {
    const auto format = format_of_name(path);
    if (!format) return Unexpected{format.error()};
    auto file = open_file(path, FileAccess::ReadOnly);
    if (!file) return Unexpected{file.error()};
    vhd::HostFolder folder({});
    return vhd::open_chain(*std::move(file), *format, folder);
}

Result<void> create_overlay(const std::string& path, const vhd::Identity& parent, u64 size_bytes, u32 block_bytes) {
    vhd::Plan plan = new_plan(VhdKind::Differencing, size_bytes, block_bytes);
    plan.parent = parent;
    auto relative = path_to_parent(path, parent.name);
    if (!relative) return Unexpected{relative.error()};
    plan.parent_path = *std::move(relative);
    return create_finished(path, plan);
}

Result<void> create_vhd(const VhdOptions& options) {
    if (options.kind != VhdKind::Differencing) {
        return create_finished(options.path, new_plan(options.kind, options.size_bytes, options.block_bytes));
    }
    const auto parent = open_parent_image(options.parent);
    if (!parent) return Unexpected{parent.error()};
    return create_overlay(options.path, parent->identity, parent->device->size_bytes(), options.block_bytes);
}

}  // namespace vg::devices
