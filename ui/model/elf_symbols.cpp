#include "ui/model/elf_symbols.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <unistd.h>

#include <algorithm>

namespace vg::model {
namespace {

constexpr int kMaxSymbols = 4'000'000;

/// Only the named file is read: no search for others in this host's directories, or anywhere.
int no_debuginfo(Dwfl_Module*, void**, const char*, Dwarf_Addr, const char*, const char*, GElf_Word, char**) {
    return -1;
}

constexpr Dwfl_Callbacks kCallbacks{nullptr, no_debuginfo, dwfl_offline_section_address, nullptr};

}  // namespace

struct ElfSymbols::Impl {
    Dwfl* dwfl = nullptr;
    Dwfl_Module* module = nullptr;
    ~Impl() {
        if (dwfl != nullptr) dwfl_end(dwfl);
    }
};

ElfSymbols::ElfSymbols(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
    const int count = std::min(dwfl_module_getsymtab(impl_->module), kMaxSymbols);
    for (int i = 1; i < count; ++i) {
        GElf_Sym symbol;
        GElf_Addr address = 0;
        const char* name = dwfl_module_getsym_info(impl_->module, i, &symbol, &address, nullptr, nullptr, nullptr);
        const int type = GELF_ST_TYPE(symbol.st_info);
        if (name == nullptr || *name == 0 || symbol.st_shndx == SHN_UNDEF) continue;
        if (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) continue;
        entries_.push_back({address, symbol.st_size, name, type == STT_FUNC});
    }
    std::stable_sort(entries_.begin(), entries_.end(),
                     [](const Entry& a, const Entry& b) { return a.address < b.address; });
}

ElfSymbols::~ElfSymbols() = default;

Result<std::unique_ptr<ElfSymbols>> ElfSymbols::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    impl->dwfl = dwfl_begin(&kCallbacks);
    if (impl->dwfl == nullptr) return fail(Error::Code::Host, fmt::format("elfutils: {}", dwfl_errmsg(-1)));
    impl->module = dwfl_report_offline(impl->dwfl, path.c_str(), path.c_str(), -1);
    if (impl->module == nullptr)
        return fail(Error::Code::Usage, fmt::format("symbols \"{}\": {}", path, dwfl_errmsg(-1)));
    dwfl_report_end(impl->dwfl, nullptr, nullptr);
    GElf_Addr bias = 0;
    Elf* elf = dwfl_module_getelf(impl->module, &bias);
    GElf_Ehdr header;
    if (elf == nullptr || gelf_getehdr(elf, &header) == nullptr ||
        (header.e_machine != EM_X86_64 && header.e_machine != EM_386))
        return fail(Error::Code::Usage, fmt::format("symbols \"{}\": not an ELF file for x86", path));
    return std::unique_ptr<ElfSymbols>(new ElfSymbols(std::move(impl)));
}

std::optional<u64> ElfSymbols::address(std::string_view name) const {
    for (const Entry& entry : entries_)
        if (entry.name == name) return entry.address;
    return std::nullopt;
}

const ElfSymbols::Entry* ElfSymbols::holding(u64 address) const {
    const auto less = [](u64 value, const Entry& entry) { return value < entry.address; };
    auto it = std::upper_bound(entries_.begin(), entries_.end(), address, less);
    if (it == entries_.begin() || it == entries_.end()) {
        // Behind the last symbol only its own size reaches.
        if (entries_.empty() || it == entries_.begin()) return nullptr;
    }
    const bool last = it == entries_.end();
    const u64 below = std::prev(it)->address;
    const Entry* unsized = nullptr;
    while (it != entries_.begin() && std::prev(it)->address == below) {
        --it;
        if (it->size != 0 && address - it->address < it->size) return &*it;
        if (it->size == 0) unsized = &*it;
    }
    return last ? nullptr : unsized;
}

std::optional<ElfSymbols::Line> ElfSymbols::line(u64 address) const {
    Dwfl_Line* found = dwfl_module_getsrc(impl_->module, address);
    if (found == nullptr) return std::nullopt;
    int line = 0;
    const char* file = dwfl_lineinfo(found, nullptr, &line, nullptr, nullptr, nullptr);
    if (file == nullptr || line <= 0) return std::nullopt;
    return Line{file, static_cast<unsigned>(line)};
}

}  // namespace vg::model
