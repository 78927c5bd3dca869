#include "cpu/native_stub.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "cpu/decode.h"

namespace vg::cpu {

namespace {

constexpr u8 kRexW = 8, kRexR = 4, kRexB = 1;
constexpr u8 kSlotReg = RCX, kSlotRm = RDX, kMemoryBase = RSI;
constexpr std::size_t kMaxStubSize = 768;  // 16 loads and stores of 8 bytes, and what is around them

bool takes_lengths(Op op) {
    switch (op) {
        case Op::PCMPESTRM: case Op::PCMPESTRI: case Op::VPCMPESTRM: case Op::VPCMPESTRI:
        case Op::PCMPISTRM: case Op::PCMPISTRI: case Op::VPCMPISTRM: case Op::VPCMPISTRI: return true;
        default: return false;
    }
}

/// The instruction re-encoded for 64-bit mode with our registers.
struct Encoding {
    u8 bytes[16] = {};
    u8 size = 0;
    void put(u8 byte) { bytes[size++] = byte; }
};

/// Which operands are general registers in ModRM fields: found by decoding the same bytes with another ModRM.reg.
void locate_registers(const Insn& i, HostStub& stub) {
    if (!i.has_modrm || takes_lengths(i.op)) return;
    u8 bytes[kMaxInsnLength];
    std::memcpy(bytes, i.bytes, sizeof bytes);
    bytes[i.modrm_offset] = static_cast<u8>(i.modrm ^ 8);
    Insn other;
    const bool ok = decode({bytes, i.length}, i.mode, other) == DecodeStatus::Ok && other.op == i.op;
    for (unsigned n = 0; n < i.operand_count; ++n) {
        if (i[n].kind != OperandKind::Gpr) continue;
        if (ok && other[n].reg != i[n].reg)
            stub.reg_operand = static_cast<s8>(n);
        else
            stub.rm_operand = static_cast<s8>(n);
    }
}

/// VEX.W selects a general register's size here, and is ignored outside 64-bit mode.
bool w_is_register_size(const Row& r) {
    if (r.map == OpcodeMap::Vex0F)
        return r.opcode == 0x6e || r.opcode == 0x7e || (r.opcode >= 0x2a && r.opcode <= 0x2d);
    return r.map == OpcodeMap::Vex0F3A && (r.opcode == 0x16 || r.opcode == 0x22);
}

struct Fields {
    u8 modrm;
    bool keep_r, keep_b;  ///< the register extension bits still apply
};

Fields new_modrm(const Insn& i, const HostStub& stub) {
    const bool memory = (i.modrm >> 6) != 3;
    const bool reg_replaced = stub.reg_operand >= 0, rm_replaced = memory || stub.rm_operand >= 0;
    const unsigned mod = memory ? 0 : 3;
    const unsigned reg = reg_replaced ? u8{kSlotReg} : (i.modrm >> 3) & 7u;
    const unsigned rm = memory ? u8{kMemoryBase} : stub.rm_operand >= 0 ? u8{kSlotRm} : i.modrm & 7u;
    return {static_cast<u8>(mod << 6 | reg << 3 | rm), !reg_replaced, !rm_replaced};
}

void put_vex(Encoding& out, const Insn& i, const Row& r, const Fields& fields) {
    const u8* vex = i.bytes + i.opcode_offset - i.vex;
    const bool long_mode = i.mode == CodeMode::Bits64;
    const auto register_bits = [&](u8 byte) {  // inverted: a set bit is no extension
        if (!long_mode || !fields.keep_r) byte |= 0x80;
        return byte;
    };
    u8 last = vex[i.vex - 1];
    if (i.vex == 2) last = register_bits(last);
    if (!long_mode) last |= 0x40;  // vvvv has three bits
    if (!long_mode && i.vex == 3 && w_is_register_size(r)) last &= 0x7f;
    out.put(vex[0]);
    if (i.vex == 3) {
        u8 middle = static_cast<u8>(register_bits(vex[1]) | 0x40);
        if (!long_mode || !fields.keep_b) middle |= 0x20;
        out.put(middle);
    }
    out.put(last);
}

void put_legacy_prefixes(Encoding& out, const Insn& i, const Fields& fields) {
    bool seen[3] = {};
    for (unsigned n = 0; n < i.prefix_count && n < kMaxInsnLength; ++n) {
        const u8 byte = i.bytes[n];
        if (byte != 0x66 && byte != 0xf2 && byte != 0xf3) continue;
        bool& already = seen[byte == 0x66 ? 0 : byte - 0xf1];
        if (already && byte == 0x66) continue;
        if (byte != 0x66) {  // of several repeat prefixes the last one counts
            if (already) continue;
            bool later = false;
            for (unsigned k = n + 1; k < i.prefix_count; ++k) later |= i.bytes[k] == 0xf2 || i.bytes[k] == 0xf3;
            if (later) continue;
        }
        already = true;
        out.put(byte);
    }
    u8 rex = i.rex & kRexW;
    if (fields.keep_r) rex |= i.rex & kRexR;
    if (fields.keep_b) rex |= i.rex & kRexB;
    if (i.rex != 0) out.put(0x40 | rex);
    const unsigned escapes = i.prefix_count + (i.rex != 0 ? 1u : 0u);
    for (unsigned n = escapes; n < i.opcode_offset; ++n) out.put(i.bytes[n]);
}

Encoding encode(const Insn& i, const Row& r, const HostStub& stub) {
    Encoding out;
    const Fields fields = i.has_modrm ? new_modrm(i, stub) : Fields{0, false, false};
    if (i.vex != 0)
        put_vex(out, i, r, fields);
    else
        put_legacy_prefixes(out, i, fields);
    out.put(i.bytes[i.opcode_offset]);
    if (i.has_modrm) out.put(fields.modrm);
    if (i.imm_size == 0) return out;
    const bool register_in_imm = r.map == OpcodeMap::Vex0F3A && r.opcode >= 0x4a && r.opcode <= 0x4c;
    for (unsigned n = i.imm_offset; n < i.length; ++n)
        out.put(register_in_imm && i.mode != CodeMode::Bits64 ? i.bytes[n] & 0x7f : i.bytes[n]);
    return out;
}

/// Vector registers that the operands name.
u16 vector_operands(const Insn& i) {
    unsigned mask = 0;
    for (unsigned n = 0; n < i.operand_count; ++n)
        if (i[n].kind == OperandKind::Xmm || i[n].kind == OperandKind::Ymm) mask |= 1u << i[n].reg;
    return static_cast<u16>(mask);
}

/// Emits into the writable view of a slab.
class Emitter {
  public:
    explicit Emitter(u8* at) : start_(at), at_(at) {}
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(at_ - start_); }

