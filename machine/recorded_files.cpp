#include "machine/recorded_files.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "devices/storage/block_file.h"
#include "devices/storage/image_format.h"
#include "devices/storage/vhd_chain.h"
#include "machine/loader.h"
#include "machine/recording.h"
#include "machine/spec/recording.h"

namespace vg::machine {

namespace {

using Visit = std::function<void(const std::string&, std::string&, FileUse)>;

void visit_disks(std::vector<DiskSection>& disks, const std::string& prefix, const Visit& visit) {
    for (std::size_t i = 0; i < disks.size(); ++i) {
        const std::string key = fmt::format("{}disk.{}", prefix, i);
        visit(key + ".image", disks[i].image, disks[i].write == "direct" ? FileUse::Direct : FileUse::Image);
        visit(key + ".overlay", disks[i].overlay, FileUse::Overlay);
    }
}

void visit_nics(std::vector<NicSection>& nics, const std::string& prefix, const Visit& visit) {
    for (std::size_t i = 0; i < nics.size(); ++i)
        visit(fmt::format("{}nic.{}.frames", prefix, i), nics[i].frames, FileUse::Read);
}

/// What is inside the machine stays: switches, and files of frames.
void isolate_nics(std::vector<NicSection>& nics) {
    for (NicSection& nic : nics) {
        if (nic.backend == "slirp") nic.backend = "none";
        nic.hostfwd.clear();
        nic.pcap.clear();
        nic.host_access = false;
    }
}

void isolate_disks(std::vector<DiskSection>& disks) {
    for (DiskSection& disk : disks) {
        if (disk.write != "none") disk.write = "memory";
    }
}

void forget_if_gone(std::string& path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) path.clear();
}

/// An image whose content is partly in other files.
bool has_parents(const std::string& path) {
    const auto format = devices::format_of_name(path);
    return format && devices::vhd::has_parent(path, *format);
}

}  // namespace

void for_each_file(Config& config, const Visit& visit) {
    if (config.boot) {
        visit("boot.kernel", config.boot->kernel, FileUse::Read);
        visit("boot.initrd", config.boot->initrd, FileUse::Read);
        for (std::size_t i = 0; i < config.boot->modules.size(); ++i) {
            std::string& module = config.boot->modules[i];
            std::string file = module_file(module);
            const std::string arguments = module.substr(file.size());
            visit(fmt::format("boot.module.{}", i), file, FileUse::Read);
            module = file + arguments;
        }
        visit("boot.firmware", config.boot->firmware, FileUse::Read);
        visit("boot.video_bios", config.boot->video_bios, FileUse::Read);
        visit("boot.firmware_vars", config.boot->firmware_vars, FileUse::Overlay);
    }
    visit_disks(config.disks, "", visit);
    visit_nics(config.nics, "", visit);
    for (std::size_t i = 0; i < config.children.size(); ++i) {
        ChildSection& child = config.children[i];
        const std::string key = fmt::format("child.{}.", i);
        visit(key + "kernel", child.kernel, FileUse::Read);
        visit(key + "initrd", child.initrd, FileUse::Read);
        visit(key + "firmware", child.firmware, FileUse::Read);
        visit(key + "video_bios", child.video_bios, FileUse::Read);
        visit(key + "acpi_dsdt", child.acpi_dsdt, FileUse::Read);
        visit_disks(child.disks, key, visit);
        visit_nics(child.nics, key, visit);
    }
}

Result<std::vector<RecordedFile>> list_files(Config& config) {
    std::vector<RecordedFile> files;
    Result<void> failed;
    u64 stored = 0;
    for_each_file(config, [&](const std::string& key, std::string& path, FileUse use) {
        if (path.empty() || !failed) return;
        path = std::filesystem::absolute(path).lexically_normal().string();
        struct stat about {};
        if (::stat(path.c_str(), &about) != 0) {
            if (use == FileUse::Overlay) path.clear();  // anything else: building the machine says what is wrong
            return;
        }
        RecordedFile file{key, path, static_cast<u64>(about.st_size),
                          about.st_mtim.tv_sec * 1'000'000'000LL + about.st_mtim.tv_nsec, false};
        const bool changes = use == FileUse::Overlay || use == FileUse::Direct;
        file.embedded = S_ISREG(about.st_mode) && (changes || file.size <= Recorder::kEmbeddedFileBytes) &&
                        stored + file.size <= recording_format::kMaxEmbeddedBytes &&
                        (use == FileUse::Read || use == FileUse::Overlay || !has_parents(path));
        if (changes && !file.embedded) {
            failed =
                fail(Error::Code::Usage, fmt::format("{}: is changed by the run and cannot be stored in a recording "
                                                     "({} MiB, at most {} MiB, no parents); "
                                                     "record with a fresh overlay",
                                                     path, file.size >> 20, recording_format::kMaxEmbeddedBytes >> 20));
        }
        if (file.embedded) stored += file.size;
        files.push_back(std::move(file));
    });
    if (!failed) return Unexpected{failed.error()};
    return files;
}

void isolate(Config& config) {
    isolate_disks(config.disks);
    isolate_nics(config.nics);
    // No part of the run: names are found without.
    if (config.boot) forget_if_gone(config.boot->symbols);
    if (config.boot) config.boot->firmware_vars_kept = false;
    for (ChildSection& child : config.children) {
        isolate_disks(child.disks);
        isolate_nics(child.nics);
        child.devices.socket_path.clear();
        forget_if_gone(child.symbols);
    }
    config.machine.pace = "off";
}

}  // namespace vg::machine
