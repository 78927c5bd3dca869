// Random guest programs: mostly valid instructions on mostly valid addresses, so that runs are long.
#pragma once

#include <random>
#include <vector>

#include "cpu/decode.h"
#include "cpu/isa/isa.h"
#include "cpu/model.h"
#include "tests/jit/jit_machine.h"

namespace vg::test {

class ProgramGenerator {
  public:
    struct Weights {
        bool vectors = true;
        bool branches = true;
        bool faults = false;          ///< also addresses that fault
        bool self_modifying = false;  ///< also addresses in the code, through either mapping
        bool x87 = false;             ///< half of all instructions are x87 and MMX
    };

    ProgramGenerator(u64 seed, const cpu::CpuModel& model, Weights weights)
        : random_(seed), model_(model), weights_(weights) {}

    /// Code for kCode: a loop of `count` instructions and four small subroutines in the second page.
    std::vector<u8> program(unsigned count) {
        subroutines();
        for (unsigned k = 0; k < count; ++k) {
            starts_.push_back(static_cast<u32>(code_.size()));
            if (k % 4 == 0) pointer_reset();
            if (weights_.branches && below(7) == 0)
                branch(count);
            else
                append(instruction());
        }
        starts_.push_back(static_cast<u32>(code_.size()));
        fix_branches();
        byte(0xe9);  // round again
        dword(static_cast<u32>(-static_cast<s32>(code_.size() + 4)));
        VG_ASSERT(code_.size() <= 0x1f00);
        code_.resize(0x2000, 0x90);
        code_.insert(code_.end(), subs_.begin(), subs_.end());
        return code_;
    }

    /// Fills memory and registers; the same for equal seeds.
    void initial_state(JitMachine& m) {
        std::vector<u8> data(0x8000);
        for (u8& b : data) b = static_cast<u8>(random_());
        m.load(kDataPhysical, data);
        for (u64& r : m.s().gpr) r = value();
        for (auto& lane : m.s().ymm)
            for (u8& b : lane) b = static_cast<u8>(random_());
        if (weights_.x87) initial_x87(m);
        for (const unsigned p : kPointers) m.s().gpr[p] = pointer();
        m.s().gpr[cpu::RSP] = kStackTop - 0x4000;
        m.s().rflags = 2 | (random_() & 0x8d5);
    }

    std::vector<u8> instruction() {
        while (true) {
            std::vector<u8> bytes = candidate();
            bytes.resize(bytes.size() + 16, 0);
            cpu::Insn insn;
            if (cpu::decode(std::span(bytes).first(15), cpu::CodeMode::Bits64, insn) != cpu::DecodeStatus::Ok) continue;
            if (!acceptable(insn)) continue;
            bytes.resize(insn.length);
            return bytes;
        }
    }

  private:
    static constexpr unsigned kPointers[] = {cpu::RBX, cpu::RSI, cpu::RBP, cpu::R11, cpu::R13, cpu::R14};

    u64 below(u64 n) { return random_() % n; }
    void byte(u64 v) { code_.push_back(static_cast<u8>(v)); }
    void dword(u32 v) {
        for (unsigned k = 0; k < 4; ++k) byte(v >> (8 * k));
    }
    void append(const std::vector<u8>& bytes) { code_.insert(code_.end(), bytes.begin(), bytes.end()); }

    u64 value() {
        switch (below(4)) {
            case 0:
                return random_();
            case 1:
                return below(70);
            case 2:
                return ~below(70);
            default:
                return u64{1} << below(64);
        }
    }
    u64 pointer() {
        if (weights_.self_modifying && below(3) == 0) return (below(2) == 0 ? kCode : kCodeAlias) + below(0x500);
        if (weights_.faults && below(12) == 0) return kData + below(0x9000);
        const u64 page = kData + below(4) * 0x1000;
        return below(4) == 0 ? page + 0x1000 - below(40) - (page == kData + 0x3000 ? 300 : 0)
                             : page + 0x100 + below(0xc00);
    }
    void pointer_reset() {
        const unsigned reg = kPointers[below(std::size(kPointers))];
        byte(0x48 | (reg >> 3));
        byte(0xc7);
        byte(0xc0 | (reg & 7));
        dword(static_cast<u32>(pointer()));
    }

