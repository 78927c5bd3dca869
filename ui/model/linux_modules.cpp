// The list of loaded modules: struct module by the kernel's own type information.
#include <algorithm>
#include <cstring>
#include <set>

#include "base/bits.h"
#include "ui/model/linux_kernel.h"

namespace vg::model {
namespace {

constexpr u64 kLowestKernel = 0xffff'8000'0000'0000;
/// KSYM_NAME_LEN.
constexpr std::size_t kMaxName = 512;
/// No part of a module is longer.
constexpr u64 kMaxPart = 256u << 20;
constexpr u32 kUnformed = 3;  ///< MODULE_STATE_UNFORMED: being made

/// Elf64_Sym.
struct ElfSymbol {
    u32 name;
    u8 info, other;
    u16 section;
    u64 value, size;
};
static_assert(sizeof(ElfSymbol) == 24);

/// Text up to a NUL or `limit`, with only printable characters.
std::string read_text(const LinearView& view, u64 address, std::size_t limit) {
    std::string text;
    char piece[64];
    while (text.size() < limit) {
        const std::size_t count =
            std::min({sizeof piece, limit - text.size(), static_cast<std::size_t>(kPageSize - (address & kPageMask))});
        if (!view.read(address, piece, count)) break;
        const std::size_t length = strnlen(piece, count);
        text.append(piece, length);
        if (length < count) break;
        address += count;
    }
    for (char& c : text)
        if (c <= 0x20 || c > 0x7e) c = '?';
    return text;
}

}  // namespace

bool KernelModule::holds(u64 address) const {
    return std::any_of(ranges.begin(), ranges.end(),
                       [address](const LinearRange& range) { return address >= range.first && address <= range.last; });
}

const KernelModule::Entry* KernelModule::below(u64 address) const {
    const auto range = std::find_if(ranges.begin(), ranges.end(), [address](const LinearRange& each) {
        return address >= each.first && address <= each.last;
    });
    const auto less = [](u64 value, const Entry& entry) { return value < entry.address; };
    auto it = std::upper_bound(symbols.begin(), symbols.end(), address, less);
    if (it == symbols.begin() || range == ranges.end()) return nullptr;
    const u64 found = (--it)->address;
    if (found < range->first) return nullptr;
    while (it != symbols.begin() && std::prev(it)->address == found) --it;
    return &*it;
}

std::optional<LinuxKernel::Offsets> LinuxKernel::module_offsets() const {
    Offsets o;
    bool good = true;
    const auto get = [&](u64& out, std::string_view type, std::string_view path) {
        const auto offset = types_->offset(type, path);
        good = good && offset.has_value();
        out = offset.value_or(0);
    };
    get(o.list, "module", "list");
    get(o.name, "module", "name");
    get(o.state, "module", "state");
    get(o.kallsyms, "module", "kallsyms");
    get(o.symtab, "mod_kallsyms", "symtab");
    get(o.num_symtab, "mod_kallsyms", "num_symtab");
    get(o.strtab, "mod_kallsyms", "strtab");
    get(o.typetab, "mod_kallsyms", "typetab");
    o.name_size = std::min<u64>(types_->elements("module", "name").value_or(0), kMaxName);
    if (!good || o.name_size == 0) return std::nullopt;
    // Up to Linux 6.3 a module has two parts by name, then an array of parts.
    if (const auto parts = types_->elements("module", "mem")) {
        u64 array = 0, base = 0, size = 0;
        get(array, "module", "mem");
        get(base, "module_memory", "base");
        get(size, "module_memory", "size");
        const u64 each = types_->size("module_memory").value_or(0);
        if (!good || each == 0 || *parts > 16) return std::nullopt;
        for (u64 i = 0; i < *parts; ++i) o.memory.emplace_back(array + i * each + base, array + i * each + size);
    } else {
        for (const char* part : {"core_layout", "init_layout"}) {
            u64 base = 0, size = 0;
            get(base, "module", std::string(part) + ".base");
            get(size, "module", std::string(part) + ".size");
            o.memory.emplace_back(base, size);
        }
        if (!good) return std::nullopt;
    }
    const auto count = types_->offset("module", "arch.num_orcs"), ips = types_->offset("module", "arch.orc_unwind_ip"),
               entries = types_->offset("module", "arch.orc_unwind");
    o.has_orc = count && ips && entries;
    o.num_orcs = count.value_or(0);
    o.orc_ips = ips.value_or(0);
    o.orc_entries = entries.value_or(0);
    return o;
}

void LinuxKernel::update_modules(const LinearView& view) {
    if (!offsets_ || modules_at_ == 0) return;
    std::vector<KernelModule> now;
    std::set<u64> seen;
    std::size_t symbols = 0;
    u64 at = 0;
    if (!view.read(modules_at_, at)) return;
    while (at != modules_at_ && seen.size() < kMaxModules && seen.insert(at).second) {
        const u64 module = at - offsets_->list;
        if (at < kLowestKernel || !view.read(at, at)) break;
        auto read = read_module(view, module);
        if (!read) continue;
        // One that is known keeps its symbols, unless it is another one in the same place.
        const auto known = std::find_if(modules_.begin(), modules_.end(), [&](const KernelModule& old) {
            return old.at == module && old.name == read->name && old.symtab == read->symtab &&
                   old.symbol_count == read->symbol_count;
        });
        if (known != modules_.end())
            read->symbols = std::move(known->symbols);
        else if (symbols + read->symbol_count <= kMaxAllModuleSymbols)
            read_symbols(view, *read);
        symbols += read->symbols.size();
        now.push_back(std::move(*read));
    }
    modules_ = std::move(now);
}

std::optional<LinuxKernel::Task> LinuxKernel::task(const LinearView& view, u64 gs_base) const {
    if (!types_ || gs_base < kLowestKernel) return std::nullopt;
    // Linux 6.2 to 6.14 have it as the first member of a structure.
    auto current = symbols_.address("current_task");
    if (!current) current = symbols_.address("pcpu_hot");
    const auto comm = types_->offset("task_struct", "comm"), pid = types_->offset("task_struct", "pid");
    u64 at = 0;
    if (!current || !comm || !pid || !view.read(gs_base + *current, at) || at < kLowestKernel) return std::nullopt;
    Task task;
    s32 number = 0;
    if (!view.read(at + *pid, number)) return std::nullopt;
    task.name = read_text(view, at + *comm, std::min<u64>(types_->elements("task_struct", "comm").value_or(0), kMaxName));
    task.pid = number;
    return task;
}

std::optional<KernelModule> LinuxKernel::read_module(const LinearView& view, u64 at) const {
    KernelModule module;
    module.at = at;
    u32 state = 0;
    if (!view.read(at + offsets_->state, state) || state == kUnformed) return std::nullopt;
    module.name = read_text(view, at + offsets_->name, offsets_->name_size);
    if (module.name.empty()) return std::nullopt;
    for (const auto& [base_at, size_at] : offsets_->memory) {
        u64 base = 0;
        u32 size = 0;
        if (!view.read(at + base_at, base) || !view.read(at + size_at, size)) return std::nullopt;
        if (size == 0 || size > kMaxPart || base < kLowestKernel || base + size < base) continue;
        module.ranges.push_back({base, base + size - 1});
    }
    u64 kallsyms = 0;
    if (view.read(at + offsets_->kallsyms, kallsyms) && kallsyms != 0) {
        u32 count = 0;
        if (view.read(kallsyms + offsets_->symtab, module.symtab) &&
            view.read(kallsyms + offsets_->num_symtab, count) &&
            view.read(kallsyms + offsets_->strtab, module.strtab) &&
            view.read(kallsyms + offsets_->typetab, module.typetab))
            module.symbol_count = std::min(count, kMaxModuleSymbols);
    }
    u32 orcs = 0;
    u64 ips = 0, entries = 0;
    if (offsets_->has_orc && !orc_.empty() && view.read(at + offsets_->num_orcs, orcs) &&
        orcs <= OrcTable::kMaxEntries && view.read(at + offsets_->orc_ips, ips) &&
        view.read(at + offsets_->orc_entries, entries))
        module.orc = OrcTable(ips, entries, orcs, orc_.form());
    return module;
}

void LinuxKernel::read_symbols(const LinearView& view, KernelModule& module) const {
    for (u32 i = 0; i < module.symbol_count; ++i) {
        ElfSymbol symbol{};
        if (!view.read(module.symtab + i * u64{sizeof symbol}, symbol)) break;
        if (symbol.section == 0 || symbol.name == 0) continue;
        KernelModule::Entry entry{symbol.value, symbol.size, read_text(view, module.strtab + symbol.name, kMaxName),
                                  '?'};
        if (entry.name.empty()) continue;
        const bool known = view.read(module.typetab + i, &entry.type, 1);
        if (!known || entry.type <= 0x20 || entry.type > 0x7e) entry.type = '?';
        module.symbols.push_back(std::move(entry));
    }
    std::stable_sort(module.symbols.begin(), module.symbols.end(),
                     [](const auto& a, const auto& b) { return a.address < b.address; });
}

}  // namespace vg::model
