// The desktop debugger: a window on a Workbench.
#pragma once

#include <string>

#include "ui/model/desk/workbench.h"

namespace vg::gui {

struct Options {
    std::string target;         ///< what to open at start; "": nothing
    std::string script;         ///< file of commands; "": none
    std::string screenshot;     ///< draws what was opened into this PNG file and leaves; "": no
    std::string layout_file;    ///< read at start, written when a person leaves; "": the user's own, with a script or
                                ///< screenshot none
    int width = 0, height = 0;  ///< 0: as the display likes it
    float scale = 0;            ///< 0: from the layout file or the display
    bool frame_times = false;   ///< prints how long frames took, for benchmarks
};

/// Runs until the window is closed, the script ends or the picture is taken. Without a display, scripts and screenshots
/// draw into memory.
/// @return 0; 1 if the script failed; error (Host): no display, or the picture cannot be written; error (Usage): the
/// script or what was to be opened
[[nodiscard]] Result<int> run(const Options& options, desk::LinkMaker make_link);

}  // namespace vg::gui
