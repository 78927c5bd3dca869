#include "jit/perf_output.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "jit/mode_key.h"

namespace vg::jit {

namespace {

constexpr std::size_t kMarkSize = 4096;

// Linux, tools/perf/Documentation/jitdump-specification.txt.
struct DumpHeader {
    u32 magic = 0x4a695444;  // "JiTD"
    u32 version = 1;
    u32 total_size = sizeof(DumpHeader);
    u32 elf_machine = 62;  // EM_X86_64
    u32 padding = 0;
    u32 process = 0;
    u64 timestamp = 0;  // CLOCK_MONOTONIC, nanoseconds
    u64 flags = 0;
};
static_assert(sizeof(DumpHeader) == 40);

struct RecordHeader {
    u32 id = 0;
    u32 total_size = 0;
    u64 timestamp = 0;
};
static_assert(sizeof(RecordHeader) == 16);
constexpr u32 kCodeLoad = 0, kCodeClose = 3;

struct CodeLoad {
    RecordHeader header;
    u32 process = 0, thread = 0;
    u64 address = 0;  // where the code was when it was emitted
    u64 code_address = 0;
    u64 code_size = 0;
    u64 index = 0;
    // follow: the name with its final zero, the code
};
static_assert(sizeof(CodeLoad) == 56);

u64 monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

Unexpected<Error> cannot_write(const std::string& path) {
    return fail(Error::Code::Host, path + ": " + std::strerror(errno));
}

}  // namespace

std::string translation_name(const Translation& translation) {
    static constexpr unsigned kBits[] = {16, 32, 64};
    const ModeKey key{translation.block.key};
    char name[80];
    std::snprintf(name, sizeof name, "guest_%c%u_%lx_%lx_%u", key.has(ModeKey::kUser) ? 'u' : 'k',
                  kBits[static_cast<unsigned>(key.code_mode())], translation.address, translation.block.spa.value,
                  translation.block.count);
    return name;
}

Result<std::unique_ptr<PerfMap>> PerfMap::create() {
    auto map = std::make_unique<PerfMap>();
    map->path_ = "/tmp/perf-" + std::to_string(getpid()) + ".map";
    map->file_.reset(std::fopen(map->path_.c_str(), "we"));
    if (map->file_ == nullptr) return cannot_write(map->path_);
    return map;
}

void PerfMap::thunks(std::span<const u8> host) { write(host, "thunks"); }

void PerfMap::end(const Translation& translation) { write(translation.host, translation_name(translation)); }

void PerfMap::write(std::span<const u8> host, const std::string& name) {
    std::fprintf(file_.get(), "%lx %zx %s\n", reinterpret_cast<u64>(host.data()), host.size(), name.c_str());
    std::fflush(file_.get());  // a profile is often ended by a signal
}

Result<std::unique_ptr<JitDump>> JitDump::create(const std::string& folder) {
    std::unique_ptr<JitDump> dump(new JitDump);
    dump->path_ = folder + "/jit-" + std::to_string(getpid()) + ".dump";
    dump->file_ = std::fopen(dump->path_.c_str(), "w+e");
    if (dump->file_ == nullptr) return cannot_write(dump->path_);
    DumpHeader header;
    header.process = static_cast<u32>(getpid());
    header.timestamp = monotonic_ns();
    std::fwrite(&header, sizeof header, 1, dump->file_);
    std::fflush(dump->file_);
    // perf records executable mappings: this one tells it the file's name.
    void* mark = mmap(nullptr, kMarkSize, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(dump->file_), 0);
    if (mark == MAP_FAILED) return cannot_write(dump->path_);
    dump->mark_ = mark;
    return dump;
}

JitDump::~JitDump() {
    if (mark_ != nullptr) {
        const RecordHeader close{.id = kCodeClose, .total_size = sizeof(RecordHeader), .timestamp = monotonic_ns()};
        std::fwrite(&close, sizeof close, 1, file_);
        munmap(mark_, kMarkSize);
    }
    if (file_ != nullptr) std::fclose(file_);
}

void JitDump::thunks(std::span<const u8> host) { write_load(host, "thunks"); }

void JitDump::end(const Translation& translation) { write_load(translation.host, translation_name(translation)); }

void JitDump::write_load(std::span<const u8> host, const std::string& name) {
    const u64 address = reinterpret_cast<u64>(host.data());
    CodeLoad load;
    load.header = {.id = kCodeLoad,
                   .total_size = static_cast<u32>(sizeof load + name.size() + 1 + host.size()),
                   .timestamp = monotonic_ns()};
    load.process = static_cast<u32>(getpid());
    load.thread = static_cast<u32>(gettid());
    load.address = load.code_address = address;
    load.code_size = host.size();
    load.index = next_index_++;
    std::fwrite(&load, sizeof load, 1, file_);
    std::fwrite(name.c_str(), name.size() + 1, 1, file_);
    std::fwrite(host.data(), host.size(), 1, file_);
    std::fflush(file_);
}

}  // namespace vg::jit