    bool acceptable(const cpu::Insn& insn) {
        const cpu::Row& r = cpu::row(insn.row);
        using namespace cpu;
        if (r.has(attr::Branch | attr::System | attr::Privileged | attr::Hypervisor)) return false;
        if (r.feature != Feature::Base && !model_.has(r.feature)) return false;
        switch (insn.op) {
            case Op::RDTSC:
            case Op::CPUID:
                return below(20) == 0;
            case Op::CLD:
            case Op::STD:
            case Op::UD0:
            case Op::UD1:
            case Op::UD2:
            case Op::POPF:
            case Op::POPFQ:
            case Op::MOV_SREG:
            case Op::POP_SREG:
            case Op::ENTER:
            case Op::LEAVE:
            case Op::IN:
            case Op::OUT:
            case Op::LDMXCSR:
            case Op::VLDMXCSR:
                return false;
            case Op::FLDCW:  // elsewhere than where the control words are
                return insn.disp >= static_cast<s64>(kData + kControlOffset) || below(8) == 0;
            case Op::FLDENV:
            case Op::FRSTOR:
                return below(8) == 0;
            default:
                break;
        }
        // Keep the stack pointer and, mostly, the pointers.
        if (insn.operand_count > 0 && insn[0].kind == OperandKind::Gpr && insn[0].reg == RSP && insn[0].size >= 2)
            return false;
        if (insn.operand_count > 1 && insn[1].kind == OperandKind::Gpr && insn[1].reg == RSP &&
            (insn.op == Op::XCHG || insn.op == Op::XADD))
            return false;
        if (insn.operand_count > 0 && insn[0].kind == OperandKind::Gpr) {
            for (const unsigned p : kPointers)
                if (insn[0].reg == p && below(10) != 0) return false;
        }
        return !weights_.vectors ? !r.has(attr::Sse | attr::Avx | attr::X87 | attr::Mmx) : true;
    }

    /// Registers with numbers of all kinds, and control words that mask everything where FLDCW mostly finds its.
    void initial_x87(JitMachine& m) {
        cpu::X87State& x = m.s().x87;
        x.fcw = static_cast<u16>(0x7f | below(16) << 8);
        x.fsw = static_cast<u16>(random_() & 0x7f3f & ~0x80u);
        x.ftw = below(3) == 0 ? static_cast<u8>(random_()) : 0xff;
        for (auto& st : x.st) {
            const u64 exponents[] = {0, 1, 0x3fff, 0x3fff + below(70), 0x7ffe, 0x7fff, below(0x8000)};
            const u64 significand = below(10) == 0 ? value() : value() | u64{1} << 63;
            const u16 top = static_cast<u16>(exponents[below(std::size(exponents))] | (random_() & 0x8000));
            std::memcpy(st, &significand, sizeof significand);
            std::memcpy(st + 8, &top, sizeof top);
        }
        for (u64 k = 0; k < kControlWords; ++k)
            m.memory.write<u16>(Spa(kDataPhysical + kControlOffset + 2 * k), static_cast<u16>(random_() | 0x3f));
    }

    static constexpr u64 kControlOffset = 0x3e00, kControlWords = 64, kFxOffset = 0x2000;

