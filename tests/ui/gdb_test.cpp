// The GDB stub: its packets, and a conversation as gdb would have it.
#include "ui/cli/gdb_stub.h"

#include <catch2/catch.hpp>

#include "tests/ui/control_machine.h"
#include "ui/cli/gdb_packets.h"
#include "ui/cli/gdb_registers.h"

using namespace vg;
using namespace vg::cli;
using Kind = GdbPackets::Item::Kind;

namespace {

struct Talk {
    test::ControlMachine machine;
    model::LocalLink link{*machine.service, true};
    GdbStub stub{link};

    explicit Talk(const std::vector<u8>& code = test::kProgram) : machine(code) { CHECK(say("QStartNoAckMode") == "OK"); }
    /// The bodies of the packets that answer this one, joined by " | ".
    std::string say(const std::string& body) {
        stub.feed(GdbPackets::packet(body));
        for (int tries = 0; stub.waiting() && tries < 100; ++tries) stub.poll(100);
        return heard();
    }
    std::string heard() {
        GdbPackets parser;
        std::string out;
        for (const GdbPackets::Item& item : parser.feed(stub.take_output()))
            if (item.kind == Kind::Packet) out += (out.empty() ? "" : " | ") + item.body;
        return out;
    }
};

}  // namespace

TEST_CASE("gdb packets: whatever comes is cut into packets", "[ui][gdb]") {
    GdbPackets packets;
    CHECK(packets.feed("$g#6").empty());
    auto items = packets.feed("7+-\x03$g#00$m1,}]#00");
    REQUIRE(items.size() == 6);
    CHECK(items[0].kind == Kind::Packet);
    CHECK(items[0].body == "g");
    CHECK(items[1].kind == Kind::Ack);
    CHECK(items[2].kind == Kind::Again);
    CHECK(items[3].kind == Kind::Interrupt);
    CHECK(items[4].kind == Kind::Damaged);
    CHECK(items[5].kind == Kind::Damaged);
    const std::string all = "a#$}*\x03z";
    items = packets.feed(GdbPackets::packet(all));
    REQUIRE(items.size() == 1);
    CHECK(items[0].body == all);
    items = packets.feed("$" + std::string(GdbPackets::kMaxPacket + 1, 'a') + "#00");
    REQUIRE(items.size() == 1);
    CHECK(items[0].kind == Kind::Damaged);
    CHECK(packets.feed("noise").empty());
}

TEST_CASE("gdb stub: says what it can", "[ui][gdb]") {
    Talk talk;
    const std::string features = talk.say("qSupported:multiprocess+;swbreak+;hwbreak+");
    CHECK(features.find("multiprocess+") != std::string::npos);
    CHECK(features.find("ReverseStep-") != std::string::npos);
    CHECK(talk.say("?").find("T05thread:p1.1;") == 0);
    CHECK(talk.say("qfThreadInfo") == "mp1.1");
    CHECK(talk.say("qsThreadInfo") == "l");
    CHECK(talk.say("qAttached:1") == "1");
    CHECK(talk.say("qC") == "QCp1.1");
    CHECK(talk.say("Hgp1.1") == "OK");
    CHECK(talk.say("Hgp7.1") == "E01");
    CHECK(talk.say("Tp1.1") == "OK");
    CHECK(talk.say("Tp1.2") == "E01");
    CHECK(talk.say("vMustReplyEmpty").empty());
    CHECK(talk.say("qXfer:threads:read::0,1000").find("<thread id=\"p1.1\"") != std::string::npos);
    std::string xml, part;
    do {
        part = talk.say("qXfer:features:read:target.xml:" + model::hex(xml.size()).substr(2) + ",ff");
        xml += part.substr(1);
    } while (part[0] == 'm');
    CHECK(xml == gdb_target_xml());
    CHECK(talk.say("qXfer:features:read:target.xml:fffffffff,ff") == "E00");
}

TEST_CASE("gdb stub: registers and memory are read and written", "[ui][gdb]") {
    Talk talk;
    const std::string all = talk.say("g");
    const u64 rbx = talk.machine.reg("rbx");
    CHECK(talk.say("p0").size() == 16);
    CHECK(talk.say("p10") == "8000200000000000");  // rip
    CHECK(talk.say("P1=efbeadde00000000") == "OK");
    CHECK(talk.machine.reg("rbx") == 0xdeadbeef);
    CHECK(talk.say("P1=00").find("E.") == 0);
    CHECK(talk.say("Pffff=00").find("E.") == 0);
    std::string changed = talk.say("g");
    CHECK(changed.size() == all.size());
    CHECK(changed != all);
    CHECK(talk.say("G" + all) == "OK");
    CHECK(talk.say("g") == all);
    CHECK(talk.machine.reg("rbx") == rbx);
    CHECK(talk.say("G00").find("E.") == 0);
    CHECK(talk.say("m200080,5") == "bc11003100");
    CHECK(talk.say("x200080,2") == std::string("b\xbc\x11"));
    CHECK(talk.say("m1fffffe,8") == "0000");  // as far as there is memory
    CHECK(talk.say("m7f00000000,8") == "E14");
    CHECK(talk.say("M301000,2:0102") == "OK");
    CHECK(talk.say(std::string("X301002,2:#}")) == "OK");
    CHECK(talk.say("m301000,4") == "0102237d");
    CHECK(talk.say("M301000,2:01") == "E01");
    CHECK(talk.say("M7f00000000,1:00") == "E14");
}

