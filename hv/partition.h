// A partition: privileges, GPA space, VPs, connections, and who answers its intercepts.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/events.h"
#include "base/log.h"
#include "base/types.h"
#include "cpu/engine.h"
#include "cpu/vp.h"
#include "cpu/platform.h"
#include "hv/gpa_space.h"
#include "hv/ports.h"
#include "hv/reference_time.h"
#include "hv/spec/cpuid.h"
#include "mmu/slat_builder.h"

namespace vg {
class StateVisitor;
}

namespace vg::hv {

class Hypervisor;
class MemoryPool;
class PartitionNode;
class Vp;

/// Who emulates a partition's devices and answers at once: the built-in parent, or the board of the root partition. A
/// guest parent gets intercept messages instead (hv/intercepts.h), and only what ends a partition comes here.
class InterceptSink {
  public:
    virtual ~InterceptSink() = default;
    virtual u32 port_read(Vp& vp, u16 port, unsigned size) = 0;
    virtual void port_write(Vp& vp, u16 port, unsigned size, u32 value) = 0;
    /// Access to a GPA without memory. False: nobody is there (reads are all-ones, writes dropped).
    virtual bool mmio_read(Vp& vp, Gpa gpa, unsigned size, u64& value) = 0;
    virtual bool mmio_write(Vp& vp, Gpa gpa, unsigned size, u64 value) = 0;
    /// The guest wrote HV_X64_MSR_RESET, triple-faulted, or reported a crash (P0..P4 in Partition::crash()).
    virtual void partition_reset(Vp& vp) = 0;
    virtual void partition_shutdown(Vp& vp) = 0;
    virtual void partition_crashed(Vp& vp) = 0;
    /// What a processor asks of its board, as in cpu::Platform. Partitions other than the root have no such wires.
    virtual int acknowledge_external(Vp&) { return -1; }
    virtual cpu::FerrAnswer ferr(Vp&, bool) { return cpu::FerrAnswer::Exception; }
};

/// Fixed at creation. `privileges` is CPUID 0x40000003 EBX:EAX (C-10..C-43).
struct PartitionConfig {
    std::string name;
    u64 privileges = 0x0000003000000A7F;  ///< profile C-90
    u32 features_edx = 0x00080500;        ///< 0x40000003.EDX
    u32 hints_eax = 0x00000220;           ///< 0x40000004.EAX
    u32 max_vps = 1;
    bool root = false;                ///< sees the machine's memory; its overlay pages have places from the start (R-30)
    bool hypervisor_present = true;   ///< else CPUID shows none of this (K-251)
    bool x2apic = true;               ///< the processors' x2APIC is shown (K-130)
    bool free_page_hints = false;     ///< the guest may say which pages it does not need (K-078)
    bool halt_intercept = false;      ///< HLT is the parent's business: a partition without local APIC (R-66)
};

/// What a guest parent asked to hear of (K-136, K-137), and what it changed about its child (K-250..K-262).
struct ParentPolicy {
    struct CpuidResult {
        std::array<u32, 4> value{}, mask{};
    };
    std::map<u32, u32> msr_intercepts;    ///< MSR: access bits
    std::map<u32, u32> cpuid_intercepts;  ///< leaf: access bits
    u32 unknown_msr_access = 0;           ///< access bits of accesses to MSRs that nobody knows
    u32 exceptions = 0;                   ///< bitmap by vector
    bool hypercalls = false;              ///< hypercalls that the hypervisor does not handle
    bool unknown_connections = false;     ///< posts and signals to connections that are not there
    bool retargets = false;               ///< RetargetDeviceInterrupt: children's devices are the parent's
    std::map<std::pair<u32, u32>, CpuidResult> cpuid_results;  ///< by leaf and subleaf (kAnySubleaf: all)
    static constexpr u32 kAnySubleaf = 0xffffffff;
    static constexpr std::size_t kLimit = 1024;  ///< entries of each list
    bool ignore_unknown_msrs = false;  ///< K-262
    bool suspended = false;            ///< K-252: no VP runs
    bool time_frozen = false;          ///< K-255
};

/// MSRs that a partition has once and that need no logic of their own (M-30, M-31, M-34).
struct PartitionMsrs {
    u64 reenlightenment = 0, tsc_emulation = 0, tsc_invariant = 0;
};

/// Crash MSRs (M-28, M-29) as last written.
struct CrashReport {
    bool notified = false;
    std::array<u64, 5> p{};
    u64 control = 0;
    std::string message;  ///< from P3/P4 when bit 62 is set
};

/// One call of one hypercall code, counted for statistics.
struct HypercallCount {
    u64 calls = 0, failures = 0;
};

class Partition {
  public:
    /// Pages of its pool that a partition takes when it is made: root table, hypercall page, reference TSC page.
    static constexpr u64 kOwnPages = 3;
    /// Pages that each VP takes when it is made: assist page, SIMP, SIEFP.
    static constexpr u64 kPagesPerVp = 3;

