// Bytes to Insn. SDM 2A "Instruction Format" is the grammar; the opcode maps are data (cpu/isa).
#include "cpu/decode.h"

#include <algorithm>
#include <cstring>

#include "base/bits.h"
#include "cpu/isa/dispatch.h"

namespace vg::cpu {

namespace {

const Dispatch& dispatch() {
    static const Dispatch table;
    return table;
}

/// The lowest `size` bytes.
constexpr u64 truncate(u64 value, unsigned size) { return value & low_mask(8 * size); }

class Decoder {
  public:
    Decoder(std::span<const u8> bytes, CodeMode mode, Insn& out)
        : data_(bytes.data()),
          available_(bytes.size()),
          limit_(static_cast<unsigned>(std::min<std::size_t>(bytes.size(), kMaxInsnLength))),
          in64_(mode == CodeMode::Bits64),
          out_(out) {
        out_ = Insn{};
        out_.mode = mode;
    }

    DecodeStatus run() {
        const bool ok = prefixes() && opcode() && find_row() && fields_fit() && memory() && operands();
        out_.length = static_cast<u8>(pos_);
        if (!ok) return status_;
        copy_bytes();
        return DecodeStatus::Ok;
    }

  private:
    // ---- bytes
    bool fail(DecodeStatus status) {
        status_ = status;
        return false;
    }
    bool invalid() { return fail(DecodeStatus::Invalid); }
    bool have(unsigned count) {
        if (pos_ + count <= limit_) return true;
        pos_ = limit_;
        return fail(limit_ == kMaxInsnLength ? DecodeStatus::TooLong : DecodeStatus::Truncated);
    }
    bool take(u8& byte) {
        if (!have(1)) return false;
        byte = data_[pos_++];
        return true;
    }
    /// Little-endian value of 1, 2, 4 or 8 bytes, zero-extended. One load where eight bytes are there anyway.
    bool take(unsigned size, u64& value) {
        if (!have(size)) return false;
        value = 0;
        if (pos_ + sizeof value <= available_) {
            std::memcpy(&value, data_ + pos_, sizeof value);
            value = truncate(value, size);
        } else {
            std::memcpy(&value, data_ + pos_, size);
        }
        pos_ += size;
        return true;
    }
    void copy_bytes() {
        if (available_ < kMaxInsnLength) {
            std::memcpy(out_.bytes, data_, pos_);
            return;
        }
        u64 low = 0;
        u64 high = 0;  // bytes 7 to 14
        std::memcpy(&low, data_, 8);
        std::memcpy(&high, data_ + 7, 8);
        low = truncate(low, std::min(pos_, 8u));
        high = truncate(high >> 8, pos_ > 8 ? pos_ - 8 : 0);
        std::memcpy(out_.bytes, &low, 8);
        std::memcpy(out_.bytes + 8, &high, 7);
    }

    // ---- the parts of an instruction, in order
    bool prefixes();
    bool opcode();
    bool vex(u8 first);
    bool find_row();
    bool fields_fit();
    void set_operand_size();
    bool memory();
    void memory16(unsigned mod, unsigned rm, unsigned& disp_size);
    bool memory32(unsigned mod, unsigned rm, unsigned& disp_size);
    bool displacement(unsigned size);
    bool operands();
    bool operand(const OperandSpec& spec, Operand& o);
    bool register_operand(const OperandSpec& spec, Operand& o, unsigned number);
    void memory_operand(const OperandSpec& spec, Operand& o);
    void implicit_memory(const OperandSpec& spec, Operand& o, u8 base);
    bool immediate(const OperandSpec& spec, Operand& o);
    bool far_pointer(Operand& o);
    bool absolute(const OperandSpec& spec, Operand& o);

    [[nodiscard]] unsigned bytes_of(Size size) const;
    [[nodiscard]] unsigned rare_bytes_of(Size size) const;
    [[nodiscard]] unsigned mod() const { return out_.modrm >> 6; }
    [[nodiscard]] bool rex_w() const { return (out_.rex & 8) != 0; }
    [[nodiscard]] unsigned rex_r() const { return (out_.rex & 4u) << 1; }
    [[nodiscard]] unsigned rex_x() const { return (out_.rex & 2u) << 2; }
    [[nodiscard]] unsigned rex_b() const { return (out_.rex & 1u) << 3; }
    [[nodiscard]] bool wide_y() const { return in64_ && rex_w(); }

