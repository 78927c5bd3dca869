// Requests of the control protocol, asked of a small machine.
#include "ui/model/control_service.h"

#include <catch2/catch.hpp>
#include <cstdlib>

#include "machine/acpi_tables.h"
#include "tests/ui/control_machine.h"

using namespace vg;
using model::Json;

namespace {

std::string at(unsigned offset) { return model::hex(test::kCode + offset); }

}  // namespace

TEST_CASE("control service: says what it is and what there is", "[ui][service]") {
    test::ControlMachine m;
    const Json hello = m.ask(R"({"op":"hello"})");
    CHECK(hello["protocol"] == 1);
    CHECK(hello["kind"] == "live");
    CHECK(hello["reverse"] == false);
    const Json status = m.ask(R"({"op":"status"})");
    CHECK(status["running"] == false);
    CHECK(status["time"] == 0);
    CHECK(status["instructions"] == 0);
    CHECK(status["stop"]["reason"] == "start");
    CHECK(status["outcome"]["kind"] == "none");
    CHECK(status["focus"] == Json({{"partition", 0}, {"vp", 0}}));
    const Json partitions = m.ask(R"({"op":"partitions"})");
    REQUIRE(partitions.size() == 1);
    CHECK(partitions[0]["kind"] == "pc");
    CHECK(partitions[0]["vps"][0]["rip"] == at(0));
    CHECK(partitions[0]["vps"][0]["mode"] == 32);
}

TEST_CASE("control service: mistakes are answered, and change nothing", "[ui][service]") {
    test::ControlMachine m;
    CHECK(m.refusal(R"({"op":"registers","partition":9})") == "there is no partition 9; partitions are 0");
    CHECK(m.refusal(R"({"op":"registers","vp":3})") == "partition 0 has no VP 3; its VPs are 0");
    CHECK(m.refusal(R"({"op":"registers","vq":0})") == "unknown key \"vq\"; did you mean \"vp\"?");
    CHECK(m.refusal(R"({"op":"regsters"})").find("did you mean \"registers\"") != std::string::npos);
    CHECK(m.refusal(R"({"op":7})") == "\"op\" is not a text");
    CHECK(m.refusal(R"([1])") == "a request is an object");
    CHECK(m.refusal(R"({"op":"read"})") == "\"address\" is missing");
    CHECK(m.refusal(R"({"op":"read","address":-1})").find("is not a number") != std::string::npos);
    CHECK(m.refusal(R"({"op":"read","address":"0x10000000000000000"})").find("is not a number") != std::string::npos);
    CHECK(m.refusal(R"({"op":"read","address":0,"size":65537})") == "\"size\" is at most 65536");
    CHECK(m.refusal(R"({"op":"read","address":0,"space":"x"})").find("\"space\" is") == 0);
    CHECK(m.refusal(R"({"op":"step","count":0})") == "\"count\" is at least 1");
    CHECK(m.refusal(R"({"op":"break_add","kind":"x"})").find("\"kind\" is") == 0);
    CHECK(m.refusal(R"({"op":"break_add","kind":"event","event":"x"})").find("there is no event") == 0);
    CHECK(m.refusal(R"({"op":"break_add","kind":"event","event":"msr","values":{"x":1}})").find("unknown key \"x\"") == 0);
    CHECK(m.refusal(R"({"op":"break_remove","number":77})") == "there is no rule 77");
    CHECK(m.refusal(R"({"op":"watch_events","kinds":["nothing"]})") == "there is no event \"nothing\"");
    CHECK(m.refusal(R"({"op":"reverse_step"})").find("needs a recording") != std::string::npos);
    CHECK(m.refusal(R"({"op":"goto","time":1})").find("needs a recording") != std::string::npos);
    CHECK(m.refusal(R"({"op":"symbols"})") == "symbols are not available here");
    CHECK(m.refusal(R"({"op":"screen"})") == "partition 0 has no display");
    CHECK(m.refusal(R"({"op":"jit_blocks"})").find("blocks are not counted") == 0);
    CHECK(m.refusal(R"({"op":"inspect","path":"nothing"})") == "there is no state below \"nothing\"");
    CHECK(m.ask(R"({"op":"status"})")["instructions"] == 0);
}

