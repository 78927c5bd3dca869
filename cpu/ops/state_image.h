// A save area in the making: collected in private memory, then checked and written as a whole, or read before use.
#pragma once

#include <cstring>

#include "cpu/interp.h"

namespace vg::cpu::ops {

inline constexpr u32 kFxSaveSize = 512;
inline constexpr u32 kMxcsrOffset = 24, kStOffset = 32, kXmmOffset = 160;

/// The bytes at a linear address that FXSAVE, XSAVE and their like access.
class StateImage {
  public:
    static constexpr u32 kMaxSize = 4096;
    static constexpr u32 kPiece = 64;  ///< LinearMemory's largest access

    StateImage(Interp& in, u64 address, bool stack) : in_(in), address_(address), stack_(stack) {}

    [[nodiscard]] u8* data() { return data_; }
    template <class T>
    [[nodiscard]] T get(u32 offset) const {
        T value;
        std::memcpy(&value, data_ + offset, sizeof value);
        return value;
    }

    /// Reads a range from memory. False: fault recorded.
    [[nodiscard]] bool fetch(u32 offset, u32 size);
    /// Collects bytes to write.
    void put(u32 offset, const void* bytes, u32 size);
    template <class T>
    void put(u32 offset, const T& value) {
        put(offset, &value, sizeof value);
    }
    /// Checks that all collected bytes can be written, then writes them. False: fault recorded, nothing written.
    [[nodiscard]] bool commit();

    // ---- parts of the legacy region. `wide`: 64-bit FIP and FDP
    void put_x87(bool wide);
    void get_x87(bool wide);
    void put_mxcsr();
    [[nodiscard]] u32 mxcsr() const { return get<u32>(kMxcsrOffset); }
    void put_xmm(unsigned count);
    void get_xmm(unsigned count);

  private:
    template <class F>
    bool for_each_run(F f);

    Interp& in_;
    u64 address_;
    bool stack_;
    u8 data_[kMaxSize];  // only fetched and collected bytes are ever looked at
    u64 collected_[kMaxSize / kPiece] = {};  // a bit for each byte
};

}  // namespace vg::cpu::ops
