// A small virtual machine monitor on /dev/mshv: it boots a Linux kernel in a child partition as far as its first console
// lines, or a test program of a few instructions, and takes it apart again, a number of times. It runs inside a Linux root
// partition, from an initramfs: as /init it mounts what it needs and powers the machine off at the end.
//
// Arguments (of the kernel's command line too, after "--"): kernel=FILE cycles=N until=TEXT
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "hv/spec/intercept.h"
#include "hv/spec/partition.h"
#include "hv/spec/registers.h"
#include "hv/spec/vp_state.h"
#include "roms/vmm/disks.h"
#include "roms/vmm/linux_boot.h"
#include "roms/vmm/misuse.h"
#include "roms/vmm/mmio.h"
#include "roms/vmm/mshv.h"

namespace vg::vmm {
namespace {

constexpr u64 kMemory = u64{192} << 20;
constexpr u64 kScratch = 0xd0000000;  ///< a page that only MMIO exits answer: what was written is read back

struct Machine {
    int device = -1, partition = -1, vp = -1;
    u8* memory = nullptr;
    hv::RegisterPage* registers = nullptr;
    u64 scratch = 0;
    std::string console;
    u64 port_exits = 0, memory_exits = 0;
    std::string until;
    bool over = false;
};

[[noreturn]] void die(const char* what) {
    std::printf("vmm: %s: %s\n", what, std::strerror(errno));
    std::fflush(stdout);
    std::exit(1);
}

/// @return the hypervisor's status
u16 hypercall(int fd, u16 code, void* input, u16 size, u16 reps, void* output = nullptr, u16 output_size = 0) {
    RootHypercall call{};
    call.code = code;
    call.reps = reps;
    call.input_size = size;
    call.output_size = output_size;
    call.input = reinterpret_cast<u64>(input);
    call.output = reinterpret_cast<u64>(output);
    if (ioctl(fd, kRootHypercall, &call) != 0 && call.status == 0) die("hypercall");
    return call.status;
}

void set_registers(Machine& m, const std::vector<hv::RegisterAssignment>& list) {
    std::vector<u8> input(sizeof(hv::VpRegistersHeader) + list.size() * sizeof(hv::RegisterAssignment));
    std::memcpy(input.data() + sizeof(hv::VpRegistersHeader), list.data(), list.size() * sizeof(hv::RegisterAssignment));
    const u16 status = hypercall(m.vp, 0x51, input.data(), static_cast<u16>(input.size()), static_cast<u16>(list.size()));
    if (status != 0) {
        std::printf("vmm: SetVpRegisters: status %#x\n", status);
        std::exit(1);
    }
}

void open_machine(Machine& m) {
    m.device = open("/dev/mshv", O_RDWR | O_CLOEXEC);
    if (m.device < 0) die("/dev/mshv");
    CreatePartition create{kPartitionLapic | kPartitionX2Apic, 0};
    m.partition = ioctl(m.device, kCreatePartition, &create);
    if (m.partition < 0) die("create partition");
    if (ioctl(m.partition, kInitializePartition) != 0) die("initialize partition");
    m.memory = static_cast<u8*>(mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (m.memory == MAP_FAILED) die("memory");
    MemoryRegion region{kMemory, 0, reinterpret_cast<u64>(m.memory), kWritable | kExecutable, {}};
    if (ioctl(m.partition, kSetGuestMemory, &region) != 0) die("set guest memory");
    CreateVp vp{0};
    m.vp = ioctl(m.partition, kCreateVp, &vp);
    if (m.vp < 0) die("create vp");
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, m.vp, kRegisterPage * 4096);
    if (page == MAP_FAILED) die("register page");
    m.registers = static_cast<hv::RegisterPage*>(page);
}

void close_machine(Machine& m) {
    munmap(m.registers, 4096);
    close(m.vp);
    close(m.partition);
    munmap(m.memory, kMemory);
    close(m.device);
}

/// What a port answers: COM1 always ready to send, everything else nobody.
u32 read_port(u16 port) {
    constexpr u16 kLineStatus = 0x3fd, kCom1 = 0x3f8, kCom1Last = 0x3ff;
    constexpr u32 kTransmitterEmpty = 0x60;
    if (port == kLineStatus) return kTransmitterEmpty;
    return port >= kCom1 && port <= kCom1Last ? 0 : ~u32{0};
}

void write_port(Machine& m, u16 port, u32 value) {
    if (port != 0x3f8) return;
    const char c = static_cast<char>(value);
    m.console += c;
    std::putchar(c);
    if (c == '\n' && !m.until.empty() && m.console.find(m.until) != std::string::npos) m.over = true;
}

void on_port(Machine& m, const hv::IoPortIntercept& io) {
    ++m.port_exits;
    const unsigned size = io.access_info & 7;
    if ((io.access_info & hv::io_access::kString) != 0) {
        std::printf("vmm: string I/O at port %#x is not emulated\n", io.port);
        m.over = true;
        return;
    }
    const u32 mask = size == 4 ? ~u32{0} : (u32{1} << (8 * size)) - 1;
    if (io.header.access == static_cast<u8>(hv::InterceptAccess::Write)) {
        write_port(m, io.port, static_cast<u32>(io.rax) & mask);
    } else {
        const u64 value = read_port(io.port) & mask;
        m.registers->gpr[0] = size == 4 ? value : (io.rax & ~u64{mask}) | value;
        m.registers->dirty |= hv::register_page_dirty::kGprs;
    }
    m.registers->rip = io.header.rip + (io.header.length_and_cr8 & 0xf);
    m.registers->dirty |= hv::register_page_dirty::kRip;
}

void on_memory(Machine& m, const hv::MemoryIntercept& access) {
    ++m.memory_exits;
    MmioMove move;
    const bool wide = (access.header.execution_state & hv::execution_state::kLongMode) != 0;
    if (!decode_move(access.instruction, access.instruction_bytes, wide, move)) {
        std::printf("vmm: GPA %#llx: instruction is not emulated\n", static_cast<unsigned long long>(access.gpa));
        m.over = true;
        return;
    }
    u64& cell = m.scratch;
    const bool ours = (access.gpa & ~u64{0xfff}) == kScratch;
    const u64 mask = move.size == 8 ? ~u64{0} : (u64{1} << (8 * move.size)) - 1;
    if (move.store) {
        const u64 value = move.immediate ? move.value : m.registers->gpr[move.reg];
        if (ours) cell = (cell & ~mask) | (value & mask);
    } else {
        const u64 value = (ours ? cell : ~u64{0}) & mask;
        u64& reg = m.registers->gpr[move.reg];
        reg = move.size >= 4 || move.zero_extend ? value : (reg & ~mask) | value;
        m.registers->dirty |= hv::register_page_dirty::kGprs;
    }
    m.registers->rip = access.header.rip + move.length;
    m.registers->dirty |= hv::register_page_dirty::kRip;
}

template <class T>
T payload(const RunVp& run) {
    T out;
    std::memcpy(&out, run.message + hv::kMessagePayloadOffset, sizeof out);
    return out;
}

/// Until the child is over. @return the type of the message that ended it, 0 if it was `until`
u32 run(Machine& m, u64 max_exits) {
    for (u64 exits = 0; exits < max_exits && !m.over; ++exits) {
        RunVp run{};
        if (ioctl(m.vp, kRunVp, &run) != 0) {
            if (errno == EINTR) continue;
            die("run vp");
        }
        u32 type = 0;
        std::memcpy(&type, run.message, sizeof type);
        switch (static_cast<hv::MessageType>(type)) {
            case hv::MessageType::IoPortIntercept: on_port(m, payload<hv::IoPortIntercept>(run)); break;
            case hv::MessageType::UnmappedGpa:
            case hv::MessageType::GpaIntercept: on_memory(m, payload<hv::MemoryIntercept>(run)); break;
            default: return type;
        }
    }
    return 0;
}

// ---- children

hv::RegisterAssignment assign(u32 name, u64 low, u64 high = 0) { return {name, {}, {low, high}}; }

hv::RegisterAssignment assign_segment(u32 name, u16 selector, u16 attributes, u32 limit = 0xffffffff) {
    const hv::SegmentValue value{0, limit, selector, attributes};
    hv::RegisterAssignment out = assign(name, 0);
    std::memcpy(&out.value, &value, sizeof value);
    return out;
}

/// Real mode: a byte to a port, a word to the scratch page and back, the result to another port, halt by a port.
void load_program(Machine& m) {
    // mov al,'V'; out e9..: 3f8; a 32-bit store and load at kScratch through ES with a flat limit; out 80,eax; out f4,al
    static const u8 kCode[] = {0xba, 0xf8, 0x03, 0xb0, 0x56, 0xee,                          // COM1: 'V'
                               0x66, 0xb8, 0x78, 0x56, 0x34, 0x12,                          // mov eax, 12345678
                               0x67, 0x66, 0xa3, 0x00, 0x00, 0x00, 0xd0,                    // mov [d0000000], eax
                               0x66, 0x31, 0xc0,                                            // xor eax, eax
                               0x67, 0x66, 0x8b, 0x1d, 0x00, 0x00, 0x00, 0xd0,              // mov ebx, [d0000000]
                               0xf4};
    std::memcpy(m.memory + 0x1000, kCode, sizeof kCode);
    set_registers(m, {assign(hv::reg::kRip, 0x1000), assign(hv::reg::kRflags, 2),
                      assign_segment(hv::reg::kCs, 0, 0x9b, 0xffff), assign_segment(hv::reg::kDs, 0, 0x93)});
}

bool load_linux(Machine& m, const std::string& path, const std::string& cmdline) {
    LinuxEntry entry{};
    if (!load_bzimage(path.c_str(), cmdline.c_str(), m.memory, kMemory, entry)) return false;
    const auto table = [](u32 name, u64 base, u16 limit) {
        const hv::TableValue value{{}, limit, base};
        hv::RegisterAssignment out = assign(name, 0);
        std::memcpy(&out.value, &value, sizeof value);
        return out;
    };
    set_registers(m, {assign(hv::reg::kCr0, 0x80000033), assign(hv::reg::kCr3, entry.cr3), assign(hv::reg::kCr4, 0x20),
                      assign(hv::reg::kEfer, 0x500), assign(hv::reg::kRip, entry.rip), assign(hv::reg::kRax + 6, entry.rsi),
                      assign(hv::reg::kRflags, 2), assign_segment(hv::reg::kCs, 0x10, 0xa09b),
                      assign_segment(hv::reg::kDs, 0x18, 0xc093), assign_segment(hv::reg::kEs, 0x18, 0xc093),
                      assign_segment(hv::reg::kSs, 0x18, 0xc093), table(hv::reg::kGdtr, entry.gdt, 31),
                      table(hv::reg::kIdtr, 0, 0)});
    return true;
}

struct Options {
    std::string kernel, until = "Linux version";
    std::string disks, misuse;
    std::string cmdline = "earlyprintk=serial,ttyS0 console=ttyS0 acpi=off pci=off panic=-1";
    unsigned cycles = 1;
};

void parse(Options& options, const std::string& word) {
    const auto value = [&](const char* key) -> const char* {
        const std::size_t length = std::strlen(key);
        return word.compare(0, length, key) == 0 ? word.c_str() + length : nullptr;
    };
    if (const char* v = value("vmm.kernel=")) options.kernel = v;
    if (const char* v = value("vmm.disks=")) options.disks = v;
    if (const char* v = value("vmm.misuse=")) options.misuse = v;
    if (const char* v = value("vmm.until=")) {
        options.until = v;
        for (char& c : options.until)
            if (c == '_') c = ' ';
    }
    if (const char* v = value("vmm.cycles=")) options.cycles = static_cast<unsigned>(std::atoi(v));
}

/// The root's free memory in KiB, for the question whether a cycle leaves something behind.
long free_kib() {
    FILE* file = std::fopen("/proc/meminfo", "r");
    if (file == nullptr) return -1;
    char line[128];
    long value = -1;
    while (std::fgets(line, sizeof line, file) != nullptr)
        if (std::sscanf(line, "MemFree: %ld kB", &value) == 1) break;
    std::fclose(file);
    return value;
}

int run_cycles(const Options& options) {
    for (unsigned cycle = 0; cycle < options.cycles; ++cycle) {
        Machine m;
        open_machine(m);
        u32 end = 0;
        if (options.kernel.empty()) {
            // Its last instruction halts for good, so exits are counted: three.
            load_program(m);
            end = run(m, 3);
            const bool right = m.console == "V" && m.scratch == 0x12345678 && m.port_exits == 1 && m.memory_exits == 2;
            std::printf("\nvmm: cycle %u program %s, rbx %#llx\n", cycle, right ? "passed" : "failed",
                        static_cast<unsigned long long>(m.registers->gpr[3]));
            if (!right) return 1;
        } else {
            m.until = options.until;
            if (!load_linux(m, options.kernel, options.cmdline)) die("kernel");
            end = run(m, 10'000'000);
            std::printf("\nvmm: cycle %u kernel %s, message %#x, %llu port and %llu memory exits\n", cycle,
                        m.over ? "passed" : "failed", end, static_cast<unsigned long long>(m.port_exits),
                        static_cast<unsigned long long>(m.memory_exits));
            if (!m.over) return 1;
        }
        close_machine(m);
        std::printf("vmm: cycle %u over, %ld KiB free\n", cycle, free_kib());
        std::fflush(stdout);
    }
    std::printf("vmm: all %u cycles passed\n", options.cycles);
    return 0;
}

int run_all(const Options& options) {
    Disks disks(options.disks);
    if (!options.misuse.empty() && !misuse_nvme(options.misuse)) return 1;
    const int result = run_cycles(options);
    return disks.end() ? result : 1;
}

void become_init() {
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    mount("proc", "/proc", "proc", 0, "");
    const int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) dup2(console, fd);
}

}  // namespace
}  // namespace vg::vmm

int main(int count, char** arguments) {
    using namespace vg::vmm;
    const bool init = getpid() == 1;
    if (init) become_init();
    Options options;
    for (int i = 1; i < count; ++i) parse(options, arguments[i]);
    if (FILE* file = std::fopen("/proc/cmdline", "r"); file != nullptr) {
        char word[512];
        while (std::fscanf(file, "%511s", word) == 1) parse(options, word);
        std::fclose(file);
    }
    std::printf("vmm: running\n");
    if (init) {
        // A child, so that a failure still powers the machine off.
        const pid_t pid = fork();
        if (pid == 0) {
            const int result = run_all(options);
            std::fflush(stdout);
            _exit(result);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        std::printf("vmm: ended with status %d\n", status);
        std::fflush(stdout);
        sync();
        reboot(RB_POWER_OFF);
    }
    return run_all(options);
}
