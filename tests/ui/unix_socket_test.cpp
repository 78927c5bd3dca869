// Sockets, and clients that behave badly.
#include "ui/cli/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "tests/machine/small_kernel.h"
#include "tests/support/temp_dir.h"
#include "ui/cli/control.h"

using namespace vg;
using namespace vg::cli;

namespace {

using Clock = std::chrono::steady_clock;

std::string refusal(const std::string& address) {
    auto listener = UnixListener::create("--control", address);
    if (listener) return "";
    CHECK(listener.error().code == Error::Code::Usage);
    return listener.error().text;
}

struct Running {
    test::TempDir dir;
    std::string address = "unix:" + (dir / "sock");
    std::unique_ptr<machine::Machine> machine;
    std::unique_ptr<machine::Debugger> debugger;
    std::unique_ptr<model::ControlService> service;
    std::unique_ptr<ControlSocket> control;
    Running() {
        test::write_file(dir / "kernel", test::image_with({0xf4}, {0xf4}, 0));
        machine::Config config;
        config.machine.memory = {u64{32} << 20};
        config.boot.emplace();
        config.boot->kernel = dir / "kernel";
        machine::MachineOptions options;
        options.engine = machine::MachineOptions::EngineKind::Step;
        machine = std::move(*machine::Machine::create(config, std::move(options)));
        debugger = std::make_unique<machine::Debugger>(*machine);
        service = std::make_unique<model::ControlService>(*machine, *debugger);
        control = std::move(*ControlSocket::create(address));
    }
    /// How long one look at the socket takes.
    Clock::duration serve() {
        const auto start = Clock::now();
        control->serve(*machine, *service, nullptr);
        return Clock::now() - start;
    }
};

}  // namespace

TEST_CASE("socket: a path in use is refused, a stale one replaced", "[ui][socket]") {
    test::TempDir dir;
    const std::string path = dir / "s", address = "unix:" + path;
    {
        auto listener = UnixListener::create("--control", address);
        REQUIRE(listener);
        struct stat info {};
        REQUIRE(::stat(path.c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0600);
        CHECK(refusal(address).find("another program listens there") != std::string::npos);
        CHECK(std::filesystem::exists(path));
        std::filesystem::remove(path);
        test::write_file(path, {1});
    }
    CHECK(std::filesystem::exists(path));  // not the listener's own any more
    CHECK(refusal(address).find("not a socket") != std::string::npos);
    std::filesystem::remove(path);
    {
        auto first = UnixListener::create("--control", address);
        REQUIRE(first);
        std::filesystem::create_hard_link(path, dir / "stale");  // as a killed listener leaves its path
    }
    CHECK_FALSE(std::filesystem::exists(path));
    REQUIRE(UnixListener::create("--control", "unix:" + (dir / "stale")));
    CHECK(refusal("/tmp/x").find("write unix:PATH") != std::string::npos);
    CHECK(refusal("unix:").find("write unix:PATH") != std::string::npos);
    CHECK(refusal("unix:/" + std::string(200, 'x')).find("write unix:PATH") != std::string::npos);
    CHECK(refusal("unix:" + (dir / "none/s")).find("No such file") != std::string::npos);
}

TEST_CASE("control: answers, and says what it knows", "[ui][control]") {
    Running running;
    std::string tree, json, unknown;
    std::thread client([&] {
        tree = *control_request(running.address, "inspect time");
        json = *control_request(running.address, "inspect-json time");
        unknown = *control_request(running.address, "erase all");
    });
    while (unknown.empty()) running.serve();
    client.join();
    CHECK(tree == "time/now = 0\n");
    CHECK(json == "{\n  \"time\": {\n    \"now\": \"0\"\n  }\n}\n");
    CHECK(unknown.find("error: known requests are") == 0);
}

TEST_CASE("control: a client that drips or does not read stops nobody", "[ui][control]") {
    Running running;
    SECTION("a byte now and then") {
        const int fd = *connect_unix(running.address);
        std::atomic<bool> over = false;
        std::thread client([&] {
            while (!over && ::send(fd, "x", 1, MSG_NOSIGNAL) == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        });
        CHECK(running.serve() < std::chrono::seconds(1));
        over = true;
        client.join();
        ::close(fd);
    }
    SECTION("a request and no look at the answer") {
        const int fd = *connect_unix(running.address);
        const int small = 1;
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        REQUIRE(::send(fd, "inspect\n", 8, MSG_NOSIGNAL) == 8);
        CHECK(running.serve() < std::chrono::seconds(3));
        ::close(fd);
    }
    SECTION("gone before the answer") {
        const int fd = *connect_unix(running.address);
        REQUIRE(::send(fd, "inspect\n", 8, MSG_NOSIGNAL) == 8);
        ::close(fd);
        CHECK(running.serve() < std::chrono::seconds(1));
    }
}
