#include "ui/model/linux_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/bits.h"

namespace vg::model {
namespace {

/// What lies around the hint is looked at first: read-only data is behind the text.
constexpr u64 kBeforeHint = 48u << 20;
constexpr u64 kVmcoreinfoBytes = 4096;

/// The part of `ranges` within [first, last], at most so many bytes.
std::vector<LinearRange> clip(const std::vector<LinearRange>& ranges, u64 first, u64 last, u64 bytes) {
    std::vector<LinearRange> out;
    for (const LinearRange& range : ranges) {
        LinearRange part{std::max(range.first, first), std::min(range.last, last)};
        if (part.first > part.last || bytes == 0) continue;
        part.last = std::min(part.last, part.first + bytes - 1);
        bytes -= part.last - part.first + 1;
        out.push_back(part);
    }
    return out;
}

}  // namespace

std::optional<LinuxKernel> LinuxKernel::find(const LinearView& view, u64 hint) {
    const std::vector<LinearRange> mapped = view.mapped(kImageFirst, kImageLast);
    const bool hinted = hint >= kImageFirst && hint <= kImageLast;
    const u64 first = hinted && hint - kImageFirst > kBeforeHint ? hint - kBeforeHint : kImageFirst;
    auto symbols = Kallsyms::find(view, clip(mapped, first, kImageLast, kMaxSearch));
    if (!symbols) return std::nullopt;
    LinuxKernel kernel;
    kernel.symbols_ = std::move(*symbols);
    const auto known = [&kernel](std::string_view name) { return kernel.symbols_.address(name).value_or(0); };
    kernel.text_ = known("_text");
    if (kernel.text_ == 0) kernel.text_ = known("_stext");
    kernel.text_end_ = known("_etext");
    kernel.end_ = known("_end");
    kernel.init_text_ = known("_sinittext");
    kernel.init_text_end_ = known("_einittext");
    kernel.modules_at_ = known("modules");
    kernel.vmcoreinfo_at_ = known("vmcoreinfo_data");
    kernel.slide_ = kernel.text_ - kLinkAddress;
    kernel.find_orc(view);
    kernel.read_types(view);
    kernel.update(view);
    return kernel;
}

void LinuxKernel::update(const LinearView& view) {
    if (!slide_told_) find_slide(view);
    update_modules(view);
}

bool LinuxKernel::still_in(const LinearView& view) const {
    // What tells one kernel from another, and one place from another: the number of symbols and the first offsets.
    const KallsymsLayout& layout = symbols_.layout();
    u32 count = 0;
    u16 index[2] = {1, 0};
    if (!view.read(layout.count_at, count) || !view.read(layout.token_index, index)) return false;
    if (count != layout.count || index[0] != 0 || index[1] == 0) return false;
    if (layout.kind == KallsymsLayout::Offsets::Self) return true;
    u64 base = 0;
    return view.read(layout.base_at, base) && base == layout.relative_base;
}

/// The kernel's notes for crash dumps hold "KERNELOFFSET=..." since they are written in its initialization.
void LinuxKernel::find_slide(const LinearView& view) {
    u64 text_at = 0;
    std::string notes(kVmcoreinfoBytes, '\0');
    if (vmcoreinfo_at_ == 0 || !view.read(vmcoreinfo_at_, text_at) || !view.read(text_at, notes.data(), notes.size()))
        return;
    constexpr std::string_view kKey = "\nKERNELOFFSET=";
    const std::size_t found = notes.find(kKey);
    if (found == std::string::npos) return;
    const char* begin = notes.data() + found + kKey.size();
    u64 told = 0;
    const auto [end, error] = std::from_chars(begin, notes.data() + notes.size(), told, 16);
    if (error != std::errc{} || *end != '\n') return;
    slide_ = told;
    slide_told_ = true;
}

void LinuxKernel::find_orc(const LinearView& view) {
    const auto ips = symbols_.address("__start_orc_unwind_ip"), entries = symbols_.address("__start_orc_unwind");
    const auto ips_end = symbols_.address("__stop_orc_unwind_ip"), entries_end = symbols_.address("__stop_orc_unwind");
    if (!ips || !entries || !entries_end || *entries_end <= *entries) return;
    // The end of the offsets may be named behind what follows them: the entries are what is counted.
    const u64 count = (*entries_end - *entries) / 6;
    if (count > OrcTable::kMaxEntries || (ips_end && *ips_end < *ips + count * 4)) return;
    if (const auto form = OrcTable::form_of(view, *entries, static_cast<u32>(count)))
        orc_ = OrcTable(*ips, *entries, static_cast<u32>(count), *form);
}

void LinuxKernel::read_types(const LinearView& view) {
    const auto begin = symbols_.address("__start_BTF"), end = symbols_.address("__stop_BTF");
    if (!begin || !end || *end <= *begin || *end - *begin > Btf::kMaxBytes) {
        no_modules_ = "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)";
        return;
    }
    std::vector<u8> bytes(*end - *begin);
    if (view.read(*begin, bytes.data(), bytes.size())) types_ = Btf::parse(std::move(bytes));
    if (!types_) {
        no_modules_ = "the kernel's type information cannot be read";
        return;
    }
    offsets_ = module_offsets();
    if (!offsets_) no_modules_ = "the kernel's type information has no struct module of a known form";
}

std::optional<LinuxKernel::Place> LinuxKernel::place(u64 address) const {
    for (const KernelModule& module : modules_) {
        if (!module.holds(address)) continue;
        const KernelModule::Entry* entry = module.below(address);
        if (entry == nullptr) return std::nullopt;
        const bool code = entry->type == 't' || entry->type == 'T' || entry->type == 'w' || entry->type == 'W';
        return Place{entry->name, address - entry->address, module.name, code};
    }
    if (text_ == 0 || address < text_ || (end_ != 0 && address >= end_)) return std::nullopt;
    const KallsymsEntry* entry = symbols_.below(address);
    if (entry == nullptr || entry->address < text_) return std::nullopt;
    const char type = static_cast<char>(std::tolower(static_cast<unsigned char>(entry->type)));
    return Place{symbols_.name(*entry), address - entry->address, {}, type == 't' || type == 'w'};
}

std::optional<u64> LinuxKernel::address(std::string_view name) const {
    if (const auto found = symbols_.address(name)) return found;
    for (const KernelModule& module : modules_)
        for (const KernelModule::Entry& entry : module.symbols)
            if (entry.name == name) return entry.address;
    return std::nullopt;
}

bool LinuxKernel::is_text(u64 address) const {
    if (address >= text_ && address < text_end_) return true;
    if (address >= init_text_ && address < init_text_end_) return true;
    const bool in_module =
        std::any_of(modules_.begin(), modules_.end(), [&](const KernelModule& m) { return m.holds(address); });
    if (!in_module) return false;
    const auto where = place(address);
    return where && where->text;
}

std::string LinuxKernel::orc_text() const {
    if (orc_.empty()) return "no ORC tables: frame pointers";
    return fmt::format("{} ORC entries{}", orc_.count(),
                       orc_.form() == OrcTable::Form::TwoBits ? "" : " with types of three bits");
}

const OrcTable* LinuxKernel::orc(u64 ip) const {
    const OrcTable* table = &orc_;
    for (const KernelModule& module : modules_)
        if (module.holds(ip)) table = &module.orc;
    if (table == &orc_ && !is_text(ip)) return nullptr;
    return table->empty() ? nullptr : table;
}

}  // namespace vg::model
