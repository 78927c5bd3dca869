#include "cpu/model.h"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <span>

#include "base/assert.h"
#include "base/bits.h"
#include "cpu/spec/svm.h"
#include "cpu/spec/xsave.h"

namespace vg::cpu {

namespace {

struct FlagRow {
    std::string_view name;
    u32 leaf, subleaf;
    char reg;
    unsigned bit;
};

constexpr FlagRow kFlags[] = {
#define CPUID_BIT(name, leaf, subleaf, reg, bit) {#name, leaf, subleaf, #reg[0], bit},
#include "cpu/cpuid_bits.def"
#undef CPUID_BIT
};

struct ModelRow {
    std::string_view name;
    Vendor vendor;
    std::string_view parent;
    u32 signature;
    u8 physical_bits;
    std::string_view brand;
};
struct FeaturesRow {
    std::string_view model, list;
};
struct LeafRow {
    Vendor vendor;
    u32 leaf, subleaf;
    CpuidRegs regs;
};

constexpr ModelRow kModels[] = {
#define MODEL(name, vendor, parent, signature, bits, brand) {name, Vendor::vendor, parent, signature, bits, brand},
#define FEATURES(...)
#define LEAF(...)
#include "cpu/models.def"
#undef MODEL
#undef FEATURES
#undef LEAF
};
constexpr FeaturesRow kFeatures[] = {
#define MODEL(...)
#define FEATURES(model, list) {model, list},
#define LEAF(...)
#include "cpu/models.def"
#undef MODEL
#undef FEATURES
#undef LEAF
};
constexpr LeafRow kLeaves[] = {
#define MODEL(...)
#define FEATURES(...)
#define LEAF(vendor, leaf, subleaf, a, b, c, d) {Vendor::vendor, leaf, subleaf, {a, b, c, d}},
#include "cpu/models.def"
#undef MODEL
#undef FEATURES
#undef LEAF
};

/// Instruction sets that are executed by the host processor itself.
constexpr CpuFlag kNative[] = {CpuFlag::SSE3,   CpuFlag::SSSE3,     CpuFlag::SSE4_1, CpuFlag::SSE4_2, CpuFlag::POPCNT,
                               CpuFlag::AVX,    CpuFlag::AVX2,      CpuFlag::BMI1,   CpuFlag::BMI2,   CpuFlag::FMA,
                               CpuFlag::F16C,   CpuFlag::LZCNT,     CpuFlag::MOVBE,  CpuFlag::AES,    CpuFlag::PCLMUL,
                               CpuFlag::SHA,    CpuFlag::ADX,       CpuFlag::SSE4A,  CpuFlag::VAES,   CpuFlag::VPCLMUL};

const FlagRow& row_of(CpuFlag flag) { return kFlags[static_cast<unsigned>(flag)]; }

/// Letters and digits only, lower case: SSE4_1, sse4.1 and sse41 are one name.
std::string plain(std::string_view name) {
    std::string out;
    for (const char c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

u32& reg_of(CpuidRegs& regs, char reg) {
    switch (reg) {
        case 'A': return regs.eax;
        case 'B': return regs.ebx;
        case 'C': return regs.ecx;
        default: return regs.edx;
    }
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> line(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) line[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = line[0];
        line[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t above = line[j];
            line[j] = std::min({above + 1, line[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
            diagonal = above;
        }
    }
    return line[b.size()];
}

template <class Names>
std::string nearest(std::string_view wanted, const Names& names) {
    std::string best;
    std::size_t best_distance = ~std::size_t{0};
    for (const auto& name : names) {
        const std::size_t distance = edit_distance(wanted, name);
        if (distance < best_distance) best_distance = distance, best = name;
    }
    return best;
}

const ModelRow* find_model(std::string_view name) {
    for (const ModelRow& row : kModels)
        if (row.name == name) return &row;
    return nullptr;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        if (end != 0) parts.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

/// Names in feature lists and in +/- changes: the flag's letters in lower case.
bool find_flag(std::string_view name, CpuFlag& out) {
    const std::string wanted = plain(name);
    for (unsigned i = 0; i < std::size(kFlags); ++i) {
        if (plain(kFlags[i].name) != wanted) continue;
        out = static_cast<CpuFlag>(i);
        return true;
    }
    return false;
}

}  // namespace

std::vector<std::string> CpuModel::names() {
    std::vector<std::string> out;
    for (const ModelRow& row : kModels) out.emplace_back(row.name);
    return out;
}

void CpuModel::set_flag(CpuFlag flag, bool on) { flags_[static_cast<unsigned>(flag)] = on; }

Result<void> CpuModel::apply(std::string_view change) {
    const bool on = change.front() == '+';
    if (!on && change.front() != '-')
        return fail(Error::Code::Usage, "CPU feature '" + std::string(change) + "' must begin with + or -");
    CpuFlag flag{};
    if (!find_flag(change.substr(1), flag)) {
        std::vector<std::string> known;
        for (const FlagRow& row : kFlags) known.push_back(plain(row.name));
        return fail(Error::Code::Usage, "unknown CPU feature '" + std::string(change.substr(1)) + "'; did you mean '" +
                                            nearest(plain(change), known) + "'?");
    }
    const bool foreign = flag == (vendor_ == Vendor::Amd ? CpuFlag::VMX : CpuFlag::SVM);
    if (on && foreign)
        return fail(Error::Code::Usage, "CPU feature '" + plain(row_of(flag).name) + "' is the other vendor's");
    set_flag(flag, on);
    return {};
}

Result<CpuModel> CpuModel::create(std::string_view spec) {
    const std::vector<std::string_view> parts = split(spec, ',');
    const std::string_view wanted = parts.empty() ? std::string_view{} : parts[0];
    const ModelRow* model = find_model(wanted);
    if (model == nullptr)
        return fail(Error::Code::Usage, "unknown CPU model '" + std::string(wanted) + "'; did you mean '" +
                                            nearest(wanted, names()) + "'?");
    CpuModel out;
    out.name_ = spec;
    out.vendor_ = model->vendor;
    out.physical_bits_ = model->physical_bits;
    for (const ModelRow* each = model; each != nullptr; each = find_model(each->parent))
        for (const FeaturesRow& row : kFeatures) {
            if (row.model != each->name) continue;
            for (const std::string_view name : split(row.list, ' ')) {
                CpuFlag flag{};
                VG_ASSERT(find_flag(name, flag));
                out.set_flag(flag, true);
            }
        }
    for (std::size_t i = 1; i < parts.size(); ++i)
        if (const Result<void> applied = out.apply(parts[i]); !applied) return Unexpected<Error>{applied.error()};
    if (const Result<void> host = out.check_host(); !host) return Unexpected<Error>{host.error()};
    out.derive_features();
    out.build_leaves(model->signature, model->brand);
    return out;
}

Result<void> CpuModel::check_host() const {
    for (const CpuFlag flag : kNative) {
        if (!has(flag)) continue;
        const FlagRow& row = row_of(flag);
        CpuidRegs host;
        __get_cpuid_count(row.leaf, row.subleaf, &host.eax, &host.ebx, &host.ecx, &host.edx);
        if (!bit(reg_of(host, row.reg), row.bit))
            return fail(Error::Code::Host, "CPU model " + name_ + " needs " + plain(row.name) +
                                               ", which this host's processor lacks; add ',-" + plain(row.name) +
                                               "' to the model or use another one");
    }
    return {};
}

void CpuModel::derive_features() {
    for (unsigned i = 0; i < static_cast<unsigned>(Feature::Count); ++i) {
        const auto feature = static_cast<Feature>(i);
        CpuFlag flag{};
        features_[i] = feature == Feature::Base || (find_flag(feature_name(feature), flag) && has(flag));
    }
    xcr0_mask_ = 3;
    if (has(CpuFlag::AVX)) xcr0_mask_ |= 1 << xsave::kAvx;
    if (has(CpuFlag::PKU)) xcr0_mask_ |= 1 << xsave::kPkru;
}

void CpuModel::build_leaves(u32 signature, std::string_view brand) {
    const bool intel = vendor_ == Vendor::Intel;
    max_leaf_ = intel ? 0x1f : 0xd;
    max_extended_leaf_ = intel ? 0x80000008 : 0x80000021;
    for (const LeafRow& row : kLeaves)
        if (row.vendor == vendor_) leaves_[{row.leaf, row.subleaf}] = row.regs;
    for (unsigned i = 0; i < std::size(kFlags); ++i) {
        if (!has(static_cast<CpuFlag>(i))) continue;
        reg_of(leaves_[{kFlags[i].leaf, kFlags[i].subleaf}], kFlags[i].reg) |= u32{1} << kFlags[i].bit;
    }
    // "GenuineIntel", "AuthenticAMD" in EBX, EDX, ECX.
    const CpuidRegs vendor = intel ? CpuidRegs{0, 0x756e6547, 0x6c65746e, 0x49656e69}
                                   : CpuidRegs{0, 0x68747541, 0x444d4163, 0x69746e65};
    leaves_[{0, 0}] = vendor;
    leaves_[{0, 0}].eax = max_leaf_;
    leaves_[{0x80000000, 0}] = intel ? CpuidRegs{} : vendor;
    leaves_[{0x80000000, 0}].eax = max_extended_leaf_;
    CpuidRegs& one = leaves_[{1, 0}];
    one.eax = signature;
    one.ebx = has(CpuFlag::CLFLUSH) ? 8u << 8 : 0;
    CpuidRegs& extended = leaves_[{0x80000001, 0}];
    if (!intel) {
        constexpr u32 kMirrored = 0x0183f3ff;  // AMD repeats these bits of leaf 1 EDX
        extended.eax = signature;
        extended.edx |= one.edx & kMirrored;
    }
    char text[48] = {};
    std::memcpy(text, brand.data(), std::min(brand.size(), sizeof text - 1));
    for (u32 i = 0; i < 3; ++i) std::memcpy(&leaves_[{0x80000002 + i, 0}], text + 16 * i, 16);
    leaves_[{0x80000008, 0}].eax = physical_bits_ | 48u << 8;
    if (has(CpuFlag::SVM)) leaves_[{0x8000000a, 0}] = {svm::kRevision, svm::kAsids, 0, svm::kFeatures};
    if (has(CpuFlag::BHI_CTRL)) leaves_[{7, 0}].eax = 2;  // highest subleaf
    if (has(CpuFlag::XSAVE)) {
        CpuidRegs& area = leaves_[{0xd, 0}];
        area.eax = static_cast<u32>(xcr0_mask_);
        area.ecx = xsave::area_size(xcr0_mask_, 0);
        for (const xsave::Component& each : xsave::kComponents)
            if (bit(xcr0_mask_, each.number)) leaves_[{0xd, each.number}] = {each.size, each.offset, 0, 0};
    } else {
        leaves_[{0xd, 1}] = {};
    }
}

CpuidRegs CpuModel::leaf(u32 leaf, u32 subleaf) const {
    const auto found = leaves_.find({leaf, subleaf});
    return found == leaves_.end() ? CpuidRegs{} : found->second;
}

}  // namespace vg::cpu
