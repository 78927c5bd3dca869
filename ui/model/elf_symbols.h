// Symbols and source lines of an ELF file, by elfutils.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::model {

/// One file that the user named. Addresses are those it is linked for.
class ElfSymbols {
  public:
    struct Entry {
        u64 address = 0, size = 0;
        std::string name;
        bool code = false;
    };
    struct Line {
        std::string file;
        unsigned line = 0;
    };

    /// Error (Usage): it cannot be read, or is not an ELF file for x86. A file without symbols is one without symbols.
    static Result<std::unique_ptr<ElfSymbols>> open(const std::string& path);
    ~ElfSymbols();
    ElfSymbols(const ElfSymbols&) = delete;
    ElfSymbols& operator=(const ElfSymbols&) = delete;

    /// By address.
    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
    [[nodiscard]] std::optional<u64> address(std::string_view name) const;
    /// The symbol that holds an address: within its size, or, where it has none, up to the next one.
    [[nodiscard]] const Entry* holding(u64 address) const;
    /// From the line table (DWARF), if the file has one.
    [[nodiscard]] std::optional<Line> line(u64 address) const;

  private:
    struct Impl;
    explicit ElfSymbols(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
    std::vector<Entry> entries_;
};

}  // namespace vg::model
