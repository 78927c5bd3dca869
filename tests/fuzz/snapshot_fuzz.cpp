// Any bytes as a snapshot: opened, read whole, shown, restored.
//
// The first byte chooses: 0 takes the rest as the file; others take it as patches (part of 8 bits, offset of 16 bits,
// value of 8) to the parts of a good one, whose checksums are made right again, so that the damage gets past them.
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "machine/snapshot.h"
#include "machine/state_record.h"
#include "tests/fuzz/forged_snapshot.h"

namespace {

using namespace vg;
using namespace vg::machine;

constexpr const char* kMachine =
    "[machine]\nmemory = \"16 MiB\"\n[boot]\nkernel = \"none\"\n[devices]\niommu = true\n[[nic]]\nbus = \"e1000e\"\n";

MachineOptions options() {
    MachineOptions out;
    out.engine = MachineOptions::EngineKind::Step;
    return out;
}

std::vector<u8> good_file() {
    auto config = parse_config(kMachine, "fuzz", ".", {});
    config->restoring = true;
    auto machine = Machine::create(*config, options());
    char folder[] = "/tmp/verdigris-fuzz-XXXXXX";
    if (::mkdtemp(folder) == nullptr) std::abort();
    const std::string path = std::string(folder) + "/m.vgs";
    if (!save_snapshot(**machine, path)) std::abort();
    std::ifstream in(path, std::ios::binary);
    std::vector<u8> bytes{std::istreambuf_iterator<char>(in), {}};
    ::unlink(path.c_str());
    ::rmdir(folder);
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    static const std::vector<u8> good = good_file();
    if (size == 0) return 0;
    const std::span<const u8> rest(data + 1, size - 1);
    std::vector<u8> bytes = data[0] == 0 ? std::vector<u8>(rest.begin(), rest.end()) : test::patched(good, rest);
    auto snapshot = Snapshot::open(std::make_unique<devices::MemoryFile>("m.vgs", std::move(bytes), false));
    if (!snapshot || !(*snapshot)->check()) return 0;
    const auto config = (*snapshot)->config({});
    // What a forged configuration asks for is the configuration's matter; here it must not name the host's files.
    if (!config || !config->disks.empty() || !config->children.empty() || config->machine.memory.bytes > (64u << 20))
        return 0;
    (void)(*snapshot)->restore(*config, options());
    return 0;
}
