#include "machine/child_transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/host_memory.h"
#include "hv/vp.h"
#include "machine/child_machine.h"
#include "machine/disk_list.h"
#include "machine/layout.h"
#include "machine/state_record.h"
#include "mmu/shared_pages.h"

namespace vg::machine {

namespace {

/// Where places of one machine's memory are in another's.
struct Move {
    Spa from;
    u64 size = 0;
    Spa to;
};

/// Records fields as another machine has them. Zero and all-ones name no place.
class MovedRecord final : public StateRecorder {
  public:
    explicit MovedRecord(const std::vector<Move>& moves) : moves_(moves) {}
    /// The first place that is nowhere in the other machine.
    [[nodiscard]] const std::string& lost() const { return lost_; }

  protected:
    void place(std::string_view name, Spa& spa) override {
        Spa moved = spa;
        const auto holds = [&](const Move& move) { return spa >= move.from && spa - move.from < move.size; };
        const auto move = std::ranges::find_if(moves_, holds);
        if (move != moves_.end()) {
            moved = move->to + (spa - move->from);
        } else if (spa.value != 0 && spa.value != ~u64{0} && lost_.empty()) {
            lost_ = fmt::format("{} = {:#x}", name, spa.value);
        }
        number(name, moved.value, 8, Fmt::Hex);
    }

  private:
    const std::vector<Move>& moves_;
    std::string lost_;
};

/// The pages that a partition has of the hypervisor, in the order of its fields.
class OwnPages final : public StateVisitor {
  public:
    void bytes(std::string_view, std::span<u8>) override {}
    void text(std::string_view, std::string&) override {}
    void enter(std::string_view name) override { groups_.emplace_back(name); }
    void leave() override { groups_.pop_back(); }
    std::vector<Spa> pages;

  protected:
    void number(std::string_view, u64&, unsigned, Fmt) override {}
    void place(std::string_view name, Spa& spa) override {
        if (name == "page" && !groups_.empty() && groups_.back().ends_with("_page")) pages.push_back(spa);
    }

