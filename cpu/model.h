// Named CPU models: what CPUID answers, which features exist. Fixed and versioned, independent of the host.
#pragma once

#include <bitset>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "cpu/isa/isa.h"

namespace vg::cpu {

enum class Vendor : u8 { Intel, Amd };

/// CPUID feature bits that a model may expose (cpu/cpuid_bits.def).
enum class CpuFlag : u8 {
#define CPUID_BIT(name, leaf, subleaf, reg, bit) name,
#include "cpu/cpuid_bits.def"
#undef CPUID_BIT
    Count
};

struct CpuidRegs {
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
    bool operator==(const CpuidRegs&) const = default;
};

/// One model with its feature changes applied. Immutable after creation.
class CpuModel {
  public:
    /// `spec` is "NAME", "NAME,+feature,-feature", e.g. "verdigris-v3-amd,-avx2". Error (Usage): unknown model or
    /// feature, with the nearest known name; Host: the host lacks an instruction set that the model executes natively.
    static Result<CpuModel> create(std::string_view spec);
    static std::vector<std::string> names();

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] Vendor vendor() const { return vendor_; }
    [[nodiscard]] bool has(Feature feature) const { return features_[static_cast<unsigned>(feature)]; }
    [[nodiscard]] bool has(CpuFlag flag) const { return flags_[static_cast<unsigned>(flag)]; }
    [[nodiscard]] u8 physical_bits() const { return physical_bits_; }
    /// Static part of a leaf; dynamic bits (OSXSAVE, APIC id, APIC enabled, XCR0 sizes...) are cpu::cpuid's.
    [[nodiscard]] CpuidRegs leaf(u32 leaf, u32 subleaf) const;
    [[nodiscard]] u32 max_leaf() const { return max_leaf_; }
    [[nodiscard]] u32 max_extended_leaf() const { return max_extended_leaf_; }
    /// XCR0 bits that may be set.
    [[nodiscard]] u64 xcr0_mask() const { return xcr0_mask_; }

  private:
    CpuModel() = default;
    Result<void> apply(std::string_view change);
    void set_flag(CpuFlag flag, bool on);
    void build_leaves(u32 signature, std::string_view brand);
    void derive_features();
    Result<void> check_host() const;

    std::string name_;
    Vendor vendor_ = Vendor::Intel;
    std::bitset<static_cast<unsigned>(Feature::Count)> features_;
    std::bitset<static_cast<unsigned>(CpuFlag::Count)> flags_;
    u8 physical_bits_ = 46;
    u32 max_leaf_ = 0, max_extended_leaf_ = 0;
    u64 xcr0_mask_ = 3;
    std::map<std::pair<u32, u32>, CpuidRegs> leaves_;
};

class Vp;
/// What CPUID returns on this VP now, before any level changes it. Leaves beyond the maximum follow the vendor's rule;
/// 0x40000000..0x400000ff are all zero here (a hypervisor's business).
[[nodiscard]] CpuidRegs cpuid(const Vp& vp, u32 leaf, u32 subleaf);

}  // namespace vg::cpu
