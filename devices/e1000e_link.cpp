// NVM, PHY, the clock for time stamps and the statistics of the 82574: datasheet §6, §8.5, §7.1.13, §10.2.7.
#include <algorithm>
#include <limits>

#include "base/bits.h"
#include "devices/e1000e.h"
#include "devices/net/packet.h"

namespace vg::devices {

using namespace e1000e;

namespace {

/// What IEEE clause 22 and the PHY's maker define, negotiated with a partner that can do everything.
constexpr std::array<u16, kPhyRegisters> fresh_phy() {
    std::array<u16, kPhyRegisters> phy{};
    phy[kPhyControl] = 0x1140;  // negotiation on, full duplex, 1000 Mb/s
    phy[kPhyStatus] = 0x7949 | kPhyLinkUp | kPhyNegotiated;
    phy[2] = 0x0141;  // identifiers
    phy[3] = 0x0cb1;
    phy[4] = 0x0de1;  // what is advertised
    phy[5] = 0x45e1;  // what the partner can do
    phy[6] = 0x000f;
    phy[9] = 0x0200;
    phy[10] = 0x7800;
    phy[15] = 0x3000;
    phy[16] = 0x0078;
    phy[kPhySpecificStatus] = 0xa800 | kPhySpecificLink;
    phy[20] = 0x0c60;
    return phy;
}

constexpr bool phy_writable(u32 number) {
    return number == kPhyControl || number == 4 || number == 7 || number == 9 || number == 16 || number == 18 ||
           number == 20 || (number >= kPhyPage && number != 28);
}

}  // namespace

E1000e::Lasting E1000e::fresh_lasting() const {
    Lasting lasting;
    lasting.phy = fresh_phy();
    auto& nvm = lasting.nvm;
    for (u32 i = 0; i < 3; ++i) nvm[i] = static_cast<u16>(address_[i * 2] | address_[i * 2 + 1] << 8);
    nvm[0x03] = 0x0420;  // compatibility
    nvm[0x04] = 0xf746;  // LEDs
    nvm[0x05] = 0x2010;  // version
    nvm[0x06] = nvm[0x07] = 0xffff;
    nvm[0x0a] = 0x026b;  // initialization control 1
    nvm[0x0b] = 0x10d3;  // subsystem, its vendor, device
    nvm[0x0c] = 0x8086;
    nvm[0x0d] = 0x10d3;
    nvm[0x37] = 0xffff;  // no alternate address
    u16 sum = 0;
    for (u32 i = 0; i < kNvmChecksum; ++i) sum = static_cast<u16>(sum + nvm[i]);
    nvm[kNvmChecksum] = static_cast<u16>(kNvmSum - sum);
    return lasting;
}

// ---- NVM

void E1000e::read_nvm(u32 value) {
    if ((value & kNvmStart) == 0) return;
    const u32 word = static_cast<u32>(bits(value, 15, 2));
    const u32 data = word < kNvmWords ? lasting_.nvm[word] : 0xffff;
    state_.eerd = data << 16 | word << 2 | kNvmDone;
}

void E1000e::write_nvm(u32 value) {
    if ((value & kNvmStart) != 0) {
        const u32 word = static_cast<u32>(bits(value, 15, 2));
        if (word < kNvmWords) lasting_.nvm[word] = static_cast<u16>(value >> 16);
    }
    state_.eewr = (value & ~kNvmStart) | kNvmDone;
}

// ---- PHY

void E1000e::write_mdic(u32 value) {
    const u32 operation = static_cast<u32>(bits(value, 27, 26)), number = static_cast<u32>(bits(value, 20, 16));
    state_.mdic = (value & 0x0fff0000) | kMdicReady | (value & 0xffff);
    // Registers from 16 up have pages; only those of page 0 are there.
    const bool there = number < 16 || number == kPhyPage || lasting_.phy[kPhyPage] == 0;
    if (bits(value, 25, 21) != kPhyAddress) {
        state_.mdic |= kMdicError;
    } else if (operation == kMdicRead) {
        state_.mdic = static_cast<u32>(with_bits(state_.mdic, 15, 0, there ? lasting_.phy[number] : 0));
    } else if (operation == kMdicWrite) {
        if (there) write_phy(number, static_cast<u16>(value));
    } else {
        state_.mdic |= kMdicError;
    }
    if ((value & kMdicInterrupt) != 0) raise(kMdac);
}

void E1000e::write_phy(u32 number, u16 value) {
    if (!phy_writable(number)) return;
    const bool was_down = (lasting_.phy[kPhyControl] & kPhyPowerDown) != 0;
    if (number != kPhyControl) {
        lasting_.phy[number] = value;
        return;
    }
    lasting_.phy[kPhyControl] = static_cast<u16>(value & ~(kPhyReset | kPhyRestart));
    if ((value & kPhyReset) != 0) lasting_.phy[kPhyControl] = fresh_phy()[kPhyControl];
    const bool down = (lasting_.phy[kPhyControl] & kPhyPowerDown) != 0;
    if (down || was_down || (value & (kPhyReset | kPhyRestart)) != 0) restart_link(!down);
}

/// The link goes down, for good or until it has been negotiated again.
void E1000e::restart_link(bool comes_up) {
    const bool was_up = lasting_.link;
    lasting_.link = false;
    lasting_.phy[kPhyStatus] = static_cast<u16>(lasting_.phy[kPhyStatus] & ~(kPhyLinkUp | kPhyNegotiated));
    lasting_.phy[kPhySpecificStatus] = static_cast<u16>(lasting_.phy[kPhySpecificStatus] & ~kPhySpecificLink);
    events_.cancel(link_timer_);
    if (comes_up) events_.arm(link_timer_, events_.now() + kNegotiation_ns);
    if (was_up) raise(kLsc);
}

void E1000e::link_up() {
    lasting_.link = true;
    lasting_.phy[kPhyStatus] = static_cast<u16>(lasting_.phy[kPhyStatus] | kPhyLinkUp | kPhyNegotiated);
    lasting_.phy[kPhySpecificStatus] = static_cast<u16>(lasting_.phy[kPhySpecificStatus] | kPhySpecificLink);
    raise(kLsc);
    arm_transmit();
}

// ---- Clock for time stamps (§10.2.9)

/// SYSTIM grows by TIMINCA's increment each period of 40 ns.
u64 E1000e::system_time() const {
    const u32 timinca = plain(kTiminca);
    const u64 period_ns = bits(timinca, 31, 24) * 40;
    if (period_ns == 0) return state_.time_base;
    return state_.time_base + (events_.now() - state_.time_since) / period_ns * bits(timinca, 23, 0);
}

void E1000e::set_system_time(u64 value) {
    state_.time_base = value;
    state_.time_since = events_.now();
}

// ---- Statistics

void E1000e::count(Statistic which, u32 by) {
    u32& word = state_.statistics[static_cast<u32>(which)];
    word = by > std::numeric_limits<u32>::max() - word ? std::numeric_limits<u32>::max() : word + by;
}

void E1000e::count_octets(Statistic which, u64 bytes) {
    const u32 at = static_cast<u32>(which);
    const u64 total = (state_.statistics[at] | u64{state_.statistics[at + 1]} << 32) + bytes;
    state_.statistics[at] = static_cast<u32>(total);
    state_.statistics[at + 1] = static_cast<u32>(total >> 32);
}

/// Lengths count the check sequence.
void E1000e::count_frame(std::span<const u8> frame, bool received) {
    constexpr u64 kUpTo[] = {64, 127, 255, 511, 1023};
    const u64 bytes = frame.size() + 4;
    const u32 first = static_cast<u32>(received ? Statistic::Received64 : Statistic::Transmitted64);
    u32 bucket = 0;
    while (bucket < std::size(kUpTo) && bytes > kUpTo[bucket]) ++bucket;
    count(static_cast<Statistic>(first + bucket));
    const bool broadcast = std::all_of(frame.begin(), frame.begin() + 6, [](u8 byte) { return byte == 0xff; });
    if (broadcast) {
        count(received ? Statistic::ReceivedBroadcast : Statistic::TransmittedBroadcast);
    } else if ((frame[0] & 1) != 0) {
        count(received ? Statistic::ReceivedMulticast : Statistic::TransmittedMulticast);
    }
    count(received ? Statistic::ReceivedGood : Statistic::TransmittedGood);
    count(received ? Statistic::Received : Statistic::Transmitted);
    count_octets(received ? Statistic::ReceivedGoodOctets : Statistic::TransmittedGoodOctets, bytes);
    count_octets(received ? Statistic::ReceivedOctets : Statistic::TransmittedOctets, bytes);
}

}  // namespace vg::devices