    void absolute(std::vector<u8>& b, unsigned reg, u64 address) {
        b.push_back(static_cast<u8>(reg << 3 | 4));
        b.push_back(0x25);
        put32(b, static_cast<u32>(address));
    }
    std::vector<u8> x87_candidate() {
        static constexpr u8 kMmx[] = {0x2a, 0x2c, 0x2d, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a,
                                      0x6b, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x7e, 0x7f, 0xc4, 0xc5,
                                      0xd1, 0xd4, 0xd5, 0xd7, 0xda, 0xdb, 0xe1, 0xe4, 0xe7, 0xeb, 0xef, 0xf4, 0xf6, 0xfb};
        static constexpr u8 kControl[][2] = {{0xdb, 0xe3}, {0xdb, 0xe2}, {0xdb, 0xe3}, {0x9b, 0x90}, {0x0f, 0x77},
                                             {0xdf, 0xe0}, {0xd9, 0xf7}, {0xd9, 0xf6}, {0xd9, 0xd0}, {0xdb, 0xe4}};
        std::vector<u8> b;
        switch (below(12)) {
            case 0:
            case 1: {
                const auto& pair = kControl[below(std::size(kControl))];
                b.assign(pair, pair + 2);
                break;
            }
            case 2:
                b.push_back(0xd9);
                absolute(b, 5, kData + kControlOffset + 2 * below(kControlWords));
                break;
            case 3:  // FXSAVE, FXRSTOR
                b.assign({0x0f, 0xae});
                absolute(b, static_cast<unsigned>(below(2)), kData + kFxOffset + 0x400 * below(3));
                break;
            case 4:
            case 5:
            case 6:
                if (below(4) == 0) b.push_back(static_cast<u8>(0x40 | below(16)));
                b.push_back(0x0f);
                b.push_back(kMmx[below(sizeof kMmx)]);
                operands(b);
                break;
            default:
                b.push_back(static_cast<u8>(0xd8 + below(8)));
                operands(b);
                break;
        }
        return b;
    }

    std::vector<u8> candidate() {
        if (weights_.x87 && below(2) == 0) return x87_candidate();
        std::vector<u8> b;
        if (below(12) == 0) b.push_back(0x66);
        if (below(40) == 0) b.push_back(0x65);
        if (below(40) == 0) b.push_back(0x67);
        if (below(30) == 0) b.push_back(0xf0);
        const u64 kind = below(weights_.vectors ? 12 : 8);
        if (kind < 8) {
            integer(b);
        } else if (kind < 10) {
            static constexpr u8 kMandatory[] = {0x66, 0xf3, 0xf2};
            b.clear();
            if (below(3) != 0) b.push_back(kMandatory[below(3)]);
            if (below(3) == 0) b.push_back(static_cast<u8>(0x40 | below(16)));
            b.push_back(0x0f);
            switch (below(6)) {
                case 0:
                    b.push_back(0x38);
                    b.push_back(static_cast<u8>(below(0x100)));
                    break;
                case 1:
                    b.push_back(0x3a);
                    b.push_back(static_cast<u8>(below(0x100)));
                    break;
                default:
                    b.push_back(static_cast<u8>(below(2) == 0 ? 0x10 + below(0x70) : 0xc0 + below(0x40)));
                    break;
            }
            operands(b);
        } else {
            b.clear();
            b.push_back(0xc4);
            b.push_back(static_cast<u8>((below(8) << 5) | (1 + below(3))));
            b.push_back(static_cast<u8>(random_()));
            b.push_back(static_cast<u8>(random_()));
            operands(b);
        }
        return b;
    }
    void integer(std::vector<u8>& b) {
        static constexpr u8 kTwo[] = {0x18, 0x1f, 0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xaf, 0xb0, 0xb1, 0xb3,
                                      0xb6, 0xb7, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3, 0xc7};
        const bool rep = below(12) == 0;
        if (rep) b.push_back(below(2) == 0 ? 0xf3 : 0xf2);
        if (below(2) == 0) b.push_back(static_cast<u8>(0x40 | below(16)));
        switch (below(10)) {
            case 0:
            case 1:
            case 2: {
                const u64 op = below(0x100);
                b.push_back(static_cast<u8>(op));
                break;
            }
            case 3:
            case 4:
                b.push_back(static_cast<u8>(below(8) * 8 + below(6)));
                break;
            case 5:
                b.push_back(static_cast<u8>(0x80 + below(16)));
                break;
            case 6:
                b.push_back(static_cast<u8>(below(2) == 0 ? 0xd0 + below(4) : 0xf6 + below(2)));
                break;
            case 7:
                b.push_back(0x0f);
                b.push_back(kTwo[below(sizeof kTwo)]);
                break;
            case 8:
                b.push_back(0x0f);
                b.push_back(
                    static_cast<u8>(below(3) == 0 ? 0xb8 + below(24) : (below(2) == 0 ? 0x40 : 0x90) + below(16)));
                break;
            default:
                b.push_back(0x0f);
                b.push_back(0x38);
                b.push_back(static_cast<u8>(0xf0 + below(8)));
                break;
        }
        operands(b);
    }
    /// ModRM and what follows; excess bytes are cut off by whoever knows the length.
    void operands(std::vector<u8>& b) {
        const u64 reg = below(8) << 3;
        const u64 form = below(10);
        if (form < 5) {
            b.push_back(static_cast<u8>(0xc0 | reg | below(8)));
        } else if (form < 8) {  // [pointer + disp8]
            static constexpr u8 kBase[] = {3, 6, 5};
            b.push_back(static_cast<u8>(0x40 | reg | kBase[below(3)]));
            b.push_back(static_cast<u8>(below(4) == 0 ? random_() : below(64)));
        } else if (form == 8) {  // [rip + disp32] or absolute into the data
            if (below(2) == 0) {
                b.push_back(static_cast<u8>(reg | 5));
                put32(b, static_cast<u32>(kData - kCode + below(0x1800)));
            } else {
                b.push_back(static_cast<u8>(reg | 4));
                b.push_back(0x25);
                put32(b, static_cast<u32>(kData + below(0x2f00)));
            }
        } else {  // [pointer + index*scale + disp8], mostly with no or an unlikely index
            static constexpr u8 kBase[] = {3, 6};
            b.push_back(static_cast<u8>(0x40 | reg | 4));
            b.push_back(static_cast<u8>(below(4) << 6 | (below(3) == 0 ? below(8) : 4) << 3 | kBase[below(2)]));
            b.push_back(static_cast<u8>(below(64)));
        }
        for (unsigned k = 0; k < 8; ++k) b.push_back(static_cast<u8>(random_()));
    }
    void put32(std::vector<u8>& b, u32 v) {
        for (unsigned k = 0; k < 4; ++k) b.push_back(static_cast<u8>(v >> (8 * k)));
    }

