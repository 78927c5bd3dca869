#include "machine/machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"
#include "base/state.h"
#include "cpu/interp.h"
#include "hv/hypervisor.h"
#include "hv/vp.h"
#include "jit/engine.h"
#include "machine/child_machine.h"
#include "machine/guest_command.h"
#include "machine/layout.h"
#include "machine/pc_machine.h"
#include "machine/stress.h"
#include "machine/vp_engines.h"

namespace vg::machine {

namespace {

/// System-physical layout under the hypervisor: its own memory, then, from 8 GiB or behind it, each child's RAM on a 1
/// GiB boundary, so that second-level tables can use the largest pages.
constexpr u64 kGiB = u64{1} << 30;
constexpr Spa kHypervisorMemory{4 * kGiB};
constexpr u64 kFirstChildMemory = 8 * kGiB;

}  // namespace

class Machine::SchedulerHost final : public hv::VpHost {
  public:
    explicit SchedulerHost(Scheduler& scheduler) : scheduler_(scheduler) {}
    void vp_created(cpu::Vp& vp) override { scheduler_.add(vp); }
    void vp_destroyed(cpu::Vp& vp) override { scheduler_.remove(vp); }

  private:
    Scheduler& scheduler_;
};

Machine::Machine(const Config& config, MachineOptions options)
    : config_(config), options_(std::move(options)), log_(options_.log_sink) {
    if (options_.log_sink != nullptr && options_.log_time) {
        log_.set_sink([this](Area area, Level level, std::string_view line) {
            const VTime now = clock_.now();
            options_.log_sink(area, level, fmt::format("{}.{:09} {}", now / kVTimeHz, now % kVTimeHz, line));
        });
    }
    log_.set_level(options_.log_level);
    for (const auto& [area, level] : options_.log_areas) log_.set_level(area, level);
}

Machine::~Machine() {
    // Processors hold references into memory and engine: they go first.
    children_.clear();
    hypervisor_.reset();
    pc_.reset();
    scheduler_.reset();
    engine_.reset();
}

Result<std::unique_ptr<Machine>> Machine::create(const Config& config, MachineOptions options) {
    if (auto ok = check_config(config); !ok) return Unexpected{ok.error()};
    std::unique_ptr<Machine> machine(new Machine(config, std::move(options)));
    if (auto ok = machine->build(); !ok) return Unexpected{ok.error()};
    return machine;
}

Result<void> Machine::build() {
    const auto stress = parse_stress(config_.machine.stress);
    if (!stress) return Unexpected{stress.error()};
    const bool parallel = config_.machine.scheduler == "parallel";
    if (options_.engine == MachineOptions::EngineKind::Jit) {
        jit::Options jit_options = stress->translator;
        jit_options.watchers = options_.watchers;
        if (parallel) {
            auto engines = VpEngines::create(memory_, jit_options, log_);
            if (!engines) return Unexpected{engines.error()};
            engine_ = std::move(*engines);
        } else {
            auto engine = jit::JitEngine::create(memory_, jit_options);
            if (!engine) return Unexpected{engine.error()};
            engine_ = std::move(*engine);
        }
    } else {
        engine_ = std::make_unique<cpu::StepEngine>();
    }
    scheduler_ = std::make_unique<Scheduler>(events_, clock_, *engine_);
    scheduler_->set_longest_slice(stress->budget);
    const auto has_firmware = [](const auto& section) { return !section.firmware.empty(); };
    if ((config_.boot && has_firmware(*config_.boot)) || std::ranges::any_of(config_.children, has_firmware))
        scheduler_->set_quantum(Scheduler::kFirmwareQuantum);
    // The interpreter keeps the machine's lock: its VPs take turns either way.
    if (parallel && options_.engine == MachineOptions::EngineKind::Jit) scheduler_->run_side_by_side(memory_);
    child_network_ = std::make_unique<Network>(events_, log_);
    if (auto ok = config_.boot ? build_pc() : build_children(); !ok) return ok;
    // What a guest has sent reaches the host at once, and the answer comes back soon.
    network().on_sent([this] { scheduler_->stop_after_round(); });
    for (cpu::Vp* const vp : scheduler_->processors()) vp->tlb().set_stress_entries(stress->tlb_entries);
    return {};
}

Result<void> Machine::build_hypervisor(Spa memory, u64 needed) {
    const u64 size = align_up(config_.hypervisor->memory.bytes, kPageSize);
    if (size < needed) {
        return fail(Error::Code::Usage,
                    fmt::format("{}: hypervisor.memory = \"{}\" is too little for these partitions; give at "
                                "least \"{} MiB\"",
                                config_.file, to_string(config_.hypervisor->memory), (needed + (1 << 20) - 1) >> 20));
    }
    if (auto ok = memory_.add_ram("hypervisor", memory, size); !ok) return ok;
    hypervisor_ = std::make_unique<hv::Hypervisor>(memory_, events_, log_, memory, size);
    host_ = std::make_unique<SchedulerHost>(*scheduler_);
    hypervisor_->set_vp_host(host_.get());
    return {};
}

void Machine::end(Outcome::Kind kind, const std::string& who, std::string why, u32 raw) {
    if (outcome_.kind != Outcome::Kind::None) return;
    outcome_ = {kind, who.empty() ? std::move(why) : fmt::format("{}: {}", who, why), raw};
    scheduler_->stop();
}

/// The machine ends when its last child has powered off, or at the first that ends any other way. A child that is off
/// stays off: its processors are stopped.
void Machine::child_ended(const std::string& name, Outcome::Kind kind, std::string why) {
    if (kind == Outcome::Kind::PoweredOff) {
        if (children_on_.erase(name) == 0) return;
        const auto off =
            std::find_if(children_.begin(), children_.end(), [&](const auto& child) { return child->name() == name; });
        for (const auto& vp : (*off)->partition().vps()) scheduler_->retire(vp->processor());
        if (!children_on_.empty()) return;
    }
    end(kind, name, std::move(why));
}

u64 Machine::private_bytes(const ChildSection& section) {
    // With the tables that show a frame buffer anywhere in its windows, and a BIOS.
    constexpr u64 kVideoTables = 16, kBoardTables = 16;
    const bool legacy = section.generation == 1;
    return hv::Hypervisor::private_bytes(section.memory_limit() + (legacy ? Gen1Board::kVideoBytes : ChildServices::kVideoBytes),
                                         section.processors) +
           (section.devices.video ? kVideoTables * kPageSize : 0) + (legacy ? kBoardTables * kPageSize : 0);
}

Result<void> Machine::build_children() {
    auto start = parse_clock(config_.machine.clock);
    if (!start) return Unexpected{start.error()};
    const u64 private_size = align_up(config_.hypervisor->memory.bytes, kPageSize);
    u64 needed = 0;
    for (const ChildSection& section : config_.children) needed += private_bytes(section);
    if (auto ok = build_hypervisor(kHypervisorMemory, needed); !ok) return ok;
    next_child_memory_ = Spa(std::max(kFirstChildMemory, align_up(kHypervisorMemory.value + private_size, kGiB)));
    std::size_t first_disk = 0;
    for (const ChildSection& section : config_.children) {
        DiskSource disks;
        if (options_.disks) disks = [this, first_disk](std::size_t number) { return options_.disks(first_disk + number); };
        if (auto ok = build_child(section, *start, std::move(disks)); !ok) return ok;
        first_disk += section.disks.size();
    }
    // Overlays are created last, when nothing else can fail; captures too.
    for (const auto& child : children_) {
        const EventQueue::TimerId first = events_.end();
        if (auto ok = child->attach_disks(); !ok) return ok;
        note_timers(*child, first);
    }
    for (const auto& child : children_) {
        if (auto ok = connect_child(*child, *start); !ok) return ok;
    }
    return {};
}

Result<void> Machine::build_child(const ChildSection& section, u64 start_unix_seconds, DiskSource disks) {
    const auto places = ChildMachine::Places::of(section, next_child_memory_);
    if (auto ok = memory_.add_ram(section.name, places.ram, section.memory_limit()); !ok) return ok;
    if (section.devices.video) {
        auto ok = memory_.add_ram(section.name + ".video", places.video, ChildMachine::Places::video_bytes(section));
        if (!ok) return ok;
    }
    next_child_memory_ = Spa(align_up(places.end, kGiB));
    const std::string name = section.name;
    ChildMachine::Events handlers;
    handlers.console = [this, name](u8 byte) {
        if (options_.console) options_.console(name, byte);
    };
    const auto ended = [this, name](Outcome::Kind kind) {
        return [this, name, kind](std::string why) { child_ended(name, kind, std::move(why)); };
    };
    handlers.powered_off = ended(Outcome::Kind::PoweredOff);
    handlers.reset = ended(Outcome::Kind::Reset);
    handlers.crashed = ended(Outcome::Kind::Crashed);
    handlers.shutdown = ended(Outcome::Kind::Shutdown);
    handlers.debug_exit = [this, name](u32 raw) {
        end(Outcome::Kind::DebugExit, name, fmt::format("isa-debug-exit with value {}", raw), raw);
    };
    handlers.disks = std::move(disks);
    const EventQueue::TimerId first = events_.end();
    auto child =
        ChildMachine::create(config_, section, *hypervisor_, places, start_unix_seconds, std::move(handlers));
    if (!child) return Unexpected{child.error()};
    note_timers(**child, first);
    children_.push_back(std::move(*child));
    children_on_.insert(name);
    return {};
}

Result<void> Machine::connect_child(ChildMachine& child, u64 start_unix_seconds) {
    const EventQueue::TimerId first = events_.end();
    if (auto ok = child.attach_nics(*child_network_, start_unix_seconds); !ok) return ok;
    if (auto ok = child.attach_services(); !ok) return ok;
    note_timers(child, first);
    return {};
}

void Machine::note_timers(ChildMachine& child, u32 first) {
    for (EventQueue::TimerId timer = first; timer < events_.end(); ++timer)
        if (!child_network_->owns(timer)) child.timers.push_back(timer);
}

Result<ChildMachine*> Machine::add_child(const ChildSection& section, DiskSource disks) {
    VG_ASSERT(!scheduler_->in_round());
    if (pc_ != nullptr || hypervisor_ == nullptr)
        return fail(Error::Code::Usage, "only a machine whose children are the built-in parent's takes others in");
    Config next = config_;
    next.children.push_back(section);
    if (auto ok = check_config(next); !ok) return Unexpected{ok.error()};
    if (hypervisor_->free_private_pages() * kPageSize < private_bytes(section)) {
        return fail(Error::Code::Usage, fmt::format("{}: hypervisor.memory = \"{}\" is too little for one more child; give it more",
                                                    config_.file, to_string(config_.hypervisor->memory)));
    }
    const auto start = parse_clock(config_.machine.clock);
    if (!start) return Unexpected{start.error()};
    const bool restoring = std::exchange(config_.restoring, true);  // nothing is loaded into it
    auto made = build_child(section, *start, std::move(disks));
    config_.restoring = restoring;
    if (!made) return Unexpected{made.error()};
    ChildMachine& child = *children_.back();
    config_.children.push_back(section);
    took_in_ = true;
    const EventQueue::TimerId first = events_.end();
    auto connected = child.attach_disks();
    note_timers(child, first);
    if (connected) connected = connect_child(child, *start);
    if (!connected) {
        put_off(child, "could not be taken in");
        return Unexpected{connected.error()};
    }
    return &child;
}

bool Machine::is_on(const ChildMachine& child) const { return children_on_.contains(child.name()); }

void Machine::put_off(ChildMachine& child, std::string why) {
    child.close_disks();
    for (const mmu::Region& region : memory_.regions())
        if (region.name == child.name() || region.name == child.name() + ".video") memory_.discard(region.base, region.size);
    child_ended(child.name(), Outcome::Kind::PoweredOff, std::move(why));
}

void Machine::skip_to(VTime time) {
    VG_ASSERT(!scheduler_->in_round());
    if (time > clock_.now()) clock_.set(time);
}

Result<void> Machine::build_pc() {
    PcMachine::Events handlers;
    handlers.chipset.console = [this](u8 byte) {
        if (options_.console) options_.console("", byte);
    };
    handlers.chipset.power_off = [this] { end(Outcome::Kind::PoweredOff, "", "the guest powered off"); };
    handlers.chipset.reset = [this] { end(Outcome::Kind::Reset, "", "the guest asked for a reset"); };
    handlers.shutdown = [this] { end(Outcome::Kind::Shutdown, "", "triple fault"); };
    handlers.debug_exit = [this](u32 raw) {
        end(Outcome::Kind::DebugExit, "", fmt::format("isa-debug-exit with value {}", raw), raw);
    };
    if (config_.hypervisor) {
        // Behind all RAM, where nothing of the board is. Its tables may have to show every page of RAM by itself.
        const Spa place(align_up(RamLayout(config_.machine.memory.bytes, board::kPciMemoryBase).top(), kGiB));
        const u64 needed = hv::Hypervisor::private_bytes(config_.machine.memory.bytes, config_.machine.processors) +
                           hv::Hypervisor::kRootSpacePages * kPageSize;
        if (auto ok = build_hypervisor(place, needed); !ok) return ok;
    }
    auto pc = PcMachine::create(config_, memory_, events_, log_, hypervisor_.get(), std::move(handlers));
    if (!pc) return Unexpected{pc.error()};
    pc_ = std::move(*pc);
    for (const auto& vp : pc_->vps()) scheduler_->add(*vp);
    return {};
}

template <class Run>
Pause Machine::run_fed(VTime limit, Run run) {
    while (true) {
        const u64 stops = scheduler_->stops_asked();
        while (source_ != nullptr && !scheduler_->in_round() && source_->next() <= now()) {
            enter(source_->take());
            if (scheduler_->stops_asked() != stops) return Pause::Asked;
        }
        const VTime due = source_ != nullptr ? source_->next() : kNever;
        const Pause pause = run(std::min(limit, due));
        const bool fed = due < limit && !scheduler_->in_round() && now() >= due;
        if (!fed || pause == Pause::Asked || pause == Pause::Hang) return pause;
    }
}

Pause Machine::run_until(VTime limit, u64 instructions) {
    return run_fed(limit, [&](VTime until) { return scheduler_->run_until(until, instructions); });
}

Pause Machine::step(const cpu::Vp& vp, VTime limit, u64 instructions) {
    return run_fed(limit, [&](VTime until) { return scheduler_->step(vp, until, instructions); });
}

void Machine::enter(const Input& input) {
    bool taken = false;
    if (input.kind == Input::Kind::Console) {
        taken = receive_console(input.target, input.bytes) == input.bytes.size();
    } else if (input.kind == Input::Kind::Command) {
        const auto command = decode_command(input.bytes);
        if (pc_ != nullptr)
            taken = command && input.target == 0 && pc_->input() != nullptr && command->kind == GuestCommand::Kind::Keys &&
                    pc_->input()->press(command->keys);
        else
            taken = command && input.target < children_.size() && children_[input.target]->services().run(*command);
    } else if (input.kind == Input::Kind::Socket) {
        const auto socket = decode_socket_input(input.bytes);
        hv::parent::SocketHub* const hub =
            input.target < children_.size() ? children_[input.target]->parent().sockets() : nullptr;
        taken = socket && hub != nullptr && apply(*socket, *hub);
    } else if (input.target < network().size()) {
        network().receive(input.target, input.bytes);
        taken = true;
    }
    if (!taken) source_->refused(input);
}

std::size_t Machine::receive_console(std::size_t partition, std::span<const u8> bytes) {
    if (pc_ != nullptr) return partition == 0 ? pc_->console_input(bytes) : 0;
    return partition < children_.size() ? children_[partition]->chipset().com1().receive(bytes) : 0;
}

std::size_t Machine::console_input(const std::string& partition, std::string_view text) {
    if (scheduler_->in_round() || source_ != nullptr) return 0;
    std::size_t index = 0;
    if (pc_ == nullptr && !partition.empty()) {
        while (index < children_.size() && children_[index]->name() != partition) ++index;
    }
    const std::span<const u8> bytes(reinterpret_cast<const u8*>(text.data()), text.size());
    const std::size_t taken = receive_console(index, bytes);
    if (taken != 0 && on_input_) {
        on_input_({now(),
                   Input::Kind::Console,
                   static_cast<u32>(index),
                   {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken)}});
    }
    return taken;
}