    const u8* data_;
    std::size_t available_;
    unsigned limit_;  ///< of the instruction: at most 15
    unsigned pos_ = 0;
    bool in64_;
    Insn& out_;
    DecodeStatus status_ = DecodeStatus::Ok;

    OpcodeMap map_ = OpcodeMap::One;
    u8 opcode_ = 0;
    bool prefix_66_ = false;
    u8 repeat_ = 0;  ///< the last of F2 and F3
    u8 vex_pp_ = 0;
    u8 vex_vvvv_ = 0;  ///< not inverted
    Seg override_ = Seg::None;
    const Encoding* encoding_ = nullptr;
    bool memory_form_ = false;
};

bool Decoder::prefixes() {
    bool prefix_67 = false;
    for (u8 byte = 0;;) {
        if (!take(byte)) return false;
        switch (byte) {
            case 0x66:
                prefix_66_ = true;
                break;
            case 0x67:
                prefix_67 = true;
                break;
            case 0xf2:
            case 0xf3:
                repeat_ = byte;
                break;
            case 0xf0:
                out_.lock = true;
                break;
            case 0x26:
            case 0x2e:
            case 0x36:
            case 0x3e:
                // "In 64-bit mode, the CS, DS, ES and SS segment overrides are ignored": an FS or GS stays.
                if (!in64_) override_ = static_cast<Seg>(byte >> 3 & 3);
                break;
            case 0x64:
            case 0x65:
                override_ = byte == 0x64 ? Seg::FS : Seg::GS;
                break;
            default:
                if (in64_ && (byte & 0xf0) == 0x40) {
                    out_.rex = byte;
                    continue;  // REX counts only directly before the opcode
                }
                --pos_;
                out_.prefix_count = static_cast<u8>(out_.rex != 0 ? pos_ - 1 : pos_);
                if (in64_)
                    out_.addr_size = prefix_67 ? 4 : 8;
                else
                    out_.addr_size = (out_.mode == CodeMode::Bits32) != prefix_67 ? 4 : 2;
                return true;
        }
        out_.rex = 0;
    }
}

bool Decoder::opcode() {
    u8 byte = 0;
    if (!take(byte)) return false;
    if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
        // Outside 64-bit mode these are LES, LDS and BOUND unless the next byte looks like a register form.
        if (!in64_ && !have(1)) return false;
        if (in64_ || data_[pos_] >= 0xc0) return vex(byte);
    }
    if (byte == 0x0f) {
        map_ = OpcodeMap::M0F;
        if (!take(byte)) return false;
        if (byte == 0x38 || byte == 0x3a) {
            map_ = byte == 0x38 ? OpcodeMap::M0F38 : OpcodeMap::M0F3A;
            if (!take(byte)) return false;
        }
    }
    opcode_ = byte;
    out_.opcode_offset = static_cast<u8>(pos_ - 1);
    return true;
}

bool Decoder::vex(u8 first) {
    if (first == 0x62) return invalid();  // EVEX
    if (prefix_66_ || repeat_ != 0 || out_.lock || out_.rex != 0) return invalid();
    u8 a = 0;
    u8 b = 0;
    unsigned map = 1;
    if (!take(a)) return false;
    unsigned rxb = 0;  // inverted in the prefix
    if (first == 0xc5) {
        b = a & 0x7f;
        rxb = static_cast<unsigned>(~a >> 5) & 4;
    } else {
        if (!take(b)) return false;
        map = a & 0x1f;
        rxb = static_cast<unsigned>(~a >> 5) & 7;
    }
    if (map < 1 || map > 3) return invalid();
    map_ = map == 1 ? OpcodeMap::Vex0F : map == 2 ? OpcodeMap::Vex0F38 : OpcodeMap::Vex0F3A;
    out_.vex = first == 0xc5 ? 2 : 3;
    out_.vex_l = b >> 2 & 1;
    vex_pp_ = b & 3;
    vex_vvvv_ = static_cast<u8>(~b >> 3 & 15);
    if (!in64_) rxb = 0;
    out_.rex = static_cast<u8>(0x40 | rxb | (b >> 4 & 8));
    if (!take(opcode_)) return false;
    out_.opcode_offset = static_cast<u8>(pos_ - 1);
    return true;
}

bool Decoder::find_row() {
    const Dispatch& table = dispatch();
    const Dispatch::Slot& slot = table.slot(map_, opcode_);
    if (!slot.used) return invalid();
    if (slot.has_modrm) {
        if (!take(out_.modrm)) return false;
        out_.has_modrm = true;
        out_.modrm_offset = static_cast<u8>(pos_ - 1);
    }
    DispatchKey key;
    // VEX.pp orders the prefixes 66, F3, F2 as the key does.
    if (out_.vex != 0)
        key.prefix = vex_pp_;
    else
        key.prefix = repeat_ != 0 ? (repeat_ == 0xf3 ? 2 : 3) : prefix_66_ ? 1 : 0;
    key.reg = out_.modrm >> 3 & 7;
    key.rm = out_.modrm & 7;
    key.register_form = mod() == 3;
    key.w = rex_w();
    key.b = rex_b() != 0;
    key.l = out_.vex_l != 0;
    key.in64 = in64_;
    set_operand_size();
    key.operand_size = out_.op_size;
    key.address_size = out_.addr_size;
    out_.row = table.find(slot, key);
    if (out_.row == 0) return invalid();
    encoding_ = &encodings()[out_.row];
    out_.op = encoding_->row.op;
    if (encoding_->consumes_66 || encoding_->row.has(attr::Force64 | attr::Default64)) set_operand_size();
    return true;
}

/// SDM 1 "Operand-Size and Address-Size Attributes"; before the row is known as if it had no attributes.
void Decoder::set_operand_size() {
    const u32 attributes = encoding_ != nullptr ? encoding_->row.attributes : 0;
    const bool small = prefix_66_ && !(encoding_ != nullptr && encoding_->consumes_66);
    if (out_.vex != 0) {
        out_.op_size = wide_y() ? 8 : 4;
    } else if (in64_) {
        if (rex_w() || (attributes & attr::Force64) != 0)
            out_.op_size = 8;
        else if (small)
            out_.op_size = 2;
        else
            out_.op_size = (attributes & attr::Default64) != 0 ? 8 : 4;
    } else {
        out_.op_size = (out_.mode == CodeMode::Bits32) != small ? 4 : 2;
    }
}

/// Rules that concern the row as a whole: LOCK, VEX.vvvv, VSIB.
bool Decoder::fields_fit() {
    const Row& r = encoding_->row;
    memory_form_ = out_.has_modrm && mod() != 3 && !encoding_->register_only;
    if (out_.lock && !(r.has(attr::Lockable) && memory_form_)) return invalid();
    if (out_.vex != 0 && !encoding_->uses_vvvv && vex_vvvv_ != 0) return invalid();
    // "VSIB requires a SIB byte"; it does not exist with 16-bit addressing. SDM 2A "Vector SIB (VSIB) Memory
    // Addressing"
    if (r.has(attr::Vsib) && (out_.addr_size == 2 || (out_.modrm & 7) != 4)) return invalid();
    if (r.has(attr::String)) out_.rep = repeat_ == 0xf3 ? Rep::Repe : repeat_ == 0xf2 ? Rep::Repne : Rep::None;
    return true;
}

bool Decoder::memory() {
    out_.seg = Seg::DS;
    if (memory_form_) {
        unsigned disp_size = 0;
        const unsigned rm = out_.modrm & 7;
        if (out_.addr_size == 2)
            memory16(mod(), rm, disp_size);
        else if (!memory32(mod(), rm, disp_size))
            return false;
        if (!displacement(disp_size)) return false;
    }
    if (override_ != Seg::None) {
        out_.seg = override_;
        out_.seg_override = true;
    }
    return true;
}

/// SDM 2A "16-Bit Addressing Forms with the ModR/M Byte".
void Decoder::memory16(unsigned mod, unsigned rm, unsigned& disp_size) {
    struct Form {
        u8 base, index;
    };
    constexpr Form kForms[8] = {{RBX, RSI},    {RBX, RDI},    {RBP, RSI},    {RBP, RDI},
                                {RSI, kNoReg}, {RDI, kNoReg}, {RBP, kNoReg}, {RBX, kNoReg}};
    out_.base = kForms[rm].base;
    out_.index = kForms[rm].index;
    disp_size = mod;  // 0, 1 or 2 bytes
    if (mod == 0 && rm == 6) {
        out_.base = kNoReg;
        disp_size = 2;
    }
    if (out_.base == RBP) out_.seg = Seg::SS;
}

/// SDM 2A "32-Bit Addressing Forms with the ModR/M Byte", with REX and RIP-relative addressing.
bool Decoder::memory32(unsigned mod, unsigned rm, unsigned& disp_size) {
    disp_size = mod == 2 ? 4 : mod;
    unsigned base = rm;
    if (rm == 4) {
        u8 sib = 0;
        if (!take(sib)) return false;
        base = sib & 7;
        const unsigned index = (sib >> 3 & 7) | rex_x();
        if (index != 4 || encoding_->row.has(attr::Vsib)) {
            out_.index = static_cast<u8>(index);
            out_.scale = static_cast<u8>(1 << (sib >> 6));
        }
    }
    if (mod == 0 && base == 5) {
        disp_size = 4;
        if (rm == 5 && in64_) out_.base = kRipBase;
        return true;
    }
    out_.base = static_cast<u8>(base | rex_b());
    if (out_.base == RSP || out_.base == RBP) out_.seg = Seg::SS;
    return true;
}

bool Decoder::displacement(unsigned size) {
    if (size == 0) return true;
    out_.disp_offset = static_cast<u8>(pos_);
    out_.disp_size = static_cast<u8>(size);
    u64 value = 0;
    if (!take(size, value)) return false;
    out_.disp = static_cast<s64>(sign_extend(value, 8 * size));
    return true;
}

inline unsigned Decoder::bytes_of(Size size) const {
    if (size.rule == SizeRule::V) return out_.op_size;
    if (size.rule == SizeRule::Fixed) return size.bytes;
    return rare_bytes_of(size);
}

unsigned Decoder::rare_bytes_of(Size size) const {
    const unsigned vector = out_.vex_l != 0 ? 32 : 16;
    switch (size.rule) {
        case SizeRule::Fixed:
            return size.bytes;
        case SizeRule::V:
            return out_.op_size;
        case SizeRule::Z:
            return std::min<unsigned>(out_.op_size, 4);
        case SizeRule::Y:
            return wide_y() ? 8 : 4;
        case SizeRule::Nat:
            return in64_ ? 8 : 4;
        case SizeRule::X:
            return vector;
        case SizeRule::Half:
            return vector / 2;
        case SizeRule::Quarter:
            return vector / 4;
        case SizeRule::Eighth:
            return vector / 8;
        case SizeRule::Far:
            return 2u + out_.op_size;
        case SizeRule::Table:
            return in64_ ? 10 : 6;
        case SizeRule::Pair:
            return 2u * out_.op_size;
    }
    return 0;
}

bool Decoder::operands() {
    out_.operand_count = encoding_->operand_count;
    const auto specs = operand_specs();
    for (unsigned n = 0; n < out_.operand_count; ++n)
        if (!operand(specs[static_cast<unsigned>(encoding_->operands[n])], out_.operands[n])) return false;
    return true;
}

bool Decoder::operand(const OperandSpec& spec, Operand& o) {
    const unsigned rm = (out_.modrm & 7u) | rex_b();
    switch (spec.source) {
        case OperandSource::None:
            return true;
        case OperandSource::Reg:
            return register_operand(spec, o, (out_.modrm >> 3 & 7u) | rex_r());
        case OperandSource::Rm:
            if (!memory_form_) return register_operand(spec, o, rm);
            memory_operand(spec, o);
            return true;
        case OperandSource::RmRegister:
        case OperandSource::RmAlways:
            return register_operand(spec, o, rm);
        case OperandSource::RmMemory:
        case OperandSource::RmVsib:
            memory_operand(spec, o);
            return true;
        case OperandSource::Vvvv:
            return register_operand(spec, o, in64_ ? vex_vvvv_ : vex_vvvv_ & 7u);
        case OperandSource::OpcodeLow:
            return register_operand(spec, o, (opcode_ & 7u) | rex_b());
        case OperandSource::Fixed0:
        case OperandSource::Fixed1:
        case OperandSource::Fixed2:
        case OperandSource::Fixed3:
        case OperandSource::Fixed4:
        case OperandSource::Fixed5:
            return register_operand(spec, o,
                                    static_cast<unsigned>(spec.source) - static_cast<unsigned>(OperandSource::Fixed0));
        case OperandSource::Immediate:
        case OperandSource::SignedByte:
        case OperandSource::Immediate2:
        case OperandSource::Relative:
        case OperandSource::Is4:
            return immediate(spec, o);
        case OperandSource::Constant1:
            o = {OperandKind::Implicit1, 0, 1, false};
            return true;
        case OperandSource::FarPointer:
            return far_pointer(o);
        case OperandSource::Offset:
            return absolute(spec, o);
        case OperandSource::StringSource:
            implicit_memory(spec, o, RSI);
            return true;
        case OperandSource::Translate:
            implicit_memory(spec, o, RBX);
            return true;
        case OperandSource::StringDestination:
            implicit_memory(spec, o, RDI);
            return true;
    }
    return true;
}

bool Decoder::register_operand(const OperandSpec& spec, Operand& o, unsigned number) {
    o.size = static_cast<u8>(bytes_of(spec.register_size));
    o.reg = static_cast<u8>(number);
    switch (spec.file) {
        case RegisterFile::Gpr:
            o.kind = OperandKind::Gpr;
            if (o.size == 1 && out_.rex == 0 && number >= 4) {
                o.high = true;
                o.reg = static_cast<u8>(number - 4);
            }
            return true;
        case RegisterFile::Seg:
            o.kind = OperandKind::Seg;
            o.reg &= 7;
            return true;
        case RegisterFile::Cr:
            // "Attempts to reference CR1, CR5, CR6, CR7, and CR9-CR15 result in undefined opcode (#UD) exceptions."
            o.kind = OperandKind::Cr;
            return (number < 16 && (0x011du >> number & 1) != 0) || invalid();
        case RegisterFile::Dr:
            o.kind = OperandKind::Dr;
            return number < 8 || invalid();
        case RegisterFile::St:
            o.kind = OperandKind::St;
            o.reg &= 7;
            return true;
        case RegisterFile::Mm:
            o.kind = OperandKind::Mm;
            o.reg &= 7;
            return true;
        case RegisterFile::Xmm:
            o.kind = OperandKind::Xmm;
            return true;
        case RegisterFile::Ymm:
            o.kind = OperandKind::Ymm;
            return true;
        case RegisterFile::Vector:
            o.kind = out_.vex_l != 0 ? OperandKind::Ymm : OperandKind::Xmm;
            return true;
        case RegisterFile::None:
            break;
    }
    return true;
}

void Decoder::memory_operand(const OperandSpec& spec, Operand& o) {
    o.kind = OperandKind::Mem;
    o.size = static_cast<u8>(bytes_of(spec.memory_size));
}

/// Operands of string instructions and XLAT. The record has one memory descriptor: the source's, if there are two;
/// the destination is always ES:rDI and cannot be overridden.
void Decoder::implicit_memory(const OperandSpec& spec, Operand& o, u8 base) {
    memory_operand(spec, o);
    if (base != RDI) {
        out_.base = base;
        out_.seg_override = override_ != Seg::None;
        out_.seg = out_.seg_override ? override_ : Seg::DS;
    } else if (out_.base == kNoReg) {
        out_.base = base;
        out_.seg = Seg::ES;
        out_.seg_override = false;
    }
}

bool Decoder::immediate(const OperandSpec& spec, Operand& o) {
    const unsigned encoded = bytes_of(spec.memory_size);
    const unsigned offset = pos_;
    u64 raw = 0;
    if (!take(encoded, raw)) return false;
    o.size = static_cast<u8>(bytes_of(spec.register_size));
    if (spec.source == OperandSource::Immediate2) {
        o.kind = OperandKind::Imm2;
        out_.imm2 = raw;
        return true;
    }
    out_.imm_offset = static_cast<u8>(offset);
    out_.imm_size = static_cast<u8>(encoded);
    if (spec.source == OperandSource::Relative) {
        o.kind = OperandKind::Rel;
        out_.imm = sign_extend(raw, 8 * encoded);
    } else if (spec.source == OperandSource::Is4) {
        out_.imm = raw;
        return register_operand(spec, o, static_cast<unsigned>(in64_ ? raw >> 4 : raw >> 4 & 7));
    } else {
        o.kind = OperandKind::Imm;
        out_.imm = truncate(sign_extend(raw, 8 * encoded), o.size);
    }
    return true;
}

bool Decoder::far_pointer(Operand& o) {
    o.kind = OperandKind::FarPtr;
    o.size = static_cast<u8>(out_.op_size + 2);
    out_.imm_offset = static_cast<u8>(pos_);
    out_.imm_size = out_.op_size;
    return take(out_.op_size, out_.imm) && take(2, out_.imm2);
}

bool Decoder::absolute(const OperandSpec& spec, Operand& o) {
    memory_operand(spec, o);
    out_.disp_offset = static_cast<u8>(pos_);
    out_.disp_size = out_.addr_size;
    u64 value = 0;
    if (!take(out_.addr_size, value)) return false;
    out_.disp = static_cast<s64>(value);
    return true;
}

}  // namespace

DecodeStatus decode(std::span<const u8> bytes, CodeMode mode, Insn& out) { return Decoder(bytes, mode, out).run(); }

}  // namespace vg::cpu