    void subroutines() {
        for (unsigned s = 0; s < 4; ++s) {
            const std::size_t start = s * 64;
            while (subs_.size() < start + 30) {
                const std::vector<u8> one = instruction();
                if (one.size() > 15 || (one[0] & 0xf8) == 0x50 || (one[0] & 0xf8) == 0x58) continue;
                subs_.insert(subs_.end(), one.begin(), one.end());
            }
            subs_.push_back(0xc3);
            subs_.resize(start + 64, 0x90);
        }
    }
    void branch(unsigned count) {
        const u32 target = static_cast<u32>(below(8) == 0 ? below(count) : starts_.size() + below(6));
        const u64 sub = 0x2000 + below(4) * 64;
        switch (below(5)) {
            case 0:
                byte(0xe8);
                relative(sub);
                break;
            case 1:  // mov eax, sub; call rax
                byte(0xb8);
                dword(static_cast<u32>((below(2) == 0 ? kCode : kCodeAlias) + sub));
                byte(0xff);
                byte(0xd0);
                break;
            case 2:
                byte(0xe9);
                fix(std::min(target, count));
                break;
            default:
                byte(0x0f);
                byte(0x80 | below(16));
                fix(std::min(target, count));
                break;
        }
    }
    void relative(u64 target) { dword(static_cast<u32>(target - (code_.size() + 4))); }
    void fix(u32 target) {
        fixes_.push_back({static_cast<u32>(code_.size()), target});
        dword(0);
    }
    void fix_branches() {
        for (const auto& [at, target] : fixes_) {
            const u32 displacement = starts_[std::min<std::size_t>(target, starts_.size() - 1)] - (at + 4);
            std::memcpy(&code_[at], &displacement, 4);
        }
    }

    struct Fix {
        u32 at, target;
    };
    std::mt19937_64 random_;
    const cpu::CpuModel& model_;
    Weights weights_;
    std::vector<u8> code_, subs_;
    std::vector<u32> starts_;
    std::vector<Fix> fixes_;
};

}  // namespace vg::test