/// The bare PC has a keyboard and nothing else that the host could reach.
Result<u64> Machine::type_on_pc(const GuestCommand& command) {
    if (command.kind != GuestCommand::Kind::Keys || pc_->input() == nullptr)
        return fail(Error::Code::Usage, "the host reaches nothing of a PC but the keyboard of one that boots firmware");
    if (source_ != nullptr) return fail(Error::Code::Usage, "a recorded run cannot be changed");
    if (!may_command()) return fail(Error::Code::Usage, "in the middle of a round; ask again");
    if (!pc_->input()->press(command.keys))
        return fail(Error::Code::Usage, "the guest has not read what was typed before; ask again later");
    if (on_input_) on_input_({now(), Input::Kind::Command, 0, encode_command(command)});
    return 0;
}

Result<u64> Machine::guest_command(const std::string& partition, const GuestCommand& command) {
    if (pc_ != nullptr && partition.empty()) return type_on_pc(command);
    const auto child = std::ranges::find_if(children_, [&](const auto& each) { return each->name() == partition; });
    if (child == children_.end())
        return fail(Error::Code::Usage, "only children of the built-in parent have services that the host can talk to");
    if (children_on_.count(partition) == 0) return fail(Error::Code::Usage, "this partition is off");
    if (source_ != nullptr) return fail(Error::Code::Usage, "a recorded run cannot be changed");
    if (!may_command()) return fail(Error::Code::Usage, "in the middle of a round; ask again");
    const auto number = (*child)->services().run(command);
    if (number && on_input_) {
        on_input_({now(), Input::Kind::Command, static_cast<u32>(child - children_.begin()), encode_command(command)});
    }
    return number;
}

