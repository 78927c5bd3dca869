#include "machine/smbios.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string_view>

namespace vg::machine {

namespace {

constexpr u64 kMiB = u64{1} << 20;

/// The tables one behind another.
class Structures {
  public:
    /// One structure: `body` is its formatted part behind the header, `strings` what its string numbers count.
    void add(u8 type, const std::vector<u8>& body, std::initializer_list<std::string_view> strings = {}) {
        const std::size_t from = bytes_.size();
        bytes_.push_back(type);
        bytes_.push_back(static_cast<u8>(body.size() + 4));
        const u16 handle = static_cast<u16>(u16{type} << 8 | count_of(type));
        put(handle);
        bytes_.insert(bytes_.end(), body.begin(), body.end());
        for (const std::string_view text : strings) {
            bytes_.insert(bytes_.end(), text.begin(), text.end());
            bytes_.push_back(0);
        }
        if (strings.size() == 0) bytes_.push_back(0);
        bytes_.push_back(0);
        ++count_;
        largest_ = std::max(largest_, bytes_.size() - from);
        types_.push_back(type);
    }
    [[nodiscard]] const std::vector<u8>& bytes() const { return bytes_; }
    [[nodiscard]] u16 count() const { return count_; }
    [[nodiscard]] u16 largest() const { return static_cast<u16>(largest_); }

  private:
    void put(u16 value) {
        bytes_.push_back(static_cast<u8>(value));
        bytes_.push_back(static_cast<u8>(value >> 8));
    }
    [[nodiscard]] u8 count_of(u8 type) const { return static_cast<u8>(std::count(types_.begin(), types_.end(), type)); }

    std::vector<u8> bytes_, types_;
    u16 count_ = 0;
    std::size_t largest_ = 0;
};

/// Little-endian fields of a structure's body.
class Body {
  public:
    Body& b(u8 value) { return number(value, 1); }
    Body& w(u16 value) { return number(value, 2); }
    Body& d(u32 value) { return number(value, 4); }
    Body& q(u64 value) { return number(value, 8); }
    Body& zeroes(unsigned count) {
        bytes_.resize(bytes_.size() + count);
        return *this;
    }
    operator const std::vector<u8>&() const { return bytes_; }

  private:
    Body& number(u64 value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) bytes_.push_back(static_cast<u8>(value >> (i * 8)));
        return *this;
    }
    std::vector<u8> bytes_;
};

void checksum(std::vector<u8>& bytes, std::size_t from, std::size_t count, std::size_t at) {
    bytes[at] = 0;
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(from);
    bytes[at] = static_cast<u8>(0 - std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0u));
}

constexpr std::string_view kMaker = "Verdigris";

void add_system(Structures& all, const SystemNames& names) {
    constexpr u8 kWakePower = 6;
    all.add(1, Body().b(1).b(2).b(3).b(0).zeroes(16).b(kWakePower).b(0).b(0), {names.maker, names.product, names.version});
    constexpr u8 kDesktop = 3, kSafe = 3, kNoSecurity = 3;
    all.add(3,
            Body().b(1).b(kDesktop).b(0).b(0).b(0).b(kSafe).b(kSafe).b(kSafe).b(kNoSecurity).d(0).b(0).b(0).b(0).b(0),
            {names.maker});
}

void add_processor(Structures& all) {
    constexpr u8 kCentral = 3, kOther = 1, kPopulatedEnabled = 0x41;
    constexpr u16 kNoCache = 0xffff, k64Bit = 1 << 2;
    all.add(4,
            Body()
                .b(1)
                .b(kCentral)
                .b(kOther)
                .b(2)
                .q(0)
                .b(3)
                .b(0)
                .w(0)
                .w(1000)
                .w(1000)
                .b(kPopulatedEnabled)
                .b(kOther)
                .w(kNoCache)
                .w(kNoCache)
                .w(kNoCache)
                .b(0)
                .b(0)
                .b(0)
                .b(1)
                .b(1)
                .b(1)
                .w(k64Bit)
                .w(kOther),
            {"CPU", kMaker, "1"});
}

void add_memory(Structures& all, u64 bytes) {
    constexpr u8 kBoard = 3, kSystemMemory = 3, kNoCorrection = 3, kDimm = 9, kRam = 7;
    constexpr u32 kExtended = 0x80000000;
    constexpr u16 kNone = 0xfffe, kOther = 2;
    all.add(16, Body().b(kBoard).b(kSystemMemory).b(kNoCorrection).d(kExtended).w(kNone).w(1).q(bytes));
    const u64 mebibytes = bytes / kMiB;
    const bool large = mebibytes >= 0x7fff;
    all.add(17,
            Body()
                .w(16 << 8)
                .w(kNone)
                .w(0xffff)
                .w(0xffff)
                .w(large ? u16{0x7fff} : static_cast<u16>(mebibytes))
                .b(kDimm)
                .b(0)
                .b(1)
                .b(0)
                .b(kRam)
                .w(kOther)
                .w(0)
                .b(2)
                .b(0)
                .b(0)
                .b(0)
                .b(0)
                .d(large ? static_cast<u32>(mebibytes) : 0)
                .w(0)
                .w(0)
                .w(0)
                .w(0),
            {"DIMM 0", kMaker});
    all.add(19, Body().d(0xffffffff).d(0xffffffff).w(16 << 8).b(1).q(0).q(bytes - 1));
}

}  // namespace

Smbios build_smbios(u64 memory_bytes, u32 processors, const SystemNames& names) {
    Structures all;
    add_system(all, names);
    for (u32 i = 0; i < processors; ++i) add_processor(all);
    add_memory(all, memory_bytes);
    all.add(32, Body().zeroes(6).b(0));
    all.add(127, {});

    Smbios result;
    result.tables = all.bytes();
    result.anchor = Body()
                        .d(0x5f4d535f)
                        .b(0)
                        .b(0x1f)
                        .b(2)
                        .b(8)
                        .w(all.largest())
                        .b(0)
                        .zeroes(5)
                        .d(0x494d445f)
                        .b('_')
                        .b(0)
                        .w(static_cast<u16>(result.tables.size()))
                        .d(0)
                        .w(all.count())
                        .b(0x28);
    place_tables(result, 0);
    return result;
}

void place_tables(Smbios& smbios, u32 address) {
    constexpr std::size_t kAddress = 0x18;
    std::memcpy(smbios.anchor.data() + kAddress, &address, sizeof address);
    checksum(smbios.anchor, 0x10, 0x0f, 0x15);
    checksum(smbios.anchor, 0, 0x1f, 4);
}

}  // namespace vg::machine
