// What enters a machine from outside: with the configuration and the images, the sequence of these decides what a run
// does.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/types.h"

namespace vg::machine {

/// Something that entered, at a moment between two rounds of the scheduler.
struct Input {
    enum class Kind : u8 {
        Console,  ///< bytes that the serial port of partition `target` took: index of the child, 0 for the bare PC
        Frame,    ///< a frame for network card `target`, in the order of the configuration: the bare PC's, or all children's
        Command,  ///< what the services of child `target` were told (machine/guest_command.h)
        Socket    ///< what the host did with a socket of child `target` (machine/socket_input.h)
    };
    VTime time = 0;
    Kind kind = Kind::Console;
    u32 target = 0;
    std::vector<u8> bytes;
};

/// Where input comes from instead of the host.
class InputSource {
  public:
    virtual ~InputSource() = default;
    /// When the next one enters; kNever: none does.
    [[nodiscard]] virtual VTime next() const = 0;
    /// The next one. Only if there is one.
    virtual const Input& take() = 0;
    /// The machine could not take it as it did when it was recorded: the runs differ.
    virtual void refused(const Input& input) = 0;
};

}  // namespace vg::machine
