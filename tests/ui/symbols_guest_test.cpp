// Stock kernels' symbols, modules and stacks against what the kernels say themselves.
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "machine/machine.h"
#include "tests/support/temp_dir.h"
#include "ui/model/symbols.h"

using namespace vg;
namespace fs = std::filesystem;

namespace {

/// Where a guest's file is: as VG_GUEST_DIR of the environment says, or where tools/make-guest puts it. "": not there.
std::string guest_file(const std::string& name) {
    const char* from = std::getenv("VG_GUEST_DIR");
    const std::string path = (from != nullptr ? std::string(from) : std::string(VG_GUEST_DIR)) + "/" + name;
    return fs::exists(path) ? path : "";
}

/// Names as /proc/kallsyms has them, without types, in the C locale's order; what the kernel makes up at run time is
/// left out.
constexpr const char* kInit = R"sh(#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
while read -r module; do $bb insmod /modules/$module 2>/dev/null; done </modules/order
$bb grep -vE '\[(bpf|__builtin__kprobes|__builtin__ftrace)\]' /proc/kallsyms |
    $bb awk '{ print $1, $3, $4 }' | LC_ALL=C $bb sort >/kallsyms
echo "kallsyms $($bb wc -l </kallsyms) $($bb md5sum </kallsyms)"
echo "its_text $($bb grep -E ' _text ?$' /kallsyms)"
while :; do
    $bb find /proc -name status -exec $bb cat {} ';' >/dev/null 2>&1
    $bb dd if=/dev/zero of=/file bs=64k count=8 2>/dev/null
    $bb sleep 0.01
done
)sh";

std::vector<u8> cpio_of(const std::string& name, const std::string& content, u32 mode) {
    std::string out;
    const auto entry = [&out](const std::string& file, const std::string& data, u32 file_mode) {
        out += fmt::format("070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", 1,
                           file_mode, 0, 0, 1, 0, data.size(), 0, 0, 0, 0, file.size() + 1, 0);
        out += file + '\0';
        while (out.size() % 4 != 0) out += '\0';
        out += data;
        while (out.size() % 4 != 0) out += '\0';
    };
    entry(name, content, 0100000 | mode);
    entry("TRAILER!!!", "", 0);
    return {out.begin(), out.end()};
}

struct Guest {
    Guest(const std::string& kernel, const std::string& initrd, const std::string& cmdline, bool bare) {
        std::vector<u8> ram_disk = test::read_file(initrd);
        while (ram_disk.size() % 4 != 0) ram_disk.push_back(0);
        const std::vector<u8> own = cpio_of("init", kInit, 0755);
        ram_disk.insert(ram_disk.end(), own.begin(), own.end());
        test::write_file(dir / "initrd", ram_disk);
        const std::string boot =
            fmt::format("kernel = \"{}\"\ninitrd = \"initrd\"\ncmdline = \"console=ttyS0 {}\"\n", kernel, cmdline);
        auto config = machine::parse_config(bare ? "[machine]\nmemory = \"512 MiB\"\n[boot]\n" + boot
                                                 : "[hypervisor]\n[[child]]\nmemory = \"512 MiB\"\n" + boot,
                                            "m.toml", dir / ".", {});
        REQUIRE(config);
        machine::MachineOptions options;
        options.console = [this](const std::string&, u8 byte) { console += static_cast<char>(byte); };
        auto made = machine::Machine::create(*config, std::move(options));
        REQUIRE(made);
        machine = std::move(*made);
        place = {bare ? 0u : 1u, 0};
    }
    /// Runs until the console shows a line that begins so; gives the rest of it.
    std::string line(const std::string& begin) {
        while (machine->now() < 60'000'000'000) {
            machine->run_until(machine->now() + 20'000'000);
            const std::size_t at = console.find(begin);
            const std::size_t end = at == std::string::npos ? at : console.find_first_of("\r\n", at);
            if (end != std::string::npos) return console.substr(at + begin.size(), end - at - begin.size());
        }
        FAIL("not on the console: " << begin << "\n"
                                    << console.substr(console.size() - std::min<std::size_t>(console.size(), 2000)));
        return "";
    }
    test::TempDir dir;
    std::string console;
    std::unique_ptr<machine::Machine> machine;
    model::SymbolPlace place;
    model::GuestSymbols symbols;
};

