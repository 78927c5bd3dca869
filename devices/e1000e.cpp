#include "devices/e1000e.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/bits.h"

namespace vg::devices {

using namespace e1000e;

namespace {

constexpr u32 kMsixTable = 0, kMsixPending = 0x2000;
constexpr u64 kFlashBytes = 0x20000, kMsixBytes = 0x4000;
constexpr u32 kIoBytes = 32;

/// A register that only holds what is written, and what reads it elsewhere.
struct PlainRegister {
    const char* name;
    u32 offset;
    u32 reset = 0;
    u32 writable = ~u32{0};
};
/// By offset.
constexpr PlainRegister kPlain[] = {
    {"ctrl_ext", kCtrlExt, 0, ~(kExtEepromReset | kExtPbaClear)},
    {"fcal", kFcal, 0x00c28001},
    {"fcah", kFcah, 0x00000100},
    {"fct", kFct, 0x00008808},
    {"vet", kVet, 0x00008100, 0xffff},
    {"itr", kItr, 0, 0xffff},
    {"eiac", kEiac, 0, 0x01f00000},
    {"iam", kIam},
    {"ivar", kIvar, 0, 0x800fffff},
    {"eitr0", kEitr, 0, 0xffff},
    {"eitr1", kEitr + 4, 0, 0xffff},
    {"eitr2", kEitr + 8, 0, 0xffff},
    {"eitr3", kEitr + 12, 0, 0xffff},
    {"eitr4", kEitr + 16, 0, 0xffff},
    {"rctl", kRctl},
    {"fcttv", kFcttv, 0, 0xffff},
    {"txcw", kTxcw},
    {"tctl", kTctl},
    {"tctl_ext", kTctlExt},
    {"tipg", kTipg, 0x00602006},
    {"ait", kAit, 0, 0xffff},
    {"ledctl", kLedctl, 0x07061302},
    {"extcnf_ctrl", kExtcnfCtrl},
    {"extcnf_size", kExtcnfSize},
    {"phy_ctrl", kPhyCtrl},
    {"pba", kPba, 0x00140014},
    {"eemngctl", kEemngctl, kConfigDone, 0},
    {"fcrtl", kFcrtl},
    {"fcrth", kFcrth},
    {"psrctl", kPsrctl, 0x00040402},
    {"rdtr", kRdtr, 0, 0xffff},
    {"rxdctl0", kRxdctl, 0x00010000},
    {"radv", kRadv, 0, 0xffff},
    {"rxdctl1", kRxdctl + kRingStride, 0x00010000},
    {"rsrpd", kRsrpd, 0, 0xfff},
    {"raid", kRaid, 0, 0xffff},
    {"tidv", kTidv, 0, 0xffff},
    {"txdctl0", kTxdctl},
    {"tadv", kTadv, 0, 0xffff},
    {"tarc0", kTarc, 0x00000403},
    {"txdctl1", kTxdctl + kRingStride},
    {"tarc1", kTarc + kRingStride, 0x00000403},
    {"rxcsum", kRxcsum, kRxcsumIp | kRxcsumTcpUdp, 0xffff},
    {"rfctl", kRfctl},
    {"wuc", kWuc},
    {"wufc", kWufc},
    {"wus", kWus},
    {"mrqc", kMrqc},
    {"manc", kManc},
    {"manc2h", kManc2h},
    {"gcr", kGcr},
    {"factps", kFactps, 0, 0},
    {"fwsm", kFwsm, 0, 0},
    {"gcr2", kGcr2},
    {"timinca", kTiminca},
    {"tsynctxctl", kTsynctxctl, 0, 0x10},
    {"tsyncrxctl", kTsyncrxctl, 0, 0x1e},
    {"tsyncrxcfg", 0xb634},
};

/// Index into kPlain, or its size.
u32 plain_index(u32 offset) {
    const auto* const at = std::lower_bound(std::begin(kPlain), std::end(kPlain), offset,
                                            [](const PlainRegister& r, u32 wanted) { return r.offset < wanted; });
    return at != std::end(kPlain) && at->offset == offset ? static_cast<u32>(at - kPlain)
                                                          : static_cast<u32>(std::size(kPlain));
}

}  // namespace

u32 E1000e::Ring::available(u32 entry_bytes) const {
    const u32 count = entries(entry_bytes);
    if (head >= count || tail >= count) return 0;
    return (tail + count - head) % count;
}

E1000e::E1000e(const PciSlot& slot, EventQueue& events, u32 index, const MacAddress& address)
    : name_(fmt::format("e1000e{}", index)),
      address_(address),
      events_(events),
      pci_(slot, {.vendor = 0x8086,
                  .device = 0x10d3,
                  .class_code = 0x020000,
                  .subsystem_vendor = 0x8086,
                  .subsystem = 0x10d3}),
      transmit_timer_(events.add(name_ + ".transmit", [this](VTime) { transmit_some(); })),
      receive_timer_(events.add(name_ + ".receive", [this](VTime) { receive_some(); })),
      throttle_timer_(events.add(name_ + ".throttle", [this](VTime) { throttle_over(); })),
      link_timer_(events.add(name_ + ".link", [this](VTime) { link_up(); })) {
    static_assert(std::size(kPlain) == kPlainCount);
    VG_ASSERT(std::is_sorted(std::begin(kPlain), std::end(kPlain),
                             [](const PlainRegister& a, const PlainRegister& b) { return a.offset < b.offset; }));
    pci_.add_memory_bar(0, kRegisterBytes, PciFunction::Memory::Bits32, *this);
    pci_.add_memory_bar(1, kFlashBytes, PciFunction::Memory::Bits32, flash_);
    pci_.add_io_bar(2, kIoBytes, io_);
    pci_.add_memory_bar(3, kMsixBytes, PciFunction::Memory::Bits32, flash_);
    pci_.set_interrupt_pin(1);
    pci_.add_power_management();
    pci_.add_msi(1);
    pci_.add_express([this] { reset(); });
    pci_.add_msix(kVectors, 3, kMsixTable, kMsixPending);
    lasting_ = fresh_lasting();
    state_ = fresh();
}

E1000e::State E1000e::fresh() const {
    State state;
    for (u32 i = 0; i < kPlainCount; ++i) state.plain[i] = kPlain[i].reset;
    const auto& nvm = lasting_.nvm;
    state.addresses[0] = nvm[0] | u32{nvm[1]} << 16;
    state.addresses[1] = nvm[2] | kRahValid;
    return state;
}

void E1000e::reset() {
    events_.cancel(link_timer_);
    lasting_ = fresh_lasting();
    software_reset();
    pci_.reset();
}

/// CTRL.RST: registers and what waits; the PHY, the NVM and the PCI function stay.
void E1000e::software_reset() {
    for (const auto timer : {transmit_timer_, receive_timer_, throttle_timer_}) events_.cancel(timer);
    waiting_.clear();
    waiting_bytes_ = 0;
    state_ = fresh();
    pci_.set_intx(false);
}

// ---- State

void E1000e::ring_fields(StateVisitor& v, Ring& ring) {
    v("base", ring.base);
    v("length", ring.length);
    v("head", ring.head, Fmt::Dec);
    v("tail", ring.tail, Fmt::Dec);
}

void E1000e::queue_fields(StateVisitor& v, TransmitQueue& queue) {
    ring_fields(v, queue.ring);
    for (u32 i = 0; i < queue.contexts.size(); ++i) {
        VisitScope scope(v, fmt::format("context{}", i));
        Context& context = queue.contexts[i];
        v("ip_start", context.ip_start);
        v("ip_offset", context.ip_offset);
        v("ip_end", context.ip_end);
        v("transport_start", context.transport_start);
        v("transport_offset", context.transport_offset);
        v("transport_end", context.transport_end);
        v("header_bytes", context.header_bytes);
        v("mss", context.mss);
        v("tcp", context.tcp);
        v("ipv4", context.ipv4);
    }
    u32 bytes = static_cast<u32>(queue.packet.size());
    v("packet_bytes", bytes, Fmt::Dec);
    if (v.loading()) queue.packet.resize(std::min<u64>(bytes, kMaxPacketBytes));
    v.bytes("packet", queue.packet);
    v("options", queue.options);
    v("command", queue.command);
    v("last_lower", queue.last.lower);
    v("last_upper", queue.last.upper);
    v("started", queue.started);
    v("lost", queue.lost);
    v("segmenting", queue.segmenting);
    v("sent", queue.sent, Fmt::Dec);
    v("segment", queue.segment, Fmt::Dec);
}

void E1000e::waiting_fields(StateVisitor& v) {
    VisitScope scope(v, "waiting");
    u32 frames = static_cast<u32>(waiting_.size());
    v("frames", frames, Fmt::Dec);
    if (v.loading()) waiting_.resize(std::min<u64>(frames, kReceiveBufferBytes / kEthernetHeaderBytes));
    u64 total = 0;
    for (std::vector<u8>& frame : waiting_) {
        u32 bytes = static_cast<u32>(frame.size());
        v("bytes", bytes, Fmt::Dec);
        if (v.loading()) frame.resize(std::clamp<u64>(bytes, kEthernetHeaderBytes, kMaxFrameBytes));
        v.bytes("frame", frame);
        total += frame.size();
    }
    if (!v.loading()) return;
    for (; total > kReceiveBufferBytes; waiting_.pop_back()) total -= waiting_.back().size();
    waiting_bytes_ = total;
}

void E1000e::fields(StateVisitor& v) {
    pci_.fields(v);
    v("ctrl", state_.ctrl);
    v("mdic", state_.mdic);
    v("eerd", state_.eerd);
    v("eewr", state_.eewr);
    v("swsm", state_.swsm);
    v("icr", state_.icr);
    v("ims", state_.ims);
    for (u32 i = 0; i < kPlainCount; ++i) v(kPlain[i].name, state_.plain[i]);
    for (u32 i = 0; i < kQueues; ++i) {
        VisitScope scope(v, fmt::format("receive{}", i));
        ring_fields(v, state_.receive[i]);
    }
    for (u32 i = 0; i < kQueues; ++i) {
        VisitScope scope(v, fmt::format("transmit{}", i));
        queue_fields(v, state_.transmit[i]);
    }
    v("multicast", state_.multicast);
    v("vlans", state_.vlans);
    v("addresses", state_.addresses);
    v("redirection", state_.redirection);
    v("rss_key", state_.rss_key);
    v("statistics", state_.statistics, Fmt::Dec);
    v("next_message", state_.next_message, Fmt::Dec);
    v("waiting_vectors", state_.waiting_vectors, Fmt::Bin);
    v("next_queue", state_.next_queue, Fmt::Dec);
    v("transmit_free_at", state_.transmit_free_at, Fmt::Dec);
    v("receive_free_at", state_.receive_free_at, Fmt::Dec);
    v("time_base", state_.time_base);
    v("time_since", state_.time_since, Fmt::Dec);
    v("nvm", lasting_.nvm);
    v("phy", lasting_.phy);
    v("io_address", lasting_.io_address);
    v("link", lasting_.link);
    waiting_fields(v);
    if (v.loading()) state_.next_queue %= kQueues;
}

// ---- Registers

u32 E1000e::plain(u32 offset) const {
    const u32 index = plain_index(offset);
    VG_ASSERT(index < kPlainCount);
    return state_.plain[index];
}

u32& E1000e::plain_at(u32 offset) {
    const u32 index = plain_index(offset);
    VG_ASSERT(index < kPlainCount);
    return state_.plain[index];
}

u32* E1000e::array_word(u32 offset) {
    const auto in = [offset](u32 base, auto& words) -> u32* {
        const u32 index = (offset - base) / 4;
        return offset >= base && index < words.size() ? &words[index] : nullptr;
    };
    if (u32* word = in(kMta, state_.multicast)) return word;
    if (u32* word = in(kRal, state_.addresses)) return word;
    if (u32* word = in(kVfta, state_.vlans)) return word;
    if (u32* word = in(kReta, state_.redirection)) return word;
    return in(kRssrk, state_.rss_key);
}

u32 E1000e::status() const {
    const bool up = lasting_.link && (state_.ctrl & kCtrlSetLinkUp) != 0;
    return kStatusFullDuplex | kStatusSpeed1000 | (up ? kStatusLinkUp : 0) |
           ((state_.ctrl & kCtrlMasterDisable) != 0 ? 0 : kStatusMasterEnabled);
}

/// The value of a ring's register, or null if it is none.
const u32* E1000e::ring_word(u32 offset, u32& value) const {
    for (u32 i = 0; i < kQueues * 2; ++i) {
        const bool transmit = i >= kQueues;
        const Ring& ring = transmit ? state_.transmit[i - kQueues].ring : state_.receive[i];
        const u32 base = (transmit ? kTransmitRing : kReceiveRing) + i % kQueues * kRingStride;
        switch (offset - base) {
            case kRingBaseLow:
                value = static_cast<u32>(ring.base);
                return &value;
            case kRingBaseHigh:
                value = static_cast<u32>(ring.base >> 32);
                return &value;
            case kRingLength:
                value = ring.length;
                return &value;
            case kRingHead:
                value = ring.head;
                return &value;
            case kRingTail:
                value = ring.tail;
                return &value;
            default:
                break;
        }
    }
    return nullptr;
}

bool E1000e::write_ring(u32 offset, u32 value) {
    for (u32 i = 0; i < kQueues * 2; ++i) {
        const bool transmit = i >= kQueues;
        Ring& ring = transmit ? state_.transmit[i - kQueues].ring : state_.receive[i];
        const u32 base = (transmit ? kTransmitRing : kReceiveRing) + i % kQueues * kRingStride;
        switch (offset - base) {
            case kRingBaseLow:
                ring.base = with_bits(ring.base, 31, 0, value & ~u32{15});
                return true;
            case kRingBaseHigh:
                ring.base = with_bits(ring.base, 63, 32, value);
                return true;
            case kRingLength:
                ring.length = value & 0xfff80;
                return true;
            case kRingHead:
                ring.head = value & 0xffff;
                return true;
            case kRingTail:
                ring.tail = value & 0xffff;
                transmit ? arm_transmit() : arm_receive();
                return true;
            default:
                break;
        }
    }
    return false;
}

/// Octet counters are cleared with their upper half, the rest when they are read.
u32 E1000e::read_statistic(u32 offset) {
    const u32 word = (offset - kStatistics) / 4;
    const u32 value = state_.statistics[word];
    for (const Statistic pair : {Statistic::ReceivedGoodOctets, Statistic::TransmittedGoodOctets,
                                 Statistic::ReceivedOctets, Statistic::TransmittedOctets}) {
        const u32 low = static_cast<u32>(pair);
        if (word == low) return value;
        if (word == low + 1) state_.statistics[low] = 0;
    }
    state_.statistics[word] = 0;
    return value;
}

u32 E1000e::read(u32 offset) {
    u32 value = 0;
    switch (offset) {
        case kCtrl:
            return state_.ctrl;
        case kStatus:
            return status();
        case kEecd:
            return kEecdPresent | kEecdAutoReadDone;
        case kEerd:
            return state_.eerd;
        case kEewr:
            return state_.eewr;
        case kMdic:
            return state_.mdic;
        case kIcr:
            return read_icr();
        case kIms:
            return state_.ims;
        case kSwsm:  // SMBI: "set by the device when this register is read"
            value = state_.swsm;
            state_.swsm |= kSmbi;
            return value;
        case kSystiml:
            return static_cast<u32>(system_time());
        case kSystimh:
            return static_cast<u32>(system_time() >> 32);
        default:
            break;
    }
    if (offset >= kStatistics && offset < kStatistics + kStatisticsWords * 4) return read_statistic(offset);
    if (ring_word(offset, value) != nullptr) return value;
    if (const u32* word = array_word(offset)) return *word;
    const u32 index = plain_index(offset);
    return index < kPlainCount ? state_.plain[index] : 0;
}

void E1000e::write_ctrl(u32 value) {
    if ((value & kCtrlPhyReset) != 0) write_phy(kPhyControl, kPhyReset);
    if ((value & kCtrlReset) != 0) return software_reset();
    state_.ctrl = value & ~(kCtrlReset | kCtrlPhyReset);
}

void E1000e::write(u32 offset, u32 value) {
    switch (offset) {
        case kCtrl:
            return write_ctrl(value);
        case kEerd:
            return read_nvm(value);
        case kEewr:
            return write_nvm(value);
        case kMdic:
            return write_mdic(value);
        case kIcr:
            return write_icr(value);
        case kIcs:
            return raise(value & kAllCauses);
        case kIms:
            state_.ims |= value & kAllCauses;
            return notify(value);
        case kImc:
            state_.ims &= ~value;
            return update_pin();
        case kSwsm:
            state_.swsm = value & 0xf;
            return;
        case kSystiml:
            return set_system_time(with_bits(system_time(), 31, 0, value));
        case kSystimh:
            return set_system_time(with_bits(system_time(), 63, 32, value));
        case kTiminca:
            set_system_time(system_time());
            break;
        default:
            break;
    }
    if (write_ring(offset, value)) return;
    if (u32* word = array_word(offset)) {
        const bool high = offset >= kRal && offset < kRal + kReceiveAddresses * 8 && offset % 8 == 4;
        *word = high ? value & kRahWritable : value;
        return;
    }
    const u32 index = plain_index(offset);
    if (index >= kPlainCount) return;
    const u32 writable = kPlain[index].writable;
    state_.plain[index] = (state_.plain[index] & ~writable) | (value & writable);
    if (offset == kRctl) arm_receive();
    if (offset == kTctl) (value & kTctlEnable) != 0 ? arm_transmit() : stop_transmit();
}

u64 E1000e::mmio_read(u64 offset, unsigned size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; i += 4) {
        const u64 at = align_down(offset + i, 4);
        if (at < kRegisterBytes) value |= u64{read(static_cast<u32>(at))} << (i * 8);
    }
    return (value >> (offset % 4 * 8)) & low_mask(size * 8);
}

