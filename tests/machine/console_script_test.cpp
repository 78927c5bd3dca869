#include <catch2/catch.hpp>

#include <chrono>

#include "machine/console_script.h"

using namespace vg;
using namespace vg::machine;

namespace {

struct Console {
    ConsoleScript script;
    std::string sent;
    explicit Console(ConsoleScript s) : script(std::move(s)) {}
    void feed(const std::string& text) {
        for (const char c : text) script.feed(static_cast<u8>(c), [this](std::string_view more) { sent += more; });
    }
};

Console make(std::vector<std::string> expect, std::vector<std::string> fail_on = {}, std::vector<SendRule> sends = {}) {
    auto script = ConsoleScript::create(expect, fail_on, sends);
    REQUIRE(script);
    return Console(std::move(*script));
}

}  // namespace

TEST_CASE("console: expectations are met in order only", "[machine][console]") {
    Console console = make({"first", "second"});
    console.feed("second\n");
    CHECK(!console.script.all_seen());
    console.feed("first\n");
    CHECK(console.script.waiting_for() == "second");
    console.feed("a second time\n");
    CHECK(console.script.all_seen());
}

TEST_CASE("console: one line can meet several expectations, but not with the same text twice", "[machine][console]") {
    Console both = make({"a+", "b"});
    both.feed("aaab\n");
    CHECK(both.script.all_seen());
    Console twice = make({"login", "login"});
    twice.feed("login\n");
    CHECK(!twice.script.all_seen());
    twice.feed("login\n");
    CHECK(twice.script.all_seen());
}

TEST_CASE("console: a prompt without newline is seen, terminal escapes are not", "[machine][console]") {
    Console console = make({"login: "});
    console.feed("\x1b[1;32mdebian log\x1b[0min: ");
    CHECK(console.script.all_seen());
}

TEST_CASE("console: answers are sent once each, in order", "[machine][console]") {
    auto user = parse_send_rule("login:=>root\\n"), password = parse_send_rule("word:=>s\\x65cret\\n");
    REQUIRE(user);
    REQUIRE(password);
    Console console = make({}, {}, {*user, *password});
    console.feed("host login: ");
    CHECK(console.sent == "root\n");
    console.feed("\nPassword: ");
    CHECK(console.sent == "root\nsecret\n");
    console.feed("\nhost login: ");
    CHECK(console.sent == "root\nsecret\n");
}

TEST_CASE("console: failure expressions and bad expressions are told", "[machine][console]") {
    Console console = make({}, {"panic"});
    console.feed("Kernel panic - not syncing\n");
    CHECK(console.script.failed() == "panic");
    CHECK(!ConsoleScript::create({"("}, {}, {}));
    CHECK(!parse_send_rule("no arrow"));
    CHECK(!parse_send_rule("a=>\\q"));
    CHECK(!parse_send_rule("a=>\\x4"));
}

TEST_CASE("console: a line without end does not grow without bound", "[machine][console]") {
    Console console = make({"never"});
    console.feed(std::string(100'000, 'x'));
    console.feed("\nnever\n");
    CHECK(console.script.all_seen());
}

TEST_CASE("console: ^ is the start of a line, also behind an earlier match", "[machine][console]") {
    Console console = make({"a", "^b"});
    console.feed("ab\n");
    CHECK(console.script.waiting_for() == "^b");
    console.feed("b\n");
    CHECK(console.script.all_seen());
    Console word = make({"a", "\\bb"});
    word.feed("ab b\n");
    CHECK(word.script.all_seen());
}

TEST_CASE("console: control strings and character sets are no text", "[machine][console]") {
    Console console = make({"^login: $"});
    console.feed("\x1b]0;a title\x07\x1b(Blo\x1b]8;;http://x\x1b\\gin: \n");
    CHECK(console.script.all_seen());
    Console unfinished = make({"^next$"});
    unfinished.feed("\x1b]0;never ends\nnext\n");
    CHECK(unfinished.script.all_seen());
}

TEST_CASE("console: a guest that prints nothing but prompts does not stop the host", "[machine][console]") {
    Console console = make({"never"}, {"panic.*now", "oops"});
    const auto start = std::chrono::steady_clock::now();
    console.feed(std::string(300'000, ' '));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
    console.feed("\n" + std::string(2000, '#') + " never");  // a word behind a long line is found at its end
    CHECK(!console.script.all_seen());
    console.feed("\n");
    CHECK(console.script.all_seen());
}

TEST_CASE("console: expectations are looked for behind the start of the test proper", "[machine][console]") {
    auto script = ConsoleScript::create({"ok"}, {"bad"}, {}, {"boot", "go"});
    REQUIRE(script);
    Console console(std::move(*script));
    console.feed("ok\nboot ok\n");
    CHECK(!console.script.started());
    CHECK(console.script.waiting_for() == "go");
    console.feed("ok go\n");
    CHECK(console.script.started());
    CHECK(!console.script.all_seen());
    console.feed("all ok\n");
    CHECK(console.script.all_seen());
}
