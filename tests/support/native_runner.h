// Executes one instruction on the host processor with a complete user-mode state, and survives whatever it does.
#pragma once

#include <iterator>
#include <vector>

#include "base/types.h"
#include "cpu/vp_state.h"

namespace vg::test {

/// User-mode state that both the host and a VP have.
struct UserState {
    u64 gpr[16] = {};
    u64 rip = 0;
    u64 rflags = 0x202;
    u8 ymm[16][32] = {};
    u32 mxcsr = 0x1f80;
    cpu::X87State x87{};
    u64 fs_base = 0, gs_base = 0;  ///< used where own_bases is set, canonical and below 2^47
    bool own_bases = false;        ///< the code is run with these bases; else with the host program's
};

struct NativeOutcome {
    int vector = -1;  ///< the exception it raised, or -1: it completed
    u64 error_code = 0;
    u64 address = 0;  ///< CR2 of a page fault
    UserState state;
};

/// One per process at a time: it owns the handlers of SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP while it lives.
/// Code runs at kCode and the data it may touch lies at kData: the same addresses as in a VP that maps them one to one.
class NativeRunner {
  public:
    static constexpr u64 kCode = 0x10000000, kData = 0x10010000;
    /// What user code may do with each page of the data: every border between kinds is there. None is executable.
    enum class Page : u8 { None, ReadOnly, Writable };
    static constexpr Page kPages[] = {Page::Writable, Page::Writable, Page::ReadOnly, Page::None, Page::Writable};
    static constexpr u64 kDataSize = std::size(kPages) * kPageSize;

    NativeRunner();
    ~NativeRunner();
    NativeRunner(const NativeRunner&) = delete;
    NativeRunner& operator=(const NativeRunner&) = delete;

    /// Writable view of the code page (which itself is not writable): everything but what the test puts there is INT3.
    [[nodiscard]] u8* code() { return code_; }
    /// View of all the data, whatever user code may do with it.
    [[nodiscard]] u8* data() { return data_; }

    /// Starts at state.rip, with what code() and data() hold, and stops at the first INT3 or exception. RIP of a
    /// completed instruction is that of the INT3. Of RFLAGS, only status flags and DF are taken.
    [[nodiscard]] NativeOutcome run(const UserState& state);

  private:
    u8 *code_, *data_;
};

}  // namespace vg::test
