#include "ui/model/symbols.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "machine/child_machine.h"
#include "machine/pc_machine.h"
#include "ui/model/explain.h"

namespace vg::model {
namespace {

/// Kernels that are remembered: each may take some ten megabytes.
constexpr std::size_t kMaxKernels = 16;
/// A machine that is stepped is not searched again and again for a kernel that is not there yet.
constexpr u64 kSearchAgain = 20'000'000;

constexpr u64 kPtiUserBit = 0x1000;  ///< Linux' page-table isolation: the user's half of a pair of top tables
constexpr u64 kPcidBits = 0xfff;

/// The configuration's `symbols`, or the kernel itself, which may be an ELF file with symbols.
std::string path_for(machine::Machine& machine, u64 partition) {
    const auto chosen = [](const auto& section) { return section.symbols.empty() ? section.kernel : section.symbols; };
    const machine::Config& config = machine.config();
    const auto& children = machine.children();
    for (std::size_t i = 0; i < children.size() && i < config.children.size(); ++i)
        if (children[i]->partition().id() == partition) return chosen(config.children[i]);
    const bool boots = machine.pc() != nullptr && config.boot &&
                       (partition == 0 || (machine.hypervisor() != nullptr && machine.hypervisor()->root() != nullptr &&
                                           machine.hypervisor()->root()->id == partition));
    return boots ? chosen(*config.boot) : "";
}

bool named_by_user(machine::Machine& machine, const std::string& path) {
    const machine::Config& config = machine.config();
    if (config.boot && config.boot->symbols == path) return true;
    return std::any_of(config.children.begin(), config.children.end(),
                       [&](const auto& child) { return child.symbols == path; });
}

bool is_elf(const std::string& path) {
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    return std::string_view(magic, sizeof magic) ==
           "\x7f"
           "ELF";
}

std::string with_offset(std::string_view name, u64 offset, std::string_view module) {
    std::string text(name);
    if (offset != 0) text += fmt::format("+0x{:x}", offset);
    if (!module.empty()) text += fmt::format(" [{}]", module);
    return text;
}

UnwindRegisters registers_of(const cpu::Vp& vp) {
    const cpu::VpState& state = vp.state();
    return {state.rip,           state.gpr[cpu::RSP], state.gpr[cpu::RBP], state.gpr[cpu::R10],
            state.gpr[cpu::R13], state.gpr[cpu::RDI], state.gpr[cpu::RDX], vp.cpl() == 3};
}

}  // namespace

GuestSymbols::GuestSymbols() = default;
GuestSymbols::~GuestSymbols() = default;

void GuestSymbols::make_room() {
    if (kernels_.size() < kMaxKernels) return;
    kernels_.erase(std::min_element(kernels_.begin(), kernels_.end(),
                                    [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
}

LinuxKernel* GuestSymbols::kernel_in(machine::Machine& machine, u64 partition, const VpLinearView& memory, u64 hint) {
    const u64 half = memory.kernel_half(), now = machine.instructions();
    if (half == 0) return nullptr;
    const std::pair key{partition, half};
    auto it = kernels_.find(key);
    if (it == kernels_.end()) {
        make_room();
        it = kernels_.emplace(key, Cached{}).first;
        it->second.searched = now - kSearchAgain;
    }
    Cached& cached = it->second;
    cached.used = ++uses_;
    if (cached.kernel != nullptr && !cached.kernel->still_in(memory)) {
        cached.kernel.reset();
        cached.searched = now - kSearchAgain;
    }
    if (cached.kernel == nullptr) {
        // Going back in time is a large step, too.
        if (now - cached.searched < kSearchAgain) return nullptr;
        cached.searched = cached.updated = now;
        if (auto found = LinuxKernel::find(memory, hint))
            cached.kernel = std::make_unique<LinuxKernel>(std::move(*found));
    } else if (cached.updated != now) {
        cached.updated = now;
        cached.kernel->update(memory);
    }
    return cached.kernel.get();
}

const GuestSymbols::File* GuestSymbols::file_of(machine::Machine& machine, u64 partition) {
    const auto known = files_.find(partition);
    if (known != files_.end()) return &known->second;
    File& file = files_[partition];
    file.path = path_for(machine, partition);
    if (!named_by_user(machine, file.path) && !is_elf(file.path)) file.path.clear();
    if (file.path.empty()) return &file;
    auto opened = ElfSymbols::open(file.path);
    if (opened && !(*opened)->entries().empty()) {
        file.symbols = std::move(*opened);
        file.text = file.symbols->address("_text").value_or(0);
        file.text_end = file.symbols->address("_etext").value_or(0);
    } else if (named_by_user(machine, file.path)) {
        file.problem = opened ? fmt::format("symbols \"{}\": the file has none", file.path) : opened.error().text;
    } else {
        file.path.clear();
    }
    return &file;
}

/// How far the file's addresses are from where its code runs. A file of another build than the kernel in memory fits
/// nowhere.
void GuestSymbols::fit(View& view) const {
    if (view.file == nullptr || view.file->symbols == nullptr) return;
    if (view.kernel == nullptr) {
        view.file_fits = true;
        return;
    }
    const File& file = *view.file;
    if (file.text == 0 || file.text_end - file.text != view.kernel->text_end() - view.kernel->text()) return;
    view.file_fits = true;
    view.file_slide = view.kernel->text() - file.text;
}

GuestSymbols::View GuestSymbols::look(machine::Machine& machine, SymbolPlace place) {
    View view;
    view.vp = placed_vp(machine, place).processor;
    if (view.vp == nullptr) return view;
    const cpu::VpState& state = view.vp->state();
    const bool known_entry = state.lstar >= LinuxKernel::kImageFirst && state.lstar <= LinuxKernel::kImageLast;
    const u64 hint = known_entry ? state.lstar : state.rip;
    view.memory = std::make_unique<VpLinearView>(*view.vp);
    view.kernel = kernel_in(machine, place.partition, *view.memory, hint);
    const u64 cr3 = view.memory->mode().cr3;
    if (view.kernel == nullptr && view.vp->cpl() == 3 && (cr3 & kPtiUserBit) != 0) {
        auto other = std::make_unique<VpLinearView>(*view.vp, cr3 & ~(kPtiUserBit | kPcidBits));
        view.kernel = kernel_in(machine, place.partition, *other, hint);
        if (view.kernel != nullptr) view.memory = std::move(other);
    }
    view.file = file_of(machine, place.partition);
    fit(view);
    return view;
}

std::string GuestSymbols::text_of(const View& view, u64 address) const {
    if (view.kernel != nullptr) {
        if (const auto where = view.kernel->place(address))
            return with_offset(where->name, where->offset, where->module);
    }
    if (view.file_fits) {
        const u64 linked = address - view.file_slide;
        if (const ElfSymbols::Entry* entry = view.file->symbols->holding(linked))
            return with_offset(entry->name, linked - entry->address, {});
    }
    return {};
}

std::optional<u64> GuestSymbols::find(machine::Machine& machine, SymbolPlace place, std::string_view name) {
    const View view = look(machine, place);
    if (view.kernel != nullptr) {
        if (const auto found = view.kernel->address(name)) return found;
    }
    if (!view.file_fits) return std::nullopt;
    const auto found = view.file->symbols->address(name);
    if (!found) return std::nullopt;
    return *found + view.file_slide;
}

std::vector<std::string> GuestSymbols::symbolize(machine::Machine& machine, SymbolPlace place,
                                                 std::span<const u64> addresses) {
    const View view = look(machine, place);
    std::vector<std::string> out;
    for (const u64 address : addresses) out.push_back(text_of(view, address));
    return out;
}

std::vector<Symbol> GuestSymbols::list(machine::Machine& machine, SymbolPlace place, std::string_view match,
                                       std::size_t limit) {
    const View view = look(machine, place);
    std::vector<Symbol> out;
    const auto add = [&](std::string_view name, u64 address, u64 size, std::string_view module) {
        if (name.find(match) != std::string_view::npos)
            out.push_back({std::string(name), address, size, std::string(module)});
    };
    if (view.kernel != nullptr) {
        const Kallsyms& symbols = view.kernel->symbols();
        for (const KallsymsEntry& entry : symbols.entries())
            if (symbols.name(entry).find(match) != std::string_view::npos)
                add(symbols.name(entry), entry.address, symbols.size(entry), {});
        for (const KernelModule& module : view.kernel->modules())
            for (const KernelModule::Entry& entry : module.symbols)
                add(entry.name, entry.address, entry.size, module.name);
    } else if (view.file_fits) {
        for (const ElfSymbols::Entry& entry : view.file->symbols->entries())
            add(entry.name, entry.address + view.file_slide, entry.size, {});
    }
    std::stable_sort(out.begin(), out.end(), [](const Symbol& a, const Symbol& b) { return a.address < b.address; });
    if (out.size() > limit) out.resize(limit);
    return out;
}

std::vector<StackFrame> GuestSymbols::stack(machine::Machine& machine, SymbolPlace place, std::size_t limit) {
    const View view = look(machine, place);
    std::vector<StackFrame> out;
    if (view.vp == nullptr) return out;
    for (const UnwoundFrame& frame :
         unwind(*view.memory, view.kernel, registers_of(*view.vp), std::min(limit, kMaxFrames))) {
        StackFrame shown;
        shown.pc = frame.pc;
        shown.sp = frame.sp;
        shown.symbol = text_of(view, frame.pc);
        if (frame.kind == UnwoundFrame::Kind::Guess) shown.symbol.insert(0, "? ");
        if (view.file_fits) {
            const u64 linked = frame.pc - view.file_slide - (frame.interrupted ? 0 : 1);
            if (auto line = view.file->symbols->line(linked)) {
                shown.file = std::move(line->file);
                shown.line = line->line;
            }
        }
        out.push_back(std::move(shown));
    }
    return out;
}

SymbolOverview GuestSymbols::overview(machine::Machine& machine, SymbolPlace place) {
    const View view = look(machine, place);
    SymbolOverview out;
    out.kind = "none";
    if (view.file != nullptr) {
        out.file = view.file->path;
        out.file_problem = view.file->problem;
        if (view.file->symbols != nullptr && !view.file_fits)
            out.file_problem = "the file is of another build than the kernel in memory";
    }
    if (view.kernel != nullptr) {
        const LinuxKernel& kernel = *view.kernel;
        out.kind = "linux";
        out.text = kernel.text();
        out.slide = kernel.slide();
        out.slide_told = kernel.slide_told();
        out.symbols = kernel.symbols().entries().size();
        out.no_modules = kernel.no_modules();
        out.orc = kernel.orc_text();
        for (const KernelModule& module : kernel.modules()) {
            out.modules.push_back(module.name);
            out.module_symbols += module.symbols.size();
        }
    } else if (view.file_fits) {
        out.kind = "elf";
        out.symbols = view.file->symbols->entries().size();
    }
    return out;
}

Result<std::string> GuestSymbols::explain(machine::Machine& machine, SymbolPlace place, std::string_view what) {
    const View view = look(machine, place);
    if (view.vp == nullptr)
        return fail(Error::Code::Usage, fmt::format("there is no VP {} of partition {}", place.vp, place.partition));
    auto text = model::explain(machine, place, what, [&](u64 address) { return text_of(view, address); });
    const bool where = what.empty() || what == "where" || what == "all";
    if (!text || !where || view.kernel == nullptr) return text;
    // GS is the kernel's from the first instructions of its entry code to the last.
    const cpu::VpState& state = view.vp->state();
    auto task = view.kernel->task(*view.memory, state.segment(cpu::Seg::GS).base);
    if (!task) task = view.kernel->task(*view.memory, state.kernel_gs_base);
    if (task) *text = fmt::format("The task on this processor is \"{}\", process {}.\n", task->name, task->pid) + *text;
    return text;
}

}  // namespace vg::model
