#include "machine/acpi_tables.h"

#include <fmt/format.h>

#include <cstring>

#include "base/bits.h"
#include "machine/aml.h"

namespace vg::machine {

namespace {

/// A table under construction; the header is completed by finish().
class Table {
  public:
    Table(std::string_view signature, u8 revision) {
        append(signature);
        u32_(0);  // length
        u8_(revision);
        u8_(0);  // checksum
        append("VRDGRS");
        append("VERDIGRS");
        u32_(1);
        append("VRDG");
        u32_(1);
    }
    void u8_(u8 value) { bytes_.push_back(value); }
    void u16_(u16 value) { raw(value); }
    void u32_(u32 value) { raw(value); }
    void u64_(u64 value) { raw(value); }
    void append(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
    void append(const std::vector<u8>& more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
    /// Generic address structure in I/O space.
    void io_address(u16 port, u8 bits_wide, u8 access_size) {
        u8_(1);
        u8_(bits_wide);
        u8_(0);
        u8_(access_size);
        u64_(port);
    }
    void null_address() {
        for (unsigned i = 0; i < 12; ++i) u8_(0);
    }
    [[nodiscard]] std::vector<u8> finish() {
        const u32 length = static_cast<u32>(bytes_.size());
        std::memcpy(bytes_.data() + 4, &length, 4);
        bytes_[9] = 0;
        u8 sum = 0;
        for (const u8 byte : bytes_) sum = static_cast<u8>(sum + byte);
        bytes_[9] = static_cast<u8>(0 - sum);
        return bytes_;
    }
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  private:
    template <class T>
    void raw(T value) {
        const auto* begin = reinterpret_cast<const u8*>(&value);
        bytes_.insert(bytes_.end(), begin, begin + sizeof value);
    }
    std::vector<u8> bytes_;
};

std::vector<u8> build_dsdt(const AcpiOptions& options) {
    Aml aml;
    aml.name_package("\\_S5", {board::kSleepTypeS5, 0, 0, 0});
    aml.scope("\\_SB", [&](Aml& sb) {
        for (std::size_t i = 0; i < options.apic_ids.size(); ++i) {
            sb.device(fmt::format("P{:03X}", i), [&](Aml& cpu) {
                cpu.name("_HID", "ACPI0007");
                cpu.name("_UID", i);
            });
        }
        sb.device("UAR1", [](Aml& uart) {
            uart.name_eisa("_HID", "PNP0501");
            uart.name("_DDN", "COM1");
            uart.name("_UID", 1);
            uart.resources([](Aml& r) {
                r.io(board::kCom1, 8);
                r.interrupt(board::kCom1Irq);
            });
        });
        sb.device("RTC0", [](Aml& rtc) {
            rtc.name_eisa("_HID", "PNP0B00");
            rtc.resources([](Aml& r) {
                r.io(board::kRtcPort, 2);
                r.interrupt(board::kRtcIrq);
            });
        });
        if (!options.vmbus) return;
        sb.device("VMOD", [&](Aml& module) {
            module.name("_HID", "ACPI0004");
            module.name("_UID", u64{0});
            module.resources([&](Aml& r) {
                r.qword_memory(board::kLowGapBase, board::kLowMmioSize);
                r.qword_memory(align_up(options.memory_top, u64{1} << 30), board::kHighMmioSize);
            });
            module.device("VMBS", [](Aml& bus) {
                bus.name("_HID", "VMBus");
                bus.name("_UID", u64{0});
                bus.name("_DDN", "VMBUS");
                bus.name("_STA", 0xf);
                bus.empty_method("_DIS");
                bus.empty_method("_PS0");
                bus.empty_method("_PS3");
                bus.resources([](Aml&) {});  // B-12: present, may be empty
            });
        });
    });
    Table table("DSDT", 2);
    table.append(aml.bytes());
    return table.finish();
}

std::vector<u8> build_madt(const AcpiOptions& options) {
    Table table("APIC", 4);
    table.u32_(0xfee00000);
    table.u32_(options.has_pic ? 1 : 0);  // PCAT_COMPAT: two 8259 are there
    for (std::size_t i = 0; i < options.apic_ids.size(); ++i) {
        table.u8_(0);
        table.u8_(8);
        table.u8_(static_cast<u8>(i));
        table.u8_(static_cast<u8>(options.apic_ids[i]));
        table.u32_(1);
    }
    table.u8_(1);  // IOAPIC
    table.u8_(12);
    table.u8_(0);
    table.u8_(0);
    table.u32_(static_cast<u32>(board::kIoApicBase));
    table.u32_(0);
    if (options.has_pic) {
        table.u8_(2);  // the timer's interrupt: as its bus says
        table.u8_(10);
        table.u8_(0);
        table.u8_(0);
        table.u32_(board::kTimerPin);
        table.u16_(0);
    }
    table.u8_(2);  // SCI: level, active high
    table.u8_(10);
    table.u8_(0);
    table.u8_(board::kSciIrq);
    table.u32_(board::kSciIrq);
    table.u16_(0xd);
    return table.finish();
}

std::vector<u8> build_fadt(u64 facs, u64 dsdt, bool has_8042) {
    constexpr u16 kPm1Control = board::kPmBase + 4, kTimer = board::kPmBase + 8;
    Table table("FACP", 6);
    table.u32_(static_cast<u32>(facs));
    table.u32_(static_cast<u32>(dsdt));
    table.u8_(0);
    table.u8_(0);  // preferred profile: unspecified
    table.u16_(board::kSciIrq);
    table.u32_(0);  // no SMI: ACPI is always on
    for (unsigned i = 0; i < 4; ++i) table.u8_(0);
    table.u32_(board::kPmBase);
    table.u32_(0);
    table.u32_(kPm1Control);
    table.u32_(0);
    table.u32_(0);
    table.u32_(kTimer);
    table.u32_(0);
    table.u32_(0);
    table.u8_(4);  // PM1 event length
    table.u8_(2);
    table.u8_(0);
    table.u8_(4);  // PM timer length
    for (unsigned i = 0; i < 4; ++i) table.u8_(0);
    table.u16_(101);   // no C2
    table.u16_(1001);  // no C3
    table.u32_(0);       // no cache flush by reading
    table.u16_(0);       // no duty cycle control
    table.u16_(0);       // RTC alarm: neither day nor month
    table.u8_(0x32);     // century register
    table.u16_(static_cast<u16>(1 << 2 | (has_8042 ? 1 << 1 : 0)));  // IA-PC boot architecture: no VGA, no legacy devices to probe
    table.u8_(0);
    // WBINVD, C1, no power button, no sleep button, reset register, 32-bit PM timer
    table.u32_((1 << 0) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 10));
    table.io_address(board::kResetPort, 8, 1);
    table.u8_(board::kResetValue);
    table.u16_(0);
    table.u8_(4);  // minor version
    table.u64_(0);  // 64-bit FACS pointer: the 32-bit one is used
    table.u64_(dsdt);
    table.io_address(board::kPmBase, 32, 2);
    table.null_address();
    table.io_address(kPm1Control, 16, 2);
    table.null_address();
    table.null_address();
    table.io_address(kTimer, 32, 3);
    table.null_address();
    table.null_address();
    table.null_address();
    table.null_address();
    table.append("VRDGRSHV");
    VG_ASSERT(table.size() == 276);
    return table.finish();
}

/// VT-d 4.1 "DMA Remapping Reporting Structure", "DMA Remapping Hardware Unit Definition Structure".
std::vector<u8> build_dmar(const DmarOptions& options) {
    constexpr u8 kScopeIoApic = 3, kScopeLength = 8, kUnitLength = 16 + kScopeLength;
    Table table("DMAR", 1);
    table.u8_(static_cast<u8>(options.host_address_bits - 1));
    table.u8_(static_cast<u8>((options.interrupt_remapping ? 1 : 0) | (options.x2apic ? 0 : 2)));
    for (unsigned i = 0; i < 10; ++i) table.u8_(0);
    table.u16_(0);  // DRHD
    table.u16_(kUnitLength);
    table.u8_(1);   // INCLUDE_PCI_ALL
    table.u8_(0);   // one page of registers
    table.u16_(0);  // segment
    table.u64_(options.registers);
    table.u8_(kScopeIoApic);
    table.u8_(kScopeLength);
    table.u16_(0);
    table.u8_(options.ioapic_id);
    table.u8_(static_cast<u8>(options.ioapic_rid >> 8));
    table.u8_(static_cast<u8>(bits(options.ioapic_rid, 7, 3)));
    table.u8_(static_cast<u8>(bits(options.ioapic_rid, 2, 0)));
    return table.finish();
}

Result<void> check_dsdt(const AcpiOptions& options) {
    const std::vector<u8>& dsdt = options.dsdt;
    const auto bad = [&](std::string text) {
        return fail(Error::Code::Usage, fmt::format("{}: {}; compile one with: iasl dsdt.asl", options.dsdt_name, text));
    };
    if (dsdt.size() < 36) return bad(fmt::format("{} bytes are too few for an ACPI table (36)", dsdt.size()));
    if (std::memcmp(dsdt.data(), "DSDT", 4) != 0) return bad("offset 0: the signature is not \"DSDT\"");
    u32 length = 0;
    std::memcpy(&length, dsdt.data() + 4, 4);
    if (length != dsdt.size()) {
        return bad(fmt::format("offset 4: the table says it has {} bytes, the file has {}", length, dsdt.size()));
    }
    u8 sum = 0;
    for (const u8 byte : dsdt) sum = static_cast<u8>(sum + byte);
    if (sum != 0) return bad(fmt::format("offset 9: wrong checksum (the bytes add up to 0x{:02x}, not 0)", sum));
    return {};
}

}  // namespace

Result<std::vector<AcpiTable>> build_acpi(const AcpiOptions& options) {
    if (!options.dsdt.empty()) {
        if (auto ok = check_dsdt(options); !ok) return Unexpected{ok.error()};
    }
    std::vector<AcpiTable> tables;
    u64 next = board::kAcpiBase + 64;  // the RSDP comes first
    const auto place = [&](std::string signature, std::vector<u8> content) {
        next = align_up(next, 64);
        const u64 at = next;
        next += content.size();
        tables.push_back({std::move(signature), Gpa(at), std::move(content)});
        return at;
    };
    std::vector<u8> facs_content(64);
    std::memcpy(facs_content.data(), "FACS", 4);
    facs_content[4] = 64;
    facs_content[32] = 2;
    const u64 facs = place("FACS", std::move(facs_content));
    const u64 dsdt = place("DSDT", options.dsdt.empty() ? build_dsdt(options) : options.dsdt);
    const u64 fadt = place("FACP", build_fadt(facs, dsdt, options.has_pic));
    const u64 madt = place("APIC", build_madt(options));
    Table xsdt_table("XSDT", 1);
    xsdt_table.u64_(fadt);
    xsdt_table.u64_(madt);
    if (options.dmar) xsdt_table.u64_(place("DMAR", build_dmar(*options.dmar)));
    const u64 xsdt = place("XSDT", xsdt_table.finish());
    if (next > board::kAcpiBase + board::kAcpiSize) {
        return fail(Error::Code::Usage, fmt::format("{}: the ACPI tables need {} bytes, {} fit; use a smaller DSDT",
                                                    options.dsdt_name, next - board::kAcpiBase, board::kAcpiSize));
    }

    std::vector<u8> rsdp(36);
    std::memcpy(rsdp.data(), "RSD PTR ", 8);
    std::memcpy(rsdp.data() + 9, "VRDGRS", 6);
    rsdp[15] = 2;
    rsdp[20] = 36;
    std::memcpy(rsdp.data() + 24, &xsdt, 8);
    const auto checksum = [&](std::size_t count) {
        u8 sum = 0;
        for (std::size_t i = 0; i < count; ++i) sum = static_cast<u8>(sum + rsdp[i]);
        return static_cast<u8>(0 - sum);
    };
    rsdp[8] = checksum(20);
    rsdp[32] = checksum(36);
    tables.insert(tables.begin(), {"RSD PTR ", Gpa(board::kAcpiBase), std::move(rsdp)});
    return tables;
}

}  // namespace vg::machine
