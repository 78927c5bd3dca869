// A kernel's memory with anything written over it: tables of symbols, type information, modules and ORC entries are
// found, or not, within bounds; whatever was found answers every question. First byte: the tables' form; then type
// information follows (its size in two bytes), then places and what is written there.
#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "tests/support/synthetic_kernel.h"
#include "ui/model/btf.h"
#include "ui/model/linux_kernel.h"
#include "ui/model/unwind.h"

using namespace vg;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size);

namespace {

constexpr u64 kBase = 0xffffffff9a000000;
constexpr u64 kIps = 0x20000, kEntries = 0x21000, kData = 0x23000, kTables = 0x28000;
constexpr unsigned kFunctions = 600;

/// Code, ORC tables, a page of data with the list of modules in it, a stack, and tables with these names.
test::BufferView make(test::KallsymsForm form) {
    test::BufferView view(kBase);
    view.bytes.resize(kTables);
    auto symbols = test::kernel_symbols(2200, kBase, false);
    const auto add = [&](u64 offset, const char* name) { symbols.push_back({kBase + offset, 'D', name}); };
    add(kIps - 0x100, "_etext");
    add(kIps, "__start_orc_unwind_ip");
    add(kEntries, "__start_orc_unwind");
    add(kEntries + 6 * kFunctions, "__stop_orc_unwind");
    add(kData, "modules");
    add(kData + 16, "vmcoreinfo_data");
    add(kData + 0x100, "__start_BTF");
    add(kData + 0x2000, "__stop_BTF");
    add(kTables, "_end");
    for (unsigned i = 0; i < kFunctions; ++i) {
        const u64 at = kIps + 4 * i;
        const u32 offset = static_cast<u32>(i * 48 - at);
        const u16 entry[] = {8, 0, static_cast<u16>(form == test::KallsymsForm::SelfRelative ? 0x205 : 5)};
        std::memcpy(view.bytes.data() + at, &offset, sizeof offset);
        std::memcpy(view.bytes.data() + kEntries + 6 * i, entry, sizeof entry);
    }
    test::append_kallsyms(view, symbols, form, kBase);
    view.align(kPageSize);
    return view;
}

void ask(const test::BufferView& view, model::LinuxKernel& kernel, u64 seed) {
    VG_ASSERT(kernel.symbols().entries().size() <= model::Kallsyms::kMaxSymbols);
    VG_ASSERT(kernel.modules().size() <= model::LinuxKernel::kMaxModules);
    for (unsigned i = 0; i < 16; ++i) {
        const u64 address = kBase + (seed >> i) % view.bytes.size();
        if (const auto place = kernel.place(address)) VG_ASSERT(place->offset <= address);
        (void)kernel.is_text(address);
        (void)kernel.address(i % 2 == 0 ? "_stext" : "nothing");
    }
    model::UnwindRegisters registers;
    registers.ip = kBase + seed % kIps;
    registers.sp = kBase + kData + 0x800 + (seed >> 8) % 0x1000;
    registers.bp = kBase + kData + 0x800 + (seed >> 20) % 0x1000;
    const auto frames = model::unwind(view, &kernel, registers, 64);
    VG_ASSERT(!frames.empty() && frames.size() <= 64);
    kernel.update(view);
    (void)kernel.still_in(view);
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static const test::BufferView kViews[] = {make(test::KallsymsForm::UpTo63),
                                              make(test::KallsymsForm::UpTo63WithSequence),
                                              make(test::KallsymsForm::From64), make(test::KallsymsForm::From64Percpu),
                                              make(test::KallsymsForm::SelfRelative)};
    if (size < 3) return 0;
    test::BufferView view = kViews[data[0] % std::size(kViews)];
    u16 types = 0;
    std::memcpy(&types, data + 1, sizeof types);
    const u8* at = data + 3;
    std::size_t left = size - 3;
    const std::size_t type_bytes = std::min<std::size_t>({types, left, 0x1f00});
    std::memcpy(view.bytes.data() + kData + 0x100, at, type_bytes);
    if (const auto btf = model::Btf::parse({at, at + type_bytes})) {
        (void)btf->offset("module", "kallsyms");
        (void)btf->offset("module", "arch.num_orcs");
        (void)btf->elements("module", "name");
    }
    at += type_bytes;
    left -= type_bytes;
    u64 seed = size;
    struct Patch {
        u32 where;
        u64 what;
    } __attribute__((packed));
    for (; left >= sizeof(Patch); at += sizeof(Patch), left -= sizeof(Patch)) {
        Patch patch;
        std::memcpy(&patch, at, sizeof patch);
        seed = seed * 31 + patch.what;
        std::memcpy(view.bytes.data() + patch.where % (view.bytes.size() - 8), &patch.what, sizeof patch.what);
    }
    if (auto kernel = model::LinuxKernel::find(view, kBase)) ask(view, *kernel, seed);
    return 0;
}
