// Extended hypercalls (codes from 8001). K-076, K-081.
#include "hv/hypercalls/bodies.h"

namespace vg::hv::hypercalls {

HvStatus query_capabilities(Vp&, u64& out) {
    out = 0;  // none of the optional extended calls is implemented
    return HvStatus::Success;
}

}  // namespace vg::hv::hypercalls
