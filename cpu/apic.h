// Local APIC: xAPIC and x2APIC, LVT, timer (one-shot, periodic, TSC-deadline), IPIs. SDM 3A "Advanced Programmable
// Interrupt Controller (APIC)".
#pragma once

#include <array>
#include <vector>

#include "base/events.h"
#include "base/types.h"

namespace vg {
class StateVisitor;
}

namespace vg::cpu {

class Vp;
class Apic;

enum class DeliveryMode : u8 { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, Startup = 6, ExtInt = 7 };

/// One interrupt message on the APIC bus: from an IOAPIC, an MSI, an IPI or a hypervisor.
struct InterruptMessage {
    u32 destination = 0;      ///< APIC id, or logical mask; 0xff (xAPIC) / 0xffffffff: all
    bool logical = false;
    bool level = false;       ///< level-triggered: EOI is reported to eoi listeners
    bool assert_level = true; ///< INIT level de-assert is ignored
    DeliveryMode mode = DeliveryMode::Fixed;
    u8 vector = 0;
};

/// Hears the EOI of a level-triggered interrupt (IOAPICs).
class EoiListener {
  public:
    virtual ~EoiListener() = default;
    virtual void eoi(u8 vector) = 0;
};

/// A way around the EOI register: a guest that is told so ends an interrupt without a word.
class EoiShortcut {
  public:
    virtual ~EoiShortcut() = default;
    /// `vector` is edge-triggered and alone, in service and requested. False: the guest has to write EOI.
    virtual bool offer(u8 vector) = 0;
    /// Takes the offer back, before anything looks at what is in service. True: the guest has ended the interrupt.
    virtual bool withdraw() = 0;
};

/// All local APICs of one partition, and how messages find them.
class ApicBus {
  public:
    void attach(Apic& apic) { apics_.push_back(&apic); }
    void detach(Apic& apic) { std::erase(apics_, &apic); }
    void add_eoi_listener(EoiListener& listener) { listeners_.push_back(&listener); }
    /// Delivers to every matching APIC (lowest priority: to the one with the lowest PPR, then the lowest id, of those that
    /// software has not switched off).
    /// Returns the number of APICs that accepted it.
    u32 deliver(const InterruptMessage& message);
    void broadcast_eoi(u8 vector) {
        for (EoiListener* listener : listeners_) listener->eoi(vector);
    }
    /// The same for an IPI with a destination shorthand. @param except  the sender, or null
    u32 deliver_to_all(const InterruptMessage& message, const Apic* except);
    [[nodiscard]] const std::vector<Apic*>& apics() const { return apics_; }

  private:
    template <class Matches>
    u32 deliver(const InterruptMessage& message, Matches matches);

    std::vector<Apic*> apics_;
    std::vector<EoiListener*> listeners_;
};

/// The registers of a local APIC as a page of it shows them, TPR aside: for whoever saves or prepares a VP.
struct ApicImage {
    u32 id = 0, version = 0, ldr = 0, dfr = 0, svr = 0;
    std::array<u32, 8> isr{}, tmr{}, irr{};
    u32 esr = 0;
    u64 icr = 0;
    std::array<u32, 7> lvt{};  ///< CMCI, timer, thermal, perfmon, LINT0, LINT1, error
    u32 initial_count = 0, current_count = 0, divide = 0;
};

/// One VP's local APIC. Its timer input clock is virtual time (1 GHz) after the divider.
class Apic {
  public:
    Apic(Vp& vp, ApicBus& bus, EventQueue& events, u32 id);
    ~Apic();
    Apic(const Apic&) = delete;
    Apic& operator=(const Apic&) = delete;

    void reset();  ///< power-on
    void init();   ///< INIT: as reset, the id stays

    [[nodiscard]] u32 id() const { return id_; }
    [[nodiscard]] bool enabled() const;   ///< globally, by IA32_APIC_BASE
    [[nodiscard]] bool software_enabled() const { return (svr_ & 0x100) != 0; }
    [[nodiscard]] bool x2apic() const;
    [[nodiscard]] u64 base() const;       ///< GPA of the xAPIC page

    /// Write of IA32_APIC_BASE: false means #GP(0) (reserved bits, invalid mode transition).
    [[nodiscard]] bool write_base(u64 value);

