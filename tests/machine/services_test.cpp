// What a child has besides disks: its configuration, commands of the host, memory that comes and goes, firmware's tables.
#include <catch2/catch.hpp>
#include <cstring>

#include "hv/spec/ic.h"
#include "hv/vmbus/channel.h"
#include "machine/child_machine.h"
#include "machine/efi_tables.h"
#include "machine/guest_command.h"
#include "machine/machine.h"
#include "tests/machine/small_kernel.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"

using namespace vg;
using namespace vg::machine;

namespace {

using Kind = GuestCommand::Kind;

struct World {
    test::TempDir dir;
    std::unique_ptr<Machine> machine;

    explicit World(const std::string& more = "") {
        test::write_file(dir / "kernel", test::image_with({0xeb, 0xfe}, {0xf4}, 0));  // for ever
        const auto config = parse_config("[hypervisor]\n[[child]]\nname = \"a\"\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n" + more,
                                         "m.toml", dir / ".", {});
        REQUIRE(config);
        MachineOptions options;
        options.engine = MachineOptions::EngineKind::Step;
        auto made = Machine::create(*config, std::move(options));
        if (!made) FAIL(made.error().text);
        machine = std::move(*made);
    }
    ChildMachine& child() { return *machine->children().front(); }
    std::vector<std::string> offers() {
        std::vector<std::string> names;
        for (const auto& [relid, channel] : child().parent().server().channels()) names.push_back(channel->offer().name);
        return names;
    }
};

GuestCommand command(Kind kind) {
    GuestCommand out;
    out.kind = kind;
    return out;
}

struct Pages final : GuestMemory {
    std::vector<u8> bytes = std::vector<u8>(1 << 20);
    bool write(Gpa gpa, std::span<const u8> data) override {
        if (gpa.value + data.size() > bytes.size()) return false;
        std::memcpy(bytes.data() + gpa.value, data.data(), data.size());
        return true;
    }
    bool read(Gpa gpa, std::span<u8> out) override {
        if (gpa.value + out.size() > bytes.size()) return false;
        std::memcpy(out.data(), bytes.data() + gpa.value, out.size());
        return true;
    }
    template <class T>
    T get(u64 at) const {
        T value;
        std::memcpy(&value, bytes.data() + at, sizeof value);
        return value;
    }
};

}  // namespace

TEST_CASE("services: a child has all of them, and each can be switched off", "[machine][services]") {
    World all;
    CHECK(all.offers() == std::vector<std::string>{"a.shutdown", "a.time_sync", "a.heartbeat", "a.kvp", "a.vss", "a.keyboard",
                                                   "a.mouse", "a.video", "a.memory"});
    for (const auto& [relid, channel] : all.child().parent().server().channels()) {
        const auto& offer = channel->offer();
        const bool component = relid <= 5;
        CHECK(((offer.flags & hv::vmbus::kOfferNamedPipe) != 0) == component);  // D-07
        CHECK(offer.user_data[0] == (component ? 4 : 0));
        CHECK(offer.mmio_megabytes == (offer.name == "a.video" ? 8 : 0));  // D-06
    }
    World some("[child.devices]\nvideo = false\nkvp = false\n");
    CHECK(some.offers() == std::vector<std::string>{"a.shutdown", "a.time_sync", "a.heartbeat", "a.vss", "a.keyboard", "a.mouse",
                                                    "a.memory"});
    CHECK(some.child().services().video() == nullptr);
    const auto refused = some.machine->guest_command("a", command(Kind::KvpList));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().text.find("devices.kvp is false") != std::string::npos);
}

TEST_CASE("services: a stored configuration that says nothing of them is of a machine without", "[machine][services]") {
    const std::string text = "[hypervisor]\n[[child]]\nname = \"a\"\nkernel = \"k\"\n";
    auto old = parse_config(text, "stored", "/", {});
    REQUIRE(old);
    CHECK_FALSE(old->children[0].devices.none());
    keep_stored_defaults(*old);
    CHECK(old->children[0].devices.none());
    CHECK(old->children[0].enlightenments == "basic");
    auto young = parse_config(show_config(*parse_config(text, "m", "/", {})), "stored", "/", {});
    REQUIRE(young);
    keep_stored_defaults(*young);
    CHECK(young->children[0].devices.video);
    CHECK(young->children[0].enlightenments == "full");
}

