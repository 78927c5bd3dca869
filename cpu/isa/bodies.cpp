// Op -> body. Alone in its file: only programs that execute instructions link it, and with it cpu/ops.
#include "cpu/isa/bodies.h"

#include "cpu/isa/isa.h"

namespace vg::cpu {

namespace {

constexpr Body kBodies[] = {
    nullptr,  // Invalid
#define OP_BODY(name) ops::name,
#define OP_FAMILY(name)
#define OP_AS(name, body) ops::body,
#define OP_HOST(name) nullptr,
#include "cpu/isa/ops.def"
#undef OP_BODY
#undef OP_FAMILY
#undef OP_AS
#undef OP_HOST
};
static_assert(std::size(kBodies) == static_cast<std::size_t>(Op::Count));

}  // namespace

Body body_of(Op op) { return op < Op::Count ? kBodies[static_cast<unsigned>(op)] : nullptr; }

}  // namespace vg::cpu
