// What the unit did lately, for people: bounded rings, no state of the machine.
#pragma once

#include <array>
#include <string>

#include "base/types.h"
#include "iommu/spec/registers.h"

namespace vg::iommu {

/// How a page of a transfer ended.
enum class Verdict : u8 {
    Ok,
    Fault,      ///< refused by the tables
    Protected,  ///< in a protected memory region
    NoMemory,   ///< no RAM (or a write to ROM) behind the address
    Interrupt,  ///< a write to FEEx_xxxx: an interrupt request
    Refused,    ///< FEEx_xxxx with another shape
};
[[nodiscard]] std::string_view to_string(Verdict verdict);
/// A fault reason in a few words.
[[nodiscard]] std::string_view to_string(FaultReason reason);
/// A requester id as bus:device.function.
[[nodiscard]] std::string rid_text(u16 rid);

/// One call of a device's DMA view: the whole if it went well, else up to and with the page that was refused.
struct Transfer {
    u16 rid = 0;
    bool write = false;
    Verdict verdict = Verdict::Ok;
    FaultReason reason = FaultReason::None;
    u64 iova = 0, size = 0;
    u64 spa = 0;  ///< of the first byte, if its page was translated
};

/// One fault, recorded in a register or not.
struct Fault {
    u16 rid = 0;
    FaultReason reason = FaultReason::None;
    bool write = false, recorded = false;
    u64 info = 0;  ///< IOVA, or interrupt index
};

/// The last N of something, oldest first.
template <class T, u32 N>
class Ring {
  public:
    void push(const T& value) { values_[count_++ % N] = value; }
    void clear() { count_ = 0; }
    [[nodiscard]] u32 size() const { return static_cast<u32>(count_ < N ? count_ : N); }
    /// How many there were in all.
    [[nodiscard]] u64 total() const { return count_; }
    /// @param index  0 is the oldest that is kept
    [[nodiscard]] const T& operator[](u32 index) const { return values_[(count_ - size() + index) % N]; }
    [[nodiscard]] const T& last() const { return (*this)[size() - 1]; }

  private:
    std::array<T, N> values_{};
    u64 count_ = 0;
};

struct History {
    Ring<Transfer, 64> transfers;
    Ring<Fault, 16> faults;
    void clear() {
        transfers.clear();
        faults.clear();
    }
};

/// One line each.
[[nodiscard]] std::string describe(const Transfer& transfer);
[[nodiscard]] std::string describe(const Fault& fault);

}  // namespace vg::iommu