TEST_CASE("services: a child of a test has an exit port and a SynIC test device, where it asks for them", "[machine][services]") {
    test::TempDir dir;
    // mov al, 5; out 0xf4, al; jmp $
    test::write_file(dir / "kernel", test::image_with({0xb0, 5, 0xe6, 0xf4, 0xeb, 0xfe}, {0xf4}, 0));
    const auto make = [&](const std::string& devices) {
        const auto config = parse_config("[hypervisor]\n[[child]]\nkernel = \"kernel\"\nmemory = \"64 MiB\"\n[child.devices]\n" + devices,
                                         "m.toml", dir / ".", {});
        REQUIRE(config);
        return Machine::create(*config, {});
    };
    auto without = make("");
    REQUIRE(without);
    CHECK((*without)->run_until(1'000'000) != Pause::Asked);
    CHECK((*without)->outcome().kind == Outcome::Kind::None);
    auto with = make("isa_debug_exit = 0xf4\nhyperv_testdev = true\n");
    REQUIRE(with);
    CHECK((*with)->run_until(1'000'000) == Pause::Asked);
    CHECK((*with)->outcome().kind == Outcome::Kind::DebugExit);
    CHECK((*with)->outcome().raw == 5);
    CHECK((*with)->outcome().text.find("child: ") == 0);
    for (const char* place : {"isa_debug_exit = 0x3f8", "hyperv_testdev = true\nisa_debug_exit = 0x3002"}) {
        const auto refused = make(place);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Error::Code::Usage);
        CHECK(refused.error().text.find("the usual port is 0xf4") != std::string::npos);
    }
}

TEST_CASE("services: memory_max is at least memory", "[machine][services]") {
    test::TempDir dir;
    test::write_file(dir / "kernel", test::image_with({0xf4}, {0xf4}, 0));
    const auto verdict = [&](const std::string& most) {
        const auto config = parse_config("[hypervisor]\n[[child]]\nkernel = \"kernel\"\nmemory = \"128 MiB\"\nmemory_max = \"" + most + "\"\n",
                                         "m.toml", dir / ".", {});
        REQUIRE(config);
        return check_config(*config).has_value();
    };
    CHECK(verdict("128 MiB"));
    CHECK(verdict("0 B"));
    CHECK(verdict("1 GiB"));
    CHECK_FALSE(verdict("126 MiB"));
    CHECK_FALSE(verdict("129 MiB"));
    CHECK_FALSE(verdict("2 TiB"));
}

