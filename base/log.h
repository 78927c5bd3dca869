// Log lines for people. Anything a guest can repeat goes through a RateLimit.
#pragma once

#include <fmt/core.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/tap.h"
#include "base/types.h"

namespace vg {

/// Parts of the machine that can be turned up or down by `--log AREA=LEVEL`.
enum class Area : u8 { Base, Cpu, Mmu, Jit, Devices, Storage, Iommu, Hv, Vmbus, Vsp, Machine, Ui, Count };
enum class Level : u8 { Trace, Debug, Info, Warn, Error, Off };

[[nodiscard]] std::string_view to_string(Area area);
[[nodiscard]] std::string_view to_string(Level level);

/// Adds what "AREA=LEVEL" says to `levels`. AREA may be "all"; without LEVEL it is debug. False: there is no such area
/// or level.
[[nodiscard]] bool parse_log_setting(std::string_view text, std::vector<std::pair<Area, Level>>& levels);

/// What one machine tells: lines for people, and events for tools (tap). Owned by the machine, handed down by reference.
/// Single-threaded per machine.
class Log {
  public:
    using Sink = std::function<void(Area, Level, std::string_view line)>;

    /// A log without a sink drops everything.
    Log() { set_level(Level::Warn); }
    explicit Log(Sink sink) : Log() { sink_ = std::move(sink); }

    void set_sink(Sink sink) { sink_ = std::move(sink); }
    void set_level(Level level) {
        for (Level& each : levels_) each = level;
    }
    void set_level(Area area, Level level) { levels_[static_cast<unsigned>(area)] = level; }
    [[nodiscard]] bool wants(Area area, Level level) const {
        return sink_ != nullptr && level >= levels_[static_cast<unsigned>(area)];
    }

    [[nodiscard]] Tap& tap() { return tap_; }

    template <class... Args>
    void write(Area area, Level level, fmt::format_string<Args...> format, Args&&... args) {
        if (wants(area, level)) sink_(area, level, fmt::vformat(format, fmt::make_format_args(args...)));
    }
    template <class... Args>
    void trace(Area area, fmt::format_string<Args...> format, Args&&... args) {
        write(area, Level::Trace, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void debug(Area area, fmt::format_string<Args...> format, Args&&... args) {
        write(area, Level::Debug, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void info(Area area, fmt::format_string<Args...> format, Args&&... args) {
        write(area, Level::Info, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void warn(Area area, fmt::format_string<Args...> format, Args&&... args) {
        write(area, Level::Warn, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void error(Area area, fmt::format_string<Args...> format, Args&&... args) {
        write(area, Level::Error, format, std::forward<Args>(args)...);
    }

  private:
    Sink sink_;
    Tap tap_;
    Level levels_[static_cast<unsigned>(Area::Count)];
};

/// Lets the first `limit` events through and counts the rest, so that a guest cannot flood the log.
class RateLimit {
  public:
    explicit constexpr RateLimit(u32 limit = 10) : limit_(limit) {}
    /// True for the first `limit` calls.
    bool pass() { return ++seen_ <= limit_; }
    /// How many calls there were in all.
    [[nodiscard]] u64 seen() const { return seen_; }

  private:
    u64 seen_ = 0;
    u32 limit_;
};

}  // namespace vg
