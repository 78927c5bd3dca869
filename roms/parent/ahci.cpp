#include "roms/parent/ahci.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "base/bits.h"
#include "devices/spec/pci.h"

namespace vg::parent {

using namespace devices::ahci;
namespace ata = devices::ata;
namespace pci = devices::pci;

namespace {

// In the page of structures.
constexpr u64 kListAt = 0, kFisAt = 0x400, kTableAt = 0x800, kSectorAt = 0xc00;
constexpr u32 kSlot = 0;
constexpr u32 kBar = 5;
constexpr u64 kMillisecond = 10'000;
constexpr u32 kErrors = kIsOverflow | kIsLinkNonFatal | kIsLinkFatal | kIsHostBusData | kIsHostBusFatal | kIsTaskFile;
constexpr u32 kWanted = kErrors | kIsDeviceToHost | kIsPioSetup | kIsDescriptor;
constexpr u32 kBusyOrRequest = ata::kBusy | ata::kDataRequest;
constexpr u32 kDetectMask = 0xf, kDetected = 3;

Unexpected<Error> problem(const std::string& what) { return fail(Error::Code::Host, "AHCI: " + what); }

/// Text of IDENTIFY: two characters a word, the first one in the high byte, padded with spaces.
std::string identify_text(std::span<const u16> words) {
    std::string text;
    for (const u16 word : words) {
        for (const int c : {word >> 8, word & 0xff}) text += c > ' ' && c <= '~' ? static_cast<char>(c) : ' ';
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
}

}  // namespace

// ---- Start

Result<std::unique_ptr<AhciDisk>> AhciDisk::open(AhciSystem& system) {
    std::unique_ptr<AhciDisk> disk(new AhciDisk(system));
    if (auto started = disk->start(); !started) return Unexpected{started.error()};
    return disk;
}

AhciDisk::~AhciDisk() {
    if (!found_) return;
    port_write(kPxIe, 0);
    const bool stopped = stop_port();
    port_write(kPxCmd, port_read(kPxCmd) & ~kCmdFisReceive);
    if (!stopped || !wait_for(port_base() + kPxCmd, kCmdFisRunning, 0, kSecond / 2)) shut_off();
}

Result<void> AhciDisk::start() {
    structures_ = system_.allocate(1);
    bounce_ = system_.allocate(kBounceBytes / kPageSize);
    if (structures_.bytes == nullptr || bounce_.bytes == nullptr) return problem("no memory for its structures");
    if (auto done = set_up_function(); !done) return done;
    if (auto done = take_over(); !done) return done;
    if (auto done = start_port(); !done) return done;
    return identify();
}

/// Decoding, bus mastering, the message.
Result<void> AhciDisk::set_up_function() {
    const u32 bar = system_.config_read(pci::kBar0 + kBar * 4, 4);
    const u64 address = bar & ~u32{0xf};
    if ((bar & pci::kBarIo) != 0 || address == 0 || !system_.map_registers(address)) {
        return problem("its registers have no address");
    }
    u32 at = system_.config_read(pci::kCapabilities, 1);
    u32 msi = 0;
    for (u32 steps = 0; at >= 0x40 && steps < 48; ++steps, at = system_.config_read(at + 1, 1)) {
        at = static_cast<u32>(align_down(at, 4));
        if (system_.config_read(at, 1) == pci::kCapMsi) msi = at;
    }
    if (msi == 0) return problem("it has no message interrupts");
    const u32 command = system_.config_read(pci::kCommand, 2);
    system_.config_write(pci::kCommand, 2, command | pci::kMemorySpace | pci::kBusMaster | pci::kIntxDisable);

    const AhciSystem::Message message = system_.message();
    const u32 control = system_.config_read(msi + pci::kMsiControl, 2);
    const bool wide = (control & pci::kMsi64Bit) != 0;
    system_.config_write(msi + pci::kMsiAddress, 4, static_cast<u32>(message.address));
    if (wide) system_.config_write(msi + pci::kMsiAddressHigh, 4, static_cast<u32>(message.address >> 32));
    // Without a high address, the data is in its place.
    system_.config_write(msi + (wide ? pci::kMsiData : pci::kMsiAddressHigh), 2, message.data);
    if ((control & pci::kMsiPerVectorMask) != 0) {
        system_.config_write(msi + (wide ? pci::kMsiMask : pci::kMsiMask - 4), 4, 0);
    }
    system_.config_write(msi + pci::kMsiControl, 2, (control & ~u32{0x70}) | pci::kMsiEnable);  // one vector
    return {};
}

/// AHCI §10.6 (hand-off from the firmware), §10.4.3 (reset).
Result<void> AhciDisk::take_over() {
    if ((system_.read(kCap2) & kCap2Handoff) != 0) {
        system_.write(kBohc, system_.read(kBohc) | kBohcOsOwned);
        if (!wait_for(kBohc, kBohcBiosOwned, 0, 2 * kSecond)) return problem("the firmware does not let go of it");
    }
    system_.write(kGhc, kGhcAhci);
    system_.write(kGhc, kGhcAhci | kGhcReset);
    if (!wait_for(kGhc, kGhcReset, 0, kSecond)) return problem("it does not come out of reset");
    system_.write(kGhc, kGhcAhci);
    if ((system_.read(kCap) & kCap64Bit) == 0) reach_ = u64{1} << 32;
    if (std::max(structures_.address, bounce_.address) + kBounceBytes > reach_) {
        return problem("it reaches only 4 GiB of memory");
    }
    return {};
}

/// Finds the first port with a disk and starts it. AHCI §10.1.2.
Result<void> AhciDisk::start_port() {
    const u32 implemented = system_.read(kPi);
    for (port_ = 0; port_ < kMaxPorts; ++port_) {
        if (!bit(implemented, port_)) continue;
        if ((system_.read(kCap) & kCapStaggered) != 0) port_write(kPxCmd, port_read(kPxCmd) | kCmdSpinUp);
        if (!wait_for(port_base() + kPxSsts, kDetectMask, kDetected, 10 * kMillisecond)) continue;
        found_ = true;
        if (!stop_port()) return problem("port " + std::to_string(port_) + " does not stop");
        const u64 list = structures_.address + kListAt, fis = structures_.address + kFisAt;
        port_write(kPxClb, static_cast<u32>(list));
        port_write(kPxClbu, static_cast<u32>(list >> 32));
        port_write(kPxFb, static_cast<u32>(fis));
        port_write(kPxFbu, static_cast<u32>(fis >> 32));
        port_write(kPxSerr, ~u32{0});
        port_write(kPxCmd, port_read(kPxCmd) | kCmdFisReceive);
        const bool ready = wait_for(port_base() + kPxTfd, kBusyOrRequest, 0, 10 * kSecond);
        if (ready && port_read(kPxSig) == ata::kDiskSignature) {
            port_write(kPxIs, ~u32{0});
            port_write(kPxIe, kWanted);
            system_.write(kIs, ~u32{0});
            system_.write(kGhc, kGhcAhci | kGhcInterrupts);
            if (!run_port()) return problem("port " + std::to_string(port_) + " does not start");
            return {};
        }
        port_write(kPxCmd, port_read(kPxCmd) & ~kCmdFisReceive);
        (void)wait_for(port_base() + kPxCmd, kCmdFisRunning, 0, kSecond / 2);
        found_ = false;
    }
    return problem("no port has a disk");
}

/// ACS-3 "IDENTIFY DEVICE".
Result<void> AhciDisk::identify() {
    std::memset(structures_.bytes + kSectorAt, 0, ata::kSectorBytes);
    if (!execute({.code = ata::Command::Identify, .address = structures_.address + kSectorAt, .bytes = 512})) {
        return problem("the disk does not identify itself");
    }
    std::array<u16, 256> words{};
    std::memcpy(words.data(), structures_.bytes + kSectorAt, sizeof words);
    if ((words[255] & 0xff) == 0xa5) {  // "Integrity word"
        u8 sum = 0;
        for (const u16 word : words) sum = static_cast<u8>(sum + (word & 0xff) + (word >> 8));
        if (sum != 0) return problem("the disk's identification has a wrong checksum");
    }
    const bool sets_valid = bits(words[83], 15, 14) == 1;
    if (!sets_valid || !bit(words[83], 10) || !bit(words[83], 13)) {
        return problem("the disk has no 48-bit addresses or no FLUSH CACHE EXT");
    }
    for (u32 i = 0; i < 4; ++i) identity_.sectors |= u64{words[100 + i]} << (16 * i);
    if (identity_.sectors == 0 || identity_.sectors > u64{1} << 48) return problem("the disk has an impossible size");
    if (bits(words[106], 15, 14) == 1) {
        if (bit(words[106], 12)) return problem("the disk's sectors have not 512 bytes");
        if (bit(words[106], 13) && bits(words[106], 3, 0) >= 3) identity_.physical_sector_bytes = 4096;
    }
    identity_.trim = bit(words[169], 0);
    identity_.serial = identify_text(std::span(words).subspan(10, 10));
    identity_.model = identify_text(std::span(words).subspan(27, 20));
    return {};
}

// ---- The port

bool AhciDisk::wait_for(u32 offset, u32 mask, u32 value, u64 limit) {
    const u64 deadline = system_.now_100ns() + limit;
    while ((system_.read(offset) & mask) != value) {
        if (system_.now_100ns() >= deadline) return false;
        system_.wait(std::min(deadline, system_.now_100ns() + kMillisecond / 10));
    }
    return true;
}

bool AhciDisk::stop_port() {
    port_write(kPxCmd, port_read(kPxCmd) & ~kCmdStart);
    return wait_for(port_base() + kPxCmd, kCmdRunning, 0, kSecond / 2);
}

bool AhciDisk::run_port() {
    port_write(kPxCmd, port_read(kPxCmd) | kCmdStart);
    return wait_for(port_base() + kPxCmd, kCmdRunning, kCmdRunning, kSecond / 2);
}

/// COMRESET. AHCI §10.4.2.
bool AhciDisk::reset_link() {
    ++stats_.resets;
    (void)stop_port();
    port_write(kPxSctl, kSctlDetReset);
    const u64 until = system_.now_100ns() + kMillisecond;  // "at least one millisecond"
    while (system_.now_100ns() < until) system_.wait(until);
    port_write(kPxSctl, 0);
    if (!wait_for(port_base() + kPxSsts, kDetectMask, kDetected, kSecond)) return false;
    port_write(kPxSerr, ~u32{0});
    return wait_for(port_base() + kPxTfd, kBusyOrRequest, 0, 10 * kSecond) &&
           (port_read(kPxCmd) & kCmdRunning) == 0;  // what did not stop before has, by the reset
}

/// After an error: the list is stopped, what was wrong cleared, the list started again. AHCI §6.2.2.1.
bool AhciDisk::recover() {
    bool good = stop_port();
    port_write(kPxSerr, ~u32{0});
    if (!good || (port_read(kPxTfd) & kBusyOrRequest) != 0) good = reset_link();
    port_write(kPxIs, ~u32{0});
    system_.write(kIs, u32{1} << port_);
    return good && run_port();
}

/// The port cannot be stopped: what it may still do must not reach memory that is used for something else by then.
void AhciDisk::shut_off() {
    dead_ = true;
    system_.config_write(pci::kCommand, 2, system_.config_read(pci::kCommand, 2) & ~u32{pci::kBusMaster});
}

// ---- Commands

/// Fills slot 0. AHCI §4.2.
void AhciDisk::prepare(const Command& command) {
    const auto byte = [](u64 value, unsigned index) { return static_cast<u8>(value >> (8 * index)); };
    constexpr u32 kFisWords = 5;
    const std::array<u8, kFisWords* 4> fis = {
        ata::kFisHostToDevice,  ata::kFisIsCommand,    static_cast<u8>(command.code), byte(command.features, 0),
        byte(command.lba, 0),   byte(command.lba, 1),  byte(command.lba, 2),          ata::kDeviceLba,
        byte(command.lba, 3),   byte(command.lba, 4),  byte(command.lba, 5),          byte(command.features, 1),
        byte(command.count, 0), byte(command.count, 1)};
    CommandHeader header{};
    header.flags = kFisWords | (command.to_disk ? 1u << 6 : 0) | (command.bytes != 0 ? 1u << 16 : 0);
    header.table = structures_.address + kTableAt;
    const Descriptor descriptor{command.address, 0, command.bytes - 1};
    std::memcpy(structures_.bytes + kTableAt, fis.data(), fis.size());
    if (command.bytes != 0) {
        std::memcpy(structures_.bytes + kTableAt + kTableDescriptors, &descriptor, sizeof descriptor);
    }
    std::memcpy(structures_.bytes + kListAt + kSlot * sizeof header, &header, sizeof header);
}

AhciDisk::Outcome AhciDisk::attempt(const Command& command) {
    prepare(command);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // the device sees the slot before it is told
    const bool flushing = command.code == ata::Command::FlushCacheExt;
    const u64 deadline = system_.now_100ns() + (flushing ? kFlushLimit : kCommandLimit);
    port_write(kPxCi, u32{1} << kSlot);
    for (;;) {
        const u32 status = port_read(kPxIs);
        if (status != 0) {
            port_write(kPxIs, status);
            system_.write(kIs, u32{1} << port_);
        }
        if ((status & kErrors) != 0) return (status & kErrors) == kIsTaskFile ? Outcome::Refused : Outcome::Broken;
        if ((port_read(kPxCi) & u32{1} << kSlot) == 0) break;
        if (system_.now_100ns() >= deadline) return Outcome::TimedOut;
        system_.wait(deadline);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);  // its data is read after the end of the command
    if ((port_read(kPxTfd) & ata::kError) != 0) return Outcome::Refused;
    u32 moved = 0;
    std::memcpy(&moved, structures_.bytes + kListAt + offsetof(CommandHeader, bytes), sizeof moved);
    return moved == command.bytes ? Outcome::Done : Outcome::Broken;
}

bool AhciDisk::execute(const Command& command) {
    for (u32 tries = 0; tries < kTries; ++tries) {
        if (dead_) return false;
        const Outcome outcome = attempt(command);
        if (outcome == Outcome::Done) {
            ++stats_.commands;
            return true;
        }
        ++stats_.failures;
        if ((outcome == Outcome::TimedOut && !reset_link()) || !recover()) {
            shut_off();
            return false;
        }
        if (outcome == Outcome::Refused && command.code == ata::Command::FlushCacheExt) return false;
    }
    return false;
}

bool AhciDisk::transfer(u64 offset, u8* data, u64 size, bool to_disk) {
    if (!fits(offset, size, size_bytes()) || offset % ata::kSectorBytes != 0 || size % ata::kSectorBytes != 0)
        return false;
    u64 own = reinterpret_cast<std::uintptr_t>(data) % 4 == 0 ? system_.device_address(data, size) : 0;
    if (!fits(own, size, reach_)) own = 0;
    const u64 largest = own != 0 ? kMaxTransferBytes : kBounceBytes;
    for (u64 done = 0; done < size;) {
        const u64 part = std::min(largest, size - done);
        if (own == 0 && to_disk) std::memcpy(bounce_.bytes, data + done, part);
        if (!execute({.code = to_disk ? ata::Command::WriteDmaExt : ata::Command::ReadDmaExt,
                      .lba = (offset + done) / ata::kSectorBytes,
                      .count = static_cast<u16>(part / ata::kSectorBytes),
                      .address = own != 0 ? own + done : bounce_.address,
                      .bytes = static_cast<u32>(part),
                      .to_disk = to_disk})) {
            return false;
        }
        if (own == 0) ++stats_.bounced;
        if (own == 0 && !to_disk) std::memcpy(data + done, bounce_.bytes, part);
        done += part;
    }
    return true;
}

bool AhciDisk::read(u64 offset, std::span<u8> out) { return transfer(offset, out.data(), out.size(), false); }

bool AhciDisk::write(u64 offset, std::span<const u8> data) {
    return transfer(offset, const_cast<u8*>(data.data()), data.size(), true);
}

/// ACS-3 "DATA SET MANAGEMENT": ranges of a 48-bit address and a 16-bit count, 64 to a block.
bool AhciDisk::discard(u64 offset, u64 size) {
    if (!fits(offset, size, size_bytes()) || offset % ata::kSectorBytes != 0 || size % ata::kSectorBytes != 0)
        return false;
    if (!identity_.trim) return true;
    u64 lba = offset / ata::kSectorBytes;
    for (u64 left = size / ata::kSectorBytes; left != 0;) {
        std::array<u64, ata::kSectorBytes / 8> ranges{};
        for (u64& range : ranges) {
            const u64 count = std::min<u64>(left, 0xffff);
            if (count != 0) range = count << 48 | lba;
            lba += count;
            left -= count;
        }
        std::memcpy(structures_.bytes + kSectorAt, ranges.data(), sizeof ranges);
        if (!execute({.code = ata::Command::DataSetManagement,
                      .count = 1,
                      .features = ata::kTrim,
                      .address = structures_.address + kSectorAt,
                      .bytes = ata::kSectorBytes,
                      .to_disk = true})) {
            return false;
        }
    }
    return true;
}

bool AhciDisk::flush() {
    if (flush_failed_) return false;
    flush_failed_ = !execute({.code = ata::Command::FlushCacheExt});
    return !flush_failed_;
}

}  // namespace vg::parent