TEST_CASE("guest commands: what is journalled is what was said", "[machine][services]") {
    GuestCommand all;
    all.kind = Kind::IpSet;
    all.force = true;
    all.pool = 4;
    all.index = 77;
    all.value_type = 8;
    all.key = "key";
    all.value = "välue";
    all.bytes = u64{1} << 40;
    all.ip = {"adapter", "10.0.0.2;fe80::1", "255.255.255.0", "10.0.0.1", "10.0.0.3", true};
    all.keys = {{0x1e, 0}, {0x1e, 2}};
    all.mouse = {3, 1, 32767, -5};
    const auto bytes = encode_command(all);
    const auto back = decode_command(bytes);
    REQUIRE(back);
    CHECK(encode_command(*back) == bytes);
    CHECK(back->ip == all.ip);
    CHECK(back->mouse == all.mouse);
    CHECK(back->value == all.value);
    CHECK(back->keys.size() == 2);
    for (std::size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(decode_command(std::span(bytes).first(size)));
    auto longer = bytes;
    longer.push_back(0);
    CHECK_FALSE(decode_command(longer));
    test::Random random(0xc0de);
    for (unsigned round = 0; round < 20'000; ++round) {
        auto changed = bytes;
        for (u64 i = 1 + random.below(3); i-- != 0;) changed[random.below(changed.size())] = random.byte();
        if (const auto read = decode_command(changed)) {
            (void)command_body(*read);
            CHECK(decode_command(encode_command(*read)));
        }
    }
}

TEST_CASE("guest commands: bodies are as the interface has them (D-104, D-107, D-108)", "[machine][services]") {
    namespace ic = hv::ic;
    auto shutdown = command(Kind::Reboot);
    shutdown.force = true;
    const auto body = command_body(shutdown);
    REQUIRE(body.size() == 2060);
    CHECK(body[8] == 3);

    auto set = command(Kind::KvpSet);
    set.pool = 1;
    set.key = "k";
    set.value = "grüße \xf0\x9f\x98\x80";
    const auto exchange = command_body(set);
    REQUIRE(exchange.size() == 7432);
    ic::KvpExchange message{};
    std::memcpy(&message, exchange.data(), sizeof message);
    CHECK(message.header.operation == 1);
    CHECK(message.header.pool == 1);
    CHECK(message.data.type == 1);
    CHECK(message.data.key_bytes == 4);
    CHECK(message.data.value_bytes == 2 * (6 + 2 + 1));  // a surrogate pair, and the end
    CHECK(parse_kvp_answer(Kind::KvpGet, exchange).value == set.value);
    CHECK(parse_kvp_answer(Kind::KvpGet, exchange).key == "k");
    CHECK(parse_kvp_answer(Kind::KvpGet, {}).value.empty());

    set.value_type = ic::kRegU32;
    set.value = "4294967295";
    CHECK_FALSE(command_body(set).empty());
    CHECK(parse_kvp_answer(Kind::KvpGet, command_body(set)).value == "4294967295");
    set.value = "4294967296";
    CHECK(command_body(set).empty());
    set.value = "4 ";
    CHECK(command_body(set).empty());
    set.value_type = ic::kRegU64;
    set.value = "18446744073709551615";
    CHECK(parse_kvp_answer(Kind::KvpGet, command_body(set)).value == set.value);
    set.pool = 5;
    CHECK(command_body(set).empty());

    auto longest = command(Kind::KvpDelete);
    longest.key = std::string(255, 'x');
    CHECK(command_body(longest).size() == 7432);
    longest.key += 'x';
    CHECK(command_body(longest).empty());

    auto ip = command(Kind::IpSet);
    ip.ip = {"{guid}", "192.168.1.2;fe80::1", "255.255.255.0", "192.168.1.1", "", false};
    const auto injected = command_body(ip);
    REQUIRE(injected.size() == 7432);
    CHECK(injected[0] == 5);
    CHECK(injected[2 + 256] == 3);  // both families
    CHECK(parse_kvp_answer(Kind::IpGet, injected).ip == ip.ip);
    const auto freeze = command_body(command(Kind::Freeze));
    REQUIRE(freeze.size() == 12);
    CHECK(freeze[0] == 5);
    CHECK(command_body(command(Kind::Thaw))[0] == 6);
    CHECK(command_body(command(Kind::Keys)).empty());
}

TEST_CASE("guest commands: wait for a guest that has no driver yet, and not without bound", "[machine][services]") {
    World world;
    std::vector<Input> inputs;
    world.machine->on_input([&](const Input& input) { inputs.push_back(input); });
    const auto first = world.machine->guest_command("a", command(Kind::Shutdown));
    REQUIRE(first);
    CHECK(world.child().services().result(*first)->state == CommandResult::State::Waiting);
    REQUIRE(inputs.size() == 1);
    CHECK(inputs[0].kind == Input::Kind::Command);
    std::size_t taken = 1;
    while (taken < 1000 && world.machine->guest_command("a", command(Kind::KvpList))) ++taken;
    CHECK(taken < 64);
    CHECK(inputs.size() == taken);
    auto keys = command(Kind::Keys);
    keys.keys = {{0x1e, 0}};
    CHECK_FALSE(world.machine->guest_command("a", keys));
    CHECK_FALSE(world.machine->guest_command("a", command(Kind::Mouse)));
    CHECK_FALSE(world.machine->guest_command("a", command(Kind::TimeSync)));
    CHECK_FALSE(world.machine->guest_command("a", command(Kind::Memory)));
    CHECK_FALSE(world.machine->guest_command("b", command(Kind::Shutdown)));
    CHECK(world.child().services().result(99999) == nullptr);
}

TEST_CASE("guest pages: what is taken is gone, and comes back zeroed", "[machine][services]") {
    World world("memory_max = \"128 MiB\"\n");
    ChildMachine& child = world.child();
    hv::Partition& partition = child.partition();
    const Spa ram = *partition.translate(Gpa(0));
    GuestPages pages(partition, world.machine->memory(), ram, 128 << 20);
    constexpr u64 kFirst = 0x3000, kCount = 512;  // at 48 MiB
    const u64 value = 0x1122334455667788;
    CHECK(partition.write_memory(Gpa(kFirst * kPageSize + 8), &value, sizeof value));
    CHECK(pages.mapped(kFirst, kCount));
    CHECK_FALSE(pages.absent(kFirst, 1));
    CHECK_FALSE(pages.give(kFirst, 1));
    REQUIRE(pages.take(kFirst, kCount));
    CHECK_FALSE(partition.readable(Gpa(kFirst * kPageSize + 8)));
    CHECK(partition.readable(Gpa((kFirst + kCount) * kPageSize)));
    CHECK_FALSE(pages.take(kFirst + kCount - 1, 2));  // one of them is gone
    CHECK(partition.readable(Gpa((kFirst + kCount) * kPageSize)));
    CHECK(world.machine->memory().read<u64>(ram + kFirst * kPageSize + 8) == 0);
    REQUIRE(pages.give(kFirst, kCount));
    u64 seen = 1;
    CHECK(partition.read_memory(Gpa(kFirst * kPageSize + 8), &seen, sizeof seen));
    CHECK(seen == 0);

    // Behind what is mapped there is room up to memory_max, and nothing else.
    CHECK(pages.absent(0x4000, 0x4000));
    CHECK_FALSE(pages.mapped(0x4000, 1));
    CHECK(pages.give(0x4000, 0x4000));
    CHECK(partition.readable(Gpa(0x7fff'f000)) == false);
    CHECK_FALSE(pages.absent(0x8000, 1));
    CHECK_FALSE(pages.take(0x8000, 1));
    CHECK_FALSE(pages.take(0, 0));
    CHECK_FALSE(pages.take(~u64{0}, 2));
    CHECK_FALSE(pages.take(1, ~u64{0}));
    CHECK_FALSE(pages.take(0xf8000, 1));  // MMIO
}

TEST_CASE("efi: tables that a kernel can read, without services that it could call", "[machine][efi]") {
    Pages memory;
    const std::vector<MemoryRange> map = {{0, 0xa0000, MemoryRange::kRam},
                                          {0xe0000, 0x20000, MemoryRange::kReserved},
                                          {0x100000, 0x1000000, MemoryRange::kRam}};
    const u64 base = 0x100000 - kEfiTablesSize;
    const auto efi = write_efi_tables(memory, base, Gpa(0xe0000), map);
    REQUIRE(efi);
    CHECK(memory.get<u64>(efi->system_table) == 0x5453595320494249);
    const u32 size = memory.get<u32>(efi->system_table + 12);
    CHECK(size == 120);
    // The CRC is of the table with its own field zero.
    std::vector<u8> table(memory.bytes.begin() + static_cast<std::ptrdiff_t>(efi->system_table),
                          memory.bytes.begin() + static_cast<std::ptrdiff_t>(efi->system_table + size));
    u32 stored = 0;
    std::memcpy(&stored, table.data() + 16, 4);
    std::memset(table.data() + 16, 0, 4);
    u32 crc = ~u32{0};
    for (const u8 byte : table) {
        crc ^= byte;
        for (unsigned bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
    }
    CHECK(~crc == stored);
    // The map covers what the loader said, once.
    u64 total = 0, runtime = 0;
    for (u64 at = 0; at < efi->map_bytes; at += efi->descriptor_bytes) {
        const u32 type = memory.get<u32>(efi->memory_map + at);
        const u64 bytes = memory.get<u64>(efi->memory_map + at + 24) * kPageSize;
        total += bytes;
        if (type == 5 || type == 6) runtime += bytes;
    }
    CHECK(total == 0xa0000 + 0x20000 + 0x1000000);
    CHECK(runtime == kEfiTablesSize);
    Pages none;
    none.bytes.clear();
    CHECK_FALSE(write_efi_tables(none, base, Gpa(0xe0000), map));
}
