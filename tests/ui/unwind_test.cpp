// Call stacks by ORC tables, frame pointers and guessing, in a kernel that a test lays out.
#include "ui/model/unwind.h"

#include <catch2/catch.hpp>

#include "tests/support/synthetic_kernel.h"

using namespace vg;
using namespace vg::test;
using model::LinuxKernel;
using model::UnwoundFrame;

namespace {

constexpr u64 kBase = 0xffffffff9a000000;
constexpr u64 kIps = kBase + 0x40000, kEntries = kBase + 0x42000, kStack = kBase + 0x50000, kTables = kBase + 0x60000;
constexpr u16 kSp = 5, kBp = 4, kBpIndirect = 8, kSpIndirect = 9, kPrevSp = 1;

enum class Type { Call, Regs, RegsPartial, End };

/// One function's entry, from its start on.
struct Row {
    unsigned function;  ///< index of its symbol
    s16 sp_offset = 0, bp_offset = 0;
    u16 sp_reg = kSp, bp_reg = 0;
    Type type = Type::Call;
};

u64 start(unsigned function) { return kBase + function * 48; }

struct Kernel {
    explicit Kernel(bool three_bits, std::vector<Row> rows = {}) {
        view.bytes.resize(kTables - kBase);
        auto symbols = kernel_symbols(3000, kBase, false);
        symbols.push_back({kBase + 0x3f000, 'T', "_etext"});
        if (!rows.empty()) put_orc(symbols, rows, three_bits);
        symbols.push_back({kBase + 0x5f000, 'B', "_end"});
        append_kallsyms(view, symbols, three_bits ? KallsymsForm::SelfRelative : KallsymsForm::UpTo63, kBase);
        view.align(kPageSize);
        auto found = LinuxKernel::find(view, kBase);
        REQUIRE(found);
        kernel = std::move(found);
    }

    /// A row for every function, so that the form can be told: those that are not named are plain calls.
    void put_orc(std::vector<KernelSymbol>& symbols, const std::vector<Row>& rows, bool three_bits) {
        constexpr unsigned kFunctions = 1000;
        for (unsigned i = 0; i < kFunctions; ++i) {
            Row row{i, 8};
            for (const Row& each : rows)
                if (each.function == i) row = each;
            put(kIps + 4 * i, static_cast<u32>(start(i) - (kIps + 4 * i)));
            const u16 type = three_bits ? static_cast<u16>(row.type == Type::End ? 1 : static_cast<u16>(row.type) + 2)
                                        : static_cast<u16>(row.type == Type::End ? 4 : static_cast<u16>(row.type));
            put(kEntries + 6 * i, row.sp_offset);
            put(kEntries + 6 * i + 2, row.bp_offset);
            put(kEntries + 6 * i + 4,
                static_cast<u16>((row.type == Type::End ? 0 : row.sp_reg) | row.bp_reg << 4 | type << 8));
        }
        symbols.push_back({kIps, 'D', "__start_orc_unwind_ip"});
        symbols.push_back({kEntries, 'D', "__start_orc_unwind"});
        symbols.push_back({kEntries, 'D', "__stop_orc_unwind_ip"});
        symbols.push_back({kEntries + 6 * kFunctions, 'D', "__stop_orc_unwind"});
    }

    template <class T>
    void put(u64 address, T value) {
        std::memcpy(view.bytes.data() + (address - kBase), &value, sizeof value);
    }
    /// A return address in a function, behind a call.
    u64 behind_call(unsigned function) {
        put(start(function) + 16, u8{0xe8});
        return start(function) + 21;
    }
    [[nodiscard]] std::vector<UnwoundFrame> unwind(u64 ip, u64 sp, u64 bp = 0, std::size_t limit = 64) const {
        model::UnwindRegisters registers;
        registers.ip = ip;
        registers.sp = sp;
        registers.bp = bp;
        return model::unwind(view, &*kernel, registers, limit);
    }
    BufferView view{kBase};
    std::optional<LinuxKernel> kernel;
};

std::vector<u64> pcs(const std::vector<UnwoundFrame>& frames) {
    std::vector<u64> out;
    for (const UnwoundFrame& frame : frames) out.push_back(frame.pc);
    return out;
}
bool exact(const std::vector<UnwoundFrame>& frames) {
    for (const UnwoundFrame& frame : frames)
        if (frame.kind != UnwoundFrame::Kind::Kernel) return false;
    return true;
}

}  // namespace