    Partition(Hypervisor& hypervisor, PartitionNode& node, InterceptSink& sink);
    ~Partition();
    Partition(const Partition&) = delete;
    Partition& operator=(const Partition&) = delete;

    [[nodiscard]] u64 id() const { return id_; }
    [[nodiscard]] PartitionNode& node() { return node_; }
    [[nodiscard]] const PartitionConfig& config() const { return config_; }
    /// The guest that hears of this partition's intercepts; null under the built-in parent, and for the root.
    [[nodiscard]] Partition* guest_parent() const;
    [[nodiscard]] MemoryPool& pool();
    [[nodiscard]] Hypervisor& hypervisor() { return hypervisor_; }
    [[nodiscard]] InterceptSink& sink() { return sink_; }

    /// GPA space. RAM is given as SPA ranges; MMIO holes stay unmapped. Flushes TLBs of all VPs as needed.
    Result<void> map_memory(Gpa gpa, Spa spa, u64 size, mmu::SlatPermissions permissions);
    Result<void> unmap_memory(Gpa gpa, u64 size);
    /// GPA to SPA of RAM (overlay pages included), or nothing.
    [[nodiscard]] std::optional<Spa> translate(Gpa gpa) const;
    /// What a page of the space is backed by, and whether it belongs to the space although nothing is behind it.
    [[nodiscard]] std::optional<GpaBacking> backing(Gpa gpa) const;
    [[nodiscard]] bool contains(Gpa gpa) const;
    /// Copies to and from guest memory, page by page. False if some page is not RAM (nothing past it is done).
    /// An overlay page is accessed with the guest's permissions to it: the hypercall page cannot be written.
    [[nodiscard]] bool read_memory(Gpa gpa, void* out, u64 size) const;
    [[nodiscard]] bool write_memory(Gpa gpa, const void* data, u64 size);
    /// RAM at the beginning of [gpa, gpa+size), as far as it lies side by side on the host and may be written (`write`) or
    /// read there without asking: nothing is translated from it, tracked or watched. Until a processor runs again.
    [[nodiscard]] std::span<u8> memory_at(Gpa gpa, u64 size, bool write);
    /// Makes the second-level table say what fields() has loaded: for a partition that came from another machine. Nothing is
    /// mapped in the table. Error (Host): no memory left for it; (Usage): the ranges cannot be.
    Result<void> show_memory();
    /// Makes pages of its own RAM zero and gives their memory back to the host. Overlays and what is no RAM stay.
    void discard_memory(Gpa gpa, u64 size);
    /// True if read_memory (write_memory) of bytes within this page would succeed.
    [[nodiscard]] bool readable(Gpa gpa) const;
    [[nodiscard]] bool writable(Gpa gpa) const;
    /// Second-level tables, for a processor's level and for inspection.
    [[nodiscard]] mmu::SlatMode slat() const;
    /// Pages that they occupy.
    [[nodiscard]] u64 table_pages() const;

    /// Overlay pages (hypercall page, SIMP, SIEFP, assist, reference TSC): `page` (SPA) hides what is mapped at gpa until
    /// remove_overlay. An overlay outside the GPA space is remembered but not visible (M-07). Of several at one GPA
    /// the last one added is visible.
    void add_overlay(Gpa gpa, Spa page, mmu::SlatPermissions permissions);
    void remove_overlay(Gpa gpa, Spa page);
    /// True if the page of `gpa` is shown as the hypercall page: a guest's write to it is #GP (H-50).
    [[nodiscard]] bool is_hypercall_page(Gpa gpa) const;