/// "COUNT MD5" of our symbols in the form of kInit.
std::string digest_of(Guest& guest) {
    std::vector<std::string> lines;
    for (const model::Symbol& symbol : guest.symbols.list(*guest.machine, guest.place, "", 2'000'000)) {
        lines.push_back(fmt::format("{:016x} {} {}\n", symbol.address, symbol.name,
                                    symbol.module.empty() ? "" : "[" + symbol.module + "]"));
    }
    std::sort(lines.begin(), lines.end());
    std::vector<u8> text;
    for (const std::string& line : lines) text.insert(text.end(), line.begin(), line.end());
    test::write_file(guest.dir / "ours", text);
    std::FILE* pipe = ::popen(fmt::format("md5sum <'{}'", guest.dir / "ours").c_str(), "r");
    REQUIRE(pipe != nullptr);
    char digest[64] = {};
    REQUIRE(std::fgets(digest, sizeof digest, pipe) != nullptr);
    ::pclose(pipe);
    return fmt::format("{} {}", lines.size(), std::string(digest, 32));
}

/// The last frame of the kernel, without its offset.
std::string outermost(const std::vector<model::StackFrame>& frames) {
    for (auto it = frames.rbegin(); it != frames.rend(); ++it)
        if (!it->symbol.empty()) return it->symbol.substr(0, it->symbol.find('+'));
    return "";
}

/// Stops in many places: stacks must reach where the kernel is entered, without a guess in all but one of fifty.
void check_stacks(Guest& guest, unsigned samples) {
    static const std::set<std::string> kEntries{
        "entry_SYSCALL_64_after_hwframe", "entry_SYSCALL_64",  "ret_from_fork", "ret_from_fork_asm",
        "secondary_startup_64_no_verify", "common_startup_64", "native_iret",   "asm_exc_page_fault",
        "common_interrupt_return",        "error_entry"};
    constexpr u64 kLowestUser = 0x1'0000, kHighestUser = 0x7fff'ffff'ffff;  // vm.mmap_min_addr, TASK_SIZE_MAX
    unsigned kernel = 0, user = 0, deep = 0, interrupted = 0, guessed = 0;
    for (unsigned i = 0; i < samples; ++i) {
        guest.machine->run_until(~VTime{0}, guest.machine->instructions() + 1'000'003);
        const auto frames = guest.symbols.stack(*guest.machine, guest.place, 256);
        REQUIRE_FALSE(frames.empty());
        if (frames[0].symbol.empty()) {
            ++user;
            continue;
        }
        ++kernel;
        if (frames.size() > 8) ++deep;
        std::string text;
        for (const auto& frame : frames) text += fmt::format("{:016x} {}\n", frame.pc, frame.symbol);
        INFO(text);
        if (text.find('?') != std::string::npos) {
            ++guessed;  // what lies behind a guess proves nothing
            continue;
        }
        if (text.find("asm_") != std::string::npos || text.find("sysvec_") != std::string::npos) ++interrupted;
        // Where an interrupt or a return to user space left its registers, the stack goes on to the program's own address.
        if (frames.size() > 1 && frames.back().pc >= kLowestUser && frames.back().pc <= kHighestUser) continue;
        const std::string last = outermost(frames);
        CHECK((kEntries.count(last) != 0 || last.rfind("asm_", 0) == 0 || last.rfind("entry_", 0) == 0 ||
               last.rfind("syscall_return", 0) == 0 || last.rfind("swapgs_restore", 0) == 0 ||
               last.rfind("irqentry", 0) == 0));
    }
    CHECK(guessed * 50 <= kernel);
    INFO("kernel " << kernel << " user " << user << " deep " << deep << " interrupted " << interrupted);
    CHECK(kernel > samples / 4);
    CHECK(deep > kernel / 8);
    CHECK(interrupted > 0);
}