TEST_CASE("gdb stub: x87 tags are as the processor would store them", "[ui][gdb]") {
    Talk talk;
    // TOP 6: ST0 is physical register 6, ST1 is 7; ST2 (physical 0) is zero, ST3 (physical 1) is a NaN.
    talk.machine.ask(R"({"op":"set_registers","values":{"fsw":"0x3000","ftw":"0xc3","st0":"0x3fff8000000000000000",)"
                     R"("st1":"0x00000000000000000001","st2":"0x0","st3":"0x7fffc000000000000000"}})");
    std::size_t ftag = 16 + 1 + 1 + 6 + 8 + 2;
    CHECK(talk.say("p" + model::hex(ftag).substr(2)) == "f98f0000");
}

TEST_CASE("gdb stub: breakpoints, steps and the end", "[ui][gdb]") {
    Talk talk;
    talk.say("qSupported:multiprocess+;swbreak+;hwbreak+");
    CHECK(talk.say("Z0,2000a0,1") == "OK");
    CHECK(talk.say("Z0,2000a0,1") == "OK");
    CHECK(talk.say("vCont;c").find("T05swbreak:;thread:p1.1;10:a000200000000000;") == 0);
    CHECK(talk.say("z0,2000a0,1") == "OK");
    CHECK(talk.machine.ask(R"({"op":"breaks"})").empty());
    CHECK(talk.say("vCont;s:p1.1;c").find("T05thread:p1.1;10:a1") == 0);
    CHECK(talk.say("vCont;r2000a0,2000a2:p1.1").find("T05thread:p1.1;10:94") == 0);
    CHECK(talk.say("Z1,20009b,1") == "OK");
    CHECK(talk.say("c").find("T05hwbreak:;thread") == 0);
    CHECK(talk.say("bs").empty());
    const std::string end = talk.say("vCont;c");
    CHECK(end.find("O") == 0);
    CHECK(end.find("| W00;process:1") != std::string::npos);
}

TEST_CASE("gdb stub: a watchpoint names the address", "[ui][gdb]") {
    Talk talk;
    CHECK(talk.say("Z2,300000,4") == "OK");
    CHECK(talk.say("vCont;c").find("T05watch:300000;") == 0);
    CHECK(talk.say("z2,300000,4") == "OK");
    CHECK(talk.say("Z3,7f00000000,4").find("E.") == 0);
    CHECK(talk.say("Z5,0,1").empty());
    CHECK(talk.say("Z0").empty());
}

TEST_CASE("gdb stub: an interrupt stops the machine, leaving lets it go on", "[ui][gdb]") {
    Talk talk({0xeb, 0xfe});
    talk.stub.feed(GdbPackets::packet("vCont;c"));
    talk.stub.poll(20);
    CHECK(talk.stub.waiting());
    talk.stub.feed("\x03");
    talk.stub.poll(0);
    CHECK(talk.heard().find("T02thread:") == 0);
    CHECK(talk.say("Z0,200080,1") == "OK");
    CHECK(talk.say("D") == "OK");
    CHECK(talk.stub.closing());
    CHECK(talk.machine.service->running());
    CHECK(talk.machine.ask(R"({"op":"breaks"})").empty());
}

TEST_CASE("gdb stub: a kill ends the conversation and the machine does not go on", "[ui][gdb]") {
    Talk talk;
    CHECK(talk.say("vKill;1") == "OK");
    CHECK(talk.stub.killed());
    CHECK_FALSE(talk.machine.service->running());
}

TEST_CASE("gdb stub: monitor commands print text", "[ui][gdb]") {
    Talk talk;
    const auto monitor = [&](const std::string& command) {
        std::string answer = talk.say("qRcmd," + model::hex_bytes(command)), text;
        for (std::size_t at = 0; at < answer.size();) {
            const std::size_t end = std::min(answer.find(" | ", at), answer.size());
            if (answer[at] == 'O' && answer.substr(at, 2) != "OK") text += *model::parse_hex_bytes(answer.substr(at + 1, end - at - 1));
            at = end + 3;
        }
        return text;
    };
    CHECK(monitor("help").find("monitor walk") != std::string::npos);
    CHECK(monitor("registers rip") == "rip              0x200080\n");
    CHECK(monitor("lin rip 4").find("0000000000200080  bc 11 00 31") == 0);
    CHECK(monitor("phys 0x200080 1").find("bc") != std::string::npos);
    CHECK(monitor("walk").find("paging none") != std::string::npos);
    CHECK(monitor("disassemble rip 1").find("mov esp, 0x310011") != std::string::npos);
    CHECK(monitor("inspect time") == "time/now = 0\n");
    CHECK(monitor("partitions").find("partition 0") == 0);
    CHECK(monitor("break port port=0x3f8").find("rule ") == 0);
    CHECK(monitor("break").find("\"event\":\"port\"") != std::string::npos);
    CHECK(monitor("explain") == "explanations are not available here\n");
    CHECK(monitor("goto 7").find("needs a recording") != std::string::npos);
    CHECK(monitor("snapshot").find("not available yet") != std::string::npos);
    CHECK(monitor("fly").find("there is no command") == 0);
    CHECK(talk.say("qRcmd,0") == "E01");
}
