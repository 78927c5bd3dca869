// Anything as what gdb sends: the stub asks for what it likes of a link that answers anything of the protocol's shape, and what
// it sends is packets.
#include <string>
#include <string_view>

#include "base/assert.h"
#include "ui/cli/gdb_stub.h"
#include "ui/model/json_text.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

using namespace vg;
using model::Json;

/// Grants or refuses by the bytes of the input, in the shapes that the protocol has.
class Link final : public model::ControlLink {
  public:
    explicit Link(std::string_view choices) : choices_(choices) {}

    Result<Json> call(const Json& request) override {
        const std::string op = request.value("op", "");
        const u8 choice = next();
        if (choice < 32) return fail(Error::Code::Usage, "refused #$}*");
        if (choice == 255) return Json(nullptr);
        if (op == "hello") return Json{{"protocol", 1}, {"reverse", choice % 2 == 0}};
        if (op == "partitions") {
            return Json::parse(choice % 2 == 0 ? R"([{"id":0,"name":"pc","kind":"pc","vps":[{"index":0,"activity":"runs","mode":16,"cpl":0}]}])"
                                               : R"([{"id":1,"name":"a&<","vps":[{"index":0},{"index":1}]},{"id":9,"vps":[]}])");
        }
        if (op == "status") return status(choice);
        if (op == "registers") return Json{{"rip", "0x10"}, {"rsp", choice % 2 == 0 ? "0xffffffffffffffff" : "zz"}, {"st0", "0x3fff8000000000000000"}, {"ymm0", "0x1"}};
        if (op == "read") return Json{{"data", choice % 2 == 0 ? "00??ff" : "237d242a"}};
        if (op == "break_add") return Json{{"number", choice}};
        if (op == "events") return Json{{"rows", Json::array()}, {"next", 0}};
        return Json::object();
    }
    std::optional<Json> notice(int) override {
        const u8 choice = next();
        if (choice % 4 != 0) return std::nullopt;
        return Json{{"event", "stopped"}, {"stop", {{"reason", choice % 8 == 0 ? "rule" : "ended"}, {"rule", choice}, {"address", "0x1"}}}, {"status", status(choice)}};
    }

  private:
    static Json status(u8 choice) {
        Json out = {{"running", choice % 2 == 0}, {"stop", {{"reason", "limit"}}}, {"instructions", 1}, {"outcome", {{"kind", "crashed"}}}};
        if (choice % 3 != 0) out["focus"] = {{"partition", choice % 5}, {"vp", 0}};
        return out;
    }
    u8 next() { return at_ < choices_.size() ? static_cast<u8>(choices_[at_++]) : 1; }
    std::string_view choices_;
    std::size_t at_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    if (size < 2) return 0;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t half = std::min<std::size_t>(data[0], size - 1);
    Link link(input.substr(1, half));
    cli::GdbStub stub(link);
    std::string sent;
    // Bytes as they are, and each line as the body of a packet with the right checksum.
    std::string_view rest = input.substr(half);
    stub.feed(rest);
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        stub.feed(cli::GdbPackets::packet(line));
        stub.poll(0);
        sent += stub.take_output();
    }
    cli::GdbPackets parser;
    for (const auto& item : parser.feed(sent)) VG_ASSERT(item.kind != cli::GdbPackets::Item::Kind::Damaged);
    return 0;
}
