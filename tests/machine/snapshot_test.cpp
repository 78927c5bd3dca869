#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "machine/snapshot.h"
#include "machine/state_record.h"

using namespace vg;
using namespace vg::machine;

namespace {

struct Thing {
    u8 byte = 1;
    u32 word = 2;
    bool flag = true;
    std::string text = "t";
    std::array<u8, 4> raw{1, 2, 3, 4};
    std::vector<u64> list{5, 6, ~u64{0}};
    bool more = false;
    void fields(StateVisitor& v) {
        v("byte", byte);
        const VisitScope scope(v, "group");
        v("word", word, Fmt::Dec);
        v("flag", flag);
        v("text", text);
        v.note("note", "for people");
        v("raw", raw);
        v("list", list);
        if (more) v("more", byte);
    }
};

std::vector<u8> record(Thing& thing) {
    StateRecorder recorder;
    thing.fields(recorder);
    return recorder.data();
}

/// A PC that waits: no kernel was loaded, its first instruction is whatever memory has.
constexpr const char* kMachine = "[machine]\nmemory = \"16 MiB\"\n[boot]\nkernel = \"none\"\n";

std::unique_ptr<Machine> idle_machine() {
    auto config = parse_config(kMachine, "test", ".", {});
    REQUIRE(config);
    config->restoring = true;
    MachineOptions options;
    options.engine = MachineOptions::EngineKind::Step;
    auto machine = Machine::create(*config, options);
    REQUIRE(machine);
    return std::move(*machine);
}

std::vector<u8> saved(Machine& machine) {
    char name[] = "/tmp/verdigris-snapshot-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    const std::string path = std::string(name) + "/m.vgs";
    REQUIRE(save_snapshot(machine, path));
    std::ifstream in(path, std::ios::binary);
    std::vector<u8> bytes{std::istreambuf_iterator<char>(in), {}};
    ::unlink(path.c_str());
    ::rmdir(name);
    return bytes;
}

Result<std::unique_ptr<Snapshot>> open(std::vector<u8> bytes) {
    return Snapshot::open(std::make_unique<devices::MemoryFile>("m.vgs", std::move(bytes), false));
}

/// Whether anything is wrong with the file, as far as reading all of it can tell.
bool whole(const std::vector<u8>& bytes) {
    auto snapshot = open(bytes);
    if (!snapshot) {
        CHECK(snapshot.error().code == Error::Code::Damaged);
        return false;
    }
    const auto ok = (*snapshot)->check();
    if (!ok) CHECK(ok.error().code == Error::Code::Damaged);
    return ok.has_value();
}

}  // namespace

TEST_CASE("snapshot: a field tree is loaded as it was recorded", "[machine][snapshot]") {
    Thing from;
    from.byte = 7;
    from.text = "longer than before";
    from.list = {9};
    Thing to;
    const std::vector<u8> bytes = record(from);
    StateLoader loader(bytes);
    to.fields(loader);
    REQUIRE(loader.finish());
    CHECK(record(to) == bytes);
    CHECK(first_difference(bytes, record(to)).empty());
    to.word = 3;
    CHECK(first_difference(bytes, record(to)) == "group/word: 0x2, 0x3");
    StatePrinter direct, replayed;
    from.fields(direct);
    REQUIRE(visit_record(bytes, replayed));
    CHECK(direct.result() == replayed.result());
}

TEST_CASE("snapshot: a tree of other fields is refused with the first path", "[machine][snapshot]") {
    Thing from, to;
    from.more = true;
    const std::vector<u8> longer = record(from);
    StateLoader surplus(longer);
    to.fields(surplus);
    REQUIRE(!surplus.finish());
    from.more = false;
    to.more = true;
    const std::vector<u8> shorter = record(from);
    StateLoader missing(shorter);
    to.fields(missing);
    const auto error = missing.finish();
    REQUIRE(!error);
    CHECK(error.error().code == Error::Code::Damaged);
    CHECK(error.error().text.find("group/more: is missing") == 0);
}

TEST_CASE("snapshot: any prefix and any changed byte of a tree is loaded without harm", "[machine][snapshot]") {
    Thing from;
    const std::vector<u8> good = record(from);
    for (std::size_t size = 0; size < good.size(); ++size) {
        Thing to;
        StateLoader loader(std::span<const u8>(good).first(size));
        to.fields(loader);
        CHECK(!loader.finish());
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const int bit : {0, 3, 7}) {
            std::vector<u8> bad = good;
            bad[at] = static_cast<u8>(bad[at] ^ 1u << bit);
            Thing to;
            StateLoader loader(bad);
            to.fields(loader);
            (void)loader.finish();
            StatePrinter printer;
            (void)visit_record(bad, printer);
            CHECK(to.list.size() <= 65536);
        }
    }
}

