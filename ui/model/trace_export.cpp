// Traces for two readers of programs: Tenet (text deltas, its tracers' README) and whatever reads DynamoRIO's drcov
// logs.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "cpu/decode.h"
#include "cpu/isa/isa.h"
#include "ui/model/json_text.h"
#include "ui/model/trace_output.h"

namespace vg::model {

using machine::TraceAccess;
using machine::TraceContext;
using machine::TraceEvent;
using machine::TraceInstruction;

namespace {

std::string hex_of(std::span<const u8> bytes) {
    return hex_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// A line for the state before the first instruction, with all registers, and one behind each instruction: registers
/// that changed, the address of the next, the bytes that were read and written. Tenet knows one processor: the first
/// one.
class TenetOutput final : public TraceOutput {
  public:
    explicit TenetOutput(TraceWrite write) : write_(std::move(write)) {}

    void event(const TraceEvent&) override {}
    void instruction(const TraceInstruction& i) override {
        const std::pair vp{i.context->partition, i.context->vp};
        if (!vp_) vp_ = vp;
        if (*vp_ != vp) {
            ++others_;
            return;
        }
        // What the one before left is what this one found: an interrupt may have come in between.
        line(*i.registers_before, i.linear);
        after_ = *i.registers;
        next_ = i.linear + i.bytes.size();
        for (const TraceAccess& access : i.accesses)
            if (!access.value.empty())
                memory_ +=
                    fmt::format(",{}={:#x}:{}", access.write ? "mw" : "mr", access.address, hex_of(access.value));
    }
    void finish() override {
        if (vp_) line(after_, next_);
        write_(buffer_);
        buffer_.clear();
    }
    [[nodiscard]] std::string note() const override {
        if (others_ == 0) return "";
        return fmt::format(
            "tenet: VP {} of partition {} only; {} instructions of others were left out (choose with --filter)",
            vp_->second, vp_->first, others_);
    }

  private:
    void line(const machine::TraceRegisters& registers, u64 next) {
        constexpr unsigned kGeneral = 16;
        for (unsigned k = 0; k < kGeneral; ++k)
            if (first_ || registers[k] != told_[k])
                buffer_ += fmt::format("{}={:#x},", trace_register_name(k), registers[k]);
        told_ = registers;
        first_ = false;
        buffer_ += fmt::format("rip={:#x}{}\n", next, memory_);
        memory_.clear();
        constexpr std::size_t kEnough = 1u << 16;
        if (buffer_.size() < kEnough) return;
        write_(buffer_);
        buffer_.clear();
    }

    TraceWrite write_;
    std::string buffer_;
    std::optional<std::pair<u64, u32>> vp_;
    u64 others_ = 0;
    bool first_ = true;
    machine::TraceRegisters after_{}, told_{};
    std::string memory_;  ///< what the last instruction accessed
    u64 next_ = 0;
};

/// Basic blocks that were executed, each once, with offsets in modules: the kernel and its modules by their symbols,
/// anything else by address space and neighbourhood.
class DrcovOutput final : public TraceOutput {
  public:
    DrcovOutput(const machine::TraceFile& file, TraceWrite write) : file_(file), write_(std::move(write)) {}

    void event(const TraceEvent&) override {}
    void instruction(const TraceInstruction& i) override {
        const Space space{i.context->partition, i.linear >> 63 != 0 ? 0 : i.context->cr3 & kCr3Address};
        if (open_ && (space < space_ || space_ < space || i.linear != end_ || end_ - start_ > kMostBlock)) close();
        if (!open_) {
            open_ = true;
            space_ = space;
            start_ = i.linear;
        }
        end_ = i.linear + i.bytes.size();
        if (branches(i)) close();
    }
    void finish() override;
    [[nodiscard]] std::string note() const override {
        return left_out_ == 0
                   ? ""
                   : fmt::format("drcov: {} blocks in more modules than a log may have were left out", left_out_);
    }

  private:
    static constexpr u64 kCr3Address = 0x000f'ffff'ffff'f000;
    static constexpr u64 kMostBlock = 0xff00;
    static constexpr u64 kNeighbourhood = u64{16} << 20, kMostModule = u64{1} << 32;
    static constexpr std::size_t kMostModules = 0xffff;
    using Space = std::pair<u64, u64>;  ///< partition, CR3 (0: the kernel half)
    struct Block {
        u64 start;
        u16 size;
        bool operator<(const Block& other) const {
            return start != other.start ? start < other.start : size < other.size;
        }
    };
    struct Module {
        u64 base, end;
        std::string path;
    };

    void close() {
        open_ = false;
        blocks_[space_].insert({start_, static_cast<u16>(end_ - start_)});
    }
    bool branches(const TraceInstruction& i) {
        const auto known = branches_.find(i.linear);
        if (known != branches_.end()) return known->second;
        cpu::Insn insn;
        const bool branch = cpu::decode(i.bytes, i.context->mode, insn) != cpu::DecodeStatus::Ok ||
                            cpu::row(insn.row).has(cpu::attr::Branch);
        constexpr std::size_t kKnown = 1u << 20;
        if (branches_.size() >= kKnown) branches_.clear();
        return branches_[i.linear] = branch;
    }
    [[nodiscard]] std::vector<Module> symbol_modules(u64 partition, bool upper_half) const;

    const machine::TraceFile& file_;
    TraceWrite write_;
    std::map<Space, std::set<Block>> blocks_;
    std::unordered_map<u64, bool> branches_;
    bool open_ = false;
    Space space_;
    u64 start_ = 0, end_ = 0;
    u64 left_out_ = 0;
};

/// Where the symbols of each module lie.
std::vector<DrcovOutput::Module> DrcovOutput::symbol_modules(u64 partition, bool upper_half) const {
    std::map<std::string, Module> found;
    for (const machine::TraceSymbol& symbol : file_.symbols()) {
        if (symbol.partition != partition || (symbol.address >> 63 != 0) != upper_half) continue;
        const std::string path = symbol.module.empty() ? "vmlinux" : symbol.module + ".ko";
        auto [entry, made] = found.try_emplace(path, Module{symbol.address, symbol.address, path});
        entry->second.base = std::min(entry->second.base, symbol.address & ~kPageMask);
        entry->second.end = std::max(entry->second.end, (symbol.address + symbol.size + kPageMask) & ~kPageMask);
    }
    std::vector<Module> out;
    for (auto& [path, module] : found)
        if (module.end - module.base < kMostModule) out.push_back(std::move(module));
    return out;
}

void DrcovOutput::finish() {
    if (open_) close();
    std::vector<Module> modules;
    std::string entries;
    u64 count = 0;
    for (const auto& [space, blocks] : blocks_) {
        const std::size_t first_module = modules.size();
        for (Module& module : symbol_modules(space.first, space.second == 0)) modules.push_back(std::move(module));
        const std::size_t named = modules.size();
        for (const Block& block : blocks) {
            const auto holds = [&](const Module& m) {
                return block.start >= m.base && block.start + block.size <= m.end;
            };
            auto module = std::find_if(modules.begin() + static_cast<std::ptrdiff_t>(first_module),
                                       modules.begin() + static_cast<std::ptrdiff_t>(named), holds);
            if (module == modules.begin() + static_cast<std::ptrdiff_t>(named)) {
                // Blocks come by address: the last one of those without names may grow.
                const bool grows = modules.size() > named && block.start < modules.back().end + kNeighbourhood &&
                                   block.start + block.size - modules.back().base < kMostModule;
                const u64 end = (block.start + block.size + kPageMask) & ~kPageMask;
                if (grows) {
                    modules.back().end = std::max(modules.back().end, end);
                } else {
                    const u64 base = block.start & ~kPageMask;
                    modules.push_back({base, end,
                                       space.second == 0 ? fmt::format("partition{}-{:x}", space.first, base)
                                                         : fmt::format("partition{}-cr3-{:x}-{:x}", space.first,
                                                                       space.second, base)});
                }
                module = std::prev(modules.end());
            }
            const auto id = static_cast<std::size_t>(module - modules.begin());
            if (id >= kMostModules) {
                ++left_out_;
                continue;
            }
            const u32 offset = static_cast<u32>(block.start - module->base);
            const u16 short_id = static_cast<u16>(id);
            char entry[8];
            std::memcpy(entry, &offset, 4);
            std::memcpy(entry + 4, &block.size, 2);
            std::memcpy(entry + 6, &short_id, 2);
            entries.append(entry, sizeof entry);
            ++count;
        }
    }
    if (modules.size() > kMostModules) modules.resize(kMostModules);
    std::string head = fmt::format(
        "DRCOV VERSION: 2\nDRCOV FLAVOR: drcov\nModule Table: version 2, count {}\nColumns: id, base, end, entry, "
        "path\n",
        modules.size());
    for (std::size_t id = 0; id < modules.size(); ++id)
        head += fmt::format("{:3}, {:#x}, {:#x}, 0x0000000000000000, {}\n", id, modules[id].base, modules[id].end,
                            modules[id].path);
    head += fmt::format("BB Table: {} bbs\n", count);
    write_(head);
    write_(entries);
}

}  // namespace

std::unique_ptr<TraceOutput> make_tenet_output(TraceWrite write) {
    return std::make_unique<TenetOutput>(std::move(write));
}
std::unique_ptr<TraceOutput> make_drcov_output(const machine::TraceFile& file, TraceWrite write) {
    return std::make_unique<DrcovOutput>(file, std::move(write));
}

}  // namespace vg::model
