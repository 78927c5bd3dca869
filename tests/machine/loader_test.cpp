// Kernels with modules: what they find, against the layouts of multiboot 1 and of Xen's PVH entry.
#include <elf.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstring>

#include "machine/loader.h"
#include "machine/loader_spec.h"

using namespace vg;
using namespace vg::machine;

namespace {

class Ram final : public GuestMemory {
  public:
    bool write(Gpa gpa, std::span<const u8> data) override {
        if (gpa.value > content_.size() || data.size() > content_.size() - gpa.value) return false;
        std::copy(data.begin(), data.end(), content_.begin() + static_cast<std::ptrdiff_t>(gpa.value));
        return true;
    }
    bool read(Gpa gpa, std::span<u8> out) override {
        if (gpa.value > content_.size() || out.size() > content_.size() - gpa.value) return false;
        std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(gpa.value), out.size(), out.begin());
        return true;
    }
    template <class T>
    T get(u64 at) {
        T value{};
        REQUIRE(read(Gpa(at), {reinterpret_cast<u8*>(&value), sizeof value}));
        return value;
    }
    std::string text(u64 at) {
        std::string result;
        while (const char c = get<char>(at++)) result += c;
        return result;
    }

  private:
    std::vector<u8> content_ = std::vector<u8>(16 << 20);
};

template <class T>
void put(std::vector<u8>& image, u64 offset, const T& value) {
    std::memcpy(image.data() + offset, &value, sizeof value);
}

/// One segment at 1 MiB with a multiboot header in it; with a PVH note if asked.
std::vector<u8> kernel(bool pvh) {
    std::vector<u8> image(0x400);
    Elf32_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS32;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf32_Phdr);
    header.e_phnum = pvh ? 2 : 1;
    header.e_entry = 0x100000;
    Elf32_Phdr segment{}, notes{};
    segment.p_type = PT_LOAD;
    segment.p_offset = 0x200;
    segment.p_paddr = 0x100000;
    segment.p_filesz = segment.p_memsz = 0x100;
    notes.p_type = PT_NOTE;
    notes.p_offset = 0x300;
    notes.p_filesz = 20;
    put(image, 0, header);
    put(image, sizeof header, segment);
    put(image, sizeof header + sizeof segment, notes);
    put(image, 0x200, std::array<u32, 3>{boot::kMultibootMagic, 0, 0u - boot::kMultibootMagic});
    put(image, 0x300, std::array<u32, 5>{4, 4, boot::kPvhNoteType, 0x006e6558 /* Xen */, 0x100000});
    return image;
}

LoadRequest request(std::vector<std::string> modules) {
    LoadRequest request;
    request.kernel = "/boot/xen";
    request.initrd = "first.img";
    request.cmdline = "loglvl=all";
    request.modules = std::move(modules);
    request.memory_map = {{0, 0xa0000, MemoryRange::kRam}, {0x100000, 15 << 20, MemoryRange::kRam}};
    return request;
}

const std::vector<u8> kFirst(5000, 1), kSecond(4096, 2), kThird(1, 3);

}  // namespace

TEST_CASE("loader: a multiboot kernel finds its initrd and modules in ascending order, each with its arguments", "[machine][loader]") {
    Ram ram;
    const auto image = kernel(false);
    const auto entry = load_images(ram, request({"/boot/vmlinuz console=hvc0  quiet", "b"}), {image, kFirst, {kSecond, kThird}});
    REQUIRE(entry);
    CHECK(entry->rax == boot::kMultibootBootMagic);
    const auto info = ram.get<boot::MultibootInfo>(entry->rbx);
    CHECK((info.flags & 8) != 0);
    REQUIRE(info.mods_count == 3);
    const std::vector<u8>* contents[] = {&kFirst, &kSecond, &kThird};
    u32 last = 0x100100;
    for (u32 i = 0; i < 3; ++i) {
        const auto module = ram.get<boot::MultibootModule>(info.mods_addr + i * sizeof(boot::MultibootModule));
        CHECK(module.start % kPageSize == 0);
        CHECK(module.start >= last);
        CHECK(module.end - module.start == contents[i]->size());
        CHECK(ram.get<u8>(module.start) == i + 1);
        CHECK(ram.get<u8>(module.end - 1) == i + 1);
        last = module.end;
        if (i == 0) CHECK(module.cmdline == 0);
        else CHECK(ram.text(module.cmdline) == (i == 1 ? "module console=hvc0  quiet" : "module"));
    }
    CHECK(last <= 16 << 20);
    CHECK(ram.text(info.cmdline) == "xen loglvl=all");
}

TEST_CASE("loader: a PVH kernel finds modules with their arguments alone", "[machine][loader]") {
    Ram ram;
    const auto image = kernel(true);
    const auto entry = load_images(ram, request({"/boot/vmlinuz console=hvc0", "b"}), {image, {}, {kSecond, kThird}});
    REQUIRE(entry);
    const auto info = ram.get<boot::HvmStartInfo>(entry->rbx);
    CHECK(info.magic == boot::kHvmStartMagic);
    REQUIRE(info.nr_modules == 2);
    const auto first = ram.get<boot::HvmModule>(info.modlist_paddr);
    const auto second = ram.get<boot::HvmModule>(info.modlist_paddr + sizeof(boot::HvmModule));
    CHECK(first.size == kSecond.size());
    CHECK(ram.get<u8>(first.paddr) == 2);
    CHECK(ram.text(first.cmdline_paddr) == "console=hvc0");
    CHECK(second.size == 1);
    CHECK(ram.text(second.cmdline_paddr).empty());
    CHECK(ram.text(info.cmdline_paddr) == "loglvl=all");
}

TEST_CASE("loader: what modules cannot be is told", "[machine][loader]") {
    Ram ram;
    const auto image = kernel(false);
    const auto failure = [&](const LoadRequest& wanted, const BootImages& images) {
        const auto entry = load_images(ram, wanted, images);
        return entry ? std::string() : entry.error().text;
    };
    const std::vector<std::string> eight(8, "m");
    CHECK_THAT(failure(request(eight), {image, {}, std::vector<std::span<const u8>>(8, kThird)}), Catch::Contains("at most 7"));
    CHECK_THAT(failure(request({"m"}), {image, {}, {std::span<const u8>()}}), Catch::Contains("m: is empty"));
    CHECK_THAT(failure(request({"m " + std::string(70000, 'a')}), {image, {}, {kThird}}), Catch::Contains("too long"));
    const std::vector<u8> large(14 << 20);
    CHECK_THAT(failure(request({"m", "n"}), {image, {}, {large, large}}), Catch::Contains("does not fit"));
    std::vector<u8> linux_image(2048);
    std::memcpy(linux_image.data() + boot::kBootFlag, "\x55\xaa", 2);
    std::memcpy(linux_image.data() + boot::kHeaderMagic, "HdrS", 4);
    CHECK_THAT(failure(request({"m"}), {linux_image, {}, {kThird}}), Catch::Contains("takes an initrd and no modules"));
}
