// How often each translation runs, and what is needed to show it.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "jit/watcher.h"

namespace vg::jit {

/// Asks for a counter in every block and remembers its instructions. The same code translated again (after a flush, or
/// because its page was written) goes on counting where it was.
class Survey final : public TranslationWatcher {
  public:
    struct Instruction {
        u16 row = 0;  ///< of cpu/isa
        u8 length = 0;
        bool native = false;  ///< otherwise a call of the interpreter's body
        u32 host = 0;         ///< where its code begins, from the start of the block's
    };
    struct Entry {
        u64 executions = 0;
        u64 address = 0;  ///< RIP when it was last translated
        Spa spa;
        u32 key = 0;  ///< ModeKey
        u32 translations = 0;
        u8 count = 0;  ///< guest instructions
        std::vector<u8> guest;
        std::vector<Instruction> instructions;  ///< none for one that crosses a page
        std::span<const u8> host;               ///< empty when the cache was emptied meanwhile
        struct Exit {
            unsigned index = 0;  ///< the instruction behind which the block was left, others being left
            u64 taken = 0;
        };
        std::deque<Exit> exits;  ///< counters do not move
        /// Instructions executed; those that a fault or an event left out are in it.
        [[nodiscard]] u64 executed() const;
    };

    /// More different blocks than these are not counted.
    static constexpr std::size_t kMaxEntries = 1u << 18;

    void thunks(std::span<const u8> host) override { thunks_ = host; }
    u64* begin(const Block& block, std::span<const u8> guest) override;
    u64* side_exit(unsigned index) override;
    void instruction(const cpu::Insn& insn, u32 code, bool native) override;
    void end(const Translation& translation) override;
    void flushed() override;

    /// The entries that executed most instructions, most first.
    [[nodiscard]] std::vector<const Entry*> hottest(std::size_t limit) const;
    /// Those whose address it is.
    [[nodiscard]] std::vector<const Entry*> at(u64 address) const;
    [[nodiscard]] const std::deque<Entry>& entries() const { return entries_; }
    /// Instructions executed by counted blocks.
    [[nodiscard]] u64 executed() const;
    /// What host code at `host` belongs to: nullptr if to no block.
    [[nodiscard]] const Entry* owner(const u8* host) const;
    [[nodiscard]] std::span<const u8> thunk_code() const { return thunks_; }

  private:
    std::deque<Entry> entries_;                           // counters do not move
    std::unordered_multimap<u64, std::size_t> by_place_;  // index by spa and key
    Entry* current_ = nullptr;
    u32 start_ = 0;  ///< arena offset of the current block
    std::span<const u8> thunks_;
};

}  // namespace vg::jit
