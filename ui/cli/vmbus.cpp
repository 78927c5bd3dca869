// `verdigris vmbus` and `verdigris hypercalls`: what a machine's partitions say to each other, live or from a
// recording.
#include "ui/cli/vmbus.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <set>

#include "base/bits.h"
#include "hv/hypercall.h"
#include "ui/cli/commands.h"
#include "ui/cli/host_signals.h"
#include "ui/cli/output_file.h"
#include "ui/cli/pcapng_output.h"
#include "ui/cli/recording_link.h"
#include "ui/cli/socket_link.h"
#include "ui/model/capture_file.h"
#include "ui/model/event_stream.h"
#include "ui/model/hypercall_log.h"

namespace vg::cli {

namespace {

using model::EventRecord;
using model::EventStream;
using model::Json;
using model::VmbusEntry;

constexpr int kPollMs = 50;

/// A source and its events.
struct Source {
    std::unique_ptr<model::ControlLink> link;
    std::unique_ptr<EventStream> stream;
};

Result<Source> open_source(const std::string& name, TapMask kinds) {
    auto link = open_capture_link(name);
    if (!link) return Unexpected{link.error()};
    auto stream = EventStream::open(**link, kinds);
    if (!stream) return Unexpected{stream.error()};
    return Source{std::move(*link), std::move(*stream)};
}

/// Hands every event to `take` until it is false, the source is at its end, or Ctrl-C. Returns the exit code.
Result<int> each_event(EventStream& stream, const std::function<bool(EventRecord event)>& take) {
    bool more = true;
    while (more && interrupts() == 0) {
        bool wanted = true;
        auto pumped = stream.pump(
            [&](EventRecord event) {
                if (wanted) wanted = take(std::move(event));
            },
            kPollMs);
        if (!pumped) return Unexpected{pumped.error()};
        more = *pumped && wanted;
        std::fflush(stdout);
    }
    if (stream.lost() != 0)
        std::fprintf(stderr, "verdigris: %llu events were lost: the machine was faster than this reader\n",
                     static_cast<unsigned long long>(stream.lost()));
    if (!stream.difference().empty()) {
        std::fprintf(stderr, "verdigris: %s\n", printable(stream.difference()).c_str());
        return kReplayDiffered;
    }
    return kPass;
}

std::string seconds(VTime time) { return fmt::format("{}.{:09}", time / 1'000'000'000, time % 1'000'000'000); }

void print_json(const Json& value) { std::puts(value.dump(-1, ' ', false, Json::error_handler_t::replace).c_str()); }

bool shown(const VmbusEntry& entry, const VmbusOptions& options) {
    if (options.partition && entry.event.partition != *options.partition) return false;
    if (options.channel && entry.relid != *options.channel) return false;
    if (entry.kind == VmbusEntry::Kind::Signal) return options.signals && !options.transaction;
    if (!options.transaction) return true;
    return entry.kind == VmbusEntry::Kind::Packet && entry.transaction == *options.transaction;
}

int list(const VmbusOptions& options) {
    auto source = open_source(options.source, model::VmbusCapture::kKinds);
    if (!source) return report(source.error());
    model::VmbusCapture capture(1);
    for (const model::VmbusChannel& channel : source->stream->channels()) capture.know(channel);
    std::vector<model::VmbusChannel> channels = source->stream->channels();
    if (source->stream->is_replay()) {
        const auto ok = each_event(*source->stream, [&](EventRecord event) {
            (void)capture.add(std::move(event));
            return true;
        });
        if (!ok) return report(ok.error());
        if (*ok != kPass) return *ok;
        channels.clear();
        for (const auto& [key, channel] : capture.channels()) channels.push_back(channel);
    }
    if (options.json) {
        Json all = Json::array();
        for (const model::VmbusChannel& channel : channels) all.push_back(model::channel_json(channel));
        print_json(all);
        return kPass;
    }
    for (const model::VmbusChannel& channel : channels) std::puts(printable(model::channel_line(channel)).c_str());
    if (channels.empty()) std::puts("no VMBus channels: no child under the built-in parent");
    return kPass;
}

int follow(const VmbusOptions& options) {
    auto source = open_source(options.source, model::VmbusCapture::kKinds);
    if (!source) return report(source.error());
    model::VmbusCapture capture(1);
    for (const model::VmbusChannel& channel : source->stream->channels()) capture.know(channel);
    u64 left = options.count.value_or(~u64{0});
    const auto ok = each_event(*source->stream, [&](EventRecord event) {
        const VmbusEntry* const entry = capture.add(std::move(event));
        if (entry == nullptr || !shown(*entry, options)) return true;
        if (options.json)
            print_json(model::entry_json(*entry));
        else
            std::puts(printable(fmt::format("{}  partition {}  {}", seconds(entry->event.time), entry->event.partition,
                                            model::entry_line(*entry)))
                          .c_str());
        return --left != 0;
    });
    return ok ? *ok : report(ok.error());
}

int export_file(const VmbusOptions& options) {
    auto output = OutputFile::open("export", options.file);
    if (!output) return report(output.error());
    auto source = open_source(options.source, model::CaptureFile::kKinds);
    if (!source) return report(source.error());
    BufferedFile file(**output);
    model::VmbusCapture capture(1);
    for (const model::VmbusChannel& channel : source->stream->channels()) capture.know(channel);
    model::CaptureFile records(source->stream->start_unix_seconds(), [&](std::string_view bytes) { file.put(bytes); });
    const auto ok = each_event(*source->stream, [&](EventRecord event) {
        records.add(event, capture);
        (void)capture.add(std::move(event));
        return records.records() < options.count.value_or(~u64{0});
    });
    const auto written = file.flush();
    u64 requests = 0, completions = 0;
    for (const auto& [key, channel] : capture.channels()) {
        requests += channel.requests;
        completions += channel.completions;
    }
    std::fprintf(stderr, "verdigris: %s: %llu records; %zu channels, %llu requests, %llu completions\n",
                 options.file.c_str(), static_cast<unsigned long long>(records.records()), capture.channels().size(),
                 static_cast<unsigned long long>(requests), static_cast<unsigned long long>(completions));
    if (!ok) return report(ok.error());
    return written ? *ok : report(written.error());
}

void print_counts(const model::HypercallLog& log, bool json) {
    Json all = Json::array();
    for (const auto& [key, count] : log.counts()) {
        const std::string name(hv::hypercall_name(key.second));
        std::string refusals;
        Json statuses = Json::object();
        for (const auto& [status, times] : count.statuses) {
            refusals += fmt::format(", {} {}", times, model::hypercall_status_name(status));
            statuses[model::hypercall_status_name(status)] = times;
        }
        if (json) {
            all.push_back({{"partition", key.first},
                           {"code", key.second},
                           {"name", name},
                           {"calls", count.calls},
                           {"failures", count.failures},
                           {"first", count.first},
                           {"last", count.last},
                           {"statuses", std::move(statuses)}});
            continue;
        }
        const VTime span = count.last - count.first;
        const std::string every =
            count.calls > 1 ? fmt::format(", one each {} ns", span / (count.calls - 1)) : std::string();
        std::puts(fmt::format("partition {}  {:#06x} {:<28} {:>8} calls, first {} s, last {} s{}{}", key.first,
                              key.second, name, count.calls, seconds(count.first), seconds(count.last), every, refusals)
                      .c_str());
    }
    if (json) print_json(all);
}

}  // namespace

Result<std::unique_ptr<model::ControlLink>> open_capture_link(const std::string& name) {
    if (name.rfind("unix:", 0) == 0) {
        auto socket = SocketLink::connect(name);
        if (!socket) return Unexpected{socket.error()};
        return std::unique_ptr<model::ControlLink>(std::move(*socket));
    }
    auto link = RecordingLink::open(name);
    if (!link) return Unexpected{link.error()};
    return std::unique_ptr<model::ControlLink>(std::move(*link));
}

int vmbus(const VmbusOptions& options) {
    catch_interrupts();
    if (options.what == "list") return list(options);
    return options.what == "follow" ? follow(options) : export_file(options);
}

int hypercalls(const VmbusOptions& options) {
    catch_interrupts();
    auto source = open_source(options.source, model::HypercallLog::kKinds);
    if (!source) return report(source.error());
    model::HypercallLog log(1);
    u64 left = options.count.value_or(~u64{0});
    const auto ok = each_event(*source->stream, [&](EventRecord event) {
        if (options.partition && event.partition != *options.partition) return true;
        const auto* const entry = log.add(std::move(event));
        if (entry == nullptr) return true;
        if (options.stat) return --left != 0;
        if (options.json)
            print_json(model::hypercall_json(*entry));
        else
            std::puts(fmt::format("{}  partition {} VP {}  {}", seconds(entry->event.time), entry->event.partition,
                                  entry->event.vp, entry->decoded.title)
                          .c_str());
        return --left != 0;
    });
    if (options.stat) print_counts(log, options.json);
    return ok ? *ok : report(ok.error());
}

}  // namespace vg::cli
