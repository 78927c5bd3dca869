#include "ui/model/event_stream.h"

#include <string>

namespace vg::model {

namespace {

constexpr u64 kRowsAtOnce = 1000;

u64 number_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_unsigned() ? found->get<u64>() : 0;
}

}  // namespace

Result<std::unique_ptr<EventStream>> EventStream::open(ControlLink& link, TapMask kinds) {
    std::unique_ptr<EventStream> stream(new EventStream(link));
    const auto hello = link.call({{"op", "hello"}});
    if (!hello) return Unexpected{hello.error()};
    stream->replay_ = hello->is_object() && hello->value("kind", Json()) == "replay";
    // Where the other side does not know the request, captures do without.
    if (const auto vmbus = link.call({{"op", "vmbus"}}); vmbus && vmbus->is_object()) {
        stream->start_ = static_cast<s64>(number_of(*vmbus, "start_unix_seconds"));
        if (const auto list = vmbus->find("channels"); list != vmbus->end() && list->is_array()) {
            for (const Json& each : *list) {
                if (auto channel = channel_from_json(each)) stream->channels_.push_back(std::move(*channel));
            }
        }
    }
    Json names = Json::array();
    for (unsigned i = 0; i < static_cast<unsigned>(TapKind::Count); ++i) {
        const auto kind = static_cast<TapKind>(i);
        if ((kinds & tap_bit(kind)) != 0) names.push_back(std::string(tap_row(kind).name));
    }
    if (const auto ok = link.call({{"op", "watch_events"}, {"kinds", std::move(names)}, {"capacity", kKept}}); !ok)
        return Unexpected{ok.error()};
    // What others had watched before is not ours.
    const auto before = link.call({{"op", "events"}, {"after", ~u64{0}}, {"limit", 1}});
    if (before && before->is_object()) stream->after_ = number_of(*before, "next");
    if (stream->replay_) {
        if (const auto ok = link.call({{"op", "continue"}}); !ok) return Unexpected{ok.error()};
    }
    return stream;
}

/// How many rows came.
Result<u64> EventStream::fetch(const std::function<void(EventRecord event)>& take) {
    const auto answer = link_.call({{"op", "events"}, {"after", after_}, {"limit", kRowsAtOnce}});
    if (!answer) {
        if (answer.error().code == Error::Code::Usage) return Unexpected{answer.error()};
        gone_ = true;
        return u64{0};
    }
    const auto rows = answer->is_object() ? answer->find("rows") : answer->end();
    if (!answer->is_object() || rows == answer->end() || !rows->is_array())
        return Unexpected{Error{Error::Code::Usage, "an answer to `events` without rows"}};
    lost_ += number_of(*answer, "lost");
    after_ = number_of(*answer, "next");
    for (const Json& row : *rows) {
        auto event = event_from_json(row);
        if (!event) return Unexpected{event.error()};
        take(std::move(*event));
    }
    return rows->size();
}

Result<bool> EventStream::pump(const std::function<void(EventRecord event)>& take, int wait_ms) {
    const auto came = fetch(take);
    if (!came) return Unexpected{came.error()};
    if (gone_ || (over_ && *came == 0)) return false;
    if (*came != 0 || over_) return true;
    const auto notice = link_.notice(wait_ms);
    if (!notice || !replay_ || !notice->is_object() || notice->value("event", Json()) != "stopped") return true;
    over_ = true;
    const Json stop = notice->value("stop", Json::object());
    const auto text = stop.is_object() ? stop.find("difference") : stop.end();
    if (stop.is_object() && text != stop.end() && text->is_string()) difference_ = text->get<std::string>();
    return true;
}

}  // namespace vg::model
