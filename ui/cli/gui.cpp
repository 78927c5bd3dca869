// `verdigris gui`: what is opened, and how the debugger's window reaches it.
#include "ui/gui/gui.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "machine/spec/recording.h"
#include "machine/spec/snapshot.h"
#include "ui/cli/commands.h"
#include "ui/cli/socket_link.h"
#include "ui/cli/worker_link.h"

namespace vg::cli {

namespace {

using Link = Result<std::unique_ptr<model::ControlLink>>;

/// Whether the file begins with these bytes.
template <std::size_t N>
bool begins_with(const std::string& path, const char (&magic)[N]) {
    char found[N] = {};
    std::ifstream file(path, std::ios::binary);
    return file.read(found, N) && std::equal(found, found + N, magic);
}

/// The one place that knows how the debugger reaches what a person names.
Link make_link(const std::string& target) {
    if (target.rfind("unix:", 0) == 0) {
        auto link = SocketLink::connect(target);
        if (!link) return Unexpected{link.error()};
        return std::unique_ptr<model::ControlLink>(std::move(*link));
    }
    std::error_code error;
    if (!std::filesystem::is_regular_file(target, error))
        return fail(
            Error::Code::Usage,
            fmt::format("{}: there is no such file; name a machine's description (.toml), a recording, a snapshot or unix:SOCKET", target));
    if (begins_with(target, machine::recording_format::kMagic))
        return std::unique_ptr<model::ControlLink>(std::make_unique<WorkerLink>(std::vector<std::string>{"replay", target, "--quiet"}));
    if (begins_with(target, machine::snapshot_format::kMagic))
        return std::unique_ptr<model::ControlLink>(std::make_unique<WorkerLink>(std::vector<std::string>{
            "run", "--restore", target, "--serial", "none", "--paused", "--quiet", "--count-blocks", "{folder}/blocks"}));
    // Blocks are counted for the translator's panel.
    return std::unique_ptr<model::ControlLink>(std::make_unique<WorkerLink>(std::vector<std::string>{
        "run", target, "--serial", "none", "--paused", "--quiet", "--count-blocks", "{folder}/blocks"}));
}

std::optional<std::pair<int, int>> parse_size(const std::string& text) {
    int width = 0, height = 0;
    char rest = 0;
    if (std::sscanf(text.c_str(), "%5dx%5d%c", &width, &height, &rest) != 2 || width < 320 || height < 240 ||
        width > 8192 || height > 8192)
        return {};
    return std::pair{width, height};
}

}  // namespace

int gui(std::vector<std::string> words) {
    gui::Options options;
    std::string size;
    CLI::App app;
    app.add_option("target", options.target);
    app.add_option("--script", options.script);
    app.add_option("--screenshot", options.screenshot);
    app.add_option("--layout", options.layout_file);
    app.add_option("--size", size);
    app.add_option("--scale", options.scale)->check(CLI::IsMember({1.0F, 1.25F, 1.5F, 2.0F}));
    app.add_flag("--frame-times", options.frame_times);
    app.set_help_flag();
    try {
        std::reverse(words.begin(), words.end());  // as this parser wants them
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return report({Error::Code::Usage, fmt::format("gui: {}; see: verdigris gui --help", error.what())});
    }
    if (!size.empty()) {
        const auto parsed = parse_size(size);
        if (!parsed)
            return report({Error::Code::Usage,
                           fmt::format("gui: --size {}: write for example 1280x720 (320x240 to 8192x8192)", size)});
        options.width = parsed->first;
        options.height = parsed->second;
    }
    const auto done = gui::run(options, make_link);
    return done ? *done : report(done.error());
}

}  // namespace vg::cli
