#include "machine/loader.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>

#include "base/bits.h"
#include "machine/loader_spec.h"

namespace vg::machine {

namespace {

template <class T>
T get(std::span<const u8> data, u64 offset) {
    T value{};
    if (fits(offset, sizeof(T), data.size())) std::memcpy(&value, data.data() + offset, sizeof(T));
    return value;
}
template <class T>
void put(std::span<u8> data, u64 offset, T value) {
    VG_ASSERT(fits(offset, sizeof(T), data.size()));
    std::memcpy(data.data() + offset, &value, sizeof(T));
}
template <class T>
std::span<const u8> as_bytes(const T& value) {
    return {reinterpret_cast<const u8*>(&value), sizeof(T)};
}

Unexpected<Error> bad(const std::string& file, std::string text) {
    return fail(Error::Code::Usage, fmt::format("{}: {}", file, text));
}

/// End of the RAM range that holds `base`, or 0.
u64 ram_end(const LoadRequest& request, u64 base) {
    for (const MemoryRange& range : request.memory_map) {
        if (range.type == MemoryRange::kRam && base >= range.base && base - range.base < range.size) {
            return range.base + range.size;
        }
    }
    return 0;
}

Result<void> store(GuestMemory& memory, const std::string& file, u64 at, std::span<const u8> data,
                   std::string_view what) {
    if (memory.write(Gpa(at), data)) return {};
    return bad(file, fmt::format("{} ({} bytes) does not fit into RAM at 0x{:x}; give the guest more memory", what,
                                 data.size(), at));
}

Result<void> store_cmdline(GuestMemory& memory, const LoadRequest& request) {
    if (request.cmdline.size() + 1 > boot::kCommandLineMax) {
        return bad(request.kernel, fmt::format("the command line has {} characters, at most {} fit",
                                               request.cmdline.size(), boot::kCommandLineMax - 1));
    }
    return store(memory, request.kernel, boot::kCommandLine,
                 {reinterpret_cast<const u8*>(request.cmdline.c_str()), request.cmdline.size() + 1},
                 "the command line");
}

/// Loads the initrd as high as allowed below 4 GiB. Returns its base and size (0, 0 without one).
struct Blob {
    u64 base = 0, size = 0;
};
Result<Blob> load_initrd(GuestMemory& memory, const LoadRequest& request, std::span<const u8> content, u64 kernel_end,
                         u64 highest) {
    if (content.empty()) return Blob{};
    const u64 top = std::min(ram_end(request, kernel_end - 1), highest + 1);
    if (content.size() > top || align_down(top - content.size(), kPageSize) < kernel_end) {
        return bad(request.initrd, fmt::format("the initrd ({} MiB) does not fit between the kernel's end 0x{:x} and "
                                               "0x{:x}; give the guest more memory",
                                               content.size() >> 20, kernel_end, top));
    }
    const Blob blob{align_down(top - content.size(), kPageSize), content.size()};
    if (auto ok = store(memory, request.initrd, blob.base, content, "the initrd"); !ok) return Unexpected{ok.error()};
    return blob;
}

/// A seed for the kernel's random numbers, which it otherwise collects for a second when somebody asks for the first
/// one. The same in every run: what a guest does must not depend on anything but its configuration.
std::vector<u8> rng_seed() {
    constexpr u32 kSeedBytes = 32;
    std::vector<u8> data(sizeof(boot::SetupData) + kSeedBytes);
    put(data, 0, boot::SetupData{0, boot::kSetupRngSeed, kSeedBytes});
    std::mt19937_64 generator;  // its output is specified by the language standard
    for (u32 at = sizeof(boot::SetupData); at < data.size(); at += sizeof(u64)) put<u64>(data, at, generator());
    return data;
}

void put_efi_info(std::span<u8> zero_page, const EfiBoot& efi) {
    const u32 fields[] = {boot::kEfiLoader64,
                          static_cast<u32>(efi.system_table),
                          efi.descriptor_bytes,
                          1,
                          static_cast<u32>(efi.memory_map),
                          efi.map_bytes};
    for (u32 i = 0; i < std::size(fields); ++i) put<u32>(zero_page, boot::kZeroEfi + 4 * i, fields[i]);
}

/// Tells Linux of the frame buffer, as a boot loader does after it has set a VESA mode.
void put_screen_info(std::span<u8> zero_page, const FrameBuffer& screen) {
    using namespace boot;
    put<u8>(zero_page, kScreenVideoType, kVideoTypeLinear);
    put<u16>(zero_page, kScreenWidth, screen.width);
    put<u16>(zero_page, kScreenHeight, screen.height);
    put<u16>(zero_page, kScreenDepth, 32);
    put<u32>(zero_page, kScreenBase, static_cast<u32>(screen.base));
    put<u32>(zero_page, kScreenSize64K, static_cast<u32>(screen.size_bytes >> 16));
    put<u16>(zero_page, kScreenStride, screen.stride_bytes);
    constexpr u8 kColours[] = {8, 16, 8, 8, 8, 0, 8, 24};  // size and position of red, green, blue, reserved
    for (u32 i = 0; i < sizeof kColours; ++i) put<u8>(zero_page, kScreenColours + i, kColours[i]);
    put<u16>(zero_page, kScreenPages, 1);
    put<u16>(zero_page, kScreenAttributes, kScreenColourLinear);
}

Result<EntryState> load_bzimage(GuestMemory& memory, const LoadRequest& request, const BootImages& images) {
    using namespace boot;
    const std::span<const u8> image = images.kernel;
    const u16 version = get<u16>(image, kVersion);
    if (version < 0x20c || (get<u16>(image, kXLoadFlags) & 1) == 0) {
        return bad(request.kernel,
                   fmt::format("boot protocol {}.{:02} without a 64-bit entry point; use a 64-bit Linux "
                               "kernel from 3.8 on",
                               version >> 8, version & 0xff));
    }
    const u32 setup_sects = get<u8>(image, kSetupSects) != 0 ? get<u8>(image, kSetupSects) : 4;
    const u64 code = (u64{setup_sects} + 1) * 512;
    if (code >= image.size()) {
        return bad(request.kernel, fmt::format("truncated: {} setup sectors announced, the file has only {} bytes",
                                               setup_sects, image.size()));
    }
    if (const u64 announced = u64{get<u32>(image, kSysSize)} * 16; (image.size() - code + 15) / 16 * 16 < announced) {
        return bad(request.kernel,
                   fmt::format("truncated: {} bytes of code announced behind byte {}, the file has only {} bytes",
                               announced, code, image.size()));
    }
    const u64 load = get<u64>(image, kPrefAddress);
    const u64 init_size = get<u32>(image, kInitSize);
    const u64 end = load + std::max<u64>(init_size, image.size() - code);
    if (load < kLowEnd) {
        return bad(request.kernel, fmt::format("damaged: its preferred address 0x{:x} is below 0x{:x}", load, kLowEnd));
    }
    if (end > ram_end(request, load)) {
        return bad(request.kernel,
                   fmt::format("the kernel needs RAM from 0x{:x} to 0x{:x}; give the guest more memory", load, end));
    }
    if (auto ok = store(memory, request.kernel, load, image.subspan(code), "the kernel"); !ok)
        return Unexpected{ok.error()};
    if (request.cmdline.size() > get<u32>(image, kCmdlineSize)) {
        return bad(request.kernel, fmt::format("the command line has {} characters, this kernel takes {}",
                                               request.cmdline.size(), get<u32>(image, kCmdlineSize)));
    }
    if (auto ok = store_cmdline(memory, request); !ok) return Unexpected{ok.error()};
    auto initrd =
        load_initrd(memory, request, images.initrd, align_up(end, kPageSize), get<u32>(image, kInitrdAddrMax));
    if (!initrd) return Unexpected{initrd.error()};

    std::vector<u8> zero(kPageSize);
    const u32 header_end = std::min<u32>(kJump + 2 + get<u8>(image, kJump + 1), kHeaderEnd);
    std::memcpy(zero.data() + kSetupSects, image.data() + kSetupSects, header_end - kSetupSects);
    put<u8>(zero, kTypeOfLoader, 0xff);
    put<u32>(zero, kRamdiskImage, static_cast<u32>(initrd->base));
    put<u32>(zero, kRamdiskSize, static_cast<u32>(initrd->size));
    put<u32>(zero, kCmdLinePtr, static_cast<u32>(kCommandLine));
    put<u64>(zero, kZeroRsdp, request.rsdp.value);
    if (request.frame_buffer) put_screen_info(zero, *request.frame_buffer);
    if (request.efi) put_efi_info(zero, *request.efi);
    u8 entries = 0;
    for (const MemoryRange& range : request.memory_map) {
        if (entries == kE820Max) break;
        const u64 at = kZeroE820Table + u64{entries} * kE820EntryBytes;
        put<u64>(zero, at, range.base);
        put<u64>(zero, at + 8, range.size);
        put<u32>(zero, at + 16, range.type);
        ++entries;
    }
    put<u8>(zero, kZeroE820Entries, entries);
    constexpr u16 kVersionWithSetupData = 0x209;
    if (get<u16>(image, kVersion) >= kVersionWithSetupData) put<u64>(zero, boot::kSetupData, boot::kInfo);
    if (auto ok = store(memory, request.kernel, kZeroPage, zero, "boot parameters"); !ok) return Unexpected{ok.error()};
    if (auto ok = store(memory, request.kernel, boot::kInfo, rng_seed(), "boot parameters"); !ok)
        return Unexpected{ok.error()};

    EntryState entry;
    entry.mode = EntryState::Mode::Long64;
    entry.kind = "bzImage";
    const u64 name = u64{get<u16>(image, kKernelVersion)} + 0x200;
    if (get<u16>(image, kKernelVersion) != 0 && name < image.size()) {
        const auto* text = reinterpret_cast<const char*>(image.data() + name);
        const std::string_view line(text, std::min<u64>(128, image.size() - name));
        const auto end_of_word = std::find_if(line.begin(), line.end(), [](char c) { return c <= ' ' || c > '~'; });
        entry.kind = fmt::format("bzImage {}", line.substr(0, static_cast<std::size_t>(end_of_word - line.begin())));
    }
    entry.rip = load + 0x200;
    entry.rsi = kZeroPage;
    entry.rsp = kStackTop;
    return entry;
}

/// One loadable segment, from either ELF class.
struct Segment {
    u64 offset, physical, file_size, memory_size;
};
struct ElfImage {
    std::vector<Segment> segments;
    u64 entry = 0;                 ///< e_entry
    std::optional<u32> pvh_entry;  ///< from the note
};

std::optional<u32> find_pvh_note(std::span<const u8> notes) {
    u64 at = 0;
    while (fits(at, 12, notes.size())) {
        const u32 name_size = get<u32>(notes, at), size = get<u32>(notes, at + 4), type = get<u32>(notes, at + 8);
        const u64 name = at + 12, content = name + align_up(name_size, 4);
        if (!fits(name, name_size, notes.size()) || !fits(content, size, notes.size())) return std::nullopt;
        if (type == boot::kPvhNoteType && name_size == 4 && std::memcmp(notes.data() + name, "Xen", 4) == 0 &&
            size >= 4) {
            return get<u32>(notes, content);
        }
        at = content + align_up(size, 4);
    }
    return std::nullopt;
}

template <class Header, class ProgramHeader>
Result<ElfImage> parse_elf(const std::string& file, std::span<const u8> image) {
    const auto header = get<Header>(image, 0);
    ElfImage elf;
    elf.entry = header.e_entry;
    if (header.e_phentsize != sizeof(ProgramHeader) ||
        !fits(header.e_phoff, u64{header.e_phnum} * sizeof(ProgramHeader), image.size())) {
        return bad(file, fmt::format("the ELF program headers ({} at 0x{:x}) lie outside the file", header.e_phnum,
                                     u64{header.e_phoff}));
    }
    for (u32 i = 0; i < header.e_phnum; ++i) {
        const auto ph = get<ProgramHeader>(image, header.e_phoff + u64{i} * sizeof(ProgramHeader));
        if (ph.p_type != PT_LOAD && ph.p_type != PT_NOTE) continue;
        if (!fits(ph.p_offset, ph.p_filesz, image.size()) || (ph.p_type == PT_LOAD && ph.p_memsz < ph.p_filesz)) {
            return bad(file, fmt::format("ELF segment {} (offset 0x{:x}, {} bytes) lies outside the file", i,
                                         u64{ph.p_offset}, u64{ph.p_filesz}));
        }
        if (ph.p_type == PT_NOTE) {
            if (auto entry = find_pvh_note(image.subspan(ph.p_offset, ph.p_filesz))) elf.pvh_entry = entry;
        } else {
            elf.segments.push_back({ph.p_offset, ph.p_paddr, ph.p_filesz, ph.p_memsz});
        }
    }
    if (elf.segments.empty()) return bad(file, "the ELF file has nothing to load; name a kernel image");
    return elf;
}

/// Whether the segment would share memory with what is written for an ELF kernel's entry (without paging: no tables).
bool over_boot_information(const Segment& segment) {
    constexpr struct {
        u64 base, size;
    } kTaken[] = {{boot::kGdt, kPageSize}, {boot::kInfo, kPageSize}, {boot::kCommandLine, boot::kCommandLineMax}};
    return std::ranges::any_of(kTaken, [&](const auto& taken) {
        return segment.physical < taken.base ? segment.memory_size > taken.base - segment.physical
                                             : segment.physical - taken.base < taken.size;
    });
}

/// Copies segments, zeroes the rest; returns the highest address used.
Result<u64> load_segments(GuestMemory& memory, const LoadRequest& request, std::span<const u8> image,
                          const ElfImage& elf) {
    u64 end = 0;
    for (const Segment& segment : elf.segments) {
        if (segment.memory_size == 0) continue;
        if (over_boot_information(segment)) {
            return bad(request.kernel,
                       fmt::format("a segment lies at 0x{:x}, where boot information goes; link the kernel at "
                                   "0x100000 or above",
                                   segment.physical));
        }
        const u64 top = ram_end(request, segment.physical);
        if (top == 0 || segment.memory_size > top - segment.physical) {
            return bad(request.kernel,
                       fmt::format("a segment needs RAM at 0x{:x} ({} bytes); give the guest more memory",
                                   segment.physical, segment.memory_size));
        }
        if (auto ok = store(memory, request.kernel, segment.physical, image.subspan(segment.offset, segment.file_size),
                            "a segment");
            !ok) {
            return Unexpected{ok.error()};
        }
        end = std::max(end, segment.physical + segment.memory_size);  // fresh RAM is already zero
    }
    return align_up(end, kPageSize);
}

Result<EntryState> load_pvh(GuestMemory& memory, const LoadRequest& request, const BootImages& images,
                            const ElfImage& elf) {
    auto end = load_segments(memory, request, images.kernel, elf);
    if (!end) return Unexpected{end.error()};
    if (auto ok = store_cmdline(memory, request); !ok) return Unexpected{ok.error()};
    auto initrd = load_initrd(memory, request, images.initrd, *end, 0xffffffff);
    if (!initrd) return Unexpected{initrd.error()};

    constexpr u64 kModules = boot::kInfo + 0x100, kMemmap = boot::kInfo + 0x200;
    boot::HvmStartInfo info{};
    info.magic = boot::kHvmStartMagic;
    info.version = 1;
    info.nr_modules = initrd->size != 0 ? 1 : 0;
    info.modlist_paddr = info.nr_modules != 0 ? kModules : 0;
    info.cmdline_paddr = boot::kCommandLine;
    info.rsdp_paddr = request.rsdp.value;
    info.memmap_paddr = kMemmap;
    bool ok = memory.write(Gpa(kModules), as_bytes(boot::HvmModule{initrd->base, initrd->size, 0, 0}));
    for (const MemoryRange& range : request.memory_map) {
        if (info.memmap_entries == 100) break;
        ok = ok && memory.write(Gpa(kMemmap + info.memmap_entries * sizeof(boot::HvmMemmapEntry)),
                                as_bytes(boot::HvmMemmapEntry{range.base, range.size, range.type, 0}));
        ++info.memmap_entries;
    }
    if (!ok || !memory.write(Gpa(boot::kInfo), as_bytes(info))) {
        return bad(request.kernel, "low memory for boot information is missing; give the guest more memory");
    }
    EntryState entry;
    entry.mode = EntryState::Mode::Protected32;
    entry.kind = "PVH ELF";
    entry.rip = *elf.pvh_entry;
    entry.rbx = boot::kInfo;
    return entry;
}

Result<EntryState> load_multiboot(GuestMemory& memory, const LoadRequest& request, const BootImages& images,
                                  const ElfImage& elf) {
    auto end = load_segments(memory, request, images.kernel, elf);
    if (!end) return Unexpected{end.error()};
    // argv[0] is the image's name, as boot loaders pass it.
    const std::string name =
        request.kernel_name.empty() ? request.kernel.substr(request.kernel.rfind('/') + 1) : request.kernel_name;
    LoadRequest with_name = request;
    with_name.cmdline = request.cmdline.empty() ? name : name + " " + request.cmdline;
    if (auto ok = store_cmdline(memory, with_name); !ok) return Unexpected{ok.error()};
    auto module = load_initrd(memory, request, images.initrd, *end, 0xffffffff);
    if (!module) return Unexpected{module.error()};

    constexpr u64 kModules = boot::kInfo + 0x100, kMemmap = boot::kInfo + 0x200;
    boot::MultibootInfo info{};
    info.flags = 1 | (1 << 2) | (1 << 3) | (1 << 6);  // memory, command line, modules, memory map
    info.mem_lower = boot::kLowMemoryKib;
    info.mem_upper = static_cast<u32>((std::min<u64>(ram_end(request, 0x100000), u64{4} << 30) - 0x100000) >> 10);
    info.cmdline = static_cast<u32>(boot::kCommandLine);
    info.mods_count = module->size != 0 ? 1 : 0;
    info.mods_addr = static_cast<u32>(kModules);
    info.mmap_addr = static_cast<u32>(kMemmap);
    const boot::MultibootModule entry_module{static_cast<u32>(module->base),
                                             static_cast<u32>(module->base + module->size), 0, 0};
    bool ok = memory.write(Gpa(kModules), as_bytes(entry_module)) &&
              memory.write(Gpa(boot::kBiosEbdaSegment), as_bytes(boot::kEbdaSegment)) &&
              memory.write(Gpa(boot::kBiosMemoryKib), as_bytes(boot::kLowMemoryKib));
    for (const MemoryRange& range : request.memory_map) {
        struct [[gnu::packed]] {
            u32 size;
            u64 base, length;
            u32 type;
        } const record{20, range.base, range.size, range.type};
        if (info.mmap_length + sizeof record > 0x800) break;
        ok = ok && memory.write(Gpa(kMemmap + info.mmap_length), as_bytes(record));
        info.mmap_length += static_cast<u32>(sizeof record);
    }
    if (!ok || !memory.write(Gpa(boot::kInfo), as_bytes(info))) {
        return bad(request.kernel, "low memory for boot information is missing; give the guest more memory");
    }
    EntryState entry;
    entry.mode = EntryState::Mode::Protected32;
    entry.kind = "multiboot ELF";
    entry.x87_ready = true;  // firmware and boot loader of a PC have used it
    entry.rip = elf.entry;
    entry.rax = boot::kMultibootBootMagic;
    entry.rbx = boot::kInfo;
    return entry;
}

bool has_multiboot_header(std::span<const u8> image) {
    for (u64 at = 0; at + 12 <= std::min<u64>(image.size(), 8192); at += 4) {
        const u32 magic = get<u32>(image, at), flags = get<u32>(image, at + 4), checksum = get<u32>(image, at + 8);
        if (magic == boot::kMultibootMagic && static_cast<u32>(magic + flags + checksum) == 0) return true;
    }
    return false;
}

}  // namespace

Result<EntryState> load_images(GuestMemory& memory, const LoadRequest& request, const BootImages& images) {
    const std::span<const u8> image = images.kernel;
    if (get<u16>(image, boot::kBootFlag) == 0xaa55 && get<u32>(image, boot::kHeaderMagic) == 0x53726448) {
        return load_bzimage(memory, request, images);
    }
    if (image.size() >= 64 && std::memcmp(image.data(), ELFMAG, SELFMAG) == 0) {
        auto elf = get<u8>(image, EI_CLASS) == ELFCLASS64 ? parse_elf<Elf64_Ehdr, Elf64_Phdr>(request.kernel, image)
                                                          : parse_elf<Elf32_Ehdr, Elf32_Phdr>(request.kernel, image);
        if (!elf) return Unexpected{elf.error()};
        if (elf->pvh_entry) return load_pvh(memory, request, images, *elf);
        if (has_multiboot_header(image)) return load_multiboot(memory, request, images, *elf);
        return bad(request.kernel,
                   "an ELF file without PVH note (XEN_ELFNOTE_PHYS32_ENTRY) and without multiboot header; "
                   "use the bzImage, or a kernel built with CONFIG_PVH");
    }
    return bad(request.kernel,
               fmt::format("not a kernel: no bzImage signature \"HdrS\" at 0x202 and no ELF magic ({} bytes, "
                           "first bytes {:02x} {:02x} {:02x} {:02x}); name a vmlinuz, a PVH ELF or a "
                           "multiboot ELF",
                           image.size(), get<u8>(image, 0), get<u8>(image, 1), get<u8>(image, 2), get<u8>(image, 3)));
}

}  // namespace vg::machine