TEST_CASE("control service: every line has one reply, whatever is in it", "[ui][service]") {
    test::ControlMachine m;
    const auto reply = [&](const std::string& line) { return Json::parse(m.service->answer(line)); };
    CHECK(reply(R"({"id":1,"op":"hello"})")["ok"] == true);
    CHECK(reply(R"({"id":"a","op":"hello"})")["id"] == "a");
    for (const std::string& line : {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("\xff\xfe"),
                                    std::string(R"({"op":"hello"})"), std::string(R"({"id":[],"op":"hello"})"),
                                    std::string(100'000, '['), R"({"id":1,"op":")" + std::string(1000, 'x') + "\"}",
                                    std::string(R"({"id":1,"op":"resolve","text":"\u0000\ud83d\ude00"})")}) {
        const Json answer = reply(line);
        CHECK(answer["ok"] == false);
        CHECK(answer["error"].is_string());
    }
}

TEST_CASE("control service: memory is read where there is some, and written where it is RAM", "[ui][service]") {
    test::ControlMachine m;
    CHECK(m.ask(R"({"op":"read","address":")" + at(0) + R"(","size":5})")["data"] == "bc11003100");
    CHECK(m.ask(R"({"op":"read","address":"0x1fffffe","size":4,"space":"physical"})")["data"].get<std::string>().substr(4) == "????");
    CHECK(m.ask(R"({"op":"read","address":"0x1fffffe","size":4,"space":"machine"})")["data"].get<std::string>().substr(4) == "????");
    m.ask(R"({"op":"write","address":"0x301000","data":"0102aa"})");
    CHECK(m.ask(R"({"op":"read","address":"0x301000","size":3})")["data"] == "0102aa");
    CHECK(m.refusal(R"({"op":"write","address":"0x1fffffe","data":"01020304"})").find("nothing was written") != std::string::npos);
    CHECK(m.refusal(R"({"op":"write","address":"0x301000","data":"0"})").find("two hexadecimal digits") != std::string::npos);
    CHECK(m.ask(R"({"op":"read","address":"0x1fffffe","size":2})")["data"] == "0000");
}

TEST_CASE("control service: code that is written is what executes", "[ui][service]") {
    const bool jit = GENERATE(false, true);
    test::ControlMachine m(test::kProgram, jit);
    m.ask(R"({"op":"step","count":2})");
    CHECK(m.until_stop()["reason"] == "step");
    m.ask(R"({"op":"write","address":")" + at(0x0c) + R"(","data":"4c"})");  // dec esp
    m.ask(R"({"op":"step","count":2})");
    m.until_stop();
    CHECK(m.reg("rsp") == 0x310010);
}

TEST_CASE("control service: registers are read, and set all or none", "[ui][service]") {
    test::ControlMachine m;
    CHECK(m.reg("rip") == test::kCode);
    CHECK(m.reg("cs.limit") == 0xffffffff);
    const std::string wide = "0x" + std::string(31, '0') + "1" + std::string(31, '0') + "2";
    m.ask(R"({"op":"set_registers","values":{"rcx":"0x1234","rdx":77,"ymm3":")" + wide + R"(","st1":"0x3fff8000000000000000"}})");
    const Json registers = m.ask(R"({"op":"registers"})");
    CHECK(registers["rcx"] == "0x1234");
    CHECK(registers["rdx"] == "0x4d");
    CHECK(registers["ymm3"] == wide);
    CHECK(registers["st1"] == "0x3fff8000000000000000");
    const auto refused = [&](const std::string& values) { return m.refusal(R"({"op":"set_registers","values":)" + values + "}"); };
    CHECK(refused(R"({"rcx":1,"rxx":2})").find("there is no register \"rxx\"") == 0);
    CHECK(refused(R"({"rcx":1,"cpl":2})").find("follows from") != std::string::npos);
    CHECK(refused(R"({"rcx":1,"cs":"0x10000"})").find("no number of 2 bytes") != std::string::npos);
    CHECK(refused(R"({"rcx":1,"cr0":"0x80000000"})").find("do not go together") != std::string::npos);  // PG without PE
    CHECK(refused(R"({"rcx":1,"cr4":"0x100000000"})").find("cr4 has bits") == 0);
    CHECK(refused(R"({"rcx":1,"gdtr.base":"0x800000000000"})").find("not canonical") != std::string::npos);
    CHECK(m.ask(R"({"op":"registers"})") == registers);
}

TEST_CASE("control service: steps, over calls too", "[ui][service]") {
    test::ControlMachine m;
    m.ask(R"({"op":"step","count":5})");
    CHECK(m.until_stop()["reason"] == "step");
    CHECK(m.reg("rip") == test::kCode + 0x0f);
    CHECK(m.ask(R"({"op":"status"})")["instructions"] == 5);
    SECTION("into the call") {
        m.ask(R"({"op":"step"})");
        m.until_stop();
        CHECK(m.reg("rip") == test::kCode + 0x20);
    }
    SECTION("over the call") {
        m.ask(R"({"op":"step","over":true})");
        CHECK(m.until_stop()["reason"] == "step");
        CHECK(m.reg("rip") == test::kCode + 0x14);
        CHECK(m.ask(R"({"op":"breaks"})").empty());
        CHECK(m.ask(R"({"op":"status"})")["instructions"] == 8);
    }
    SECTION("out of a range of addresses") {
        m.ask(R"({"op":"step","from":")" + at(0) + R"(","to":")" + at(0x20) + R"("})");
        m.until_stop();
        CHECK(m.reg("rip") == test::kCode + 0x20);
    }
}

TEST_CASE("control service: continues to a breakpoint, to a place, to the end", "[ui][service]") {
    const bool jit = GENERATE(false, true);
    test::ControlMachine m(test::kProgram, jit);
    const Json rule = m.ask(R"({"op":"break_add","kind":"address","address":")" + at(0x20) + R"(","partition":0})");
    const Json rules = m.ask(R"({"op":"breaks"})");
    REQUIRE(rules.size() == 1);
    CHECK(rules[0]["number"] == rule["number"]);
    CHECK(rules[0]["rule"]["address"] == at(0x20));
    m.ask(R"({"op":"continue"})");
    CHECK(m.ask(R"({"op":"status"})")["running"] == true);
    CHECK(m.refusal(R"({"op":"continue"})").find("the machine runs") == 0);
    const Json stop = m.until_stop();
    CHECK(stop["reason"] == "rule");
    CHECK(stop["rule"] == rule["number"]);
    CHECK(m.reg("rip") == test::kCode + 0x20);
    CHECK(m.ask(R"({"op":"breaks"})")[0]["hits"] == 1);
    m.ask(R"({"op":"break_remove","number":)" + rule["number"].dump() + "}");
    m.ask(R"({"op":"continue","instructions":8})");
    CHECK(m.until_stop()["reason"] == "limit");
    CHECK(m.ask(R"({"op":"status"})")["instructions"] == 8);
    m.ask(R"({"op":"continue"})");
    CHECK(m.until_stop()["reason"] == "ended");
    CHECK(m.ask(R"({"op":"status"})")["outcome"]["kind"] == "debug_exit");
    const Json console = m.ask(R"({"op":"console","after":0})");
    CHECK(console["text"] == "78");
    CHECK(console["next"] == 1);
    m.ask(R"({"op":"continue"})");
    CHECK(m.until_stop()["reason"] == "ended");
}

TEST_CASE("control service: a watch says who wrote, behind the write", "[ui][service]") {
    const bool jit = GENERATE(false, true);
    test::ControlMachine m(test::kProgram, jit);
    m.ask(R"({"op":"break_add","kind":"watch","address":"0x300000","size":4,"partition":0})");
    m.ask(R"({"op":"continue"})");
    const Json stop = m.until_stop();
    CHECK(stop["reason"] == "rule");
    CHECK(stop["address"] == "0x300000");
    CHECK(stop["write"] == true);
    CHECK(stop["who"].is_string());
    CHECK(m.reg("rip") == test::kCode + 0x0c);
    CHECK(m.ask(R"({"op":"read","address":"0x300000","size":4})")["data"] == "11003100");
}

TEST_CASE("control service: events are kept, and a rule stops at one", "[ui][service]") {
    test::ControlMachine m;
    m.ask(R"({"op":"watch_events","kinds":["port"],"capacity":1000})");
    m.ask(R"({"op":"break_add","kind":"event","event":"port","values":{"port":"0x3f8","value":"0x78"}})");
    m.ask(R"({"op":"continue"})");
    CHECK(m.until_stop()["reason"] == "rule");
    CHECK(m.reg("rip") == test::kCode + 0x1b);
    const Json events = m.ask(R"({"op":"events","after":0,"limit":100})");
    REQUIRE(events["rows"].size() == 1);
    CHECK(events["rows"][0]["kind"] == "port");
    CHECK(events["rows"][0]["values"]["port"] == "0x3f8");
    CHECK(events["lost"] == 0);
    CHECK(m.ask(R"({"op":"events","after":)" + events["next"].dump() + "}")["rows"].empty());
}

TEST_CASE("control service: stop is answered first, then told", "[ui][service]") {
    test::ControlMachine m({0xeb, 0xfe});  // jmp to itself
    model::LocalLink link(*m.service, true);
    REQUIRE(link.call({{"op", "continue"}}));
    CHECK_FALSE(link.notice(20));
    REQUIRE(link.call({{"op", "stop"}}));
    const auto notice = link.notice(0);
    REQUIRE(notice);
    CHECK((*notice)["event"] == "stopped");
    CHECK((*notice)["stop"]["reason"] == "asked");
    CHECK((*notice)["status"]["running"] == false);
    CHECK_FALSE(link.notice(0));
    CHECK_FALSE(m.service->running());
}

TEST_CASE("control service: a machine that waits for good stops", "[ui][service]") {
    test::ControlMachine m({0xfa, 0xf4, 0xeb, 0xfd});  // cli; hlt
    m.ask(R"({"op":"continue"})");
    CHECK(m.until_stop()["reason"] == "hang");
}

TEST_CASE("control service: code is shown with what precedes it", "[ui][service]") {
    test::ControlMachine m;
    const Json lines = m.ask(R"({"op":"disassemble","address":")" + at(0x0d) + R"(","count":2,"before":2})");
    REQUIRE(lines.size() == 4);
    CHECK(lines[0]["address"] == at(0x0a));
    CHECK(lines[0]["text"] == "mov dword ptr [ebx], esp");
    CHECK(lines[0]["bytes"] == "8923");
    CHECK(lines[2]["address"] == at(0x0d));
    CHECK(lines[3]["target"] == at(0x20));
    CHECK(m.ask(R"({"op":"disassemble","address":"0x7fffffff0000"})")[0]["bytes"] == "??");
}

TEST_CASE("control service: names are resolved without symbols as far as they are registers", "[ui][service]") {
    test::ControlMachine m;
    const auto address = [&](const std::string& text) { return m.ask(R"({"op":"resolve","text":")" + text + R"("})")["address"]; };
    CHECK(address("rip") == at(0));
    CHECK(address("$rip + 0x10") == at(0x10));
    CHECK(address("rip+0x10-16") == at(0));
    CHECK(address("0x1234") == "0x1234");
    CHECK(m.refusal(R"({"op":"resolve","text":"start_kernel"})").find("no symbol that is known here") != std::string::npos);
}

TEST_CASE("control service: the screen is a PNG of its pixels", "[ui][service]") {
    test::ControlMachine m(test::kProgram, false, true);
    m.machine->memory().write<u32>(Spa(machine::board::kDisplayMemoryBase), 0x00123456);
    const Json screen = m.ask(R"({"op":"screen"})");
    CHECK(screen["width"] == 1024);
    CHECK(screen["height"] == 768);
    // An independent reader: Python's zlib and base64.
    test::write_file(m.dir / "png", [&] {
        const auto text = screen["png"].get<std::string>();
        return std::vector<u8>(text.begin(), text.end());
    }());
    const std::string check =
        "python3 -c \"import base64, struct, zlib, sys\nd = base64.b64decode(open(sys.argv[1]).read(), validate=True)\n"
        "assert d[:8] == bytes([137,80,78,71,13,10,26,10])\nat = 8; idat = b''; names = []\n"
        "while at < len(d):\n n, k = struct.unpack('>I4s', d[at:at+8]); body = d[at+8:at+8+n]\n"
        " assert struct.unpack('>I', d[at+8+n:at+12+n])[0] == zlib.crc32(k + body)\n"
        " names.append(k); idat += body if k == b'IDAT' else b''; at += 12 + n\n"
        "assert names[0] == b'IHDR' and names[-1] == b'IEND'\nraw = zlib.decompress(idat)\nassert len(raw) == 768 * (1 + 3 * 1024)\n"
        "assert raw[:4] == bytes([0, 0x12, 0x34, 0x56])\" ";
    CHECK(std::system((check + (m.dir / "png")).c_str()) == 0);
}

TEST_CASE("control service: its owner provides what it cannot do", "[ui][service]") {
    test::ControlMachine m;
    m.service->provide("goto", "instructions time", [](model::Arguments& arguments) -> Result<Json> {
        return Json{{"there", arguments.number("instructions", 0)}};
    });
    m.service->describe([](Json& hello) { hello["reverse"] = true; }, [](Json& status) { status["history"] = {{"first", 0}}; });
    CHECK(m.ask(R"({"op":"goto","instructions":5})")["there"] == 5);
    CHECK(m.refusal(R"({"op":"goto","place":5})").find("unknown key") == 0);
    CHECK(m.ask(R"({"op":"hello"})")["reverse"] == true);
    CHECK(m.ask(R"({"op":"status"})")["history"]["first"] == 0);
}

TEST_CASE("console history: keeps the last of what was printed", "[ui][service]") {
    model::ConsoleHistory history;
    for (std::size_t i = 0; i < 3 * model::ConsoleHistory::kBytes; ++i) history.put("a", static_cast<u8>('a' + i % 26));
    const auto part = history.read("a", 0, 10);
    CHECK(part.from >= model::ConsoleHistory::kBytes);
    CHECK(part.text[0] == static_cast<char>('a' + part.from % 26));
    CHECK(part.next == part.from + 10);
    CHECK(history.read("a", ~u64{0}, 10).text.empty());
    CHECK(history.read("b", 0, 10).next == 0);
}
