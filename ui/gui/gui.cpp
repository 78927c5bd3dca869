#include "ui/gui/gui.h"

#include <backends/imgui_impl_sdl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ui/gui/frame.h"
#include "ui/gui/shortcuts.h"
#include "ui/gui/window.h"
#include "ui/model/desk/script.h"

namespace vg::gui {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kFrame = std::chrono::milliseconds(15);
constexpr auto kScreenshotWait = std::chrono::seconds(10);
constexpr std::size_t kMaxTimes = 1'000'000, kMeasured = 200;
constexpr int kDefaultWidth = 1280, kDefaultHeight = 800;

std::string user_layout_file() {
    const char* config = std::getenv("XDG_CONFIG_HOME");
    const char* home = std::getenv("HOME");
    if (config && *config) return std::string(config) + "/verdigris/gui.toml";
    return home && *home ? std::string(home) + "/.config/verdigris/gui.toml" : std::string();
}

/// Dear ImGui's context, as long as the window.
class Context {
  public:
    Context(const Window& window, bool files) {
        ImGui::CreateContext();
        ImGuiIO& io = ImGui::GetIO();
        io.IniFilename = nullptr;
        io.LogFilename = nullptr;
        io.ConfigWindowsMoveFromTitleBarOnly = true;
        (void)files;
        window_ = window.window();
        if (window_) ImGui_ImplSDL2_InitForSDLRenderer(window_);
    }
    ~Context() {
        if (window_) ImGui_ImplSDL2_Shutdown();
        ImGui::DestroyContext();
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    [[nodiscard]] SDL_Window* window() const { return window_; }

  private:
    SDL_Window* window_ = nullptr;
};

class App {
  public:
    App(const Options& options, desk::LinkMaker make_link, Window& window)
        : options_(options),
          window_(window),
          context_(window, false),
          bench_(std::move(make_link)),
          frame_(bench_, window.canvas()) {}

    Result<int> run();

  private:
    Result<void> start();
    void load_layout();
    void save_layout() const;
    void fit_look();
    /// Handles what the desktop sent; true: something. @param wait  for a moment, if there is nothing
    bool events(bool wait);
    void draw();
    void print_times();
    Result<void> keep_wishes();
    Result<std::optional<int>> scripted(Clock::time_point now);
    [[nodiscard]] bool idle(Clock::time_point now) const;

