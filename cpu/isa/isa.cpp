// Names of operations and features; the rows themselves are in encoding.cpp.
#include "cpu/isa/isa.h"

#include <iterator>

namespace vg::cpu {

namespace {

struct OpInfo {
    std::string_view name;
    How how;
};

constexpr OpInfo kOps[] = {
    {"INVALID", How::Body},
#define OP_BODY(name) {#name, How::Body},
#define OP_FAMILY(name)
#define OP_AS(name, body) {#name, How::Body},
#define OP_HOST(name) {#name, How::Host},
#include "cpu/isa/ops.def"
#undef OP_BODY
#undef OP_FAMILY
#undef OP_AS
#undef OP_HOST
};
static_assert(std::size(kOps) == static_cast<std::size_t>(Op::Count));

constexpr std::string_view kFeatures[] = {
#define FEATURE(name) #name,
#include "cpu/isa/features.def"
#undef FEATURE
};

const OpInfo& info(Op op) { return kOps[op < Op::Count ? static_cast<unsigned>(op) : 0]; }

}  // namespace

std::string_view op_name(Op op) { return info(op).name; }
std::string_view mnemonic(Op op) { return info(op).name.substr(0, info(op).name.find('_')); }
How how(Op op) { return info(op).how; }
std::string_view feature_name(Feature feature) {
    return feature < Feature::Count ? kFeatures[static_cast<unsigned>(feature)] : "?";
}

}  // namespace vg::cpu