TEST_CASE("unwind: calls are followed by each base that ORC knows, to the frame that ends", "[ui][symbols]") {
    const bool three_bits = GENERATE(false, true);
    Kernel k(three_bits, {{10, 24},
                          {20, 16, -16, kBp, kPrevSp},
                          {30, -8, 0, kBpIndirect},
                          {40, 8, 0, kSpIndirect},
                          {50, 0, 0, 0, 0, Type::End}});
    REQUIRE(k.kernel->orc(start(10)) != nullptr);
    CHECK(k.kernel->orc(start(10))->form() ==
          (three_bits ? model::OrcTable::Form::ThreeBits : model::OrcTable::Form::TwoBits));
    // Function 10 has 16 bytes of its own below its return address into 20, whose frame is by RBP.
    k.put(kStack + 16, k.behind_call(20));
    const u64 bp20 = kStack + 0x100;
    k.put(bp20, kStack + 0x200);  // RBP of the caller
    k.put(bp20 + 8, k.behind_call(30));
    // Function 30 has the caller's stack pointer stored below its RBP: another stack.
    k.put(kStack + 0x200 - 8, kStack + 0x308);
    k.put(kStack + 0x300, k.behind_call(40));
    // Function 40 has it where its stack pointer leads.
    k.put(kStack + 0x308, kStack + 0x400);
    k.put(kStack + 0x400, k.behind_call(50));
    const auto frames = k.unwind(start(10) + 4, kStack, bp20);
    CHECK(pcs(frames) ==
          std::vector<u64>{start(10) + 4, start(20) + 21, start(30) + 21, start(40) + 21, start(50) + 21});
    CHECK(exact(frames));
    CHECK(pcs(k.unwind(start(10) + 4, kStack, bp20, 3)).size() == 3);
}

TEST_CASE("unwind: an interrupted function goes on at its own instruction, with its registers", "[ui][symbols]") {
    const bool three_bits = GENERATE(false, true);
    Kernel k(three_bits, {{10, 8, 0, kSp, 0, Type::Regs}, {20, 16, -16, kBp, kPrevSp}, {30, 0, 0, 0, 0, Type::End}});
    const u64 regs = kStack + 8;       // struct pt_regs
    k.put(regs + 32, kStack + 0x200);  // bp
    k.put(regs + 128, start(20));      // ip: the very first instruction, which is not the function before it
    k.put(regs + 136, u64{0x10});
    k.put(regs + 152, kStack + 0x180);
    k.put(kStack + 0x208, k.behind_call(30));
    const auto frames = k.unwind(start(10), kStack);
    CHECK(pcs(frames) == std::vector<u64>{start(10), start(20), start(30) + 21});
    CHECK(frames[1].sp == kStack + 0x180);
    CHECK(frames[1].interrupted);
    CHECK_FALSE(frames[2].interrupted);
}

TEST_CASE("unwind: what a processor pushed from user mode ends the kernel's stack", "[ui][symbols]") {
    Kernel k(false, {{10, 0, 0, kSp, 0, Type::RegsPartial}});
    k.put(kStack, u64{0x401000});
    k.put(kStack + 8, u64{0x33});
    k.put(kStack + 24, u64{0x7fff0000});
    const auto frames = k.unwind(start(10), kStack);
    REQUIRE(frames.size() == 2);
    CHECK(frames[1].pc == 0x401000);
    CHECK(frames[1].sp == 0x7fff0000);
    CHECK(frames[1].kind == UnwoundFrame::Kind::User);
}

