#include "ui/model/register_fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"
#include "cpu/spec/bits.h"

namespace vg::model {
namespace {

// SDM 1 "EFLAGS Register".
constexpr RegisterField kRflags[] = {
    {"CF", 0, 0, "carry"},
    {"PF", 2, 2, "parity of the low byte is even"},
    {"AF", 4, 4, "carry out of bit 3"},
    {"ZF", 6, 6, "result was zero"},
    {"SF", 7, 7, "result was negative"},
    {"TF", 8, 8, "single-step trap after each instruction"},
    {"IF", 9, 9, "maskable interrupts are taken"},
    {"DF", 10, 10, "string instructions go down"},
    {"OF", 11, 11, "signed overflow"},
    {"IOPL", 13, 12, "highest CPL that may use I/O instructions, CLI and STI"},
    {"NT", 14, 14, "nested task: IRET returns through the TSS link"},
    {"RF", 16, 16, "instruction breakpoints are off for one instruction"},
    {"VM", 17, 17, "virtual-8086 mode"},
    {"AC", 18, 18, "alignment checks at CPL 3; with SMAP: supervisor code may touch user pages"},
    {"VIF", 19, 19, "virtual interrupt flag"},
    {"VIP", 20, 20, "virtual interrupt pending"},
    {"ID", 21, 21, "software can toggle it: CPUID exists"},
};
// SDM 3A "Control Registers".
constexpr RegisterField kCr0[] = {
    {"PE", 0, 0, "protected mode"},
    {"MP", 1, 1, "WAIT raises #NM with TS"},
    {"EM", 2, 2, "x87 instructions raise #NM, SSE #UD"},
    {"TS", 3, 3, "task switched: the next x87 or SSE instruction raises #NM"},
    {"ET", 4, 4, "always 1"},
    {"NE", 5, 5, "x87 errors raise #MF, not an interrupt by FERR#"},
    {"WP", 16, 16, "supervisor writes honour read-only pages"},
    {"AM", 18, 18, "RFLAGS.AC turns on alignment checks"},
    {"NW", 29, 29, "not write-through"},
    {"CD", 30, 30, "caches off"},
    {"PG", 31, 31, "paging"},
};
constexpr RegisterField kCr3[] = {
    {"PCID", 11, 0, "process-context identifier with CR4.PCIDE; else bit 3 PWT, bit 4 PCD"},
    {"table", 51, 12, "page number of the top table"},
    {"keep", 63, 63, "of the value written: the TLB was not flushed"},
};
constexpr RegisterField kCr4[] = {
    {"VME", 0, 0, "virtual-8086 extensions"},
    {"PVI", 1, 1, "protected-mode virtual interrupts"},
    {"TSD", 2, 2, "RDTSC only at CPL 0"},
    {"DE", 3, 3, "I/O breakpoints; DR4 and DR5 raise #UD"},
    {"PSE", 4, 4, "4 MiB pages in 32-bit paging"},
    {"PAE", 5, 5, "64-bit page-table entries"},
    {"MCE", 6, 6, "machine checks are delivered"},
    {"PGE", 7, 7, "global pages"},
    {"PCE", 8, 8, "RDPMC at any CPL"},
    {"OSFXSR", 9, 9, "SSE may be used; FXSAVE keeps it"},
    {"OSXMMEXCPT", 10, 10, "unmasked SSE exceptions raise #XM"},
    {"UMIP", 11, 11, "SGDT, SIDT, SLDT, SMSW and STR only at CPL 0"},
    {"LA57", 12, 12, "57-bit linear addresses"},
    {"VMXE", 13, 13, "VMX may be turned on"},
    {"SMXE", 14, 14, "SMX instructions"},
    {"FSGSBASE", 16, 16, "RDFSBASE and its relatives at any CPL"},
    {"PCIDE", 17, 17, "process-context identifiers in CR3"},
    {"OSXSAVE", 18, 18, "XSAVE and XCR0"},
    {"KL", 19, 19, "key locker"},
    {"SMEP", 20, 20, "supervisor code may not execute user pages"},
    {"SMAP", 21, 21, "supervisor code may not touch user pages unless RFLAGS.AC"},
    {"PKE", 22, 22, "protection keys of user pages"},
    {"CET", 23, 23, "control-flow enforcement"},
    {"PKS", 24, 24, "protection keys of supervisor pages"},
};
constexpr RegisterField kCr8[] = {{"TPR", 3, 0, "interrupts of this class (vector >> 4) and below wait"}};
// SDM 4 "Model-Specific Registers", C0000080H; AMD APM 2 "Extended Feature Enable Register".
constexpr RegisterField kEfer[] = {
    {"SCE", 0, 0, "SYSCALL and SYSRET"},
    {"LME", 8, 8, "long mode is wanted: active with CR0.PG"},
    {"LMA", 10, 10, "long mode is active"},
    {"NXE", 11, 11, "no-execute pages"},
    {"SVME", 12, 12, "SVM instructions"},
    {"LMSLE", 13, 13, "segment limits in long mode"},
    {"FFXSR", 14, 14, "FXSAVE at CPL 0 leaves out XMM registers"},
    {"TCE", 15, 15, "translation cache extension"},
};
// SDM 3B "Debug Registers".
constexpr RegisterField kDr6[] = {
    {"B0", 0, 0, "condition of DR0 was met"},
    {"B1", 1, 1, "condition of DR1 was met"},
    {"B2", 2, 2, "condition of DR2 was met"},
    {"B3", 3, 3, "condition of DR3 was met"},
    {"BD", 13, 13, "a debug register was about to be accessed with DR7.GD"},
    {"BS", 14, 14, "single step"},
    {"BT", 15, 15, "task switch"},
};
constexpr RegisterField kDr7[] = {
    {"L0", 0, 0, "DR0 on, until a task switch"},
    {"G0", 1, 1, "DR0 on"},
    {"L1", 2, 2, "DR1 on, until a task switch"},
    {"G1", 3, 3, "DR1 on"},
    {"L2", 4, 4, "DR2 on, until a task switch"},
    {"G2", 5, 5, "DR2 on"},
    {"L3", 6, 6, "DR3 on, until a task switch"},
    {"G3", 7, 7, "DR3 on"},
    {"LE", 8, 8, "exact local breakpoints (no effect)"},
    {"GE", 9, 9, "exact global breakpoints (no effect)"},
    {"RTM", 11, 11, "debugging of transactional regions"},
    {"GD", 13, 13, "accesses to debug registers raise #DB"},
    {"RW0", 17, 16, "DR0 breaks on 0 execution, 1 writes, 2 I/O, 3 reads and writes"},
    {"LEN0", 19, 18, "DR0 covers 1, 2, 8 or 4 bytes"},
    {"RW1", 21, 20, "DR1 breaks on 0 execution, 1 writes, 2 I/O, 3 reads and writes"},
    {"LEN1", 23, 22, "DR1 covers 1, 2, 8 or 4 bytes"},
    {"RW2", 25, 24, "DR2 breaks on 0 execution, 1 writes, 2 I/O, 3 reads and writes"},
    {"LEN2", 27, 26, "DR2 covers 1, 2, 8 or 4 bytes"},
    {"RW3", 29, 28, "DR3 breaks on 0 execution, 1 writes, 2 I/O, 3 reads and writes"},
    {"LEN3", 31, 30, "DR3 covers 1, 2, 8 or 4 bytes"},
};
// SDM 1 "Managing State Using the XSAVE Feature Set".
constexpr RegisterField kXcr0[] = {
    {"x87", 0, 0, "x87 state"},
    {"SSE", 1, 1, "XMM registers and MXCSR"},
    {"AVX", 2, 2, "upper halves of YMM registers"},
    {"BNDREGS", 3, 3, "MPX bounds"},
    {"BNDCSR", 4, 4, "MPX configuration"},
    {"opmask", 5, 5, "AVX-512 masks"},
    {"ZMM_Hi256", 6, 6, "upper halves of ZMM0-15"},
    {"Hi16_ZMM", 7, 7, "ZMM16-31"},
    {"PKRU", 9, 9, "protection-key rights"},
    {"TILECFG", 17, 17, "AMX configuration"},
    {"TILEDATA", 18, 18, "AMX tiles"},
};
// SDM 1 "MXCSR Control and Status Register".
constexpr RegisterField kMxcsr[] = {
    {"IE", 0, 0, "invalid operation happened"},
    {"DE", 1, 1, "denormal operand happened"},
    {"ZE", 2, 2, "division by zero happened"},
    {"OE", 3, 3, "overflow happened"},
    {"UE", 4, 4, "underflow happened"},
    {"PE", 5, 5, "inexact result happened"},
    {"DAZ", 6, 6, "denormal operands count as zero"},
    {"IM", 7, 7, "invalid operation is masked"},
    {"DM", 8, 8, "denormal operand is masked"},
    {"ZM", 9, 9, "division by zero is masked"},
    {"OM", 10, 10, "overflow is masked"},
    {"UM", 11, 11, "underflow is masked"},
    {"PM", 12, 12, "inexact result is masked"},
    {"RC", 14, 13, "rounding: 0 nearest, 1 down, 2 up, 3 to zero"},
    {"FTZ", 15, 15, "underflows give zero"},
};
// SDM 1 "x87 FPU Control Word", "x87 FPU Status Register".
constexpr RegisterField kFcw[] = {
    {"IM", 0, 0, "invalid operation is masked"},
    {"DM", 1, 1, "denormal operand is masked"},
    {"ZM", 2, 2, "division by zero is masked"},
    {"OM", 3, 3, "overflow is masked"},
    {"UM", 4, 4, "underflow is masked"},
    {"PM", 5, 5, "inexact result is masked"},
    {"PC", 9, 8, "precision: 0 single, 2 double, 3 extended"},
    {"RC", 11, 10, "rounding: 0 nearest, 1 down, 2 up, 3 to zero"},
};
constexpr RegisterField kFsw[] = {
    {"IE", 0, 0, "invalid operation happened"},
    {"DE", 1, 1, "denormal operand happened"},
    {"ZE", 2, 2, "division by zero happened"},
    {"OE", 3, 3, "overflow happened"},
    {"UE", 4, 4, "underflow happened"},
    {"PE", 5, 5, "inexact result happened"},
    {"SF", 6, 6, "stack fault"},
    {"ES", 7, 7, "an unmasked exception is pending"},
    {"C0", 8, 8, "condition code"},
    {"C1", 9, 9, "condition code"},
    {"C2", 10, 10, "condition code"},
    {"TOP", 13, 11, "register that is ST(0)"},
    {"C3", 14, 14, "condition code"},
    {"B", 15, 15, "busy: as ES"},
};
// SDM 4 "Model-Specific Registers", 1BH.
constexpr RegisterField kApicBase[] = {
    {"BSP", 8, 8, "boot processor"},
    {"EXTD", 10, 10, "x2APIC mode"},
    {"EN", 11, 11, "local APIC on"},
    {"base", 51, 12, "page number of the xAPIC page"},
};

// Of a segment's hidden part. SDM 3A "Segment Descriptors".
constexpr RegisterField kAttributes[] = {
    {"type", 3, 0, "segment type"},
    {"S", 4, 4, "code or data, not a system segment"},
    {"DPL", 6, 5, "privilege level"},
    {"P", 7, 7, "present"},
    {"AVL", 12, 12, "for software"},
    {"L", 13, 13, "64-bit code"},
    {"D", 14, 14, "32 bits by default"},
    {"G", 15, 15, "the limit counts pages"},
};
constexpr RegisterLayout kLayouts[] = {
    {"rflags", kRflags},
    {"cr0", kCr0},
    {"cr3", kCr3},
    {"cr4", kCr4},
    {"cr8", kCr8},
    {"efer", kEfer},
    {"dr6", kDr6},
    {"dr7", kDr7},
    {"xcr0", kXcr0},
    {"mxcsr", kMxcsr},
    {"fcw", kFcw},
    {"fsw", kFsw},
    {"apic_base", kApicBase},
    {"attributes", kAttributes},
};

u64 mask_of(const RegisterField& field) { return low_mask(field.high - field.low + 1u) << field.low; }

std::string value_text(const RegisterField& field, u64 value) {
    const u64 part = bits(value, field.high, field.low);
    return field.high == field.low ? std::string(field.name) : fmt::format("{}={:#x}", field.name, part);
}

/// Set bits that belong to no field.
std::string unnamed(const RegisterLayout& layout, u64 value) {
    for (const RegisterField& field : layout.fields) value &= ~mask_of(field);
    // SDM: bits that are always set.
    if (layout.name == "rflags") value &= ~cpu::flag::Always1;
    if (layout.name == "dr6") value &= ~u64{0xffff0ff0};
    if (layout.name == "dr7") value &= ~u64{1 << 10};
    if (layout.name == "fcw") value &= ~u64{1 << 6};
    std::string text;
    for (unsigned i = 0; i < 64; ++i)
        if (bit(value, i)) text += fmt::format("{}bit {}", text.empty() ? "" : ", ", i);
    return text;
}

}  // namespace

std::span<const RegisterLayout> register_layouts() { return kLayouts; }

const RegisterLayout* register_layout(std::string_view name) {
    const auto it =
        std::find_if(std::begin(kLayouts), std::end(kLayouts), [name](const auto& each) { return each.name == name; });
    return it == std::end(kLayouts) ? nullptr : it;
}

std::string short_text(const RegisterLayout& layout, u64 value) {
    std::string text;
    for (const RegisterField& field : layout.fields)
        if ((value & mask_of(field)) != 0) text += (text.empty() ? "" : " ") + value_text(field, value);
    const std::string rest = unnamed(layout, value);
    if (!rest.empty()) text += (text.empty() ? "" : " ") + rest;
    return text.empty() ? "-" : text;
}

std::vector<std::string> long_text(const RegisterLayout& layout, u64 value) {
    std::vector<std::string> lines;
    std::string clear;
    for (const RegisterField& field : layout.fields) {
        if ((value & mask_of(field)) != 0) {
            lines.push_back(fmt::format("{}: {}", value_text(field, value), field.meaning));
        } else {
            clear += (clear.empty() ? "" : " ") + std::string(field.name);
        }
    }
    const std::string rest = unnamed(layout, value);
    if (!rest.empty()) lines.push_back(fmt::format("set without a name: {}", rest));
    if (!clear.empty()) lines.push_back(fmt::format("clear: {}", clear));
    return lines;
}

}  // namespace vg::model
