#include "roms/parent/child.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "machine/acpi_tables.h"
#include "machine/layout.h"
#include "roms/parent/platform.h"

namespace vg::parent {

namespace {

/// What children of the built-in parent are offered (profile C-90): the same guest finds the same hypervisor.
constexpr u64 kFeatures = [] {
    namespace f = hv::synthetic_feature;
    return f::kHypervisorPresent | f::kHv1 | f::kVpRuntime | f::kReferenceCounter | f::kSynIc | f::kSyntheticTimers |
           f::kInterruptControl | f::kHypercall | f::kVpIndex | f::kReferenceTsc | f::kFrequencies | f::kDirectTimers |
           f::kSignalEvents;
}();

hv::RegisterAssignment assign(u32 name, u64 low, u64 high = 0) { return {name, {}, {low, high}}; }

template <class T>
hv::RegisterAssignment assign_value(u32 name, const T& value) {
    static_assert(sizeof value == sizeof(hv::RegisterValue));
    hv::RegisterAssignment out = assign(name, 0);
    std::memcpy(&out.value, &value, sizeof value);
    return out;
}

HvStatus set_registers(u64 partition_id, u32 vp_index, std::span<const hv::RegisterAssignment> list) {
    return call_list(Call::SetVpRegisters, hv::VpRegistersHeader{partition_id, vp_index, 0, {}}, list).status;
}

}  // namespace

Child::Child(ChildEntry entry, const ChildServices& services)
    : entry_(std::move(entry)), services_(services), console_(entry_.name) {}

Child::~Child() {
    if (partition_ != nullptr) take_apart();
}

Result<void> Child::check(HvStatus status, const char* what) const {
    if (status == HvStatus::Success) return {};
    return fail(Error::Code::Host, fmt::format("{}: {}: hypercall status {:#x}", entry_.name, what, number(status)));
}

// ---- to life

Result<void> Child::start() {
    VG_ASSERT(partition_ == nullptr);
    ended_ = false;
    counts_ = {};
    auto ok = build();
    if (ok) {
        state_ = State::Running;
        why_.clear();
        ++starts_;
        return ok;
    }
    if (partition_ != nullptr) take_apart();
    state_ = State::Failed;
    why_ = ok.error().text;
    return ok;
}

Result<void> Child::build() {
    if (auto ok = make_partition(); !ok) return ok;
    Partition& p = *partition_;
    ChildBoard::Events events;
    events.console = [this](u8 byte) { console_.put(byte); };
    events.power_off = [this] { end(State::PoweredOff, "powered off"); };
    events.reset = [this] { end(State::Failed, "asked for a reset"); };
    p.board =
        std::make_unique<ChildBoard>(p.id, p.events, services_.log, services_.unix_seconds_at_zero, std::move(events));
    p.bus = std::make_unique<ChildBus>(entry_.name, p.id, services_.ports, p.memory, p.events, services_.log);
    if (auto ok = add_disks(); !ok) return ok;
    if (auto ok = check(p.bus->connect(), "connecting VMBus"); !ok) return ok;
    auto loaded = load();
    if (!loaded) return Unexpected{loaded.error().in(entry_.name)};
    if (auto ok = enter(*loaded); !ok) return ok;
    return let_run();
}

Result<void> Child::make_partition() {
    if (entry_.memory_bytes % ChildMemory::kPiece != 0)
        return fail(Error::Code::Usage, entry_.name + ": its memory is not a multiple of 2 MiB");
    hv::CreatePartitionIn create{};
    create.flags = hv::create_flag::kLapic | hv::create_flag::kX2Apic | hv::create_flag::kGpaSuperPages;
    u64 id = 0;
    const HvStatus created = with_deposits(root_deposits(), [&] { return call(Call::CreatePartition, create, id); });
    if (auto ok = check(created, "CreatePartition"); !ok) return ok;
    partition_ = std::make_unique<Partition>(id, entry_.memory_bytes, services_.clock);
    Partition& p = *partition_;

    const auto features = static_cast<u32>(hv::PartitionProperty::SyntheticProcessorFeatures);
    if (auto ok = check(call(Call::SetPartitionProperty, hv::SetPropertyIn{id, features, 0, kFeatures}),
                        "SetPartitionProperty");
        !ok)
        return ok;
    const HvStatus initialized =
        with_deposits(p.deposits, [&] { return call(Call::InitializePartition, hv::PartitionIn{id}); });
    if (auto ok = check(initialized, "InitializePartition"); !ok) return ok;
    const bool room = free_page_count() >= entry_.memory_bytes / kPageSize + kReservedPages;
    if (!room || !p.memory.allocate()) {
        return fail(Error::Code::Host, fmt::format("{}: {} MiB are more than the {} MiB that are left", entry_.name,
                                                   entry_.memory_bytes >> 20, free_page_count() * kPageSize >> 20));
    }
    if (auto ok = check(p.memory.map(id, p.deposits), "MapGpaPages"); !ok) return ok;
    // Overlay pages that the child places split large pages, at most all of them: no hypercall asks for those tables
    // then.
    const auto reserve = static_cast<u32>(entry_.memory_bytes / ChildMemory::kPiece);
    if (auto ok = check(p.deposits.give(reserve), "DepositMemory"); !ok) return ok;
    for (u32 i = 0; i < entry_.processors; ++i) {
        hv::CreateVpIn vp{};
        vp.partition_id = id;
        vp.vp_index = i;
        const HvStatus made = with_deposits(p.deposits, [&] { return call(Call::CreateVp, vp); });
        if (auto ok = check(made, "CreateVp"); !ok) return ok;
    }
    return {};
}

Result<void> Child::add_disks() {
    if (entry_.disks.empty()) return {};
    auto& controller =
        partition_->bus->add_storage_controller(machine::storage_instance(0), static_cast<u16>(entry_.processors - 1));
    u8 lun = 0;
    for (const std::string& name : entry_.disks) {
        auto disk = services_.store.open_disk(name);
        if (!disk) return Unexpected{disk.error().in(entry_.name)};
        if (auto ok = controller.attach(0, 0, lun++, std::move(*disk), name); !ok) return ok;
    }
    return {};
}

Result<machine::EntryState> Child::load() {
    Partition& p = *partition_;
    machine::AcpiOptions acpi;
    for (u32 i = 0; i < entry_.processors; ++i) acpi.apic_ids.push_back(i);
    acpi.memory_top = p.memory.layout().top();
    acpi.vmbus = true;
    auto tables = machine::build_acpi(acpi);
    if (!tables) return Unexpected{tables.error()};
    for (const machine::AcpiTable& table : *tables) {
        if (!p.memory.write(table.address, table.content)) VG_UNREACHABLE();  // low memory is always RAM
    }
    auto kernel = services_.store.read(entry_.kernel);
    if (!kernel) return Unexpected{kernel.error()};
    PageBuffer initrd;
    if (!entry_.initrd.empty()) {
        auto content = services_.store.read(entry_.initrd);
        if (!content) return Unexpected{content.error()};
        initrd = std::move(*content);
    }
    const machine::LoadRequest request{entry_.kernel,           entry_.initrd,           entry_.cmdline,
                                       p.memory.layout().map(), tables->front().address, {}};
    return machine::load_images(p.memory, request, {kernel->bytes(), initrd.bytes()});
}

Result<void> Child::enter(const machine::EntryState& entry) {
    const auto r = machine::prepare_entry(partition_->memory, entry);
    if (!r) VG_UNREACHABLE();  // low memory is always RAM
    using namespace hv::reg;
    const hv::SegmentValue code{0, 0xffffffff, r->code_selector, r->code_attributes};
    const hv::SegmentValue data{0, 0xffffffff, r->data_selector, r->data_attributes};
    // The order of the architecture's encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI.
    const hv::RegisterAssignment list[] = {assign_value(kGdtr, hv::TableValue{{}, r->gdt_limit, r->gdt_base}),
                                           assign_value(kIdtr, hv::TableValue{}),
                                           assign_value(kCs, code),
                                           assign_value(kDs, data),
                                           assign_value(kEs, data),
                                           assign_value(kSs, data),
                                           assign_value(kFs, data),
                                           assign_value(kGs, data),
                                           assign(kCr0, r->cr0),
                                           assign(kCr3, r->cr3),
                                           assign(kCr4, r->cr4),
                                           assign(kEfer, r->efer),
                                           assign(kRip, r->rip),
                                           assign(kRflags, r->rflags),
                                           assign(kRax, r->rax),
                                           assign(kRax + 3, r->rbx),
                                           assign(kRax + 4, r->rsp),
                                           assign(kRax + 6, r->rsi)};
    return check(set_registers(partition_->id, 0, list), "SetVpRegisters");
}

Result<void> Child::let_run() {
    const hv::RegisterAssignment run = assign(hv::reg::kExplicitSuspend, 0);
    for (u32 i = 0; i < entry_.processors; ++i) {
        if (auto ok = check(set_registers(partition_->id, i, {&run, 1}), "starting a processor"); !ok) return ok;
    }
    return {};
}

// ---- and back

void Child::stop() {
    if (partition_ == nullptr) return;
    const bool right = take_apart();
    state_ = right ? State::Off : State::Failed;
    why_ = right ? "stopped" : "stopped, with pages lost";
}

bool Child::take_apart() {
    console_.flush();
    const u64 id = partition_->id;
    // From here on nothing of it runs, and every page that it used can be taken back (K-122).
    const HvStatus finalized = call(Call::FinalizePartition, hv::PartitionIn{id});
    partition_->bus.reset();
    partition_->board.reset();
    bool right = finalized == HvStatus::Success;
    right = partition_->deposits.take_back() && right;
    hv::MemoryBalanceOut balance{};
    const HvStatus counted = call(Call::GetMemoryBalance, hv::MemoryBalanceIn{id, {}}, balance);
    right = right && counted == HvStatus::Success && balance.pages_available == 0 && balance.pages_in_use == 0;
    const HvStatus deleted = call(Call::DeletePartition, hv::PartitionIn{id});
    right = right && deleted == HvStatus::Success;
    if (!right) {
        log("parent: {}: not everything came back: finalize {:#x}, balance {} and {} pages, delete {:#x}", entry_.name,
            number(finalized), balance.pages_available, balance.pages_in_use, number(deleted));
        // Its memory may still be mapped: it is lost rather than given to somebody else.
        (void)partition_.release();
        return false;
    }
    partition_.reset();
    return true;
}

bool Child::collect() {
    if (!ended_ || partition_ == nullptr) return false;
    ended_ = false;
    const bool right = take_apart();
    log("parent: {}: {}; {}", entry_.name, why_, right ? "every page came back" : "pages are lost");
    if (!right) state_ = State::Failed;
    return true;
}

void Child::end(State state, std::string why) {
    if (ended_) return;
    ended_ = true;
    state_ = state;
    why_ = std::move(why);
}

// ---- life

bool Child::run(VTime now) {
    if (partition_ == nullptr || ended_) return false;
    bool any = false;
    if (partition_->events.next() <= now) {
        partition_->events.run_due(now);
        any = true;
    }
    return partition_->bus->run() || any;
}

VTime Child::next() const { return partition_ == nullptr ? kNever : partition_->events.next(); }

std::string Child::describe() const {
    static constexpr const char* kStates[] = {"off", "running", "powered off", "failed"};
    std::string text =
        fmt::format("{}: {}{}{}{}, {} MiB, {} processor{}, started {} times", entry_.name,
                    kStates[static_cast<unsigned>(state_)], why_.empty() ? "" : " (", why_, why_.empty() ? "" : ")",
                    entry_.memory_bytes >> 20, entry_.processors, entry_.processors == 1 ? "" : "s", starts_);
    if (partition_ == nullptr) return text;
    const Partition& p = *partition_;
    const hv::vmbus::Server& server = p.bus->server();
    text += fmt::format(
        "\n  partition {}: {} pages deposited; intercepts: {} port, {} memory, {} end of interrupt\n"
        "  vmbus {}.{}, {} channels, {} pages shared",
        p.id, p.deposits.count(), counts_.port_intercepts, counts_.memory_intercepts, counts_.end_of_interrupts,
        server.version() >> 16, server.version() & 0xffff, server.channels().size(), server.gpadl_pages());
    for (const auto& controller : p.bus->storage()) {
        for (const auto& disk : controller->disks()) {
            const auto& stats = disk.scsi->stats();
            text += fmt::format("\n  disk {} {}: {} MiB, {} KiB read, {} KiB written, {} flushes", disk.lun,
                                disk.description, disk.backend->size_bytes() >> 20, stats.bytes_read >> 10,
                                stats.bytes_written >> 10, stats.flushes);
        }
    }
    return text;
}

}  // namespace vg::parent