void Machine::on_input(std::function<void(const Input&)> observer) {
    on_input_ = std::move(observer);
    network().on_received([this](std::size_t card, std::span<const u8> frame) {
        on_input_({now(), Input::Kind::Frame, static_cast<u32>(card), {frame.begin(), frame.end()}});
    });
}

Network& Machine::network() const { return pc_ != nullptr ? pc_->pci().network() : *child_network_; }

bool Machine::reaches_host() const {
    return network().reaches_host() ||
           std::ranges::any_of(children_, [](const auto& child) { return child->host_sockets() != nullptr; });
}

bool Machine::exchange_frames(int wait_ms) {
    if (source_ != nullptr || scheduler_->in_round()) return false;
    const bool framed = network().exchange(network().reaches_host() ? wait_ms : 0);
    return exchange_sockets(framed || network().reaches_host() ? 0 : wait_ms) || framed;
}

bool Machine::exchange_sockets(int wait_ms) {
    bool any = false;
    for (std::size_t i = 0; i < children_.size(); ++i) {
        HostSockets* const sockets = children_[i]->host_sockets();
        if (sockets == nullptr || children_on_.count(children_[i]->name()) == 0) continue;
        any |= sockets->exchange(any ? 0 : wait_ms, [&](const SocketInput& input) {
            if (!apply(input, *children_[i]->parent().sockets())) return false;
            if (on_input_) on_input_({now(), Input::Kind::Socket, static_cast<u32>(i), encode_socket_input(input)});
            return true;
        });
    }
    return any;
}

