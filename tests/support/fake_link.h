// A control link that answers like a small machine: two partitions, a stretch of code, memory that can be read, and
// events on request. For tests of what the desktop debugger derives.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <thread>

#include "base/types.h"
#include "ui/model/control_link.h"

namespace vg::test {

using model::Json;

/// What the fake machine is like; shared with the test, which may change it between requests while nothing is under
/// way.
struct FakeMachine {
    Json last_stop = {{"reason", "start"}, {"text", "before the first instruction"}};
    bool reverse = false, live = true, running = false;
    u64 time = 1'000'000, instructions = 5'000, rip = 0xffffffff81000000, rax = 1;
    std::vector<Json> breaks;
    unsigned next_break = 1;
    std::string console = "hello\n";
    std::string watched;                  ///< names of the kinds that are watched
    std::vector<Json> events;             ///< rows with seq from 1
    std::map<std::string, Json> answers;  ///< by op: instead of the usual answer
    std::map<std::string, std::string> refusals;
    std::atomic<int> delay_ms{0};  ///< of every answer
    std::atomic<bool> gone{false};
    std::atomic<unsigned> calls{0};
    std::vector<Json> asked;
};

class FakeLink final : public model::ControlLink {
  public:
    explicit FakeLink(std::shared_ptr<FakeMachine> machine) : m_(std::move(machine)) {}

    Result<Json> call(const Json& request) override {
        ++m_->calls;
        if (m_->delay_ms != 0) std::this_thread::sleep_for(std::chrono::milliseconds(m_->delay_ms));
        if (m_->gone) return fail(Error::Code::Host, "the machine went away");
        m_->asked.push_back(request);
        const std::string op = request.value("op", "");
        if (const auto no = m_->refusals.find(op); no != m_->refusals.end())
            return fail(Error::Code::Usage, no->second);
        if (const auto given = m_->answers.find(op); given != m_->answers.end()) return given->second;
        return usual(op, request);
    }
    std::optional<Json> notice(int wait_ms) override {
        if (notices_.empty()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
            return {};
        }
        Json notice = std::move(notices_.front());
        notices_.pop_front();
        return notice;
    }

  private:
    static std::string hex(u64 value) { return fmt::format("{:#x}", value); }
    static u64 number(const Json& value) {
        return value.is_string() ? std::stoull(value.get<std::string>(), nullptr, 0) : value.get<u64>();
    }

    Json status() const {
        Json status = {{"running", m_->running},
                       {"time", m_->time},
                       {"instructions", m_->instructions},
                       {"end", nullptr},
                       {"in_round", false},
                       {"focus", {{"partition", 1}, {"vp", 0}}},
                       {"outcome", {{"kind", "none"}, {"text", ""}}},
                       {"stop", m_->last_stop}};
        if (m_->reverse)
            status["history"] = {{"first", {{"time", 0}, {"instructions", 0}}},
                                 {"last", {{"time", 2'000'000'000}, {"instructions", 2'000'000'000}}}};
        return status;
    }
    void stop(const std::string& reason, const std::string& text) {
        m_->running = false;
        m_->last_stop = {{"reason", reason}, {"text", text}, {"partition", 1}, {"vp", 0}};
        notices_.push_back({{"event", "stopped"}, {"stop", m_->last_stop}, {"status", status()}});
    }
    Json registers() const {
        return {{"rax", hex(m_->rax)},
                {"rsp", "0xffffc90000003f00"},
                {"rip", hex(m_->rip)},
                {"rflags", "0x246"},
                {"cs", "0x10"},
                {"cs.base", "0x0"},
                {"cs.attributes", "0xa09b"},
                {"cr0", "0x80050033"},
                {"cr3", "0x2a10000"},
                {"efer", "0xd01"},
                {"ymm0", "0x" + std::string(64, '0')}};
    }
    Json code(const Json& request) const {
        Json lines = Json::array();
        const u64 address = number(request["address"]), before = request.value("before", 0U);
        for (u64 i = 0; i < request.value("count", 16U); ++i) {
            const u64 at = address - before * 4 + i * 4;
            const bool jump = at % 64 == 32;
            Json line = {{"address", hex(at)},
                         {"bytes", "90909090"},
                         {"text", jump ? fmt::format("jne {:#x}", at - 16) : "nop"},
                         {"symbol", at % 256 == 0 ? "start_kernel" : ""}};
            if (jump) line["target"] = hex(at - 16);
            lines.push_back(line);
        }
        return lines;
    }
    Json memory(const Json& request) const {
        std::string data;
        const u64 address = number(request["address"]);
        for (u64 i = 0; i < number(request["size"]); ++i)
            data += address + i < 0x1000 ? "??" : fmt::format("{:02x}", (address + i + m_->rax) & 0xff);
        return {{"data", data}};
    }
    Json tail(const Json& request) const {
        Json rows = Json::array();
        const u64 after = request.value("after", u64{0});
        u64 next = after;
        for (const Json& row : m_->events) {
            if (row["seq"].get<u64>() <= after || rows.size() >= request.value("limit", 1000U)) continue;
            rows.push_back(row);
            next = row["seq"].get<u64>();
        }
        return {{"rows", rows}, {"next", next}, {"lost", 0}};
    }

