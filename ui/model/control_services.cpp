// Requests to the services of children: integration services, keyboard, mouse, memory; the picture of a display.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "machine/child_machine.h"
#include "machine/pc_machine.h"
#include "ui/model/control_core.h"
#include "ui/model/keys.h"
#include "ui/model/png.h"
#include "ui/model/screen.h"

namespace vg::model {
namespace {

using machine::CommandResult;
using machine::GuestCommand;
using Kind = GuestCommand::Kind;

machine::ChildServices* services_of(ControlCore& core, const FoundPartition& partition) {
    for (const auto& child : core.machine.children())
        if (&child->partition() == partition.partition) return &child->services();
    return nullptr;
}

struct Named {
    std::string_view name;
    Kind kind;
};
constexpr Named kCommands[] = {
    {"shutdown", Kind::Shutdown},    {"reboot", Kind::Reboot},    {"hibernate", Kind::Hibernate},
    {"time", Kind::TimeSync},        {"kvp_get", Kind::KvpGet},   {"kvp_set", Kind::KvpSet},
    {"kvp_delete", Kind::KvpDelete}, {"kvp_list", Kind::KvpList}, {"ip_get", Kind::IpGet},
    {"ip_set", Kind::IpSet},         {"freeze", Kind::Freeze},    {"thaw", Kind::Thaw},
    {"hot_backup", Kind::HotBackup}, {"memory", Kind::Memory}};
constexpr std::string_view kPools[] = {"external", "guest", "auto", "auto_external", "auto_internal"};
constexpr std::string_view kTypes[] = {"string", "u32", "u64"};
constexpr u32 kTypeNumbers[] = {1, 4, 8};

/// Index of a name, or a mistake.
template <std::size_t N>
std::size_t choice(Arguments& arguments, const char* key, const std::string_view (&names)[N], std::string otherwise) {
    const std::string given = arguments.text(key, std::move(otherwise));
    const auto* const found = std::ranges::find(names, given);
    if (found != std::end(names)) return static_cast<std::size_t>(found - std::begin(names));
    std::string known;
    for (const std::string_view name : names) known += (known.empty() ? "" : ", ") + std::string(name);
    arguments.mistake(fmt::format("\"{}\" is one of: {}", key, known));
    return 0;
}

/// A command through the machine's door; in the middle of a round nothing enters, and the asker comes again.
Result<Json> enter(ControlCore& core, const FoundPartition& partition, const GuestCommand& command, u64 taken) {
    if (!core.machine.may_command()) return Json{{"taken", 0}};
    const auto number = core.machine.guest_command(console_name(partition), command);
    if (!number) return Unexpected{number.error()};
    Json out = {{"taken", taken}};
    if (*number != 0) out["number"] = *number;
    return out;
}

Result<Json> guest(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    const std::string name = arguments.text("command");
    const auto* const found = std::ranges::find(kCommands, name, &Named::name);
    if (found == std::end(kCommands)) {
        std::string known;
        for (const Named& each : kCommands) known += (known.empty() ? "" : ", ") + std::string(each.name);
        arguments.mistake(fmt::format("\"command\" is one of: {}", known));
        return arguments.failure();
    }
    GuestCommand command;
    command.kind = found->kind;
    command.force = arguments.flag("force", false);
    command.pool = static_cast<u32>(choice(arguments, "pool", kPools, "external"));
    command.index = static_cast<u32>(arguments.count("index", 0, ~u32{0}));
    command.value_type = kTypeNumbers[choice(arguments, "type", kTypes, "string")];
    command.key = arguments.text("key", "");
    command.value = arguments.text("value", "");
    command.bytes = arguments.number("bytes", 0);
    command.ip = {arguments.text("adapter", ""),  arguments.text("addresses", ""),    arguments.text("subnets", ""),
                  arguments.text("gateways", ""), arguments.text("name_servers", ""), arguments.flag("dhcp", false)};
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    return enter(core, *partition, command, 1);
}

Result<Json> guest_result(ControlCore& core, Arguments& arguments) {
    static constexpr std::string_view kStates[] = {"waiting", "done", "failed", "gone"};
    const auto partition = core.partition(arguments);
    const u64 number = arguments.number("number");
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    machine::ChildServices* const services = services_of(core, *partition);
    const CommandResult* const result = services == nullptr ? nullptr : services->result(number);
    if (result == nullptr) return fail(Error::Code::Usage, fmt::format("there is no command {} (any more)", number));
    Json out = {{"state", std::string(kStates[static_cast<unsigned>(result->state)])}, {"status", hex(result->status)}};
    if (result->kind == Kind::Memory) out["bytes"] = result->bytes;
    if (result->state != CommandResult::State::Done) return out;
    const machine::KvpAnswer answer = machine::parse_kvp_answer(result->kind, result->body);
    if (result->kind == Kind::KvpGet || result->kind == Kind::KvpList) {
        out["key"] = answer.key;
        out["value"] = answer.value;
    }
    if (result->kind == Kind::IpGet) {
        out["addresses"] = answer.ip.addresses;
        out["subnets"] = answer.ip.subnets;
        out["gateways"] = answer.ip.gateways;
        out["name_servers"] = answer.ip.name_servers;
        out["dhcp"] = answer.ip.dhcp;
    }
    return out;
}

std::string version_text(const hv::ic::IcService& service) {
    return service.state() == hv::ic::IcService::State::Ready
               ? fmt::format("{}.{}", service.version().major, service.version().minor)
               : "";
}

Json integration(const hv::ic::IcService& service) {
    static constexpr std::string_view kStates[] = {"closed", "negotiating", "ready", "refused"};
    return {{"state", std::string(kStates[static_cast<unsigned>(service.state())])},
            {"version", version_text(service)}};
}

void add_integration(Json& out, const machine::ChildServices& services) {
    static constexpr std::string_view kHealth[] = {"unknown", "alive", "late", "lost"};
    if (const auto* const heartbeat = services.heartbeat()) {
        out["heartbeat"] = integration(*heartbeat);
        out["heartbeat"]["guest"] = std::string(kHealth[static_cast<unsigned>(heartbeat->health())]);
        out["heartbeat"]["sequence"] = heartbeat->sequence();
    }
    if (const auto* const time = services.time_sync()) {
        out["time_sync"] = integration(*time);
        out["time_sync"]["synchronizations"] = time->synchronizations();
        out["time_sync"]["samples"] = time->samples();
    }
    struct Service {
        const char* name;
        hv::ic::MessageType type;
    };
    for (const Service& each : {Service{"shutdown", hv::ic::MessageType::Shutdown},
                                Service{"kvp", hv::ic::MessageType::Kvp}, Service{"vss", hv::ic::MessageType::Vss}}) {
        if (const auto* const service = services.command_service(each.type)) out[each.name] = integration(*service);
    }
}

Result<Json> guest_status(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    const machine::ChildServices* const services = services_of(core, *partition);
    if (services == nullptr)
        return fail(Error::Code::Usage, fmt::format("partition {} has no services", partition->id));
    Json out = Json::object();
    add_integration(out, *services);
    if (const auto* const keyboard = services->keyboard())
        out["keyboard"] = {{"ready", keyboard->state() == hv::vsp::Keyboard::State::Ready}, {"leds", keyboard->leds()}};
    if (const auto* const mouse = services->mouse())
        out["mouse"] = {{"ready", mouse->state() == hv::vsp::Mouse::State::Ready}};
    if (const auto* const video = services->video()) {
        const hv::vsp::Screen& screen = video->screen();
        out["video"] = {{"ready", video->state() == hv::vsp::Video::State::Ready},
                        {"on", screen.on},
                        {"width", screen.width},
                        {"height", screen.height},
                        {"updates", video->updates()}};
    }
    if (const auto* const balloon = services->balloon()) {
        const hv::balloon::Status& pressure = balloon->pressure();
        out["memory"] = {{"ready", balloon->state() == hv::vsp::Balloon::State::Ready},
                         {"bytes", services->memory_bytes()},
                         {"ballooned_pages", balloon->ballooned_pages()},
                         {"added_pages", balloon->added_pages()},
                         {"available_pages", pressure.available},
                         {"committed_pages", pressure.committed}};
    }
    return out;
}

/// As many keystrokes as there is room for.
Result<Json> keys(ControlCore& core, Arguments& arguments) {
    constexpr std::size_t kMaxChords = 256;
    const auto partition = core.partition(arguments);
    const std::string text = arguments.text("text", "");
    const std::vector<std::string> chords =
        arguments.has("keys") ? arguments.texts("keys", kMaxChords) : std::vector<std::string>();
    GuestCommand command;
    command.kind = Kind::Keys;
    const auto add = [&](const std::optional<std::vector<hv::vsp::Keystroke>>& more, const std::string& what) {
        if (!more)
            arguments.mistake(fmt::format("no key of a US keyboard writes or is called \"{}\"", what));
        else
            command.keys.insert(command.keys.end(), more->begin(), more->end());
    };
    add(keys_of_text(text), text);
    for (const std::string& chord : chords) add(keys_of_chord(chord), chord);
    if (arguments.has("codes")) {
        for (const u64 code : arguments.numbers("codes", hv::vsp::Keyboard::kMaxQueued)) {
            // As a keyboard sends them: 0xe0 in front in the second byte, bit 7 for a key that goes up.
            const bool extended = code >> 8 == 0xe0, good = extended || code <= 0xff;
            if (!good || (code & 0x7f) == 0) arguments.mistake("\"codes\" are scan codes of set 1: 0x1e, 0x9e, 0xe048");
            command.keys.push_back(
                {static_cast<u8>(code & 0x7f), static_cast<u8>(((code & 0x80) != 0 ? hv::keyboard::kBreak : 0) |
                                                               (extended ? hv::keyboard::kE0 : 0))});
        }
    }
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    if (command.keys.empty()) return fail(Error::Code::Usage, "name \"text\", \"keys\" or \"codes\"");
    return enter(core, *partition, command, command.keys.size());
}

Result<Json> mouse(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    const u64 x = arguments.count("x", 0, hv::mouse::kMaxPosition),
              y = arguments.count("y", 0, hv::mouse::kMaxPosition);
    const u64 buttons = arguments.count("buttons", 0, 31);
    const bool down = arguments.flag("wheel_down", false);
    const u64 wheel = arguments.count("wheel", 0, 100);
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    GuestCommand command;
    command.kind = Kind::Mouse;
    command.mouse = {static_cast<u8>(buttons), static_cast<u16>(x), static_cast<u16>(y),
                     static_cast<s16>(down ? -static_cast<int>(wheel) : static_cast<int>(wheel))};
    return enter(core, *partition, command, 1);
}

Result<Json> screen(ControlCore& core, Arguments& arguments) {
    const auto partition = core.partition(arguments);
    if (!arguments.ok()) return arguments.failure();
    if (!partition) return Unexpected{partition.error()};
    const auto picture = picture_of(core.machine, *partition);
    if (!picture) return Unexpected{picture.error()};
    return Json{{"width", picture->width},
                {"height", picture->height},
                {"png", base64(png(picture->width, picture->height, picture->pixels))}};
}

constexpr ControlRow kRows[] = {
    {"guest",
     "partition command force pool index type key value bytes adapter addresses subnets gateways name_servers dhcp",
     true, guest},
    {"guest_result", "partition number", false, guest_result},
    {"guest_status", "partition", false, guest_status},
    {"keys", "partition text keys codes", true, keys},
    {"mouse", "partition x y buttons wheel wheel_down", true, mouse},
    {"screen", "partition", false, screen},
};

}  // namespace

std::span<const ControlRow> service_requests() { return kRows; }

}  // namespace vg::model
