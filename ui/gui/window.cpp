#include "ui/gui/window.h"

#include <fmt/format.h>

#include <cstdlib>

#include "ui/gui/raster.h"
#include "ui/gui/sdl_canvas.h"

namespace vg::gui {

namespace {

bool has_display() {
    for (const char* name : {"DISPLAY", "WAYLAND_DISPLAY"})
        if (const char* value = std::getenv(name); value && *value) return true;
    return false;
}

/// A renderer that does not fill on this processor, or null.
SDL_Renderer* graphics_processor(SDL_Window* window) {
    SDL_Renderer* made = SDL_CreateRenderer(window, -1, SDL_RENDERER_ACCELERATED | SDL_RENDERER_PRESENTVSYNC);
    if (!made) return nullptr;
    SDL_RendererInfo info;
    if (SDL_GetRendererInfo(made, &info) == 0 && (info.flags & SDL_RENDERER_SOFTWARE) == 0) return made;
    SDL_DestroyRenderer(made);
    return nullptr;
}

}  // namespace

Result<std::unique_ptr<Window>> Window::open(int width, int height, bool hidden) {
    std::unique_ptr<Window> made(new Window);
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    SDL_SetHint(SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0");
    SDL_SetHint(SDL_HINT_RENDER_BATCHING, "1");
    const bool on_display = has_display() && SDL_Init(SDL_INIT_VIDEO) == 0;
    if (!on_display && !hidden) {
        const std::string why = has_display() ? SDL_GetError() : "neither DISPLAY nor WAYLAND_DISPLAY is set";
        return fail(Error::Code::Host, fmt::format("gui: there is no display ({}). Run it in a desktop session, by ssh "
                                                   "-X, or under Xvfb: xvfb-run verdigris gui \u2026; "
                                                   "--screenshot FILE.png and --script FILE need none",
                                                   why));
    }
    if (!on_display) {
        SDL_SetHint(SDL_HINT_VIDEODRIVER, "dummy");
        if (SDL_Init(SDL_INIT_VIDEO) != 0)
            return fail(Error::Code::Host, fmt::format("gui: SDL does not start here: {}", SDL_GetError()));
        made->canvas_ = std::make_unique<Raster>(width, height);
        return made;
    }
    made->window_ = SDL_CreateWindow("Verdigris", SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, width, height,
                                     SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    if (!made->window_) return fail(Error::Code::Host, fmt::format("gui: SDL opens no window: {}", SDL_GetError()));
    made->renderer_ = graphics_processor(made->window_);
    if (made->renderer_)
        made->canvas_ = std::make_unique<SdlCanvas>(made->renderer_);
    else
        made->canvas_ = std::make_unique<Raster>(made->window_);
    return made;
}

Window::~Window() {
    canvas_.reset();
    if (renderer_) SDL_DestroyRenderer(renderer_);
    if (window_) SDL_DestroyWindow(window_);
    SDL_Quit();
}

float Window::display_scale() const {
    float dpi = 0;
    if (!window_ || SDL_GetDisplayDPI(SDL_GetWindowDisplayIndex(window_), nullptr, &dpi, nullptr) != 0 || dpi < 48)
        return 1;
    return dpi / 96;
}

}  // namespace vg::gui
