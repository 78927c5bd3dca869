#include "ui/model/screen.h"

#include <fmt/format.h>

#include <cstring>

#include "machine/child_machine.h"
#include "machine/pc_machine.h"

namespace vg::model {
namespace {

Unexpected<Error> off() { return fail(Error::Code::Usage, "the display is off"); }

/// 5-6-5 bits to 8-8-8.
u32 from_565(u16 pixel) {
    const u32 r = pixel >> 11, g = pixel >> 5 & 0x3f, b = pixel & 0x1f;
    return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

Result<Picture> vga_picture(const devices::Vga& vga) {
    devices::Vga::Picture shown = vga.picture();
    if (shown.pixels.empty()) return off();
    return Picture{shown.width, shown.height, std::move(shown.pixels)};
}

Result<Picture> board_picture(machine::Machine& machine) {
    if (const devices::Vga* const vga = machine.pc()->pci().vga()) return vga_picture(*vga);
    const devices::Display::Mode mode = machine.pc()->pci().display()->mode();
    if (!mode.on || mode.width == 0 || mode.height == 0) return off();
    Picture picture{mode.width, mode.height, std::vector<u32>(u64{mode.width} * mode.height)};
    for (u32 y = 0; y < mode.height; ++y) {
        const Spa row(machine::board::kDisplayMemoryBase + mode.offset + u64{y} * mode.stride_bytes);
        machine.memory().read(row, picture.pixels.data() + u64{y} * mode.width, u64{mode.width} * sizeof(u32));
    }
    return picture;
}

/// What the driver of the synthetic video shows; without one, what a PC's video does.
Result<Picture> child_picture(machine::ChildMachine& child) {
    const machine::ChildServices& services = child.services();
    const hv::vsp::Screen& screen = services.video()->screen();
    if (!screen.on) return child.board() != nullptr ? vga_picture(*child.board()->vga()) : Result<Picture>(off());
    Picture picture{screen.width, screen.height, std::vector<u32>(u64{screen.width} * screen.height)};
    std::vector<u8> line(u64{screen.width} * (screen.depth_bits / 8u));
    for (u32 y = 0; y < screen.height; ++y) {
        if (!services.read_frame(screen.offset + u64{y} * screen.pitch_bytes, line)) break;
        u32* const out = picture.pixels.data() + u64{y} * screen.width;
        for (u32 x = 0; x < screen.width; ++x) {
            u16 narrow = 0;
            if (screen.depth_bits == 16) {
                std::memcpy(&narrow, line.data() + u64{x} * sizeof narrow, sizeof narrow);
                out[x] = from_565(narrow);
            } else {
                std::memcpy(&out[x], line.data() + u64{x} * sizeof(u32), sizeof(u32));
                out[x] &= 0xffffff;
            }
        }
    }
    return picture;
}

}  // namespace

Result<Picture> picture_of(machine::Machine& machine, const FoundPartition& partition) {
    for (const auto& child : machine.children()) {
        if (&child->partition() == partition.partition && child->services().video() != nullptr)
            return child_picture(*child);
    }
    if (machine.pc() == nullptr || (machine.pc()->pci().display() == nullptr && machine.pc()->pci().vga() == nullptr) ||
        std::string_view(partition.kind) == "child")
        return fail(Error::Code::Usage, fmt::format("partition {} has no display", partition.id));
    return board_picture(machine);
}

}  // namespace vg::model