    const Options& options_;
    Window& window_;
    Context context_;
    desk::Workbench bench_;
    Frame frame_;
    Look look_;
    std::string theme_;
    std::optional<desk::Script> script_;
    Clock::time_point started_ = Clock::now(), active_ = Clock::now(), last_ = Clock::now();
    unsigned settled_ = 0;
    u64 frames_ = 0;
    bool quit_ = false;
    std::vector<float> built_ms_, drawn_ms_;  ///< of each frame
    Clock::duration first_{};
};

void App::load_layout() {
    const bool scripted = !options_.script.empty() || !options_.screenshot.empty();
    const std::string file = !options_.layout_file.empty() ? options_.layout_file : scripted ? "" : user_layout_file();
    std::error_code error;
    if (file.empty() || (options_.layout_file.empty() && !std::filesystem::exists(file, error))) return;
    if (const auto loaded = desk::run_command(bench_, "layout-load " + file); !loaded)
        bench_.session.say(loaded.error().text, desk::Tone::Warning);
}

void App::save_layout() const {
    if (!options_.script.empty() || !options_.screenshot.empty()) return;
    const std::string file = !options_.layout_file.empty() ? options_.layout_file : user_layout_file();
    if (file.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path(), error);
    std::ofstream(file) << desk::arrangement_toml(bench_.settings, bench_.layout);
}

Result<void> App::start() {
    load_layout();
    if (options_.scale > 0) bench_.settings.scale = desk::known_scale(static_cast<double>(options_.scale));
    if (bench_.settings.scale <= 0)
        bench_.settings.scale = desk::known_scale(static_cast<double>(window_.display_scale()));
    if (!options_.script.empty()) {
        std::ifstream in(options_.script, std::ios::binary);
        std::stringstream text;
        text << in.rdbuf();
        if (!in) return fail(Error::Code::Usage, fmt::format("--script {}: the file cannot be read", options_.script));
        auto script = desk::Script::parse(text.str(), options_.script);
        if (!script) return fail(Error::Code::Usage, script.error().text);
        script_ = std::move(*script);
    }
    if (options_.target.empty()) return {};
    auto opened = bench_.open(options_.target);
    if (opened || (options_.script.empty() && options_.screenshot.empty() && window_.window())) {
        if (!opened) bench_.session.say(desk::shown(opened.error().text, 600), desk::Tone::Bad);
        return {};
    }
    return opened;
}

void App::fit_look() {
    if (look_.scale != bench_.settings.scale || !look_.sans) {
        load_fonts(look_, bench_.settings.scale);
        upload_fonts(window_.canvas());
        theme_.clear();
    }
    if (theme_ == bench_.settings.theme) return;
    theme_ = bench_.settings.theme;
    look_.theme = theme_named(theme_);
    gui::apply(look_, theme_);
}

bool App::events(bool wait) {
    SDL_Event event;
    bool any = wait && SDL_WaitEventTimeout(nullptr, 30) != 0;
    while (SDL_PollEvent(&event) != 0) {
        any = true;
        if (event.type == SDL_QUIT) quit_ = true;
        if (!context_.window()) continue;
        if (event.type == SDL_KEYDOWN && frame_.key(pressed(event.key))) continue;
        ImGui_ImplSDL2_ProcessEvent(&event);
    }
    if (any) active_ = Clock::now();
    return any;
}

void App::draw() {
    fit_look();
    ImGuiIO& io = ImGui::GetIO();
    int width = 0, height = 0;
    window_.canvas().size(width, height);
    if (context_.window()) ImGui_ImplSDL2_NewFrame();
    const auto now = Clock::now();
    io.DisplaySize = {static_cast<float>(width), static_cast<float>(height)};
    io.DisplayFramebufferScale = {1, 1};
    if (!context_.window()) io.DeltaTime = std::max(1e-4F, std::chrono::duration<float>(now - last_).count());
    last_ = now;
    ImGui::NewFrame();
    frame_.draw(look_);
    ImGui::Render();
    const auto built = Clock::now();
    window_.canvas().draw(*ImGui::GetDrawData(), look_.theme.window);
    const auto ms = [](Clock::duration time) { return std::chrono::duration<float, std::milli>(time).count(); };
    if (options_.frame_times && built_ms_.size() < kMaxTimes) {
        built_ms_.push_back(ms(built - now));
        drawn_ms_.push_back(ms(Clock::now() - built));
    }
    if (frames_++ == 0) first_ = Clock::now() - started_;
}

Result<void> App::keep_wishes() {
    quit_ = quit_ || bench_.wishes.quit;
    if (bench_.wishes.screenshot.empty()) return {};
    const std::string file = std::move(bench_.wishes.screenshot);
    bench_.wishes.screenshot.clear();
    const auto written = write_png(file, window_.canvas().picture());
    if (written)
        bench_.session.say("saved " + desk::shown(file), desk::Tone::Good);
    else if (options_.script.empty())
        bench_.session.say(written.error().text, desk::Tone::Bad);
    else
        return fail(Error::Code::Host, written.error().text);
    return {};
}

/// What a script or --screenshot wants of this frame; a value: leave with this code.
Result<std::optional<int>> App::scripted(Clock::time_point now) {
    settled_ = bench_.settled() ? settled_ + 1 : 0;
    if (script_) {
        const auto state = script_->step(bench_, now);
        if (state == desk::Script::State::Failed) {
            std::fprintf(stderr, "verdigris: %s\n", script_->failure().c_str());
            return std::optional<int>(1);
        }
        if (state == desk::Script::State::Passed && options_.screenshot.empty()) return std::optional<int>(0);
        if (state == desk::Script::State::Running) return std::optional<int>();
    }
    if (options_.screenshot.empty() || (settled_ < 4 && now - started_ < kScreenshotWait)) return std::optional<int>();
    if (!bench_.session.trouble().empty())
        return fail(Error::Code::Host, fmt::format("{}: {}", options_.target, bench_.session.trouble()));
    if (const auto written = write_png(options_.screenshot, window_.canvas().picture()); !written)
        return fail(Error::Code::Host, written.error().text);
    return std::optional<int>(0);
}

bool App::idle(Clock::time_point now) const {
    return !script_ && options_.screenshot.empty() && !bench_.session.running() && bench_.settled() &&
           now - active_ > std::chrono::milliseconds(500);
}

void App::print_times() {
    // The last ones: what a script set up before is not what it is to measure.
    const std::size_t from = built_ms_.size() - std::min<std::size_t>(built_ms_.size(), kMeasured);
    const auto middle = [from](std::vector<float> times) {
        times.erase(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(from));
        std::sort(times.begin(), times.end());
        return times.empty() ? std::pair(0.0F, 0.0F)
                             : std::pair(times[times.size() / 2], times[times.size() * 95 / 100]);
    };
    const auto [built, built_95] = middle(built_ms_);
    const auto [drawn, drawn_95] = middle(drawn_ms_);
    std::printf(
        "first frame %.0f ms; of the last %zu frames of %llu: panels %.2f ms (95 %%: %.2f), triangles %.2f ms (95 %%: "
        "%.2f)\n",
        std::chrono::duration<double, std::milli>(first_).count(), built_ms_.size() - from,
        static_cast<unsigned long long>(frames_), static_cast<double>(built), static_cast<double>(built_95),
        static_cast<double>(drawn), static_cast<double>(drawn_95));
}

Result<int> App::run() {
    if (const auto started = start(); !started) return fail(started.error().code, started.error().text);
    while (!quit_) {
        const auto now = Clock::now();
        const bool quiet = idle(now);
        const bool any = events(quiet);
        const bool came = bench_.update(now);
        if (quiet && !any && !came) continue;  // what is on the screen still holds
        draw();
        if (const auto kept = keep_wishes(); !kept) return fail(kept.error().code, kept.error().text);
        const auto leave = scripted(now);
        if (!leave) return fail(leave.error().code, leave.error().text);
        window_.canvas().show();
        if (*leave) {
            if (options_.frame_times) print_times();
            return **leave;
        }
        if (!window_.window() || script_ || !options_.screenshot.empty())
            bench_.session.wait(10);
        else if (const auto left = kFrame - (Clock::now() - now);
                 left.count() > 0)  // software renderers do not wait for the display
            SDL_WaitEventTimeout(nullptr,
                                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count()));
    }
    save_layout();
    return 0;
}

}  // namespace

Result<int> run(const Options& options, desk::LinkMaker make_link) {
    const bool hidden = !options.script.empty() || !options.screenshot.empty();
    auto window = Window::open(options.width > 0 ? options.width : kDefaultWidth,
                               options.height > 0 ? options.height : kDefaultHeight, hidden);
    if (!window) return fail(window.error().code, window.error().text);
    App app(options, std::move(make_link), **window);
    return app.run();
}

}  // namespace vg::gui
