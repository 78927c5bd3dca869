// The parent's system: its children, its console, when it ends.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "roms/parent/child.h"
#include "roms/parent/ports.h"
#include "roms/parent/store.h"
#include "roms/parent/synic.h"

namespace vg::parent {

/// Virtual time from the hypervisor's reference time.
class ReferenceClock final : public Clock {
  public:
    [[nodiscard]] VTime now() const override;
};

class System final : private SynicListener {
  public:
    /// @param disk                  holds the store; outlives the system
    /// @param unix_seconds_at_zero  wall clock at virtual time 0
    /// @param log                   what the parts that serve children say
    static Result<std::unique_ptr<System>> create(hv::vsp::BlockBackend& disk, s64 unix_seconds_at_zero, Log log);
    System(const System&) = delete;
    System& operator=(const System&) = delete;

    /// Starts what starts by itself and serves children and console. Returns when the machine should be powered off;
    /// false: a child that starts by itself did not end by powering itself off.
    bool run();

  private:
    struct Command {
        std::string_view name, help;
        void (System::*run)(std::string_view argument);
    };
    static const Command kCommands[];

    System(std::unique_ptr<Store> store, s64 unix_seconds_at_zero, Log log);
    void on_message(u8 sint, u32 type, u64 origin, std::span<const u8> payload) override;
    void on_event(u8 sint, u32 flag) override;

    void start(Child& child);
    /// One round over everything that may have work. True if there was some.
    bool work();
    void sleep();
    [[nodiscard]] bool children_stopped() const;
    bool read_console();
    void execute(std::string_view line);
    [[nodiscard]] Child* find(std::string_view name);
    void with_child(std::string_view name, const std::function<void(Child&)>& action);

    void list(std::string_view);
    void start_named(std::string_view name);
    void stop_named(std::string_view name);
    void show(std::string_view name);
    void help(std::string_view);
    void shut_down(std::string_view);

    ReferenceClock clock_;
    Log log_;
    Synic synic_;
    Ports ports_;
    std::unique_ptr<Store> store_;
    ChildServices services_;
    std::vector<std::unique_ptr<Child>> children_;
    std::string line_;  ///< typed so far
    bool over_ = false;
    RateLimit strays_;
};

}  // namespace vg::parent
