// A multiboot ELF of a few instructions: the smallest kernel that the loaders take.
#pragma once

#include <elf.h>

#include <cstring>
#include <vector>

#include "base/types.h"

namespace vg::test {

inline constexpr u32 kLoad = 0x200000, kIdt = kLoad + 0x200, kHandler = kLoad + 0x100;

/// A multiboot ELF whose code runs with an IDT that has one gate, for `vector`, to kHandler.
inline std::vector<u8> image_with(const std::vector<u8>& code, const std::vector<u8>& handler, u8 vector) {
    std::vector<u8> body(0x200 + 256 * 8);
    const u32 header[] = {0x1badb002, 0, 0u - 0x1badb002};
    std::memcpy(body.data() + 0x40, header, sizeof header);
    std::memcpy(body.data() + 0x80, code.data(), code.size());
    std::memcpy(body.data() + 0x100, handler.data(), handler.size());
    const u16 gate[] = {static_cast<u16>(kHandler), 0x10, 0x8e00, kHandler >> 16};
    std::memcpy(body.data() + 0x200 + vector * 8u, gate, sizeof gate);
    const u16 limit = 0x7ff;
    std::memcpy(body.data() + 0x60, &limit, 2);
    std::memcpy(body.data() + 0x62, &kIdt, 4);

    Elf32_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS32;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_ident[EI_VERSION] = EV_CURRENT;
    elf.e_version = EV_CURRENT;
    elf.e_type = ET_EXEC;
    elf.e_machine = EM_386;
    elf.e_entry = kLoad + 0x80;
    elf.e_phoff = sizeof elf;
    elf.e_ehsize = sizeof elf;
    elf.e_phentsize = sizeof(Elf32_Phdr);
    elf.e_phnum = 1;
    Elf32_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = 0x80;
    segment.p_vaddr = segment.p_paddr = kLoad;
    segment.p_filesz = segment.p_memsz = static_cast<u32>(body.size());
    std::vector<u8> image(0x80 + body.size());
    std::memcpy(image.data(), &elf, sizeof elf);
    std::memcpy(image.data() + sizeof elf, &segment, sizeof segment);
    std::memcpy(image.data() + 0x80, body.data(), body.size());
    return image;
}

}  // namespace vg::test
