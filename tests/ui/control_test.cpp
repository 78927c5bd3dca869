#include "ui/cli/control.h"

#include <catch2/catch.hpp>

#include "ui/model/inspect.h"

using vg::cli::answer_request;

namespace {

std::string ask(std::string_view request, std::string tree = "now = 7\nhv/vp0/rip = 0x10\nhv/vp1/rip = 0x20\nhvx = 1\n") {
    const vg::model::InspectSources sources = {[&] { return tree; },
                                               [](const std::string& path, bool json) { return path + (json ? " {}\n" : " -\n"); },
                                               [](const std::string& path) { return path + "/spa = 0x1\n"; },
                                               [](const std::string& path) { return path + "/frame0 = 0x2\n"; }};
    return answer_request(request, [&](const std::string& path, bool json) { return vg::model::inspect(path, json, sources); });
}

}  // namespace

TEST_CASE("control: a part of the tree is everything below its path", "[ui][control]") {
    CHECK(ask("inspect now") == "now = 7\n");
    CHECK(ask("inspect hv") == "hv/vp0/rip = 0x10\nhv/vp1/rip = 0x20\n");
    CHECK(ask("inspect hv/vp1/") == "hv/vp1/rip = 0x20\n");
    CHECK(ask("inspect") == ask("inspect "));
    CHECK(ask("inspect h").empty());
    CHECK(ask("inspect-json hv/vp0") == "{\n  \"hv\": {\n    \"vp0\": {\n      \"rip\": \"0x10\"\n    }\n  }\n}\n");
    CHECK(ask("inspect-json none") == "{}\n");
    CHECK(ask("inspect jit/top") == "jit/top -\n");
    CHECK(ask("inspect-json jit") == "jit {}\n");
    CHECK(ask("inspect walk/2/0x0") == "walk/2/0x0/spa = 0x1\n");
    CHECK(ask("inspect-json walk/2/0x0").find("\"spa\": \"0x1\"") != std::string::npos);
    CHECK(ask("inspect walk").empty());
    CHECK(ask("inspect stack/2/0") == "stack/2/0/frame0 = 0x2\n");
    CHECK(ask("inspect symbols/_text") == "symbols/_text/frame0 = 0x2\n");
    CHECK(ask("inspect explain/2/0/walk 0x10") == "explain/2/0/walk 0x10/frame0 = 0x2\n");
    CHECK(ask("inspect-json stack/2/0").find("\"frame0\": \"0x2\"") != std::string::npos);
    CHECK(ask("inspect stacks/2/0").empty());
}

TEST_CASE("control: an unknown request is answered without looking at the machine", "[ui][control]") {
    for (const char* request : {"", " ", "stop", "inspectx now", "INSPECT now", "\xff\xfe"}) {
        bool asked = false;
        const auto look = [&] {
            asked = true;
            return std::string();
        };
        const std::string answer = answer_request(request, [&](const std::string&, bool) { return look(); });
        CHECK(answer.rfind("error: ", 0) == 0);
        CHECK_FALSE(asked);
    }
}

TEST_CASE("control: JSON of names that are not UTF-8 has replacement characters", "[ui][control]") {
    CHECK(ask("inspect-json", "a\xff = \xc3\n") == "{\n  \"a\xef\xbf\xbd\": \"\xef\xbf\xbd\"\n}\n");
}
