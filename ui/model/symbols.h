// Symbols of whatever runs in a machine: Linux kernels by their own memory, other images by the files the user named.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "ui/model/elf_symbols.h"
#include "ui/model/linux_kernel.h"
#include "ui/model/symbol_source.h"
#include "ui/model/unwind.h"
#include "ui/model/vp_linear.h"

namespace vg::model {

/// What is known about the kernel of one place, for people.
struct SymbolOverview {
    std::string kind;  ///< "linux", "elf" or "none"
    u64 text = 0, slide = 0;
    bool slide_told = false;  ///< by the kernel; else it is reckoned from where kernels are linked
    std::size_t symbols = 0, module_symbols = 0;
    std::vector<std::string> modules;
    std::string no_modules, orc, file, file_problem;
};

/// Of one machine at a time; keeps what it found, by partition and kernel half of the address space, and looks again
/// where a kernel is not found where it was.
class GuestSymbols final : public SymbolSource {
  public:
    GuestSymbols();
    ~GuestSymbols() override;

    std::optional<u64> find(machine::Machine& machine, SymbolPlace place, std::string_view name) override;
    std::vector<std::string> symbolize(machine::Machine& machine, SymbolPlace place,
                                       std::span<const u64> addresses) override;
    std::vector<Symbol> list(machine::Machine& machine, SymbolPlace place, std::string_view match,
                             std::size_t limit) override;
    std::vector<StackFrame> stack(machine::Machine& machine, SymbolPlace place, std::size_t limit) override;
    Result<std::string> explain(machine::Machine& machine, SymbolPlace place, std::string_view what) override;

    [[nodiscard]] SymbolOverview overview(machine::Machine& machine, SymbolPlace place);

    /// Frames of one stack at most.
    static constexpr std::size_t kMaxFrames = 256;

  private:
    /// A kernel that was found, or that was not when it was looked for.
    struct Cached {
        std::unique_ptr<LinuxKernel> kernel;
        u64 searched = 0, updated = 0;  ///< instructions of the machine then
        u64 used = 0;
    };
    struct File {
        std::unique_ptr<ElfSymbols> symbols;
        std::string path, problem;
        u64 text = 0, text_end = 0;  ///< of a kernel's file: its _text and _etext
    };
    /// Everything that can be asked about one place while the machine stands still.
    struct View {
        cpu::Vp* vp = nullptr;
        std::unique_ptr<VpLinearView> memory;
        LinuxKernel* kernel = nullptr;
        const File* file = nullptr;
        u64 file_slide = 0;  ///< what is added to the file's addresses
        bool file_fits = false;
    };
    [[nodiscard]] View look(machine::Machine& machine, SymbolPlace place);
    [[nodiscard]] LinuxKernel* kernel_in(machine::Machine& machine, u64 partition, const VpLinearView& memory, u64 hint);
    [[nodiscard]] const File* file_of(machine::Machine& machine, u64 partition);
    void fit(View& view) const;
    [[nodiscard]] std::string text_of(const View& view, u64 address) const;
    void make_room();

    std::map<std::pair<u64, u64>, Cached> kernels_;  ///< by partition and kernel half
    std::map<u64, File> files_;                      ///< by partition
    u64 uses_ = 0;
};

}  // namespace vg::model
