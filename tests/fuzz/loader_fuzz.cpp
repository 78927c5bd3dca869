// Any bytes as a kernel image and as its initial RAM disk. The first byte chooses: bits 0..1 put a signature where it is
// looked for (bzImage, 64-bit ELF, 32-bit ELF), bit 2 gives an initial RAM disk, bit 3 gives little memory.
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

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
    std::vector<u8> image(data + 1, data + size);
    put_signature(image, choice & 3);
    file.set(image);

    Ram& ram = (choice & 8) != 0 ? small : large;
    LoadRequest request;
    request.kernel = file.name();
    if ((choice & 4) != 0) request.initrd = file.name();
    request.cmdline = "console=ttyS0";
    request.memory_map = {{0, 0xa0000, MemoryRange::kRam},
                          {0xe0000, 0x20000, MemoryRange::kAcpi},
                          {0x100000, ram.size() - 0x100000, MemoryRange::kRam}};
    request.rsdp = Gpa(0xe0000);
    const auto entry = load_kernel(ram, request);
    VG_ASSERT(entry.has_value() || !entry.error().text.empty());
    return 0;
}