TEST_CASE("unwind: where the tables end, return addresses on the stack are guessed and marked", "[ui][symbols]") {
    Kernel k(false, {{10, 8}});
    k.put(kStack, u64{0x1234});          // not into the kernel
    k.put(kStack + 24, start(20) + 21);  // into it, but not behind a call
    k.put(kStack + 32, k.behind_call(30));
    k.put(kStack + 48, k.behind_call(40));
    const auto frames = k.unwind(start(10), kStack);
    REQUIRE(frames.size() == 4);
    CHECK(frames[1].pc == 0x1234);
    CHECK(frames[2].pc == start(30) + 21);
    CHECK(frames[2].kind == UnwoundFrame::Kind::Guess);
    CHECK(frames[3].pc == start(40) + 21);
}

TEST_CASE("unwind: stacks that lead nowhere or to themselves end", "[ui][symbols]") {
    Kernel k(false, {{10, 0, 0, kSpIndirect}, {20, 8, 0, kSp, 0, Type::Regs}});
    // The frame's end is where the frame is.
    k.put(kStack + 8, kStack + 16);
    k.put(kStack + 8, kStack + 8 + 8);
    CHECK(k.unwind(start(10), kStack + 8).size() <= 64);
    // Saved registers that name the same place again.
    k.put(kStack + 8 + 128, start(20));
    k.put(kStack + 8 + 136, u64{0x10});
    k.put(kStack + 8 + 152, kStack);
    CHECK(k.unwind(start(20), kStack).size() == 1);
    // No stack at all.
    CHECK(k.unwind(start(100), 0x1000).size() == 1);
    CHECK(k.unwind(0xdead, 0).size() == 1);
    CHECK(k.unwind(start(10), ~u64{7}).size() == 1);
}

TEST_CASE("unwind: a kernel with frame pointers is followed by RBP, from inside of prologues too", "[ui][symbols]") {
    Kernel k(false);
    const u64 bp = kStack + 0x100;
    k.put(bp, kStack + 0x180);
    k.put(bp + 8, k.behind_call(20));
    k.put(kStack + 0x180, u64{0});
    k.put(kStack + 0x188, k.behind_call(30));
    const std::vector<u64> callers{start(20) + 21, start(30) + 21};
    const auto callers_of = [&](u64 ip, u64 sp, u64 frame) {
        std::vector<u64> all = pcs(k.unwind(ip, sp, frame));
        all.erase(all.begin());
        all.resize(std::min<std::size_t>(all.size(), 2));
        return all;
    };
    CHECK(callers_of(start(10) + 20, kStack, bp) == callers);  // in the body
    // At PUSH RBP, and behind it: the caller's frame is still in RBP, or on the stack.
    k.put(start(10), u8{0x55});
    k.put(kStack, start(20) + 21);
    k.put(kStack + 0x80, kStack + 0x180);
    k.put(kStack + 0x80 + 8, start(30) + 21);
    CHECK(callers_of(start(10), kStack, kStack + 0x80) == std::vector<u64>{start(20) + 21, start(30) + 21});
    k.put(kStack - 8 + 0x10, u64{0});
    k.put(kStack + 0x40, kStack + 0x80);
    k.put(kStack + 0x48, start(20) + 21);
    CHECK(callers_of(start(10) + 1, kStack + 0x40, 0x5555) == std::vector<u64>{start(20) + 21, start(30) + 21});
    // Saved registers behind an RBP with bit 0 set.
    const u64 regs = kStack + 0x400;
    k.put(regs + 32, bp);
    k.put(regs + 128, start(50) + 9);
    k.put(regs + 152, kStack);
    CHECK(callers_of(start(10) + 20, kStack, regs | 1) == std::vector<u64>{start(50) + 9, start(20) + 21});
}