TEST_CASE("snapshot: a machine comes back in another one", "[machine][snapshot]") {
    const auto machine = idle_machine();
    const u8 code[] = {0x40, 0x90, 0xeb, 0xfc};  // inc ax; nop; jmp -4
    machine->memory().write(Spa(0x7c00), code, sizeof code);
    cpu::VpState& s = machine->scheduler().processors().front()->state();
    s.rip = 0x7c00;
    s.seg[1].base = 0;
    s.seg[1].selector = 0;
    machine->scheduler().processors().front()->update_context();
    machine->run_until(100'000);
    CHECK(machine->instructions() != 0);
    const std::vector<u8> bytes = saved(*machine);
    CHECK(whole(bytes));
    auto snapshot = open(bytes);
    REQUIRE(snapshot);
    CHECK((*snapshot)->info().time == machine->now());
    const auto config = (*snapshot)->config({});
    REQUIRE(config);
    auto again = (*snapshot)->restore(*config, {});
    REQUIRE(again);
    CHECK((*again)->state_hash() == machine->state_hash());
    machine->run_until(300'000);
    (*again)->run_until(300'000);
    CHECK((*again)->state_hash() == machine->state_hash());
    CHECK(saved(**again) == saved(*machine));
}

TEST_CASE("snapshot: a truncated file and a flipped bit are found", "[machine][snapshot]") {
    const auto machine = idle_machine();
    const std::vector<u8> good = saved(*machine);
    REQUIRE(whole(good));
    for (std::size_t size = 0; size < good.size(); size += 1 + size / 50) {
        CHECK(!whole({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}));
    }
    for (std::size_t at = 0; at < good.size(); at += 1 + at / 50) {
        std::vector<u8> bad = good;
        bad[at] ^= 0x10;
        CHECK(!whole(bad));
    }
}

TEST_CASE("snapshot: what was changed with right checksums is found when it is restored", "[machine][snapshot]") {
    using namespace snapshot_format;
    const auto machine = idle_machine();
    machine->memory().write(Spa(0x1000), u64{0x1234});
    const std::vector<u8> good = saved(*machine);
    const auto rebuilt = [&](ChunkType type, const std::function<void(std::vector<u8>&)>& change) {
        auto reader = SnapshotReader::open(std::make_unique<devices::MemoryFile>("m", good, false));
        REQUIRE(reader);
        devices::MemoryFile out("out");
        SnapshotWriter writer(out);
        std::vector<u8> raw;
        for (const Entry& entry : (*reader)->index()) {
            REQUIRE((*reader)->read(entry, raw));
            if (entry.type == type) change(raw);
            REQUIRE(writer.add(entry.type, entry.place, raw, entry.number));
        }
        REQUIRE(writer.seal());
        return out.content();
    };
    const auto restores = [&](const std::vector<u8>& bytes) {
        auto snapshot = open(bytes);
        if (!snapshot) return false;
        const auto config = (*snapshot)->config({});
        return config && (*snapshot)->restore(*config, {}).has_value();
    };
    CHECK(restores(rebuilt(ChunkType::State, [](auto&) {})));
    CHECK(!restores(rebuilt(ChunkType::State, [](auto& raw) { raw.pop_back(); })));
    CHECK(!restores(rebuilt(ChunkType::Memory, [](auto& raw) { raw[0x500] ^= 1; })));
    CHECK(!restores(rebuilt(ChunkType::Memory, [](auto& raw) { raw.pop_back(); })));
    const auto replace = [](const std::string& what, const std::string& with) {
        return [=](std::vector<u8>& raw) {
            std::string text(raw.begin(), raw.end());
            REQUIRE(text.find(what) != std::string::npos);
            text.replace(text.find(what), what.size(), with);
            raw.assign(text.begin(), text.end());
        };
    };
    CHECK(!restores(rebuilt(ChunkType::Config, replace("16 MiB", "32 MiB"))));
    CHECK(!restores(rebuilt(ChunkType::Config, replace("[boot]", "[boo"))));
    CHECK(!restores(rebuilt(ChunkType::Meta, replace("\"state_hash\":", "\"state_hash\":1"))));
    CHECK(!restores(rebuilt(ChunkType::Meta, replace("{", "[{"))));
}

TEST_CASE("snapshot: nothing of the host is written or reached by a machine that was restored", "[machine][snapshot]") {
    auto config = parse_config(
        std::string(kMachine) +
            "[[disk]]\nbus = \"ahci\"\nimage = \"/x/a.raw\"\nwrite = \"direct\"\n[[disk]]\nbus = \"nvme\"\n"
            "image = \"/x/b.vhd\"\noverlay = \"/x/o.vhd\"\n[[nic]]\nbus = \"e1000e\"\nbackend = \"slirp\"\n"
            "hostfwd = [\"tcp:127.0.0.1:2222-:22\"]\nhost_access = true\npcap = \"/x/p\"\n[test]\nexpect = [\"x\"]\n",
        "test", ".", {});
    REQUIRE(config);
    devices::MemoryFile file("m.vgs");
    SnapshotWriter writer(file);
    const auto add = [&](snapshot_format::ChunkType type, const std::string& text) {
        REQUIRE(writer.add(type, 0, {reinterpret_cast<const u8*>(text.data()), text.size()}));
    };
    add(snapshot_format::ChunkType::Meta, "{}");
    add(snapshot_format::ChunkType::Config, show_config(*config));
    REQUIRE(writer.seal());
    const auto snapshot = open(file.content());
    REQUIRE(snapshot);
    const auto isolated = (*snapshot)->config({});
    REQUIRE(isolated);
    CHECK(isolated->disks[0].write == "memory");
    CHECK(isolated->disks[1].write == "memory");
    CHECK(isolated->disks[1].overlay == "/x/o.vhd");
    CHECK(isolated->nics[0].backend == "none");
    CHECK(isolated->nics[0].hostfwd.empty());
    CHECK(!isolated->nics[0].host_access);
    CHECK(isolated->nics[0].pcap.empty());
    CHECK(!isolated->test);
    const auto asked = (*snapshot)->config({{"disk.0.write", "\"direct\""}, {"nic.0.backend", "\"slirp\""}});
    REQUIRE(asked);
    CHECK(asked->disks[0].write == "direct");
    CHECK(asked->nics[0].backend == "slirp");
}
