#include "ui/model/vp_registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/control_registers.h"
#include "hv/vp_registers.h"
#include "machine/config.h"

namespace vg::model {
namespace {

using cpu::VpState;

/// A register that is bytes of the state page.
struct Row {
    std::string name;
    std::size_t offset = 0;
    unsigned size = 8;  ///< bytes
    bool writable = true;
};

constexpr std::string_view kGprNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr std::string_view kSegNames[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

#define VG_FIELD(name, field) \
    Row { name, offsetof(VpState, field), sizeof(VpState::field) }

void add_system_rows(std::vector<Row>& rows) {
    for (Row& row : std::vector<Row>{
             VG_FIELD("gdtr.base", gdtr.base), VG_FIELD("gdtr.limit", gdtr.limit), VG_FIELD("idtr.base", idtr.base),
             VG_FIELD("idtr.limit", idtr.limit), VG_FIELD("cr0", cr0), VG_FIELD("cr2", cr2), VG_FIELD("cr3", cr3),
             VG_FIELD("cr4", cr4)})
        rows.push_back(std::move(row));
    rows.push_back({"cr8", 0, 0});  // the APIC's
    for (const unsigned i : {0u, 1u, 2u, 3u, 6u, 7u})
        rows.push_back({fmt::format("dr{}", i), offsetof(VpState, dr) + i * 8, 8});
    const std::size_t fs = offsetof(VpState, seg) + 4 * sizeof(cpu::SegmentReg);
    const std::size_t gs = offsetof(VpState, seg) + 5 * sizeof(cpu::SegmentReg);
    rows.push_back({"fs_base", fs + offsetof(cpu::SegmentReg, base), 8});
    rows.push_back({"gs_base", gs + offsetof(cpu::SegmentReg, base), 8});
    for (Row& row : std::vector<Row>{
             VG_FIELD("kernel_gs_base", kernel_gs_base), VG_FIELD("efer", efer), VG_FIELD("star", star),
             VG_FIELD("lstar", lstar), VG_FIELD("cstar", cstar), VG_FIELD("sfmask", sfmask),
             VG_FIELD("sysenter_cs", sysenter_cs), VG_FIELD("sysenter_esp", sysenter_esp),
             VG_FIELD("sysenter_eip", sysenter_eip), VG_FIELD("pat", pat), VG_FIELD("tsc_aux", tsc_aux),
             VG_FIELD("apic_base", apic_base), VG_FIELD("xcr0", xcr0), VG_FIELD("pkru", pkru)})
        rows.push_back(std::move(row));
}

void add_vector_rows(std::vector<Row>& rows) {
    for (unsigned i = 0; i < 8; ++i) rows.push_back({fmt::format("st{}", i), offsetof(VpState, x87.st) + i * 16, 10});
    for (Row& row : std::vector<Row>{VG_FIELD("fcw", x87.fcw), VG_FIELD("fsw", x87.fsw), VG_FIELD("ftw", x87.ftw),
                                     VG_FIELD("fop", x87.fop), VG_FIELD("fip", x87.fip), VG_FIELD("fdp", x87.fdp),
                                     VG_FIELD("mxcsr", mxcsr)})
        rows.push_back(std::move(row));
    for (unsigned i = 0; i < 16; ++i) rows.push_back({fmt::format("ymm{}", i), offsetof(VpState, ymm) + i * 32, 32});
}

std::vector<Row> make_rows() {
    std::vector<Row> rows;
    for (unsigned i = 0; i < 16; ++i)
        rows.push_back({std::string(kGprNames[i]), offsetof(VpState, gpr) + i * 8, 8});
    rows.push_back(VG_FIELD("rip", rip));
    rows.push_back(VG_FIELD("rflags", rflags));
    for (unsigned i = 0; i < 8; ++i) {
        const std::size_t at = offsetof(VpState, seg) + i * sizeof(cpu::SegmentReg);
        const std::string name(kSegNames[i]);
        rows.push_back({name, at + offsetof(cpu::SegmentReg, selector), 2});
        rows.push_back({name + ".base", at + offsetof(cpu::SegmentReg, base), 8});
        rows.push_back({name + ".limit", at + offsetof(cpu::SegmentReg, limit), 4});
        rows.push_back({name + ".attributes", at + offsetof(cpu::SegmentReg, attributes), 2});
    }
    rows.push_back({"cpl", offsetof(VpState, cpl), 1, false});
    add_system_rows(rows);
    add_vector_rows(rows);
    return rows;
}
#undef VG_FIELD

const std::vector<Row>& rows() {
    static const std::vector<Row> kRows = make_rows();
    return kRows;
}

std::string wide_text(const u8* bytes, unsigned size) {
    std::string out = "0x";
    for (unsigned i = size; i > 0; --i) out += fmt::format("{:02x}", bytes[i - 1]);
    return out;
}

/// A value of at most `size` bytes, least significant byte first; nothing: it is no number, or too large.
std::optional<std::string> value_bytes(const Json& value, unsigned size) {
    std::string digits;
    if (value.is_number_unsigned()) digits = fmt::format("{:x}", value.get<u64>());
    if (value.is_string()) {
        const auto& text = value.get_ref<const std::string&>();
        if (text.rfind("0x", 0) == 0) digits = text.substr(2);
        else if (const auto number = parse_number(text)) digits = fmt::format("{:x}", *number);
    }
    digits.erase(0, std::min(digits.find_first_not_of('0'), digits.empty() ? 0 : digits.size() - 1));
    if (digits.empty() || digits.size() > size * 2) return std::nullopt;
    auto bytes = parse_hex_bytes(digits.size() % 2 != 0 ? "0" + digits : digits);
    if (!bytes) return std::nullopt;
    std::reverse(bytes->begin(), bytes->end());
    bytes->resize(size);
    return bytes;
}

bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

/// What is wrong with the state as a whole; "": nothing. Bits that do not exist and could be dropped are.
std::string settle(cpu::Vp& vp) {
    using namespace cpu;
    VpState& s = vp.state();
    constexpr u64 kFlags = flag::Status | flag::TF | flag::IF | flag::DF | flag::IOPL | flag::NT | flag::RF | flag::VM |
                           flag::AC | flag::VIF | flag::VIP | flag::ID;
    constexpr u64 kCr0 = cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW |
                         cr0::CD | cr0::PG;
    u64 efer_bits = efer::SCE | efer::LME | efer::LMA | efer::NXE;
    if (vp.model().vendor() == Vendor::Amd) efer_bits |= efer::FFXSR | efer::SVME;
    s.rflags = (s.rflags & kFlags) | flag::Always1;
    s.dr[6] = (s.dr[6] & 0xe00f) | 0xffff0ff0;
    s.dr[7] = (s.dr[7] & 0xffff2bff) | 0x400;
    s.x87.fcw = static_cast<u16>((s.x87.fcw & 0x1f7f) | 0x40);
    s.x87.fop &= 0x7ff;
    if ((s.cr0 & ~kCr0) != 0) return "cr0 has bits that do not exist";
    if ((s.cr4 & ~cr4_mask(vp.model())) != 0) return "cr4 has bits that this processor does not have";
    if ((s.efer & ~efer_bits) != 0) return "efer has bits that this processor does not have";
    if ((s.mxcsr & ~u32{0xffff}) != 0) return "mxcsr has bits that do not exist";
    for (const SegmentReg& segment : s.seg)
        if (!canonical(segment.base)) return "a segment's base is not canonical";
    for (const u64 address : {s.gdtr.base, s.idtr.base, s.kernel_gs_base, s.lstar, s.cstar, s.sysenter_eip, s.sysenter_esp})
        if (!canonical(address)) return "an address is not canonical";
    if (!hv::registers_consistent(vp)) return "cr0, cr4, efer, cs and rip do not go together";
    return {};
}

/// "cr8", "xcr0", "apic_base": registers whose writes have conditions of their own. Nothing: not one of these.
std::optional<bool> write_special(cpu::Vp& vp, std::string_view name, u64 value) {
    if (name == "cr8") {
        if (value <= 15) vp.apic().set_tpr(static_cast<u8>(value << 4));
        return value <= 15;
    }
    if (name == "xcr0") return cpu::write_xcr0(vp, value) == cpu::Exec::Next;
    if (name == "apic_base") return vp.apic().write_base(value);
    return std::nullopt;
}

u64 number_of(const std::string& bytes) {
    u64 number = 0;
    std::memcpy(&number, bytes.data(), std::min(bytes.size(), sizeof number));
    return number;
}

struct Write {
    const Row* row;
    std::string bytes;
};

Result<std::vector<Write>> parse_writes(const Json& values) {
    std::vector<Write> writes;
    for (const auto& [name, value] : values.items()) {
        const auto row = std::find_if(rows().begin(), rows().end(), [&name = name](const Row& r) { return r.name == name; });
        if (row == rows().end()) {
            std::vector<std::string> known;
            for (const Row& each : rows()) known.push_back(each.name);
            const std::string near = machine::nearest_name(name, known);
            return fail(Error::Code::Usage, fmt::format("there is no register \"{}\"{}", name,
                                                        near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
        }
        if (!row->writable) return fail(Error::Code::Usage, fmt::format("{} follows from other registers", name));
        auto bytes = value_bytes(value, row->size == 0 ? 8 : row->size);
        if (!bytes) return fail(Error::Code::Usage, fmt::format("the value of {} is no number of {} bytes", name, row->size));
        writes.push_back({&*row, std::move(*bytes)});
    }
    return writes;
}

}  // namespace

Json read_registers(cpu::Vp& vp) {
    const u8* state = reinterpret_cast<const u8*>(&vp.state());
    Json out = Json::object();
    for (const Row& row : rows()) {
        if (row.size > 8) {
            out[row.name] = wide_text(state + row.offset, row.size);
            continue;
        }
        u64 value = 0;
        if (row.size == 0) value = vp.apic().tpr() >> 4;
        else std::memcpy(&value, state + row.offset, row.size);
        out[row.name] = hex(value);
    }
    return out;
}

Result<void> write_registers(cpu::Vp& vp, const Json& values) {
    const auto writes = parse_writes(values);
    if (!writes) return Unexpected{writes.error()};
    const auto saved = std::make_unique<VpState>(vp.state());
    const u8 tpr = vp.apic().tpr();
    std::string wrong;
    for (const Write& write : *writes) {
        if (const auto done = write_special(vp, write.row->name, number_of(write.bytes))) {
            if (!*done) wrong = fmt::format("this processor refuses that value of {}", write.row->name);
        } else {
            std::memcpy(reinterpret_cast<u8*>(&vp.state()) + write.row->offset, write.bytes.data(), write.row->size);
        }
    }
    if (wrong.empty()) wrong = settle(vp);
    if (!wrong.empty()) {
        std::memcpy(&vp.state(), saved.get(), sizeof(VpState));
        vp.apic().set_tpr(tpr);
    }
    hv::settle_registers(vp);
    vp.update_apic_page();
    if (!wrong.empty()) return fail(Error::Code::Usage, wrong + "; nothing was changed");
    return {};
}

}  // namespace vg::model