/// Registers are written as 32-bit words (§10.1); narrower writes are dropped.
void E1000e::mmio_write(u64 offset, unsigned size, u64 value) {
    if (offset % 4 != 0) return;
    for (unsigned i = 0; i + 4 <= size; i += 4) {
        if (offset + i < kRegisterBytes) write(static_cast<u32>(offset + i), static_cast<u32>(value >> (i * 8)));
    }
}

u64 E1000e::Flash::mmio_read(u64, unsigned size) { return low_mask(size * 8); }

IoStatus E1000e::IoWindow::port_read(u16 offset, unsigned size, u32& value) {
    if (size != 4) return IoStatus::BadSize;
    if (offset != 0 && offset != 4) return IoStatus::NoRegister;
    const u32 at = card_.lasting_.io_address;
    value = offset == 0 ? at : at < kRegisterBytes ? card_.read(static_cast<u32>(align_down(at, 4))) : 0;
    return IoStatus::Ok;
}

IoStatus E1000e::IoWindow::port_write(u16 offset, unsigned size, u32 value) {
    if (size != 4) return IoStatus::BadSize;
    if (offset != 0 && offset != 4) return IoStatus::NoRegister;
    if (offset == 0) {
        card_.lasting_.io_address = value;
    } else if (const u32 at = card_.lasting_.io_address; at < kRegisterBytes) {
        card_.write(static_cast<u32>(align_down(at, 4)), value);
    }
    return IoStatus::Ok;
}

}  // namespace vg::devices
