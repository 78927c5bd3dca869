// A Linux kernel as its own memory tells of it: symbols, where it was moved to, modules, tables for unwinding.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ui/model/btf.h"
#include "ui/model/kallsyms.h"
#include "ui/model/orc.h"
#include "ui/model/symbol_source.h"

namespace vg::model {

/// One loaded module.
struct KernelModule {
    std::string name;
    std::vector<LinearRange> ranges;  ///< of its memory
    OrcTable orc;
    u64 at = 0;  ///< its struct module
    u64 symtab = 0, strtab = 0, typetab = 0;
    u32 symbol_count = 0;  ///< entries of symtab
    struct Entry {
        u64 address = 0, size = 0;
        std::string name;
        char type = '?';
    };
    std::vector<Entry> symbols;  ///< by address
    [[nodiscard]] bool holds(u64 address) const;
    /// As Kallsyms::below, within one range.
    [[nodiscard]] const Entry* below(u64 address) const;
};

class LinuxKernel {
  public:
    static constexpr std::size_t kMaxModules = 1024;
    /// Of one module, and of all together.
    static constexpr u32 kMaxModuleSymbols = 100'000, kMaxAllModuleSymbols = 400'000;
    /// Where kernels are linked to run, unless told otherwise: __START_KERNEL with the default CONFIG_PHYSICAL_START.
    static constexpr u64 kLinkAddress = 0xffffffff81000000;
    /// Where a kernel's image lies: __START_KERNEL_map and KERNEL_IMAGE_SIZE with KASLR.
    static constexpr u64 kImageFirst = 0xffffffff80000000, kImageLast = 0xffffffffbfffffff;
    /// Bytes that one search looks at.
    static constexpr u64 kMaxSearch = 192u << 20;

    /// @param hint  an address that may be within its text: the search begins near it
    [[nodiscard]] static std::optional<LinuxKernel> find(const LinearView& view, u64 hint);
    /// Whether the same tables are still where they were found.
    [[nodiscard]] bool still_in(const LinearView& view) const;
    /// Looks again at what changes while a kernel runs: which modules are loaded (their symbols are read once for
    /// each), and what it tells of itself only after its initialization.
    void update(const LinearView& view);

    [[nodiscard]] const Kallsyms& symbols() const { return symbols_; }
    [[nodiscard]] const std::vector<KernelModule>& modules() const { return modules_; }
    /// Why modules are not shown; "": they are.
    [[nodiscard]] const std::string& no_modules() const { return no_modules_; }
    [[nodiscard]] u64 text() const { return text_; }          ///< address of _text
    [[nodiscard]] u64 text_end() const { return text_end_; }  ///< address of _etext; 0: there is none
    [[nodiscard]] u64 slide() const { return slide_; }
    /// The kernel itself says how far it was moved (its vmcoreinfo); else it is told from kLinkAddress.
    [[nodiscard]] bool slide_told() const { return slide_told_; }
    [[nodiscard]] const Btf* types() const { return types_ ? &*types_ : nullptr; }

    /// The task that a processor executes, by what GS leads to in the kernel.
    struct Task {
        std::string name;
        s32 pid = 0;
    };
    [[nodiscard]] std::optional<Task> task(const LinearView& view, u64 gs_base) const;

    /// The symbol that holds an address, and the offset in it.
    struct Place {
        std::string_view name;
        u64 offset = 0;
        std::string_view module;
        bool text = false;  ///< the symbol is of code
    };
    [[nodiscard]] std::optional<Place> place(u64 address) const;
    [[nodiscard]] std::optional<u64> address(std::string_view name) const;
    /// Whether an address lies in code of the kernel or of a module.
    [[nodiscard]] bool is_text(u64 address) const;
    /// What is known about unwinding, for people.
    [[nodiscard]] std::string orc_text() const;
    /// The table that speaks of `ip`; null: none does.
    [[nodiscard]] const OrcTable* orc(u64 ip) const;

  private:
    void update_modules(const LinearView& view);
    void find_slide(const LinearView& view);
    void find_orc(const LinearView& view);
    void read_types(const LinearView& view);
    [[nodiscard]] std::optional<KernelModule> read_module(const LinearView& view, u64 at) const;
    void read_symbols(const LinearView& view, KernelModule& module) const;

    Kallsyms symbols_;
    std::optional<Btf> types_;
    OrcTable orc_;
    std::vector<KernelModule> modules_;
    std::string no_modules_;
    u64 text_ = 0, text_end_ = 0, end_ = 0, init_text_ = 0, init_text_end_ = 0, slide_ = 0;
    u64 modules_at_ = 0, vmcoreinfo_at_ = 0;  ///< 0: the kernel has none
    bool slide_told_ = false;
    /// Offsets in struct module and its parts.
    struct Offsets {
        u64 list = 0, name = 0, state = 0, kallsyms = 0;
        u64 symtab = 0, num_symtab = 0, strtab = 0, typetab = 0;
        std::vector<std::pair<u64, u64>> memory;  ///< base and size of each part
        u64 num_orcs = 0, orc_ips = 0, orc_entries = 0;
        u64 name_size = 0;
        bool has_orc = false;
    };
    std::optional<Offsets> offsets_;
    [[nodiscard]] std::optional<Offsets> module_offsets() const;
};

}  // namespace vg::model
