// libFuzzer target: answers to integration components.
#include <memory>

#include "hv/ic/command_service.h"
#include "hv/ic/heartbeat.h"
#include "hv/ic/time_sync.h"
#include "machine/guest_command.h"
#include "tests/fuzz/message_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using namespace vg::hv::ic;

struct Client final : CommandClient {
    void finished(MessageType, u64, End, u32, std::span<const u8> body) override {
        for (const auto kind : {machine::GuestCommand::Kind::KvpGet, machine::GuestCommand::Kind::KvpList,
                                machine::GuestCommand::Kind::IpGet}) {
            (void)machine::parse_kvp_answer(kind, body);
        }
    }
};
struct Time final : HostTime {
    u64 now_100ns() const override { return 1; }
    u64 reference() const override { return 2; }
    u64 start_seconds() const override { return 3; }
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    test::InputBytes in({data, size});
    Client client;
    Time time;
    switch (in.take<u8>() % 3) {
        case 0: {
            HeartbeatService service;
            test::fuzz_messages(service, in, [](test::InputBytes&) {});
            break;
        }
        case 1: {
            TimeSyncService service(time);
            test::fuzz_messages(service, in, [&](test::InputBytes&) { service.synchronize(); });
            break;
        }
        default: {
            const auto service = std::make_unique<CommandService>(MessageType::Kvp, client);
            test::fuzz_messages(*service, in, [&](test::InputBytes& more) {
                if (const auto command = machine::decode_command(more.span(64))) (void)service->submit(1, machine::command_body(*command));
                else (void)service->submit(2, std::vector<u8>(hv::ic::kKvpBytes));
            });
        }
    }
    return 0;
}