    /// xAPIC page access, offset 0..0xfff. Reads have the architecture's value for reserved registers (0).
    u32 mmio_read(u32 offset);
    void mmio_write(u32 offset, u32 value);
    /// x2APIC MSR 0x800 + `reg`: false means #GP(0).
    [[nodiscard]] bool msr_read(u32 reg, u64& value);
    [[nodiscard]] bool msr_write(u32 reg, u64 value);

    /// IA32_TSC_DEADLINE.
    [[nodiscard]] u64 tsc_deadline() const;
    void write_tsc_deadline(u64 value);
    /// TSC or its offset changed: re-arms a TSC-deadline timer.
    void tsc_changed();

    /// A fixed (or lowest-priority) interrupt arrives at this APIC. Ignored when software-disabled.
    void accept(u8 vector, bool level);
    /// Message of any delivery mode, already matched to this APIC.
    void accept(const InterruptMessage& message);
    [[nodiscard]] bool matches(const InterruptMessage& message) const;

    /// Highest pending vector above the processor priority, or -1.
    [[nodiscard]] int pending_vector() const { return pending_; }
    /// Interrupt acknowledge: moves `pending_vector()` from IRR to ISR and returns it; -1 if none.
    int acknowledge();
    /// As acknowledge, for a vector that completes at once (auto-EOI of a SINT): IRR bit cleared, ISR not set.
    void set_auto_eoi(u8 vector, bool on) { auto_eoi_[vector] = on; }
    void eoi();
    /// @param shortcut  outlives this
    void set_eoi_shortcut(EoiShortcut& shortcut) { shortcut_ = &shortcut; }
    /// An EOI that was left to the shortcut is carried out if the guest made use of it.
    void settle_eoi();
    [[nodiscard]] bool lint0_accepts_extint() const;
    /// The line at LINT0 rose: in fixed and NMI mode the LVT entry turns it into an interrupt.
    void lint0_asserted();
    [[nodiscard]] u8 tpr() const;
    void set_tpr(u8 value);  ///< MOV CR8 writes value << 4
    [[nodiscard]] u8 ppr() const;
    [[nodiscard]] bool in_service(u8 vector) const;
    [[nodiscard]] bool requested(u8 vector) const;
    [[nodiscard]] ApicImage image() const;
    /// Takes over an image: what cannot be written stays (id, version), no IPI is sent, the timer goes on from its
    /// current count.
    void load(const ApicImage& image);

    void fields(StateVisitor& v);

  private:
    void timer_fired(VTime due);
    void arm_counter();
    void arm_deadline();
    [[nodiscard]] u32 current_count() const;
    [[nodiscard]] u32 divisor() const;
    [[nodiscard]] u32 timer_mode() const;
    [[nodiscard]] u32 logical_id() const;
    [[nodiscard]] int highest_in_service() const;
    void write_lvt(unsigned index, u32 value);
    void write_svr(u32 value);
    void write_register(u32 reg, u32 value);
    [[nodiscard]] u32 read_register(u32 reg) const;
    void send_ipi(u64 icr);
    void error(u32 esr_bit);
    /// What pending_ must be: the highest requested vector if its class is above the processor priority's, else -1.
    [[nodiscard]] int deliverable() const;
    /// Re-derives pending_ after a change of IRR, ISR or TPR; a running slice of the VP ends behind this instruction
    /// if an interrupt became deliverable.
    void recompute();
    void clear_registers();

    Vp& vp_;
    ApicBus& bus_;
    EventQueue& events_;
    EventQueue::TimerId timer_;
    u32 id_;
    u32 tpr_ = 0, ldr_ = 0, dfr_ = 0xffffffff, svr_ = 0xff, esr_ = 0, esr_pending_ = 0;
    u64 icr_ = 0;
    std::array<u32, 8> isr_{}, tmr_{}, irr_{};
    std::array<u32, 7> lvt_{};  ///< CMCI, timer, thermal, perfmon, LINT0, LINT1, error
    u32 initial_count_ = 0, divide_ = 0;
    bool counting_ = false;  ///< the counter has not reached zero for good: one-shot runs out, a new count starts it
    VTime count_start_ = 0;
    int pending_ = -1;  ///< cache of pending_vector()
    std::array<bool, 256> auto_eoi_{};
    EoiShortcut* shortcut_ = nullptr;
    bool eoi_offered_ = false;
};

}  // namespace vg::cpu
