// The oracle: Unicorn, that is QEMU's processor without its machine. It delivers no faults; it names the vector.
#pragma once

#include <unicorn/unicorn.h>

#include <memory>
#include <vector>

#include "legacy.h"

namespace vg::test {

/// One Unicorn processor for one mode.
class UnicornCpu {
  public:
    explicit UnicornCpu(Legacy mode);
    ~UnicornCpu();
    UnicornCpu(const UnicornCpu&) = delete;
    UnicornCpu& operator=(const UnicornCpu&) = delete;

    [[nodiscard]] u8* memory() { return memory_; }
    [[nodiscard]] const u8* memory() const { return memory_; }
    /// Runs the instruction of `c`, `iterations` of it at most if it repeats.
    [[nodiscard]] LegacyOutcome run(const LegacyCase& c, u32 iterations = ~u32{0});
    /// Runs real-mode code from CS:IP of `s` until HLT or `limit` instructions.
    [[nodiscard]] LegacyState run_program(const LegacyState& s, u64 limit);

  private:
    static void on_interrupt(uc_engine* uc, u32 vector, void* self);
    static u32 on_in(uc_engine* uc, u32 port, int size, void* self);
    static void on_out(uc_engine* uc, u32 port, int size, u32 value, void* self);
    void enter_protected();
    void load(const LegacyState& s);
    [[nodiscard]] LegacyState store();
    /// Where it stopped between instructions: there, the EIP that it shows is the linear address.
    [[nodiscard]] u32 eip_at_stop();
    void write(int reg, u32 value);
    [[nodiscard]] u32 read(int reg);
    void find_error_code();
    [[nodiscard]] u32 error_code();

    Legacy mode_;
    uc_engine* uc_ = nullptr;
    uc_context *start_ = nullptr, *now_ = nullptr;
    std::size_t error_at_ = 0;  ///< where a saved context holds the error code
    std::vector<u8> storage_;
    u8* memory_;
    int vector_ = -1;
    std::vector<PortAccess> ports_;
};

}  // namespace vg::test
