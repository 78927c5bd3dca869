// A trace's file, and what of it is asked for, from anybody: read to the end with bounded memory, or an error.
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "machine/trace_file.h"
#include "tests/fuzz/input_bytes.h"
#include "ui/model/trace_output.h"
#include "ui/model/trace_view.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

using namespace vg;

namespace {

/// The content of a Code chunk, whose checksum a fuzzer would not find.
void decode(std::span<const u8> bytes) {
    if (bytes.empty()) return;
    const auto detail = static_cast<machine::TraceDetail>(bytes[0] & 3);
    machine::TraceDecoder decoder(bytes.subspan(1), detail);
    u64 seen = 0;
    while (true) {
        const machine::TraceDecoder::Item item = decoder.next();
        if (item == machine::TraceDecoder::Item::End || item == machine::TraceDecoder::Item::Damaged) return;
        if (item != machine::TraceDecoder::Item::Instruction) continue;
        const machine::TraceInstruction& i = decoder.instruction();
        VG_ASSERT(!i.bytes.empty() && i.bytes.size() <= cpu::kMaxInsnLength);
        for (const machine::TraceAccess& access : i.accesses) VG_ASSERT(access.value.size() <= access.bytes);
        constexpr u64 kEnough = 1u << 16;
        if (++seen > kEnough) return;
    }
}

void read_file(std::span<const u8> bytes) {
    char path[] = "/tmp/trace-fuzz-XXXXXX";
    const int file = ::mkstemp(path);
    if (file < 0) return;
    const bool written = ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    ::close(file);
    if (written) {
        if (auto trace = machine::TraceFile::open(path)) {
            const auto form = model::make_text_output(**trace, [](std::string_view) {});
            const model::TraceQuery query;
            u64 looks = 0;
            (void)model::walk_trace(**trace, query, *form, [&](u64, u64) { return ++looks < 16; });
            form->finish();
        }
    }
    ::unlink(path);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size == 0) return 0;
    const std::span<const u8> rest(data + 1, size - 1);
    const std::string text(rest.begin(), rest.end());
    switch (data[0] % 4) {
        case 0:
            decode(rest);
            break;
        case 1:
            read_file(rest);
            break;
        case 2: {
            const std::vector<machine::TraceSymbol> symbols = {{1, 0x1000, 0x100, "start", ""},
                                                               {1, 0x2000, 0x100, "f", "m"}};
            if (auto filter = model::TraceFilter::compile(text, symbols)) {
                machine::TraceContext context;
                machine::TraceInstruction instruction;
                instruction.context = &context;
                (void)filter->matches(instruction);
                (void)filter->matches(machine::TraceEvent{});
                (void)filter->possible(context);
            }
            break;
        }
        default:
            (void)model::TraceWindow::parse(text);
            break;
    }
    return 0;
}