    void bytes(std::initializer_list<u8> list) {
        for (const u8 byte : list) *at_++ = byte;
    }
    void raw(const u8* data, std::size_t count) {
        std::memcpy(at_, data, count);
        at_ += count;
    }
    /// opcode /reg [rdi + offset of a frame field]
    void frame(std::initializer_list<u8> opcode, unsigned reg, std::size_t offset) {
        bytes(opcode);
        modrm(reg, RDI, offset);
    }
    void load(unsigned reg, std::size_t offset) { frame({0x48, 0x8b}, reg, offset); }
    void store(unsigned reg, std::size_t offset) { frame({0x48, 0x89}, reg, offset); }
    /// vmovdqu ymm, [base+offset] or the other way.
    void move_ymm(bool to_memory, unsigned ymm, unsigned base, std::size_t offset) {
        bytes({0xc5, static_cast<u8>(ymm < 8 ? 0xfe : 0x7e), static_cast<u8>(to_memory ? 0x7f : 0x6f)});
        modrm(ymm & 7, base, offset);
    }

  private:
    void modrm(unsigned reg, unsigned base, std::size_t offset) {
        *at_++ = static_cast<u8>(0x80 | reg << 3 | base);
        const u32 displacement = static_cast<u32>(offset);
        std::memcpy(at_, &displacement, sizeof displacement);
        at_ += sizeof displacement;
    }

