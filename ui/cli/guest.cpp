// `verdigris guest`: what a host tells the services of a partition, and what it hears back.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>

#include "machine/config.h"
#include "ui/cli/commands.h"
#include "ui/cli/socket_link.h"
#include "ui/model/desk/machine_views.h"
#include "ui/model/json_text.h"

namespace vg::cli {

namespace {

using model::Json;
using SteadyClock = std::chrono::steady_clock;

class Guest {
  public:
    Guest(SocketLink& link, const GuestOptions& options) : link_(link), options_(options) {}

    int run();

  private:
    Result<Json> ask(Json request);
    Result<Json> enter(Json request);
    Result<Json> command(Json request);
    int status();
    int kvp();
    int list(const std::string* key);
    int print_keys();
    int finish(const Result<Json>& result, std::string_view done);

    [[nodiscard]] std::string word(std::size_t index) const {
        return index < options_.words.size() ? options_.words[index] : std::string();
    }
    int usage(std::string text) {
        return report({Error::Code::Usage, fmt::format("guest: {}; see: verdigris guest --help", text)});
    }

    SocketLink& link_;
    const GuestOptions& options_;
    std::optional<u64> partition_;
};

Result<Json> Guest::ask(Json request) {
    if (!partition_) {
        const auto list = link_.call({{"op", "partitions"}});
        if (!list) return list;
        for (const Json& each : *list) {
            const bool wanted = options_.partition.empty()
                                    ? each["kind"] == "child"
                                    : each["name"] == options_.partition || each["id"].dump() == options_.partition;
            if (!wanted) continue;
            partition_ = each["id"].get<u64>();
            break;
        }
        if (!partition_) {
            return fail(Error::Code::Usage, options_.partition.empty() ? "this machine has no child partition"
                                                                       : fmt::format("there is no partition \"{}\"", options_.partition));
        }
    }
    request["partition"] = *partition_;
    return link_.call(request);
}

/// In the middle of a round nothing enters: it is over soon if the machine runs.
Result<Json> Guest::enter(Json request) {
    const auto until = SteadyClock::now() + std::chrono::seconds(options_.wait_s);
    while (true) {
        auto reply = ask(request);
        if (!reply || reply->value("taken", u64{0}) != 0) return reply;
        if (SteadyClock::now() >= until)
            return fail(Error::Code::Usage, "the machine stands in the middle of a round: let it go on");
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

/// A command and how it ended. A guest may take its time: until its daemon runs, for example.
Result<Json> Guest::command(Json request) {
    request["op"] = "guest";
    auto entered = enter(std::move(request));
    if (!entered || !entered->contains("number")) return entered;
    const auto until = SteadyClock::now() + std::chrono::seconds(options_.wait_s);
    while (true) {
        auto result = ask({{"op", "guest_result"}, {"number", (*entered)["number"]}});
        if (!result || result->value("state", "") != "waiting") return result;
        if (SteadyClock::now() >= until) return result;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

int Guest::finish(const Result<Json>& result, std::string_view done) {
    if (!result) return report(result.error());
    const std::string state = result->value("state", "done");
    if (state == "done") {
        if (!done.empty()) std::printf("%s\n", std::string(done).c_str());
        return kPass;
    }
    const std::string why = state == "waiting" ? fmt::format("the guest has not answered within {} s; it may do so later", options_.wait_s)
                            : state == "gone"  ? "the guest's driver went away before it answered"
                            : result->contains("bytes")
                                ? fmt::format("the guest has {} now: it gave what it could", to_string(machine::ByteSize{(*result)["bytes"].get<u64>()}))
                                : fmt::format("the guest refused: status {}", result->value("status", "?"));
    std::fprintf(stderr, "verdigris: %s\n", printable(why).c_str());
    return kExpectationFailed;
}

int Guest::status() {
    const auto reply = ask({{"op", "guest_status"}});
    if (!reply) return report(reply.error());
    if (options_.words[0] == "status") {
        std::printf("%s\n", model::json_text(*reply).c_str());
        return kPass;
    }
    if (!reply->contains("heartbeat")) return report({Error::Code::Usage, "this partition has none: devices.heartbeat is false"});
    const std::string guest = (*reply)["heartbeat"].value("guest", "unknown");
    std::printf("%s\n", printable(guest).c_str());
    return guest == "alive" ? kPass : kExpectationFailed;
}

/// The keys of a pool, or the value of one. Linux answers a request for one value without it, so the list is asked.
int Guest::list(const std::string* key) {
    constexpr u64 kMost = 4096;
    for (u64 index = 0; index < kMost; ++index) {
        const auto result = command({{"command", "kvp_list"}, {"pool", options_.pool}, {"index", index}});
        if (result && result->value("status", "") == "0x80070103") break;  // no more
        if (!result || result->value("state", "") != "done") return finish(result, "");
        const std::string name = result->value("key", ""), value = result->value("value", "");
        if (key == nullptr) std::printf("%s = %s\n", printable(name).c_str(), printable(value).c_str());
        else if (name == *key) return finish(result, printable(value));
    }
    if (key == nullptr) return kPass;
    std::fprintf(stderr, "verdigris: pool %s has no key \"%s\"\n", options_.pool.c_str(), printable(*key).c_str());
    return kExpectationFailed;
}

int Guest::kvp() {
    const std::string what = word(1);
    if (what == "list" && options_.words.size() == 2) return list(nullptr);
    if (what == "get" && options_.words.size() == 3) {
        const std::string key = word(2);
        return list(&key);
    }
    if (what == "set" && options_.words.size() == 4) {
        return finish(command({{"command", "kvp_set"}, {"pool", options_.pool}, {"key", word(2)}, {"value", word(3)}, {"type", options_.type}}), "");
    }
    if (what == "delete" && options_.words.size() == 3)
        return finish(command({{"command", "kvp_delete"}, {"pool", options_.pool}, {"key", word(2)}}), "");
    if (what == "ip" && options_.words.size() == 3) {
        const auto result = command({{"command", "ip_get"}, {"adapter", word(2)}});
        if (result && result->value("state", "") == "done") std::printf("%s\n", printable(model::json_text(*result)).c_str());
        return finish(result, "");
    }
    if (what == "set-ip" && options_.words.size() >= 4 && options_.words.size() <= 7) {
        const bool dhcp = word(3) == "dhcp";
        return finish(command({{"command", "ip_set"}, {"adapter", word(2)}, {"addresses", dhcp ? "" : word(3)}, {"subnets", word(4)},
                               {"gateways", word(5)}, {"name_servers", word(6)}, {"dhcp", dhcp}}), "");
    }
    return usage("write kvp list, get KEY, set KEY VALUE, delete KEY, ip MAC or set-ip ADAPTER ADDRESSES SUBNETS [GATEWAYS [NAME-SERVERS]]");
}

int Guest::print_keys() {
    Json request = {{"op", "keys"}};
    if (options_.words[0] == "type") {
        std::string text;
        for (std::size_t i = 1; i < options_.words.size(); ++i) text += (i == 1 ? "" : " ") + options_.words[i];
        for (std::size_t at = 0; (at = text.find("\\n", at)) != std::string::npos;) text.replace(at, 2, "\n");
        request["text"] = text;
    } else {
        request["keys"] = std::vector<std::string>(options_.words.begin() + 1, options_.words.end());
    }
    return finish(enter(std::move(request)), "");
}

int Guest::run() {
    const std::string what = word(0);
    const std::size_t count = options_.words.size();
    if ((what == "heartbeat" || what == "status") && count == 1) return status();
    if ((what == "shutdown" || what == "reboot" || what == "hibernate") && count == 1)
        return finish(command({{"command", what}, {"force", options_.force}}), "the guest has agreed");
    if ((what == "freeze" || what == "thaw") && count == 1) return finish(command({{"command", what}}), "done");
    if (what == "time" && count == 1) return finish(command({{"command", "time"}}), "");
    if (what == "kvp") return kvp();
    if (what == "memory" && count == 2) {
        const auto bytes = machine::parse_byte_size(word(1));
        if (!bytes) return report(bytes.error());
        return finish(command({{"command", "memory"}, {"bytes", bytes->bytes}}), "");
    }
    if ((what == "type" || what == "keys") && count >= 2) return print_keys();
    if (what == "mouse" && (count == 3 || count == 4)) {
        Json request = {{"op", "mouse"}, {"x", word(1)}, {"y", word(2)}};
        if (count == 4) request["buttons"] = word(3);
        for (auto& [key, value] : request.items()) {
            if (key == "op") continue;
            char* end = nullptr;
            const std::string text = value.get<std::string>();
            const unsigned long number = std::strtoul(text.c_str(), &end, 0);
            if (text.empty() || *end != '\0') return usage(fmt::format("\"{}\" is no number", text));
            value = number;
        }
        return finish(enter(std::move(request)), "");
    }
    return usage(what.empty() ? "say what to do" : fmt::format("\"{}\" with {} words behind it is no command", what, count - 1));
}

}  // namespace

int inspect_png(const std::string& socket, const std::string& partition, const std::string& file) {
    constexpr std::size_t kMaxPicture = 64 << 20;
    auto link = SocketLink::connect(socket);
    if (!link) return report(link.error());
    const auto list = (*link)->call({{"op", "partitions"}});
    if (!list) return report(list.error());
    for (const Json& each : *list) {
        const bool wanted = partition.empty() ? each["kind"] != "root" || list->size() == 1
                                              : each["name"] == partition || each["id"].dump() == partition;
        if (!wanted) continue;
        const auto reply = (*link)->call({{"op", "screen"}, {"partition", each["id"]}});
        if (!reply) return report(reply.error());
        const std::string png = desk::parse_base64(reply->value("png", ""), kMaxPicture);
        std::FILE* const out = std::fopen(file.c_str(), "wb");
        const bool written = out != nullptr && std::fwrite(png.data(), 1, png.size(), out) == png.size();
        if (out == nullptr || std::fclose(out) != 0 || !written)
            return report({Error::Code::Usage, fmt::format("{} cannot be written", file)});
        std::printf("%s: %s x %s\n", file.c_str(), (*reply)["width"].dump().c_str(), (*reply)["height"].dump().c_str());
        return kPass;
    }
    return report({Error::Code::Usage, fmt::format("there is no partition \"{}\"", partition)});
}

int guest(const GuestOptions& options) {
    auto link = SocketLink::connect(options.socket);
    if (!link) return report(link.error());
    return Guest(**link, options).run();
}

}  // namespace vg::cli
