#include "ui/gui/window.h"

#include <fmt/format.h>

#include <cstdlib>

namespace vg::gui {

namespace {

bool has_display() {
    for (const char* name : {"DISPLAY", "WAYLAND_DISPLAY"})
        if (const char* value = std::getenv(name); value && *value) return true;
    return false;
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
    if (on_display) {
        made->window_ = SDL_CreateWindow("Verdigris", SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, width, height,
                                         SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
        if (made->window_) made->renderer_ = SDL_CreateRenderer(made->window_, -1, SDL_RENDERER_PRESENTVSYNC);
        if (made->window_ && !made->renderer_)
            made->renderer_ = SDL_CreateRenderer(made->window_, -1, SDL_RENDERER_SOFTWARE);
    } else {
        SDL_SetHint(SDL_HINT_VIDEODRIVER, "dummy");
        if (SDL_Init(SDL_INIT_VIDEO) == 0)
            made->surface_ = SDL_CreateRGBSurfaceWithFormat(0, width, height, 32, SDL_PIXELFORMAT_ARGB8888);
        if (made->surface_) made->renderer_ = SDL_CreateSoftwareRenderer(made->surface_);
    }
    if (!made->renderer_) return fail(Error::Code::Host, fmt::format("gui: SDL cannot draw here: {}", SDL_GetError()));
    return made;
}

Window::~Window() {
    if (renderer_) SDL_DestroyRenderer(renderer_);
    if (surface_) SDL_FreeSurface(surface_);
    if (window_) SDL_DestroyWindow(window_);
    SDL_Quit();
}

float Window::display_scale() const {
    float dpi = 0;
    if (!window_ || SDL_GetDisplayDPI(SDL_GetWindowDisplayIndex(window_), nullptr, &dpi, nullptr) != 0 || dpi < 48)
        return 1;
    return dpi / 96;
}

void Window::size(int& width, int& height) const { SDL_GetRendererOutputSize(renderer_, &width, &height); }

Picture Window::picture() const {
    Picture picture;
    size(picture.width, picture.height);
    picture.pixels.resize(static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height));
    SDL_RenderReadPixels(renderer_, nullptr, SDL_PIXELFORMAT_ABGR8888, picture.pixels.data(), picture.width * 4);
    return picture;
}

void Window::present() { SDL_RenderPresent(renderer_); }

}  // namespace vg::gui
