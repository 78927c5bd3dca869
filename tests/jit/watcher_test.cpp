// Those who watch translations: what they are told is true, and the guest cannot tell that they are there.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "jit/perf_output.h"
#include "jit/survey.h"
#include "tests/jit/program_generator.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::test;

namespace {

/// mov ecx, count; loop: add eax, 1; dec ecx; jnz loop; hlt
std::vector<u8> counting_loop(u32 count) {
    std::vector<u8> code = {0xb9, 0, 0, 0, 0, 0x83, 0xc0, 0x01, 0xff, 0xc9, 0x75, 0xf9, 0xf4};
    std::memcpy(&code[1], &count, 4);
    return code;
}

struct Watched {
    JitMachine m;
    std::unique_ptr<jit::JitEngine> engine;

    explicit Watched(std::vector<jit::TranslationWatcher*> watchers, jit::Options options = {}) {
        options.watchers = std::move(watchers);
        auto made = jit::JitEngine::create(m.memory, options);
        REQUIRE(made.has_value());
        engine = std::move(*made);
    }
    void run(u64 instructions) {
        m.vp->begin_slice(0, instructions);
        REQUIRE(engine->run(*m.vp) == cpu::Stop::Halt);
    }
};

template <class T>
T at(const std::vector<u8>& bytes, std::size_t offset) {
    T value;
    REQUIRE(offset + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

}  // namespace

TEST_CASE("jit: a survey counts how often each block is entered", "[jit][watch]") {
    jit::Survey survey;
    Watched w({&survey});
    w.m.load(kCodePhysical, counting_loop(5000));
    w.run(100000);
    const auto hottest = survey.hottest(10);
    REQUIRE(!hottest.empty());
    const jit::Survey::Entry& loop = *hottest.front();
    CHECK(loop.address == kCode + 5);
    CHECK(loop.spa == Spa(kCodePhysical + 5));
    CHECK(loop.count == 3);
    CHECK(loop.executions == 4999);  // the first round is part of the block before
    CHECK(loop.executed() == 3 * 4999);
    REQUIRE(loop.instructions.size() == 3);
    CHECK(cpu::row(loop.instructions[0].row).op == cpu::Op::ADD);
    CHECK(loop.instructions[0].native);
    CHECK(loop.instructions[0].host < loop.instructions[1].host);
    CHECK(loop.instructions[2].host < loop.host.size());
    CHECK(loop.guest == std::vector<u8>{0x83, 0xc0, 0x01, 0xff, 0xc9, 0x75, 0xf9});
    CHECK(survey.executed() == 1 + 3 * 5000 + 1);
    CHECK(survey.at(kCode + 5) == std::vector<const jit::Survey::Entry*>{&loop});
    CHECK(survey.at(kCode + 6).empty());
    CHECK(survey.owner(loop.host.data() + loop.host.size() - 1) == &loop);
    CHECK(survey.owner(survey.thunk_code().data()) == nullptr);
}

TEST_CASE("jit: a block translated again goes on counting, changed code counts afresh", "[jit][watch]") {
    jit::Survey survey;
    jit::Options options;
    options.flush_every = 1;
    options.link_blocks = false;
    Watched w({&survey}, options);
    w.m.load(kCodePhysical, counting_loop(100));
    w.run(10000);
    const auto loops = survey.at(kCode + 5);
    REQUIRE(loops.size() == 1);
    CHECK(loops[0]->executions == 99);
    CHECK(loops[0]->translations == 99);

    w.m.load(kCodePhysical + 7, {0x02});  // add eax, 2
    w.m.vp->clear_failure();
    w.m.s().activity = cpu::Activity::Active;
    w.m.s().rip = kCode;
    w.run(10000);
    CHECK(survey.at(kCode + 5).size() == 2);
    CHECK(loops[0]->executions == 99);
}

TEST_CASE("jit: watching leaves the state as it is", "[jit][watch]") {
    for (u64 seed = 1; seed <= 20; ++seed) {
        INFO("seed " << seed);
        u64 hashes[2];
        for (const bool watched : {false, true}) {
            jit::Survey survey;
            Watched w(watched ? std::vector<jit::TranslationWatcher*>{&survey} : std::vector<jit::TranslationWatcher*>{});
            ProgramGenerator generator(seed, w.m.model, {});
            w.m.load(kCodePhysical, generator.program(60));
            generator.initial_state(w.m);
            run_for(w.m, *w.engine, 1000, 50);
            hashes[watched ? 1 : 0] = w.m.hash();
            if (watched) CHECK(survey.executed() > 0);
        }
        CHECK(hashes[0] == hashes[1]);
    }
}

TEST_CASE("jit: the perf map names every block once, with its guest address", "[jit][watch]") {
    std::string path;
    std::map<u64, std::pair<u64, std::string>> lines;
    {
        auto map = jit::PerfMap::create();
        REQUIRE(map);
        path = (*map)->path();
        CHECK(path == "/tmp/perf-" + std::to_string(getpid()) + ".map");
        jit::Survey survey;
        Watched w({map->get(), &survey});
        w.m.load(kCodePhysical, counting_loop(10));
        w.run(1000);
        std::ifstream in(path);
        for (std::string line; std::getline(in, line);) {
            std::istringstream words(line);
            u64 start = 0, size = 0;
            std::string name;
            words >> std::hex >> start >> size >> name;
            REQUIRE(words);
            CHECK(lines.emplace(start, std::pair{size, name}).second);
        }
        REQUIRE(lines.size() == survey.entries().size() + 1);
        CHECK(lines.begin()->second.second == "thunks");
        for (const jit::Survey::Entry& entry : survey.entries()) {
            const auto found = lines.find(reinterpret_cast<u64>(entry.host.data()));
            REQUIRE(found != lines.end());
            CHECK(found->second.first == entry.host.size());
        }
        const auto loop = lines.find(reinterpret_cast<u64>(survey.at(kCode + 5).at(0)->host.data()));
        CHECK(loop->second.second == "guest_k64_400005_200005_3");
    }
    std::filesystem::remove(path);
}

TEST_CASE("jit: the jitdump holds the header, every block's code and the end", "[jit][watch]") {
    const TempDir folder;
    std::string path;
    jit::Survey survey;
    std::map<std::string, std::vector<u8>> expected;
    {
        auto dump = jit::JitDump::create(folder / ".");
        REQUIRE(dump);
        path = (*dump)->path();
        Watched w({dump->get(), &survey});
        w.m.load(kCodePhysical, counting_loop(10));
        w.run(1000);
        const jit::Survey::Entry& loop = *survey.at(kCode + 5).at(0);
        expected["guest_k64_400005_200005_3"] = {loop.host.begin(), loop.host.end()};
    }
    const std::vector<u8> bytes = read_file(path);
    CHECK(at<u32>(bytes, 0) == 0x4a695444);  // magic
    CHECK(at<u32>(bytes, 4) == 1);           // version
    REQUIRE(at<u32>(bytes, 8) == 40);        // size of the header
    CHECK(at<u32>(bytes, 12) == 62);         // EM_X86_64
    CHECK(at<u32>(bytes, 20) == static_cast<u32>(getpid()));
    u64 time = at<u64>(bytes, 24), index = 0;
    std::size_t offset = 40;
    std::map<std::string, std::vector<u8>> found;
    bool closed = false;
    while (offset < bytes.size()) {
        REQUIRE(!closed);
        const u32 id = at<u32>(bytes, offset), size = at<u32>(bytes, offset + 4);
        CHECK(at<u64>(bytes, offset + 8) >= time);
        time = at<u64>(bytes, offset + 8);
        REQUIRE(offset + size <= bytes.size());
        closed = id == 3;
        if (!closed) {
            REQUIRE(id == 0);
            CHECK(at<u32>(bytes, offset + 16) == static_cast<u32>(getpid()));
            CHECK(at<u64>(bytes, offset + 24) == at<u64>(bytes, offset + 32));
            CHECK(at<u64>(bytes, offset + 48) == index++);
            const u64 code_size = at<u64>(bytes, offset + 40);
            const std::string name = reinterpret_cast<const char*>(bytes.data()) + offset + 56;
            REQUIRE(56 + name.size() + 1 + code_size == size);
            const auto code = bytes.begin() + static_cast<std::ptrdiff_t>(offset + size - code_size);
            found[name] = {code, code + static_cast<std::ptrdiff_t>(code_size)};
        }
        offset += size;
    }
    CHECK(closed);
    CHECK(found.size() == survey.entries().size() + 1);
    for (const auto& [name, code] : expected) {
        // Its last jump has been patched since.
        REQUIRE(found.count(name) == 1);
        CHECK(found[name].size() == code.size());
        CHECK(std::equal(code.begin(), code.begin() + 4, found[name].begin()));
    }
}

TEST_CASE("jit: perf files that cannot be written are errors", "[jit][watch]") {
    const auto dump = jit::JitDump::create("/nowhere/at/all");
    REQUIRE(!dump);
    CHECK(dump.error().code == Error::Code::Host);
    CHECK(dump.error().text.find("/nowhere/at/all/jit-") != std::string::npos);
}