    /// The pool must hold kPagesPerVp pages (asserted), and the index be free and below max_vps.
    Vp& create_vp(u32 index, const cpu::CpuModel& model, u32 apic_id);
    /// The same with the next index.
    Vp& create_vp(const cpu::CpuModel& model, u32 apic_id) {
        return create_vp(static_cast<u32>(vps_.size()), model, apic_id);
    }
    void delete_vp(u32 index);
    /// In ascending order of their indices.
    [[nodiscard]] const std::vector<std::unique_ptr<Vp>>& vps() const { return vps_; }
    [[nodiscard]] Vp* find_vp(u32 index) const;
    [[nodiscard]] cpu::ApicBus& apic_bus() { return apic_bus_; }
    [[nodiscard]] Connections& connections() { return connections_; }

    /// Host side of the SynIC: queue a message to a SINT of a VP (S-01..S-05; FIFO, delivered as slots free up).
    /// InsufficientBuffers when the queue (64 messages per SINT) is full.
    HvStatus post_message(u32 vp_index, u8 sint, u32 type, std::span<const u8> payload, u64 origin = 0);
    /// A message of the hypervisor itself: waits even if the queue is full or the SynIC off.
    void post_own_message(u32 vp_index, u8 sint, u32 type, std::span<const u8> payload, u64 origin);
    /// Drops messages that wait and came from a partition that is going away.
    void forget_messages_from(u64 origin);
    /// Host side: sets an event flag and interrupts on the 0 to 1 edge (S-06, S-07). InvalidSynicState if masked/off.
    HvStatus signal_event(u32 vp_index, u8 sint, u16 flag);
    /// HvCallAssertVirtualInterrupt for emulated devices.
    void assert_interrupt(const cpu::InterruptMessage& message) { apic_bus_.deliver(message); }

    /// Reference time in 100 ns units since creation (M-06): also what the reference TSC page computes.
    [[nodiscard]] u64 reference_time() const;
    [[nodiscard]] const ReferenceTime& reference_clock() const;
    /// A VP's TSC is about to change: the reference TSC page is invalid until refresh_reference_page (S-92, S-93).
    void invalidate_reference_page();
    /// Stops reference time and lets it go on from there (K-255).
    void freeze_time(bool frozen);
    /// Sets reference time (K-256).
    void set_reference_time(u64 value);
    /// Makes the reference TSC page valid if it is enabled and the TSCs of all VPs agree.
    void refresh_reference_page();
    /// Power-on state of everything that belongs to the guest: partition-wide MSRs, overlays and all VPs. Memory and
    /// connections stay.
    void reset();

    /// True if the partition was given what a synthetic MSR or a hypercall needs.
    [[nodiscard]] bool allows(Gate gate) const;

    [[nodiscard]] ParentPolicy& policy() { return policy_; }
    [[nodiscard]] const ParentPolicy& policy() const { return policy_; }
    /// What the parent wants CPUID to show (K-137), over what it would show.
    void apply_cpuid_results(u32 leaf, u32 subleaf, std::span<u32, 4> regs) const;
    /// The policy changed what processors intercept or whether they run.
    void apply_policy();

    /// The root's hypercall and reference TSC pages appear at their own addresses.
    void show_root_pages();
    /// Takes pages that its parent sees out of the parent's space, before the partition goes.
    void release_shown_pages();

    [[nodiscard]] CrashReport& crash() { return crash_; }
    [[nodiscard]] std::map<u16, HypercallCount>& hypercall_counts() { return hypercall_counts_; }
    /// True while another line about what this guest does wrong may be logged.
    [[nodiscard]] bool may_complain() { return complaints_.pass(); }

    // Partition-wide synthetic MSRs (M-01, M-02, M-07), changed through the setters only.
    u64 guest_os_id = 0, hypercall_msr = 0, reference_tsc_msr = 0;
    PartitionMsrs msrs;
    /// 0 removes the hypercall page (M-01).
    void set_guest_os_id(u64 value);
    /// False for #GP(0) (M-02).
    [[nodiscard]] bool set_hypercall_msr(u64 value);
    void set_reference_tsc_msr(u64 value);

    void fields(StateVisitor& v);

  private:
    struct Impl;
    Hypervisor& hypervisor_;
    PartitionNode& node_;
    u64 id_;
    PartitionConfig config_;
    ParentPolicy policy_;
    InterceptSink& sink_;
    cpu::ApicBus apic_bus_;
    Connections connections_;
    std::vector<std::unique_ptr<Vp>> vps_;
    CrashReport crash_;
    std::map<u16, HypercallCount> hypercall_counts_;  // at most one for each of the 65536 codes
    RateLimit complaints_;
    std::unique_ptr<Impl> impl_;
};

}  // namespace vg::hv
