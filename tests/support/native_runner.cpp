#include "tests/support/native_runner.h"

#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

#include "base/assert.h"

namespace vg::test {

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
constexpr std::size_t kStackSize = 1 << 16, kMaxFrame = 1 << 14;
constexpr std::size_t kHeaderOffset = 512, kYmmOffset = 576, kSoftwareBytes = 464;

/// What the handlers work on. Signal handlers have no other way to get at it.
struct Session {
    bool entering = false;
    const UserState* input = nullptr;
    NativeOutcome outcome;
    gregset_t host_registers;
    alignas(64) u8 host_fpu[kMaxFrame];
    std::size_t host_fpu_size = 0;
    struct sigaction old_actions[5];
    stack_t old_stack;
    u8* stack = nullptr;
    u64 host_fs = 0, host_gs = 0;
};

Session* session;

constexpr int kGregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
constexpr u64 kFlagsTaken = 0xcd5;

std::size_t fpu_size(const u8* fpu) {
    u32 software[2];
    std::memcpy(software, fpu + kSoftwareBytes, sizeof software);
    VG_ASSERT(software[0] == 0x46505853);  // FP_XSTATE_MAGIC1
    VG_ASSERT(software[1] <= kMaxFrame);
    return software[1];
}

void load(ucontext_t& context, const UserState& state) {
    auto& registers = context.uc_mcontext.gregs;
    for (unsigned n = 0; n < 16; ++n) registers[kGregs[n]] = static_cast<greg_t>(state.gpr[n]);
    registers[REG_RIP] = static_cast<greg_t>(state.rip);
    registers[REG_EFL] = static_cast<greg_t>((state.rflags & kFlagsTaken) | 0x202);
    u8* fpu = reinterpret_cast<u8*>(context.uc_mcontext.fpregs);
    std::memcpy(fpu, &state.x87, 24);
    std::memcpy(fpu + 24, &state.mxcsr, 4);
    std::memcpy(fpu + 32, state.x87.st, 128);
    for (unsigned n = 0; n < 16; ++n) {
        std::memcpy(fpu + 160 + 16 * n, state.ymm[n], 16);
        std::memcpy(fpu + kYmmOffset + 16 * n, state.ymm[n] + 16, 16);
    }
    const u64 components = 7;
    std::memcpy(fpu + kHeaderOffset, &components, sizeof components);
}

void store(const ucontext_t& context, UserState& state) {
    const auto& registers = context.uc_mcontext.gregs;
    for (unsigned n = 0; n < 16; ++n) state.gpr[n] = static_cast<u64>(registers[kGregs[n]]);
    state.rip = static_cast<u64>(registers[REG_RIP]);
    state.rflags = static_cast<u64>(registers[REG_EFL]);
    const u8* fpu = reinterpret_cast<const u8*>(context.uc_mcontext.fpregs);
    u64 components;
    std::memcpy(&components, fpu + kHeaderOffset, sizeof components);
    std::memset(&state.x87, 0, sizeof state.x87);
    state.x87.fcw = 0x37f;
    if ((components & 1) != 0) {
        std::memcpy(&state.x87, fpu, 24);
        std::memcpy(state.x87.st, fpu + 32, 128);
    }
    std::memcpy(&state.mxcsr, fpu + 24, 4);
    std::memset(state.ymm, 0, sizeof state.ymm);
    for (unsigned n = 0; n < 16; ++n) {
        if ((components & 2) != 0) std::memcpy(state.ymm[n], fpu + 160 + 16 * n, 16);
        if ((components & 4) != 0) std::memcpy(state.ymm[n] + 16, fpu + kYmmOffset + 16 * n, 16);
    }
}

/// arch_prctl without the C library, which may want the segment bases that it changes.
inline void change_base(unsigned long what, u64 value) {
    long result = SYS_arch_prctl;
    asm volatile("syscall" : "+a"(result) : "D"(what), "S"(value) : "rcx", "r11", "memory");
}

/// First signal: from host code to the test; second: back. Signals do not save segment bases, and nothing here uses them.
void handle(int, siginfo_t*, void* argument) {
    ucontext_t& context = *static_cast<ucontext_t*>(argument);
    Session& s = *session;
    u8* fpu = reinterpret_cast<u8*>(context.uc_mcontext.fpregs);
    if (s.entering) {
        s.entering = false;
        std::memcpy(s.host_registers, context.uc_mcontext.gregs, sizeof s.host_registers);
        s.host_fpu_size = fpu_size(fpu);
        std::memcpy(s.host_fpu, fpu, s.host_fpu_size);
        load(context, *s.input);
        if (!s.input->own_bases) return;
        change_base(ARCH_SET_GS, s.input->gs_base);
        change_base(ARCH_SET_FS, s.input->fs_base);
        return;
    }
    if (s.input->own_bases) {
        change_base(ARCH_SET_FS, s.host_fs);
        change_base(ARCH_SET_GS, s.host_gs);
    }
    store(context, s.outcome.state);
    const auto& registers = context.uc_mcontext.gregs;
    constexpr int kBreakpoint = 3;
    const int vector = static_cast<int>(registers[REG_TRAPNO]);
    s.outcome.vector = vector == kBreakpoint ? -1 : vector;
    if (vector == kBreakpoint) --s.outcome.state.rip;
    s.outcome.error_code = static_cast<u64>(registers[REG_ERR]);
    s.outcome.address = static_cast<u64>(registers[REG_CR2]);
    std::memcpy(context.uc_mcontext.gregs, s.host_registers, sizeof s.host_registers);
    std::memcpy(fpu, s.host_fpu, s.host_fpu_size);
}

void* map(void* at, u64 size, int protection, int flags, int fd, u64 offset = 0) {
    void* p = mmap(at, size, protection, flags | MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
    VG_ASSERT(p != MAP_FAILED && (at == nullptr || p == at));
    return p;
}

/// Memory in two views: one as user code sees it, at a fixed address, and the writable one that is returned.
u8* two_views(u64 address, u64 size, const std::vector<int>& protections) {
    const int fd = memfd_create("native-runner", MFD_CLOEXEC);
    VG_ASSERT(fd >= 0 && ftruncate(fd, static_cast<off_t>(size)) == 0);
    u8* const writable = static_cast<u8*>(map(nullptr, size, PROT_READ | PROT_WRITE, 0, fd));
    for (std::size_t page = 0; page < protections.size(); ++page) {
        void* const at = reinterpret_cast<void*>(address + page * kPageSize);
        map(at, kPageSize, protections[page], MAP_FIXED_NOREPLACE, fd, page * kPageSize);
    }
    close(fd);
    return writable;
}

int protection_of(NativeRunner::Page page) {
    switch (page) {
        case NativeRunner::Page::None: return PROT_NONE;
        case NativeRunner::Page::ReadOnly: return PROT_READ;
        case NativeRunner::Page::Writable: return PROT_READ | PROT_WRITE;
    }
    return PROT_NONE;
}

}  // namespace

NativeRunner::NativeRunner() {
    VG_ASSERT(session == nullptr);
    session = new Session;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &session->host_fs);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &session->host_gs);
    code_ = two_views(kCode, kPageSize, {PROT_READ | PROT_EXEC});
    std::vector<int> protections;
    for (const Page page : kPages) protections.push_back(protection_of(page));
    data_ = two_views(kData, kDataSize, protections);
    std::memset(code(), 0xcc, kPageSize);
    session->stack = new u8[kStackSize];
    stack_t stack{};
    stack.ss_sp = session->stack;
    stack.ss_size = kStackSize;
    VG_ASSERT(sigaltstack(&stack, &session->old_stack) == 0);
    struct sigaction action {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (std::size_t n = 0; n < std::size(kSignals); ++n)
        VG_ASSERT(sigaction(kSignals[n], &action, &session->old_actions[n]) == 0);
}

NativeRunner::~NativeRunner() {
    for (std::size_t n = 0; n < std::size(kSignals); ++n) sigaction(kSignals[n], &session->old_actions[n], nullptr);
    sigaltstack(&session->old_stack, nullptr);
    munmap(code_, kPageSize);
    munmap(reinterpret_cast<void*>(kCode), kPageSize);
    munmap(data_, kDataSize);
    munmap(reinterpret_cast<void*>(kData), kDataSize);
    delete[] session->stack;
    delete session;
    session = nullptr;
}

NativeOutcome NativeRunner::run(const UserState& state) {
    session->input = &state;
    session->entering = true;
    asm volatile("int3" ::: "memory");
    return session->outcome;
}

}  // namespace vg::test
