// What is drawn on: a window of the desktop, or memory.
#pragma once

#include <SDL.h>

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "ui/gui/canvas.h"

namespace vg::gui {

class Window {
  public:
    /// @param hidden  draw into memory if there is no display, instead of failing
    /// Error (Host): no display, with the remedy.
    static Result<std::unique_ptr<Window>> open(int width, int height, bool hidden);
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    [[nodiscard]] Canvas& canvas() const { return *canvas_; }
    /// Null when it draws into memory.
    [[nodiscard]] SDL_Window* window() const { return window_; }
    /// Pixels per inch over 96, 1 if unknown.
    [[nodiscard]] float display_scale() const;

  private:
    Window() = default;
    SDL_Window* window_ = nullptr;
    SDL_Renderer* renderer_ = nullptr;  ///< of a graphics processor; null: the canvas fills by itself
    std::unique_ptr<Canvas> canvas_;
};

}  // namespace vg::gui