    u8* start_;
    u8* at_;
};

struct Plan {
    u16 loads = 0;
    bool flags = false;
};

void emit(Emitter& e, const HostStub& stub, const Plan& plan, const Encoding& code) {
    const bool mxcsr = stub.vector || stub.fx;
    const auto each = [](u16 mask, auto f) {
        for (unsigned n = 0; n < 16; ++n)
            if ((mask >> n & 1) != 0) f(n);
    };
    if (mxcsr) e.frame({0x0f, 0xae}, 3, offsetof(StubFrame, host_mxcsr));  // stmxcsr
    if (stub.fx) e.frame({0x48, 0x0f, 0xae}, 1, offsetof(StubFrame, fx));  // fxrstor64
    if (stub.vector) {
        e.load(RAX, offsetof(StubFrame, guest_vectors));
        each(plan.loads, [&](unsigned n) { e.move_ymm(false, n, RAX, n * std::size_t{32}); });
        e.frame({0x0f, 0xae}, 2, offsetof(StubFrame, guest_mxcsr));  // ldmxcsr
    }
    e.load(kMemoryBase, offsetof(StubFrame, memory_pointer));
    if (plan.flags) {
        e.frame({0xff}, 6, offsetof(StubFrame, flags));  // push
        e.bytes({0x9d});                                 // popfq
    }
    e.load(RAX, offsetof(StubFrame, rax));
    e.load(RCX, offsetof(StubFrame, rcx));
    e.load(RDX, offsetof(StubFrame, rdx));
    e.raw(code.bytes, code.size);
    e.store(RCX, offsetof(StubFrame, rcx));
    e.store(RDX, offsetof(StubFrame, rdx));
    if (plan.flags) {
        e.bytes({0x9c});                                 // pushfq
        e.frame({0x8f}, 0, offsetof(StubFrame, flags));  // pop
    }
    if (stub.vector) {
        e.frame({0x0f, 0xae}, 3, offsetof(StubFrame, result_mxcsr));
        each(stub.stores, [&](unsigned n) {
            e.move_ymm(true, n, RDI, offsetof(StubFrame, vectors) + n * std::size_t{32});
        });
    }
    if (stub.fx) {
        e.frame({0x48, 0x0f, 0xae}, 0, offsetof(StubFrame, fx));  // fxsave64: does not report pending exceptions
        e.bytes({0xdb, 0xe3});                                    // fninit
    }
    if (mxcsr) e.frame({0x0f, 0xae}, 2, offsetof(StubFrame, host_mxcsr));
    e.bytes({0xc5, 0xf8, 0x77, 0xc3});  // vzeroupper; ret
}

}  // namespace

std::size_t HostStubs::Hash::operator()(const Key& key) const {
    u64 a, b;
    std::memcpy(&a, key.data(), 8);
    std::memcpy(&b, key.data() + 8, 8);
    return (a ^ b * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd >> 20;
}

HostStubs::~HostStubs() {
    if (writable_ == nullptr) return;
    munmap(writable_, kSlabSize);
    munmap(executable_, kSlabSize);
}

void HostStubs::map_slab() {
    const int fd = memfd_create("host-stubs", MFD_CLOEXEC);
    VG_ASSERT(fd >= 0 && ftruncate(fd, kSlabSize) == 0);
    void* writable = mmap(nullptr, kSlabSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* executable = mmap(nullptr, kSlabSize, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    VG_ASSERT(writable != MAP_FAILED && executable != MAP_FAILED);
    writable_ = static_cast<u8*>(writable);
    executable_ = static_cast<u8*>(executable);
}

const HostStub& HostStubs::find(const Insn& i, const Row& r) {
    // The key is the instruction without what encode() drops: addressing. Register numbers stay.
    HostStub plain;
    Encoding keyed = encode(i, r, plain);
    keyed.bytes[15] = static_cast<u8>(keyed.size << 2 | static_cast<u8>(i.mode));
    Key key;
    std::memcpy(key.data(), keyed.bytes, key.size());
    if (const auto found = stubs_.find(key); found != stubs_.end()) return found->second;

    if (writable_ == nullptr) map_slab();
    if (used_ + kMaxStubSize > kSlabSize) {
        stubs_.clear();
        used_ = 0;
    }
    HostStub stub;
    Plan plan;
    locate_registers(i, stub);
    stub.fx = r.has(attr::X87 | attr::Mmx);
    stub.vector = r.has(attr::Sse | attr::Avx);
    plan.flags = (r.flags_read | r.flags_written | r.flags_undefined) != 0;
    if (i.op == Op::VZEROALL || i.op == Op::VZEROUPPER) {
        plan.loads = stub.stores = 0xffff;
    } else if (stub.vector) {
        constexpr u16 kXmm0 = 1;  // implicit operand of BLENDV, SHA256RNDS2, PCMPxSTRM
        plan.loads = vector_operands(i) | kXmm0;
        stub.stores = takes_lengths(i.op) ? kXmm0 : u16{0};
        if (i[0].kind == OperandKind::Xmm || i[0].kind == OperandKind::Ymm)
            stub.stores = static_cast<u16>(stub.stores | 1u << i[0].reg);
        plan.loads |= stub.stores;
    }
    Emitter emitter(writable_ + used_);
    emit(emitter, stub, plan, encode(i, r, stub));
    VG_ASSERT(emitter.size() <= kMaxStubSize);
    stub.run = reinterpret_cast<void (*)(StubFrame*)>(executable_ + used_);
    used_ += (emitter.size() + 15) & ~std::size_t{15};
    return stubs_.emplace(key, stub).first->second;
}

}  // namespace vg::cpu
