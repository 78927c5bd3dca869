// Any bytes as a kernel image and as its initial RAM disk. The first byte chooses: bits 0..1 put a signature where it is
// looked for (bzImage, 64-bit ELF, 32-bit ELF), bit 2 gives an initial RAM disk, bit 3 gives little memory, bit 4 takes
// the rest not as the image but as patches (offset of 16 bits, value of 8) to a good one of that kind, bit 5 gives modules.
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/assert.h"
#include "machine/loader.h"
#include "machine/loader_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::machine;

class Ram final : public GuestMemory {
  public:
    explicit Ram(u64 bytes) : content_(bytes) {}
    [[nodiscard]] bool write(Gpa gpa, std::span<const u8> data) override {
        if (!inside(gpa, data.size())) return false;
        if (!data.empty()) std::memcpy(content_.data() + gpa.value, data.data(), data.size());
        return true;
    }
    [[nodiscard]] bool read(Gpa gpa, std::span<u8> out) override {
        if (!inside(gpa, out.size())) return false;
        if (!out.empty()) std::memcpy(out.data(), content_.data() + gpa.value, out.size());
        return true;
    }
    [[nodiscard]] u64 size() const { return content_.size(); }

  private:
    [[nodiscard]] bool inside(Gpa gpa, u64 size) const {
        return gpa.value <= content_.size() && size <= content_.size() - gpa.value;
    }
    std::vector<u8> content_;
};

/// The loader takes names of files: this one lives in memory.
class NamedBytes {
  public:
    NamedBytes() : fd_(memfd_create("kernel", MFD_CLOEXEC)), name_("/proc/self/fd/" + std::to_string(fd_)) {}
    const std::string& name() const { return name_; }
    void set(std::span<const u8> bytes) const {
        const auto size = static_cast<off_t>(bytes.size());
        if (ftruncate(fd_, size) != 0 || pwrite(fd_, bytes.data(), bytes.size(), 0) != size) std::abort();
    }

  private:
    int fd_;
    std::string name_;
};

template <class T>
void put(std::vector<u8>& image, u64 offset, const T& value) {
    std::memcpy(image.data() + offset, &value, sizeof value);
}

std::vector<u8> good_bzimage() {
    std::vector<u8> image(2048, 0x90);
    std::fill_n(image.begin(), 1024, u8{0});
    put<u8>(image, boot::kSetupSects, 1);
    put<u8>(image, boot::kJump + 1, 0x66);
    put<u16>(image, boot::kVersion, 0x20f);
    put<u16>(image, boot::kXLoadFlags, 1);
    put<u32>(image, boot::kCmdlineSize, 0x7ff);
    put<u32>(image, boot::kInitrdAddrMax, 0x7fffffff);
    put<u64>(image, boot::kPrefAddress, 0x100000);
    put<u32>(image, boot::kInitSize, 0x10000);
    return image;
}

/// An ELF image of one segment with a multiboot header at its start, and, if asked, a PVH note.
template <class Header, class ProgramHeader>
std::vector<u8> good_elf(bool pvh) {
    constexpr u64 kContent = 0x200, kNote = 0x300;
    std::vector<u8> image(0x400);
    Header header{};
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(ProgramHeader);
    header.e_phnum = pvh ? 2 : 1;
    header.e_entry = 0x100000;
    put(image, 0, header);
    ProgramHeader segment{}, notes{};
    segment.p_type = PT_LOAD;
    segment.p_offset = kContent;
    segment.p_paddr = 0x100000;
    segment.p_filesz = 0x100;
    segment.p_memsz = 0x2000;
    put(image, sizeof header, segment);
    notes.p_type = PT_NOTE;
    notes.p_offset = kNote;
    notes.p_filesz = 20;
    put(image, sizeof header + sizeof segment, notes);
    put(image, kContent, std::array<u32, 3>{boot::kMultibootMagic, 0, 0u - boot::kMultibootMagic});
    put(image, kNote, std::array<u32, 5>{4, 4, boot::kPvhNoteType, 0x006e6558 /* Xen */, 0x100000});
    return image;
}

std::vector<u8> good_image(u8 choice) {
    switch (choice & 3) {
        case 0: return good_elf<Elf32_Ehdr, Elf32_Phdr>(true);
        case 1: return good_bzimage();
        case 2: return good_elf<Elf64_Ehdr, Elf64_Phdr>(true);
        default: return good_elf<Elf32_Ehdr, Elf32_Phdr>(false);
    }
}

void put_signature(std::vector<u8>& image, u8 choice) {
    if (choice == 0 || image.size() < 1024) return;
    if (choice == 1) {
        std::memcpy(image.data() + boot::kBootFlag, "\x55\xaa", 2);
        std::memcpy(image.data() + boot::kHeaderMagic, "HdrS", 4);
        return;
    }
    std::memcpy(image.data(), ELFMAG, SELFMAG);
    image[EI_CLASS] = choice == 2 ? ELFCLASS64 : ELFCLASS32;
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static const NamedBytes file;
    static Ram large(16 << 20), small(2 << 20);
    if (size == 0 || size > 64 * 1024) return 0;
    const u8 choice = data[0];
    const bool patched = (choice & 16) != 0;
    std::vector<u8> image = patched ? good_image(choice) : std::vector<u8>(data + 1, data + size);
    put_signature(image, patched && (choice & 3) == 0 ? 3 : choice & 3);
    for (std::size_t i = 1; patched && i + 2 < size; i += 3) {
        image[(std::size_t{data[i]} << 8 | data[i + 1]) % image.size()] = data[i + 2];
    }
    file.set(image);

    Ram& ram = (choice & 8) != 0 ? small : large;
    LoadRequest request;
    request.kernel = file.name();
    if ((choice & 4) != 0) request.initrd = file.name();
    if ((choice & 32) != 0) request.modules = {file.name() + " with arguments", file.name()};
    request.cmdline = "console=ttyS0";
    request.memory_map = {{0, 0xa0000, MemoryRange::kRam},
                          {0xe0000, 0x20000, MemoryRange::kAcpi},
                          {0x100000, ram.size() - 0x100000, MemoryRange::kRam}};
    request.rsdp = Gpa(0xe0000);
    const auto entry = load_kernel(ram, request);
    VG_ASSERT(entry.has_value() || !entry.error().text.empty());
    return 0;
}
