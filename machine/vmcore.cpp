#include "machine/vmcore.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/procfs.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "base/bits.h"
#include "devices/storage/block_file.h"
#include "hv/partition.h"
#include "hv/vp.h"
#include "machine/child_machine.h"
#include "machine/layout.h"
#include "machine/pc_machine.h"

namespace vg::machine {

namespace {

struct Range {
    u64 address, size;
};
/// What a core file is made of.
struct Source {
    std::vector<Range> ram;
    std::function<void(u64 address, std::span<u8> out)> read;  ///< what cannot be read is zero
    std::vector<cpu::Vp*> vps;
};

std::optional<Source> source_of(Machine& machine, const std::string& name) {
    Source source;
    RamLayout layout(0);
    if (PcMachine* const pc = machine.pc(); pc != nullptr && name.empty()) {
        layout = RamLayout(machine.config().machine.memory.bytes, board::kPciMemoryBase);
        source.read = [pc](u64 address, std::span<u8> out) { pc->read(Gpa(address), out); };
        for (const auto& vp : pc->vps()) source.vps.push_back(vp.get());
    } else {
        const auto& children = machine.children();
        const auto found = std::find_if(children.begin(), children.end(),
                                        [&](const auto& child) { return name.empty() || child->name() == name; });
        if (found == children.end()) return std::nullopt;
        ChildMachine* const child = found->get();
        const auto section = std::find_if(machine.config().children.begin(), machine.config().children.end(),
                                          [&](const ChildSection& each) { return each.name == child->name(); });
        layout = RamLayout(section->memory.bytes);
        source.read = [child](u64 address, std::span<u8> out) {
            if (!child->read(Gpa(address), out)) std::fill(out.begin(), out.end(), u8{0});
        };
        for (const auto& vp : child->partition().vps()) source.vps.push_back(&vp->processor());
    }
    source.ram.push_back({0, layout.low});
    if (layout.high != 0) source.ram.push_back({kFourGiB, layout.high});
    return source;
}

void add_note(std::vector<u8>& notes, std::string_view owner, u32 type, std::span<const u8> content) {
    const Elf64_Nhdr header{static_cast<Elf64_Word>(owner.size() + 1), static_cast<Elf64_Word>(content.size()), type};
    const auto add = [&](const void* data, std::size_t size) {
        const u8* const bytes = static_cast<const u8*>(data);
        notes.insert(notes.end(), bytes, bytes + size);
        notes.resize(align_up(notes.size(), 4));
    };
    add(&header, sizeof header);
    std::vector<u8> name(owner.begin(), owner.end());
    name.push_back(0);
    add(name.data(), name.size());
    add(content.data(), content.size());
}

/// The registers in the order of the kernel's user_regs_struct.
elf_prstatus status_of(cpu::Vp& vp, u32 number) {
    const cpu::VpState& s = vp.state();
    elf_prstatus status{};
    status.pr_pid = static_cast<pid_t>(number + 1);
    constexpr unsigned kOrder[] = {15, 14, 13, 12, 5, 3, 11, 10,
                                   9,  8,  0,  1,  2, 6, 7};  // r15..r12, rbp, rbx, r11..r8, rax, rcx, rdx, rsi, rdi
    enum { kEs, kCs, kSs, kDs, kFs, kGs };
    unsigned at = 0;
    for (const unsigned reg : kOrder) status.pr_reg[at++] = s.gpr[reg];
    constexpr unsigned kRsp = 4;
    const u64 rest[] = {~u64{0},
                        s.rip,
                        s.seg[kCs].selector,
                        s.rflags,
                        s.gpr[kRsp],
                        s.seg[kSs].selector,
                        s.seg[kFs].base,
                        s.seg[kGs].base,
                        s.seg[kDs].selector,
                        s.seg[kEs].selector,
                        s.seg[kFs].selector,
                        s.seg[kGs].selector};
    for (const u64 value : rest) status.pr_reg[at++] = value;
    return status;
}

/// The text that Linux keeps for whoever reads its memory after a crash: a page of its own that begins with OSRELEASE=.
std::vector<u8> find_vmcoreinfo(const Source& source) {
    constexpr std::string_view kBegin = "OSRELEASE=", kMember = "\nPAGESIZE=";
    std::vector<u8> page(kPageSize);
    for (const Range& range : source.ram) {
        for (u64 at = 0; at < range.size; at += kPageSize) {
            source.read(range.address + at, {page.data(), kBegin.size()});
            if (std::memcmp(page.data(), kBegin.data(), kBegin.size()) != 0) continue;
            source.read(range.address + at, page);
            const auto end = std::find(page.begin(), page.end(), u8{0});
            const std::string_view text(reinterpret_cast<const char*>(page.data()),
                                        static_cast<std::size_t>(end - page.begin()));
            if (text.find(kMember) != std::string_view::npos) return {page.begin(), end};
        }
    }
    return {};
}

std::vector<u8> notes_of(const Source& source) {
    std::vector<u8> notes;
    u32 number = 0;
    for (cpu::Vp* const vp : source.vps) {
        const elf_prstatus status = status_of(*vp, number++);
        add_note(notes, "CORE", NT_PRSTATUS, {reinterpret_cast<const u8*>(&status), sizeof status});
    }
    if (const std::vector<u8> text = find_vmcoreinfo(source); !text.empty()) add_note(notes, "VMCOREINFO", 0, text);
    return notes;
}

Elf64_Ehdr elf_header(std::size_t program_headers) {
    Elf64_Ehdr elf{};
    std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e_ident[EI_DATA] = ELFDATA2LSB;
    elf.e_ident[EI_VERSION] = EV_CURRENT;
    elf.e_type = ET_CORE;
    elf.e_machine = EM_X86_64;
    elf.e_version = EV_CURRENT;
    elf.e_phoff = sizeof elf;
    elf.e_ehsize = sizeof elf;
    elf.e_phentsize = sizeof(Elf64_Phdr);
    elf.e_phnum = static_cast<Elf64_Half>(program_headers);
    return elf;
}

Result<void> write_ram(const Source& source, const Range& range, u64 offset, devices::BlockFile& file) {
    constexpr u64 kPiece = 1 << 20;
    std::vector<u8> data;
    for (u64 at = 0; at < range.size; at += kPiece) {
        data.resize(static_cast<std::size_t>(std::min(kPiece, range.size - at)));
        for (std::size_t page = 0; page < data.size(); page += kPageSize) {
            source.read(range.address + at + page, std::span<u8>(data).subspan(page, kPageSize));
        }
        if (std::all_of(data.begin(), data.end(), [](u8 byte) { return byte == 0; })) continue;  // a hole
        if (auto ok = file.write(offset + at, data); !ok) return ok;
    }
    return {};
}

Result<void> fill(const Source& source, devices::BlockFile& file) {
    const std::vector<u8> notes = notes_of(source);
    std::vector<Elf64_Phdr> headers(1 + source.ram.size());
    const Elf64_Ehdr elf = elf_header(headers.size());
    const u64 notes_at = sizeof elf + headers.size() * sizeof headers[0];
    headers[0].p_type = PT_NOTE;
    headers[0].p_offset = notes_at;
    headers[0].p_filesz = notes.size();
    u64 at = align_up(notes_at + notes.size(), kPageSize);
    for (std::size_t i = 0; i < source.ram.size(); ++i) {
        Elf64_Phdr& load = headers[i + 1];
        load.p_type = PT_LOAD;
        load.p_flags = PF_R | PF_W | PF_X;
        load.p_offset = at;
        load.p_paddr = source.ram[i].address;
        load.p_filesz = load.p_memsz = source.ram[i].size;
        if (auto ok = write_ram(source, source.ram[i], at, file); !ok) return ok;
        at += source.ram[i].size;
    }
    if (auto ok = file.write(0, {reinterpret_cast<const u8*>(&elf), sizeof elf}); !ok) return ok;
    if (auto ok =
            file.write(sizeof elf, {reinterpret_cast<const u8*>(headers.data()), headers.size() * sizeof headers[0]});
        !ok)
        return ok;
    if (auto ok = file.write(notes_at, notes); !ok) return ok;
    return file.resize(at);
}

}  // namespace

Result<void> write_vmcore(Machine& machine, const std::string& partition, const std::string& path) {
    const auto source = source_of(machine, partition);
    if (!source)
        return fail(Error::Code::Usage, fmt::format("there is no partition \"{}\" in this machine", partition));
    return devices::create_file(path, [&](devices::BlockFile& file) { return fill(*source, file); });
}

}  // namespace vg::machine
