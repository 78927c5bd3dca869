#include "machine/root_sink.h"

#include "hv/vp.h"

namespace vg::machine {

u32 RootSink::port_read(hv::Vp& vp, u16 port, unsigned size) { return board_.port_read(vp.processor(), port, size); }

void RootSink::port_write(hv::Vp& vp, u16 port, unsigned size, u32 value) {
    board_.port_write(vp.processor(), port, size, value);
}

void RootSink::partition_shutdown(hv::Vp& vp) { board_.shutdown(vp.processor()); }

int RootSink::acknowledge_external(hv::Vp& vp) { return board_.acknowledge_external(vp.processor()); }

cpu::FerrAnswer RootSink::ferr(hv::Vp& vp, bool active) { return board_.ferr(vp.processor(), active); }

}  // namespace vg::machine