Result<void> Machine::flush_disks() {
    Result<void> first;
    if (pc_ != nullptr) {
        first = pc_->flush();
    }
    if (auto ok = network().flush(); !ok && first) first = ok;
    for (const auto& child : children_) {
        if (auto ok = child->flush_disks(); !ok && first) first = ok;
    }
    return first;
}

std::vector<devices::BlockDevice*> Machine::disks() const {
    if (pc_ != nullptr) return pc_->pci().disks();
    std::vector<devices::BlockDevice*> all;
    for (const auto& child : children_) all.insert(all.end(), child->disks().begin(), child->disks().end());
    return all;
}

std::vector<Machine::Part> Machine::parts() {
    std::vector<Part> all;
    all.push_back({"time", "", [this](StateVisitor& v) {
                       VTime now = clock_.now();
                       v("now", now, Fmt::Dec);
                       if (v.loading()) clock_.set(now);
                   }});
    all.push_back({"events", "", [this](StateVisitor& v) { events_.fields(v); }});
    all.push_back({"scheduler", "", [this](StateVisitor& v) { scheduler_->fields(v); }});
    if (hypervisor_ != nullptr) all.push_back({"hypervisor", "", [this](StateVisitor& v) { hypervisor_->fields(v); }});
    for (const auto& child : children_) {
        all.push_back({"child", child->name(), [this, &child](StateVisitor& v) {
                           bool on = children_on_.count(child->name()) != 0;
                           v("on", on);
                           if (v.loading() && !on) children_on_.erase(child->name());
                           child->fields(v);
                       }});
    }
    if (pc_ != nullptr) all.push_back({"pc", "", [this](StateVisitor& v) { pc_->fields(v); }});
    if (network().has_state()) all.push_back({"network", "", [this](StateVisitor& v) { network().fields(v); }});
    return all;
}

void Machine::fields(StateVisitor& v) {
    for (const Part& part : parts()) {
        VisitScope group(v, part.group);
        if (part.name.empty()) {
            part.fields(v);
        } else {
            VisitScope name(v, part.name);
            part.fields(v);
        }
    }
}

std::vector<std::pair<std::string, u64>> Machine::part_hashes() {
    std::vector<std::pair<std::string, u64>> hashes;
    for (const Part& part : parts()) {
        StateHasher hasher;
        part.fields(hasher);
        hashes.emplace_back(part.name.empty() ? part.group : part.group + "/" + part.name, hasher.digest());
    }
    return hashes;
}

u64 Machine::state_hash() {
    StateHasher hasher;
    fields(hasher);
    memory_.hash(hasher);
    return hasher.digest();
}

}  // namespace vg::machine
