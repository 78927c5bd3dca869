// Runs x87, MMX, SSE and AVX instructions on the host processor: their semantics is the host's.
#pragma once

#include <array>
#include <unordered_map>

#include "cpu/insn.h"
#include "cpu/isa/isa.h"

namespace vg::cpu {

/// What a stub loads before and stores after its one instruction. Offsets are baked into stubs.
struct alignas(64) StubFrame {
    u8 memory[64] = {};     ///< the memory operand
    u8 fx[512] = {};        ///< x87 and MMX state in FXSAVE format
    u8 vectors[16][32];     ///< results: only those in HostStub::stores
    u64 rax = 0, rcx = 0, rdx = 0;
    u64 flags = 0;
    const u8* guest_vectors = nullptr;  ///< VpState::ymm
    u8* memory_pointer = nullptr;
    u32 guest_mxcsr = 0, host_mxcsr = 0, result_mxcsr = 0;
};

/// One instruction as host code. A memory operand has become [rsi], a general register in ModRM.reg ecx/rcx, one in
/// ModRM.rm edx/rdx; vector, MMX and x87 registers are the guest's own.
struct HostStub {
    void (*run)(StubFrame*) = nullptr;
    u16 stores = 0;          ///< vector registers that it may change
    bool fx = false;         ///< uses frame.fx
    bool vector = false;     ///< uses MXCSR and vector registers
    s8 reg_operand = -1;     ///< operand that is a general register in ModRM.reg
    s8 rm_operand = -1;      ///< ... in ModRM.rm
};

/// The stubs of one VP, one per distinct encoding (without prefixes and addressing that do not matter). The code lies
/// in one slab, written and executed through different views; when it is full, all stubs are dropped.
class HostStubs {
  public:
    HostStubs() = default;
    ~HostStubs();
    HostStubs(const HostStubs&) = delete;
    HostStubs& operator=(const HostStubs&) = delete;

    /// The stub for a How::Host record, made if there is none. Valid until the next call.
    [[nodiscard]] const HostStub& find(const Insn& i, const Row& r);

    static constexpr std::size_t kSlabSize = 1 << 20;

  private:
    using Key = std::array<u8, 16>;
    struct Hash {
        std::size_t operator()(const Key& key) const;
    };
    void map_slab();

    std::unordered_map<Key, HostStub, Hash> stubs_;
    u8* writable_ = nullptr;
    u8* executable_ = nullptr;
    std::size_t used_ = 0;
};

}  // namespace vg::cpu
