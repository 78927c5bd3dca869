// Instruction text for display (Capstone). What is executed is decided by cpu/decode alone.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/types.h"
#include "cpu/insn.h"

namespace vg::model {

class Disassembler {
  public:
    Disassembler();
    ~Disassembler();
    Disassembler(const Disassembler&) = delete;
    Disassembler& operator=(const Disassembler&) = delete;

    struct Line {
        u64 address = 0;
        unsigned length = 0;
        std::string text;  ///< "(bad)" where Capstone knows no instruction; then one byte long
    };
    /// The first instruction of `code`, as if at `address`. `code` must not be empty.
    [[nodiscard]] Line one(std::span<const u8> code, u64 address, cpu::CodeMode mode);

  private:
    struct Handles;
    std::unique_ptr<Handles> handles_;
};

}  // namespace vg::model
