// Any line as a request to the control socket, and any text as names and values in the tree that it asks for: the answer is
// made of lines of the tree, or is JSON.
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "ui/cli/control.h"
#include "ui/model/inspect.h"

extern "C" int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size);

namespace {

constexpr std::string_view kTree =
    "now = 0\n"
    "hypervisor/next_page = 0x0000000004000000\n"
    "hypervisor/partition1/guest_os_id = 0x8100000600000000\n"
    "hypervisor/partition1/vp0/processor/rip = 0x000000000000fff0\n"
    "scsi/state = 4\n";

}  // namespace

int LLVMFuzzerTestOneInput(const vg::u8* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::string_view request = input.substr(0, input.find('\n'));
    std::string tree(kTree);
    if (request.size() != input.size()) tree.append(input.substr(request.size() + 1)).append("\n");

    bool printed = false, jit = false, walk = false, symbols = false;
    const auto print_tree = [&] {
        printed = true;
        return tree;
    };
    const auto print_jit = [&](const std::string&, bool) {
        jit = true;
        return std::string();
    };
    const auto print_walk = [&](const std::string& path) {
        walk = true;
        return path + "/spa = 0x1\n";
    };
    const auto print_symbols = [&](const std::string& path) {
        symbols = true;
        return path + "/kind = none\n";
    };
    const std::string answer = vg::cli::answer_request(request, [&](const std::string& path, bool json) {
        return vg::model::inspect(path, json, {print_tree, print_jit, print_walk, print_symbols});
    });
    if (jit) {
        VG_ASSERT(!printed && !walk && !symbols);
    } else if (walk || symbols) {
        VG_ASSERT(!printed && (!request.starts_with("inspect-json") || nlohmann::json::accept(answer)));
    } else if (!printed) {
        VG_ASSERT(answer.starts_with("error: "));
    } else if (request.starts_with("inspect-json")) {
        VG_ASSERT(nlohmann::json::accept(answer));
    } else {
        VG_ASSERT(answer.empty() || (answer.back() == '\n' && answer.size() <= tree.size()));
    }
    return 0;
}
