#include "machine/acpi_tables.h"

#include <fmt/format.h>

#include <cstring>

#include "base/bits.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
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

/// _OSC of a PCI root bridge: grants native control of what it asks for. PCI Firmware 3.2 §4.5.1.
void add_osc(Aml& root) {
    // 33DB4D5B-1FF7-401C-9657-7441C03DD766 as ToUUID lays it out
    const std::vector<u8> uuid = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
    constexpr u64 kGranted = 0x1d;  // hot plug, power management events, error reporting, the express capability
    constexpr u64 kUnknownUuid = 1 << 2, kUnknownRevision = 1 << 3, kMasked = 1 << 4;
    const auto argument = [](u32 index) { return [index](Aml& a) { a.argument(index); }; };
    const auto number = [](u64 value) { return [value](Aml& a) { a.number(value); }; };
    const auto named = [](std::string_view name) { return [name](Aml& a) { a.named(name); }; };
    const Aml::Content local = [](Aml& a) { a.local(0); };
    const Aml::Content nowhere = [](Aml& a) { a.number(0); };  // NullName: no target
    root.method("_OSC", 4, [&](Aml& m) {
        m.dword_field(argument(3), 0, "CDW1");
        m.if_then([&](Aml& p) { p.equal(argument(0), [&](Aml& u) { u.buffer(uuid); }); },
                  [&](Aml& t) {
                      t.dword_field(argument(3), 4, "CDW2");
                      t.dword_field(argument(3), 8, "CDW3");
                      t.store([&](Aml& v) { v.bit_and(named("CDW3"), number(kGranted), nowhere); }, local);
                      t.if_then([&](Aml& p) { p.not_equal(argument(1), number(1)); },
                                [&](Aml& u) { u.bit_or(named("CDW1"), number(kUnknownRevision), named("CDW1")); });
                      t.if_then([&](Aml& p) { p.not_equal(named("CDW3"), local); },
                                [&](Aml& u) { u.bit_or(named("CDW1"), number(kMasked), named("CDW1")); });
                      t.store(local, named("CDW3"));
                  });
        m.otherwise([&](Aml& e) { e.bit_or(named("CDW1"), number(kUnknownUuid), named("CDW1")); });
        m.give_back(argument(3));
    });
}

void add_vmbus(Aml& parent) {
    parent.device("VMBS", [](Aml& bus) {
        bus.name("_HID", "VMBus");
        bus.name("_UID", u64{0});
        bus.name("_DDN", "VMBUS");
        bus.name("_STA", 0xf);
        bus.empty_method("_DIS");
        bus.empty_method("_PS0");
        bus.empty_method("_PS3");
        bus.resources([](Aml&) {});  // B-12: present, may be empty
    });
}

void add_pci_root(Aml& sb, const AcpiOptions& options) {
    const AcpiPci& pci = *options.pci;
    const bool express = pci.ecam.size != 0;
    sb.device("PCI0", [&](Aml& root) {
        root.name_eisa("_HID", express ? "PNP0A08" : "PNP0A03");
        if (express) root.name_eisa("_CID", "PNP0A03");
        root.name("_UID", u64{0});
        root.name("_BBN", u64{0});
        root.name("_SEG", u64{0});
        root.resources([&](Aml& r) {
            r.word_bus(0, static_cast<u16>(express ? pci.ecam.size >> 20 : board::kPciBuses));
            r.io(0xcf8, 8);
            if (pci.legacy_ports) r.word_io(0, 0xcf8);
            r.word_io(static_cast<u16>(pci.ports.base), static_cast<u16>(pci.ports.size));
            if (options.vmbus && options.vga) r.dword_memory(0xa0000, 0x20000);
            r.dword_memory(static_cast<u32>(pci.low_memory.base), static_cast<u32>(pci.low_memory.size));
            if (pci.high_memory.size != 0) r.qword_memory(pci.high_memory.base, pci.high_memory.size);
        });
        const auto routes = [&](std::string_view name, const std::array<std::array<u32, 4>, 32>& inputs) {
            root.name_package(name, 32 * 4, [&](Aml& table) {
                for (u32 device = 0; device < 32; ++device) {
                    for (u32 pin = 0; pin < 4; ++pin) {
                        table.package(4, [&](Aml& row) {
                            row.number(device << 16 | 0xffff);
                            row.number(pin);
                            row.number(0);
                            row.number(inputs[device][pin]);
                        });
                    }
                }
            });
        };
        if (pci.isa[0][0] == 0) {
            routes("_PRT", pci.gsi);
        } else {
            // By which interrupt controllers the system uses (ACPI 6.5 §5.8.1 "_PIC").
            const auto term = [](std::string_view path) { return [path](Aml& a) { a.named(path); }; };
            routes("PRTA", pci.gsi);
            routes("PRTP", pci.isa);
            root.method("_PRT", 0, [&](Aml& m) {
                m.if_then(term("\\PICF"), [&](Aml& t) { t.give_back(term("PRTA")); });
                m.give_back(term("PRTP"));
            });
        }
        if (express) add_osc(root);
        if (options.vmbus) add_vmbus(root);  // its windows are the root's
    });
    if (!express) return;
    // Linux uses the enhanced configuration space only if some device reserves it.
    sb.device("MCRS", [&](Aml& board) {
        board.name_eisa("_HID", "PNP0C02");
        board.name("_UID", u64{0});
        board.resources([&](Aml& r) { r.fixed_memory(static_cast<u32>(pci.ecam.base), static_cast<u32>(pci.ecam.size)); });
    });
}