  private:
    std::vector<std::string> groups_;
};

std::vector<Spa> own_pages(ChildMachine& child) {
    OwnPages visitor;
    child.partition().fields(visitor);
    return visitor.pages;
}

/// The last one: a child of this name that could not be made has left its own behind.
const mmu::Region* region_of(Machine& machine, const std::string& name) {
    const mmu::Region* last = nullptr;
    for (const mmu::Region& region : machine.memory().regions())
        if (region.kind == mmu::RegionKind::Ram && region.name == name) last = &region;
    return last;
}

Unexpected<Error> differs(const ChildMachine& child, std::string_view what) {
    return fail(Error::Code::Usage, fmt::format("child \"{}\": {}", child.name(), what));
}

void copy_memory(mmu::PhysicalMemory& from, const mmu::Region& source, mmu::PhysicalMemory& memory,
                 const mmu::Region& target) {
    PageRun run;
    while ((run = mmu::next_touched(from, source, run.end)).first < source.size)
        memory.load(target, run.first, source.host + run.first, run.end - run.first);
}

/// Copies RAM and the hypervisor's pages. Returns where they are.
Result<std::vector<Move>> move_memory(Machine& here, ChildMachine& from, Machine& there, ChildMachine& to) {
    std::vector<Move> moves;
    for (const std::string& name : {from.name(), from.name() + ".video"}) {
        const mmu::Region* const source = region_of(here, name);
        const mmu::Region* const target = region_of(there, name);
        if (source == nullptr && target == nullptr) continue;
        if (source == nullptr || target == nullptr || source->size != target->size)
            return differs(from, "its memory has another size there");
        copy_memory(here.memory(), *source, there.memory(), *target);
        moves.push_back({source->base, source->size, target->base});
    }
    const std::vector<Spa> source = own_pages(from), target = own_pages(to);
    if (source.size() != target.size()) return differs(from, "it has other pages of the hypervisor there");
    std::vector<u8> page(kPageSize);
    for (std::size_t i = 0; i < source.size(); ++i) {
        here.memory().read(source[i], page.data(), kPageSize);
        there.memory().write(target[i], page.data(), kPageSize);
        moves.push_back({source[i], kPageSize, target[i]});
    }
    return moves;
}

void visit(ChildMachine& child, StateVisitor& v) {
    {
        const VisitScope scope(v, "partition");
        child.partition().fields(v);
    }
    const VisitScope scope(v, "child");
    child.fields(v);
}

/// What is armed there is what is armed here, in the same order.
Result<void> move_timers(EventQueue& here, ChildMachine& from, EventQueue& there, ChildMachine& to) {
    if (from.timers.size() != to.timers.size()) return differs(from, "it has other timers there");
    std::vector<std::size_t> armed;
    for (std::size_t i = 0; i < from.timers.size(); ++i) {
        there.cancel(to.timers[i]);
        if (here.armed(from.timers[i])) armed.push_back(i);
    }
    std::ranges::sort(armed, {}, [&](std::size_t i) { return here.sequence(from.timers[i]); });
    for (const std::size_t i : armed) there.arm(to.timers[i], here.due(from.timers[i]));
    return {};
}

/// Of a child as it was, without what reaches the host or its files.
Config cut_off(const Config& config, const std::string& child) {
    Config one = config;
    std::erase_if(one.children, [&](const ChildSection& each) { return each.name != child; });
    one.restoring = true;
    for (ChildSection& section : one.children) {
        section.devices.socket_path.clear();
        for (NicSection& nic : section.nics) {
            if (nic.backend == "slirp") nic.backend = "none";
            nic.hostfwd.clear();
            nic.pcap.clear();
        }
    }
    return one;
}

/// Who is behind sees its clock jump. A kernel takes that for a processor that did not run: Linux calls it a stall of RCU from 21 s
/// on, a soft lockup from 20 s on.
Result<void> check_clocks(Machine& machine, VTime theirs, const std::string& child) {
    constexpr VTime kMostJump = 10 * kVTimeHz;
    const VTime ours = machine.now(), jump = std::max(ours, theirs) - std::min(ours, theirs);
    const auto is_on = [&](const auto& each) { return machine.is_on(*each); };
    const bool seen = ours > theirs || std::ranges::any_of(machine.children(), is_on);
    if (!seen || jump <= kMostJump) return {};
    return fail(Error::Code::Usage,
                fmt::format("child \"{}\" has {:.1f} s behind it and this machine {:.1f} s: the clock of {} would jump by more than the "
                            "{} s that kernels take without complaint; let the child go on by itself: verdigris run --restore FILE",
                            child, static_cast<double>(theirs) / 1e9, static_cast<double>(ours) / 1e9,
                            ours > theirs ? "the child" : "this machine's own children", kMostJump / kVTimeHz));
}

Result<ChildMachine*> find_on(Machine& machine, const std::string& name) {
    for (const auto& child : machine.children()) {
        if (child->name() != name) continue;
        if (!machine.is_on(*child)) return fail(Error::Code::Usage, fmt::format("child \"{}\" is off", name));
        return child.get();
    }
    return fail(Error::Code::Usage, fmt::format("there is no child \"{}\" of the built-in parent", name));
}

}  // namespace

Result<void> transfer_child(Machine& here, ChildMachine& from, Machine& there, ChildMachine& to) {
    hv::Partition& partition = to.partition();
    const auto moves = move_memory(here, from, there, to);
    if (!moves) return Unexpected{moves.error()};
    // Its space is made from what it says of itself, not from what was there at first.
    const mmu::Region& ram = *region_of(there, to.name());
    const RamLayout layout(ram.size);
    if (auto ok = partition.unmap_memory(Gpa(0), layout.low); !ok) return ok;
    if (layout.high != 0) {
        if (auto ok = partition.unmap_memory(Gpa(kFourGiB), layout.high); !ok) return ok;
    }
    MovedRecord record(*moves);
    visit(from, record);
    if (!record.lost().empty()) return differs(from, fmt::format("{} cannot be moved", record.lost()));
    StateLoader loader(record.data());
    visit(to, loader);
    if (auto ok = loader.finish(); !ok) return ok;
    if (auto ok = partition.show_memory(); !ok) return ok;
    StateRecorder again;
    visit(to, again);
    if (const std::string where = first_difference(record.data(), again.data()); !where.empty())
        return differs(from, fmt::format("a field does not come back as it was: {}", where));
    return move_timers(here.hypervisor()->events(), from, there.hypervisor()->events(), to);
}

Result<void> save_child(Machine& machine, const std::string& child, const std::string& path) {
    const auto found = find_on(machine, child);
    if (!found) return Unexpected{found.error()};
    ChildMachine& from = **found;
    const Config one = cut_off(machine.config(), child);
    if (one.children.front().generation == 1) return differs(from, "of generation 1 only the whole machine can be saved yet");
    for (const NicSection& nic : one.children.front().nics)
        if (nic.backend == "pcap") return differs(from, "a network adapter that plays a capture cannot be moved yet");
    if (auto ok = from.flush_disks(); !ok) return ok;
    MachineOptions options;
    options.engine = MachineOptions::EngineKind::Step;
    options.disks = [&](std::size_t number) {
        return std::shared_ptr<devices::BlockDevice>(from.disks()[number], [](devices::BlockDevice*) {});
    };
    auto alone = Machine::create(one, std::move(options));
    if (!alone) return Unexpected{alone.error()};
    (*alone)->skip_to(machine.now());
    if (auto ok = transfer_child(machine, from, **alone, *(*alone)->children().front()); !ok) return ok;
    Config as = machine.config();
    std::erase_if(as.children, [&](const ChildSection& each) { return each.name != child; });
    return save_snapshot_as(**alone, as, path);
}

Result<void> take_in_child(Machine& machine, Snapshot& snapshot, const Config& config) {
    if (config.children.size() != 1 || config.boot)
        return fail(Error::Code::Usage, "the snapshot is not one of a single child; save one with: verdigris snapshot save --child");
    if (machine.observed()) return fail(Error::Code::Usage, "a run that is recorded takes no child in");
    const ChildSection& section = config.children.front();
    std::vector<std::shared_ptr<devices::BlockDevice>> open;
    for (const DiskSection& disk : section.disks) {
        auto device = open_disk_file(disk);
        if (!device) return Unexpected{device.error()};
        open.push_back(std::move(*device));
    }
    const DiskSource source = [&open](std::size_t number) { return open[number]; };
    MachineOptions options;
    options.engine = MachineOptions::EngineKind::Step;
    options.disks = source;
    auto alone = snapshot.restore(cut_off(config, section.name), std::move(options));
    if (!alone) return Unexpected{alone.error()};
    if (auto ok = check_clocks(machine, (*alone)->now(), section.name); !ok) return ok;
    auto made = machine.add_child(section, source);
    if (!made) return Unexpected{made.error()};
    machine.skip_to((*alone)->now());
    if (auto ok = transfer_child(**alone, *(*alone)->children().front(), machine, **made); !ok) {
        machine.put_off(**made, "could not be taken in");
        return ok;
    }
    return {};
}

}  // namespace vg::machine
