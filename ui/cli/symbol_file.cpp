// `verdigris symbols`: what a guest's memory says of its kernel's symbols, as an ELF file that gdb reads.
#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "ui/cli/commands.h"
#include "ui/cli/output_file.h"
#include "ui/cli/socket_link.h"
#include "ui/model/json_text.h"

namespace vg::cli {

namespace {

using model::Json;

constexpr u64 kMostSymbols = 1'000'000;

struct Named {
    u64 address, size;
    std::string name;
};

template <class T>
void append(std::string& out, const T& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// An executable with one empty section over all addresses, a symbol table, and nothing else.
std::string elf_of(std::vector<Named> symbols) {
    std::sort(symbols.begin(), symbols.end(), [](const Named& a, const Named& b) { return a.address < b.address; });
    std::string names(1, '\0'), table(sizeof(Elf64_Sym), '\0');
    for (const Named& each : symbols) {
        Elf64_Sym symbol{};
        symbol.st_name = static_cast<Elf64_Word>(names.size());
        symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
        symbol.st_shndx = 1;
        symbol.st_value = each.address;
        symbol.st_size = each.size;
        append(table, symbol);
        names += each.name + '\0';
    }
    const std::string section_names("\0.text\0.symtab\0.strtab\0", 23);
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof header;
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 4;
    header.e_shstrndx = 3;
    header.e_shoff = sizeof header;
    const u64 data = sizeof header + 4 * sizeof(Elf64_Shdr);
    Elf64_Shdr sections[4] = {};
    sections[1].sh_name = 1;
    sections[1].sh_type = SHT_NOBITS;
    sections[1].sh_flags = SHF_ALLOC | SHF_EXECINSTR;
    sections[1].sh_addr = symbols.front().address;
    sections[1].sh_size = symbols.back().address + std::max<u64>(symbols.back().size, 1) - symbols.front().address;
    sections[1].sh_addralign = 1;
    sections[2].sh_name = 7;
    sections[2].sh_type = SHT_SYMTAB;
    sections[2].sh_offset = data;
    sections[2].sh_size = table.size();
    sections[2].sh_link = 3;
    sections[2].sh_info = 1;
    sections[2].sh_entsize = sizeof(Elf64_Sym);
    sections[2].sh_addralign = 8;
    sections[3].sh_name = 15;
    sections[3].sh_type = SHT_STRTAB;
    sections[3].sh_offset = data + table.size();
    // Names of sections and of symbols share a table: those of sections come first.
    std::string strings = section_names + names;
    sections[3].sh_size = strings.size();
    sections[3].sh_addralign = 1;
    std::string out;
    append(out, header);
    append(out, sections);
    for (u64 at = sizeof(Elf64_Sym); at < table.size(); at += sizeof(Elf64_Sym)) {
        Elf64_Sym symbol;
        std::memcpy(&symbol, table.data() + at, sizeof symbol);
        symbol.st_name += static_cast<Elf64_Word>(section_names.size());
        std::memcpy(table.data() + at, &symbol, sizeof symbol);
    }
    return out + table + strings;
}

}  // namespace

int symbol_file(const std::string& socket, const std::string& partition, const std::string& path) {
    auto link = SocketLink::connect(socket);
    if (!link) return report(link.error());
    Json request = {{"op", "symbols"}, {"match", ""}, {"limit", kMostSymbols}};
    if (!partition.empty()) request["partition"] = partition;
    const auto list = (*link)->call(request);
    if (!list) return report(list.error());
    std::vector<Named> symbols;
    for (const Json& row : *list) {
        const auto address = model::parse_number(row.value("address", ""));
        // Those below are offsets into something (per-processor data), not places.
        if (address && *address >= u64{1} << 47) symbols.push_back({*address, row.value("size", u64{0}), row.value("name", "")});
    }
    if (symbols.empty()) {
        return report({Error::Code::Usage, fmt::format("{}: no kernel's symbols are in memory yet; let the guest run until its kernel does", socket)});
    }
    auto file = OutputFile::open("symbols", path);
    if (!file) return report(file.error());
    const std::size_t count = symbols.size();
    if (auto ok = (*file)->replace(elf_of(std::move(symbols))); !ok) return report(ok.error());
    std::printf("%s: %zu symbols\n", path.c_str(), count);
    return kPass;
}

}  // namespace vg::cli