std::vector<u8> build_mcfg(const AcpiPci& pci) {
    Table table("MCFG", 1);
    table.u64_(0);
    table.u64_(pci.ecam.base);
    table.u16_(0);  // segment
    table.u8_(0);
    table.u8_(static_cast<u8>((pci.ecam.size >> 20) - 1));
    table.u32_(0);
    return table.finish();
}

std::vector<u8> build_hpet() {
    Table table("HPET", 1);
    table.u32_(devices::Hpet::kIdentity);
    table.u8_(0);  // generic address: memory
    table.u8_(64);
    table.u8_(0);
    table.u8_(0);
    table.u64_(devices::Hpet::kBase);
    table.u8_(0);   // number
    table.u16_(128);  // shortest period that loses no interrupt, in ticks
    table.u8_(0);
    return table.finish();
}

std::vector<u8> build_dsdt(const AcpiOptions& options) {
    Aml aml;
    aml.name_package("\\_S5", {board::kSleepTypeS5, 0, 0, 0});
    if (options.pci && options.pci->isa[0][0] != 0) {
        aml.name("\\PICF", u64{0});
        aml.method("\\_PIC", 1, [](Aml& m) {
            m.store([](Aml& a) { a.argument(0); }, [](Aml& a) { a.named("\\PICF"); });
        });
    }
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
        if (options.has_pic) {
            sb.device("KBD0", [](Aml& keyboard) {
                keyboard.name_eisa("_HID", "PNP0303");
                keyboard.resources([](Aml& r) {
                    r.io(devices::I8042::kDataPort, 1);
                    r.io(devices::I8042::kCommandPort, 1);
                    r.interrupt(1);
                });
            });
            sb.device("MOU0", [](Aml& mouse) {
                mouse.name_eisa("_HID", "PNP0F13");
                mouse.resources([](Aml& r) { r.interrupt(12); });
            });
        }
        if (options.hpet) {
            sb.device("HPET", [](Aml& hpet) {
                hpet.name_eisa("_HID", "PNP0103");
                hpet.name("_UID", u64{0});
                hpet.resources([](Aml& r) { r.fixed_memory(static_cast<u32>(devices::Hpet::kBase), 0x400); });
            });
        }
        if (options.pci) add_pci_root(sb, options);
        if (!options.vmbus || options.pci) return;
        sb.device("VMOD", [&](Aml& module) {
            module.name("_HID", "ACPI0004");
            module.name("_UID", u64{0});
            module.resources([&](Aml& r) {
                r.qword_memory(board::kLowGapBase, board::kLowMmioSize);
                r.qword_memory(align_up(options.memory_top, u64{1} << 30), board::kHighMmioSize);
            });
            add_vmbus(module);
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

std::vector<u8> build_fadt(u64 facs, u64 dsdt, const AcpiOptions& options) {
    const bool has_8042 = options.has_pic;
    const u16 base = options.pm_base, control = static_cast<u16>(base + 4), timer = static_cast<u16>(base + 8);
    Table table("FACP", 6);
    table.u32_(static_cast<u32>(facs));
    table.u32_(static_cast<u32>(dsdt));
    table.u8_(0);
    table.u8_(0);  // preferred profile: unspecified
    table.u16_(board::kSciIrq);
    table.u32_(0);  // no SMI: ACPI is always on
    for (unsigned i = 0; i < 4; ++i) table.u8_(0);
    table.u32_(base);
    table.u32_(0);
    table.u32_(control);
    table.u32_(0);
    table.u32_(0);
    table.u32_(timer);
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
    // IA-PC boot architecture: no legacy devices to probe, an 8042, no VGA
    table.u16_(static_cast<u16>((options.vga ? 0 : 1 << 2) | (has_8042 ? 1 << 1 : 0)));
    table.u8_(0);
    // WBINVD, C1, no power button, no sleep button, reset register, 32-bit PM timer
    table.u32_((1 << 0) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 10));
    table.io_address(board::kResetPort, 8, 1);
    table.u8_(board::kResetValue);
    table.u16_(0);
    table.u8_(4);  // minor version
    table.u64_(0);  // 64-bit FACS pointer: the 32-bit one is used
    table.u64_(dsdt);
    table.io_address(base, 32, 2);
    table.null_address();
    table.io_address(control, 16, 2);
    table.null_address();
    table.null_address();
    table.io_address(timer, 32, 3);
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
    const u64 fadt = place("FACP", build_fadt(facs, dsdt, options));
    const u64 madt = place("APIC", build_madt(options));
    std::vector<u64> roots = {fadt, madt};
    if (options.pci && options.pci->ecam.size != 0) roots.push_back(place("MCFG", build_mcfg(*options.pci)));
    if (options.hpet) roots.push_back(place("HPET", build_hpet()));
    if (options.dmar) roots.push_back(place("DMAR", build_dmar(*options.dmar)));
    Table xsdt_table("XSDT", 1);
    for (const u64 root : roots) xsdt_table.u64_(root);
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