    Result<Json> usual(const std::string& op, const Json& request) {
        if (op == "hello")
            return Json{{"protocol", 1},
                        {"version", "test"},
                        {"kind", m_->live ? "live" : "replay"},
                        {"reverse", m_->reverse},
                        {"config", "m.toml"}};
        if (op == "status") return status();
        if (op == "partitions") {
            return Json::array({Json{{"id", 1},
                                     {"name", "root"},
                                     {"kind", "root"},
                                     {"vps", Json::array({Json{{"index", 0},
                                                               {"name", "root.vp0"},
                                                               {"activity", "runs"},
                                                               {"rip", hex(m_->rip)},
                                                               {"cpl", 0},
                                                               {"mode", 64}}})}},
                                Json{{"id", 2},
                                     {"name", "linux"},
                                     {"kind", "child"},
                                     {"vps", Json::array({Json{{"index", 0},
                                                               {"name", "linux.vp0"},
                                                               {"activity", "halted"},
                                                               {"rip", "0x1000"},
                                                               {"cpl", 3},
                                                               {"mode", 64}}})}}});
        }
        if (op == "registers") return registers();
        if (op == "disassemble") return code(request);
        if (op == "read") return memory(request);
        if (op == "breaks") {
            Json list = Json::array();
            for (const Json& row : m_->breaks) list.push_back(row);
            return list;
        }
        if (op == "break_add") {
            Json rule = request;
            rule.erase("op");
            m_->breaks.push_back({{"number", m_->next_break}, {"rule", rule}, {"hits", 0}});
            return Json{{"number", m_->next_break++}};
        }
        if (op == "break_remove") {
            std::erase_if(m_->breaks, [&](const Json& row) { return row["number"] == request["number"]; });
            return Json::object();
        }
        if (op == "step" || op == "reverse_step") {
            const bool back = op == "reverse_step";
            m_->rip += back ? -4 : 4;
            m_->rax += back ? -1 : 1;
            m_->instructions += back ? -1 : 1;
            stop("step", "one step");
            return Json::object();
        }
        if (op == "continue") {
            m_->running = true;
            return Json::object();
        }
        if (op == "stop") {
            stop("asked", "stopped as asked");
            return Json::object();
        }
        if (op == "goto") {
            if (request.contains("time")) m_->time = request["time"].get<u64>();
            stop("asked", "there");
            return Json::object();
        }
        if (op == "console") {
            const u64 after = request.value("after", u64{0});
            std::string text;
            for (std::size_t i = after; i < m_->console.size(); ++i)
                text += fmt::format("{:02x}", static_cast<unsigned char>(m_->console[i]));
            return Json{{"text", text}, {"next", std::max<u64>(m_->console.size(), 0)}};
        }
        if (op == "watch_events") {
            m_->watched = request["kinds"].dump();
            return Json::object();
        }
        if (op == "events") return tail(request);
        if (op == "stack")
            return Json::array(
                {Json{{"pc", hex(m_->rip)}, {"sp", "0xffffc90000003f00"}, {"symbol", "start_kernel+0x4"}},
                 Json{{"pc", "0xffffffff81000400"}, {"sp", "0xffffc90000003f40"}, {"symbol", "x86_64_start"}}});
        if (op == "symbolize") return Json::array();
        if (op == "resolve") {
            if (request["text"] == "start_kernel") return Json{{"address", "0xffffffff81000000"}};
            return fail(Error::Code::Usage, "there is no symbol " + request["text"].get<std::string>());
        }
        if (op == "walk") {
            return Json{{"linear", request["address"]},
                        {"mode", "4-level"},
                        {"physical", "0x1234000"},
                        {"fault", nullptr},
                        {"steps", Json::array({Json{{"level", 4},
                                                    {"entry_address", "0x2a10ff8"},
                                                    {"entry", "0x2a11067"},
                                                    {"flags", "P W U A D"},
                                                    {"next", "0x2a11000"}}})},
                        {"second", Json::array()}};
        }
        if (op == "inspect") return Json{{"tree", {{"child", {{"linux", {{"com1", {{"lcr", "0x03"}}}}}}}}}};
        if (op == "jit_blocks" || op == "jit_block") {
            return Json{
                {"engine", Json::object()},
                {"blocks",
                 Json::array({Json{{"address", "ffffffff81000000"},
                                   {"mode", "64-bit, CPL 0"},
                                   {"executions", 7},
                                   {"code", Json::array({Json{{"guest", "nop"}, {"host", {"nop", "ret"}}}})}}})}};
        }
        if (op == "screen") return fail(Error::Code::Usage, "this partition has no display");
        return fail(Error::Code::Usage, "unknown op " + op);
    }

    std::shared_ptr<FakeMachine> m_;
    std::deque<Json> notices_;
};

}  // namespace vg::test
