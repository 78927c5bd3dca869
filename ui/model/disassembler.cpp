#include "ui/model/disassembler.h"

#include <capstone/capstone.h>

#include <array>

#include "base/assert.h"

namespace vg::model {

struct Disassembler::Handles {
    std::array<csh, 3> by_mode{};  // index: cpu::CodeMode
    cs_insn* insn = nullptr;
};

Disassembler::Disassembler() : handles_(std::make_unique<Handles>()) {
    static constexpr std::array<cs_mode, 3> kModes = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    for (std::size_t k = 0; k < kModes.size(); ++k) {
        const cs_err error = cs_open(CS_ARCH_X86, kModes[k], &handles_->by_mode[k]);
        VG_ASSERT(error == CS_ERR_OK);
    }
    handles_->insn = cs_malloc(handles_->by_mode.back());
    VG_ASSERT(handles_->insn != nullptr);
}

Disassembler::~Disassembler() {
    cs_free(handles_->insn, 1);
    for (csh& handle : handles_->by_mode) cs_close(&handle);
}

Disassembler::Line Disassembler::one(std::span<const u8> code, u64 address, cpu::CodeMode mode) {
    const u8* bytes = code.data();
    std::size_t size = code.size();
    u64 at = address;
    if (!cs_disasm_iter(handles_->by_mode[static_cast<std::size_t>(mode)], &bytes, &size, &at, handles_->insn))
        return {address, 1, "(bad)"};
    std::string text = handles_->insn->mnemonic;
    if (handles_->insn->op_str[0] != 0) text += std::string(" ") + handles_->insn->op_str;
    return {address, handles_->insn->size, text};
}

}  // namespace vg::model