void check_kernel(Guest& guest, bool moved, bool modules, bool stacks = true) {
    CHECK(guest.symbols.overview(*guest.machine, guest.place).kind == "none");  // nothing has run yet
    const std::string told = guest.line("kallsyms ");
    const std::string text = guest.line("its_text ");
    const auto start = std::chrono::steady_clock::now();
    const model::SymbolOverview overview = guest.symbols.overview(*guest.machine, guest.place);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    WARN("the search took " << ms << " ms");
    REQUIRE(overview.kind == "linux");
    CHECK(fmt::format("{:016x} _text", overview.text) == text.substr(0, 22));
    CHECK((overview.slide != 0) == moved);
    CHECK(overview.text == model::LinuxKernel::kLinkAddress + overview.slide);
    CHECK(overview.modules.empty() != modules);
    CHECK(digest_of(guest) == told.substr(0, told.find(' ') + 33));
    const u64 hash = guest.machine->state_hash();
    CHECK_FALSE(guest.symbols.stack(*guest.machine, guest.place, 256).empty());
    (void)guest.symbols.explain(*guest.machine, guest.place, "all");
    CHECK(guest.machine->state_hash() == hash);  // looking changes nothing
    if (stacks) check_stacks(guest, 300);
    CHECK(guest.symbols.find(*guest.machine, guest.place, "_text") == overview.text);
}

}  // namespace

TEST_CASE("symbols: Debian's kernel in a partition, moved: names, addresses, modules and stacks are its own",
          "[ui][symbols][slow]") {
    const std::string kernel = guest_file("vmlinuz"), initrd = guest_file("initrd.img");
    if (kernel.empty() || initrd.empty()) {
        WARN("skipped: no stock kernel; make it with tools/make-guest");
        return;
    }
    Guest guest(kernel, initrd, "", false);
    check_kernel(guest, true, true);
    CHECK(guest.symbols.overview(*guest.machine, guest.place).slide_told);
}

TEST_CASE("symbols: Debian's kernel on a bare PC, not moved", "[ui][symbols][slow]") {
    const std::string kernel = guest_file("vmlinuz"), initrd = guest_file("initrd.img");
    if (kernel.empty() || initrd.empty()) {
        WARN("skipped: no stock kernel; make it with tools/make-guest");
        return;
    }
    Guest guest(kernel, initrd, "nokaslr", true);
    check_kernel(guest, false, true);
}

TEST_CASE("symbols: Debian's general kernel on a bare PC", "[ui][symbols][slow]") {
    const std::string kernel = guest_file("../guest-pc/vmlinuz"), initrd = guest_file("../guest-pc/initrd.img");
    if (kernel.empty() || initrd.empty()) {
        WARN("skipped: no general kernel; make it with tools/make-pc-guest");
        return;
    }
    Guest guest(kernel, initrd, "", true);
    check_kernel(guest, true, true);
}

TEST_CASE("symbols: Linux 7.2 on a bare PC: another form of the tables", "[ui][symbols][slow]") {
    const char* root = std::getenv("VG_MSHV_KERNEL");
    const std::string kernel = root != nullptr ? root : guest_file("../root/bzImage"),
                      initrd = guest_file("initrd.img");
    if (kernel.empty() || !fs::exists(kernel) || initrd.empty()) {
        WARN("skipped: no Linux 7.2; name one in VG_MSHV_KERNEL");
        return;
    }
    Guest guest(kernel, initrd, "", true);
    check_kernel(guest, true, false, false);  // a third of its stacks have guesses yet, see docs/status.md
}
