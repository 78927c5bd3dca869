// Any bytes as messages, packets and hypercalls of any service, in any order: the capture explains them, matches what
// it can and stays within its limits; the file that it makes is made of whole blocks.
#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "tests/fuzz/input_bytes.h"
#include "ui/model/capture_file.h"
#include "ui/model/hypercall_log.h"
#include "ui/model/vmbus_capture.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;

model::EventRecord event_from(test::InputBytes& input) {
    constexpr TapKind kKinds[] = {TapKind::VmbusMessage, TapKind::VmbusPacket, TapKind::VmbusSignal, TapKind::Hypercall,
                                  TapKind::SynicMessage, TapKind::SynicEvent,  TapKind::Frame,       TapKind::Port};
    const u8 how = input.take<u8>();
    model::EventRecord event;
    event.kind = kKinds[how & 7];
    event.partition = how >> 3 & 1;
    event.time = input.take<u16>();
    event.values[0] = input.take<u8>() & 3;
    event.values[1] = how >> 4 & 1;
    if (event.kind == TapKind::Hypercall) event.values[0] = input.take<u64>();
    const auto payload = input.span(input.take<u8>());
    event.payload.assign(payload.begin(), payload.end());
    // Messages and packets say themselves what they are.
    if (event.kind == TapKind::VmbusMessage && payload.size() >= 4) std::memcpy(&event.values[0], payload.data(), 4);
    if (event.kind == TapKind::VmbusPacket && payload.size() >= 16) {
        std::memcpy(&event.values[2], payload.data() + 8, 8);
        std::memcpy(&event.values[3], payload.data(), 2);
    }
    event.payload_size = static_cast<u32>(payload.size()) + ((how & 0x80) != 0 ? input.take<u16>() : 0);
    return event;
}

void check_blocks(std::string_view bytes) {
    while (!bytes.empty()) {
        VG_ASSERT(bytes.size() >= 12);
        u32 first, last;
        std::memcpy(&first, bytes.data() + 4, 4);
        VG_ASSERT(first >= 12 && first % 4 == 0 && first <= bytes.size());
        std::memcpy(&last, bytes.data() + first - 4, 4);
        VG_ASSERT(first == last);
        bytes.remove_prefix(first);
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    test::InputBytes input({data, size});
    model::VmbusCapture capture(16);
    model::HypercallLog log(4);
    std::string bytes;
    model::CaptureFile file(0, [&](std::string_view part) { bytes += part; });
    // A channel of any service, as if it had been there before.
    model::VmbusChannel known;
    known.relid = 1;
    known.service = static_cast<model::Service>(input.take<u8>() % static_cast<u8>(model::Service::Count));
    capture.know(known);
    for (unsigned i = 0; i < 64 && !input.empty(); ++i) {
        model::EventRecord event = event_from(input);
        file.add(event, capture);
        (void)log.add(event);
        const model::VmbusEntry* const entry = capture.add(std::move(event));
        if (entry == nullptr) continue;
        VG_ASSERT(entry->decoded.fields.size() < 200 && !model::entry_line(*entry).empty());
        const auto text = model::entry_json(*entry).dump(-1, ' ', false, model::Json::error_handler_t::replace);
        VG_ASSERT(model::Json::accept(text));
    }
    VG_ASSERT(capture.entries().size() <= 16 && capture.outstanding() <= 64);
    check_blocks(bytes);
    return 0;
}
