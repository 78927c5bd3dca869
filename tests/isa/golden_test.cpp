#include <catch2/catch.hpp>
#include <charconv>
#include <sstream>
#include <vector>

#include "cpu/decode.h"
#include "insn_text.h"

namespace vg::cpu {

namespace {

// mode [bytes] reading; the length is that of the bytes.
constexpr const char* kGolden = R"(
64 [90] NOP
64 [66 90] NOP
64 [f3 90] PAUSE
64 [41 90] XCHG r8d, eax
64 [49 90] XCHG r8, rax
64 [f3 41 90] XCHG r8d, eax
64 [48 90] NOP
32 [90] NOP
64 [87 c0] XCHG eax, eax
64 [f3 0f 1e fa] NOP edx
64 [66 0f 1f 44 00 00] NOP mem2 ds:[rax+rax*1]
64 [0f 18 20] NOP mem4 ds:[rax]
64 [0f 18 08] PREFETCHT0 mem1 ds:[rax]
64 [0f 0d 08] PREFETCHW mem1 ds:[rax]

64 [01 d8] ADD eax, ebx
64 [48 01 d8] ADD rax, rbx
64 [66 48 01 d8] ADD rax, rbx
64 [48 66 01 d8] ADD ax, bx
64 [00 e0] ADD al, ah
64 [40 00 e0] ADD al, spl
64 [44 00 f9] ADD cl, r15b
64 [83 c0 ff] ADD eax, imm4 0xffffffff
64 [66 83 c0 ff] ADD ax, imm2 0xffff
64 [48 83 c0 ff] ADD rax, imm8 0xffffffffffffffff
64 [48 05 00 00 00 80] ADD rax, imm8 0xffffffff80000000
64 [04 ff] ADD al, imm1 0xff
64 [48 b8 88 77 66 55 44 33 22 11] MOV rax, imm8 0x1122334455667788
64 [48 c7 c0 ff ff ff ff] MOV rax, imm8 0xffffffffffffffff
64 [b8 ff ff ff ff] MOV eax, imm4 0xffffffff
64 [6a ff] PUSH imm8 0xffffffffffffffff
64 [66 6a ff] PUSH imm2 0xffff
64 [68 00 00 00 80] PUSH imm8 0xffffffff80000000
32 [6a ff] PUSH imm4 0xffffffff
16 [6a ff] PUSH imm2 0xffff
64 [d1 e0] SHL eax, imm1 0x1
64 [d1 f0] SHL eax, imm1 0x1
64 [48 d3 e8] SHR rax, cl
64 [f6 c8 01] TEST al, imm1 0x1
64 [c8 10 00 01] ENTER imm2 0x10, imm1 0x1

64 [8b 05 10 00 00 00] MOV eax, mem4 ds:[rip+0x10]
64 [67 8b 05 10 00 00 00] MOV eax, mem4 ds:[eip+0x10]
32 [8b 05 10 00 00 00] MOV eax, mem4 ds:[0x10]
64 [8b 04 25 00 00 00 80] MOV eax, mem4 ds:[0xffffffff80000000]
64 [41 8b 04 24] MOV eax, mem4 ds:[r12]
64 [8b 04 24] MOV eax, mem4 ss:[rsp]
64 [8b 45 00] MOV eax, mem4 ss:[rbp]
64 [41 8b 45 00] MOV eax, mem4 ds:[r13]
64 [42 8b 04 20] MOV eax, mem4 ds:[rax+r12*1]
64 [8b 44 65 f8] MOV eax, mem4 ss:[rbp+0xfffffffffffffff8]
64 [41 8b 04 25 10 00 00 00] MOV eax, mem4 ds:[0x10]
64 [64 48 8b 04 25 28 00 00 00] MOV rax, mem8 fs:[0x28]
64 [64 2e 8b 00] MOV eax, mem4 fs:[rax]
64 [2e 8b 45 00] MOV eax, mem4 ss:[rbp]
32 [2e 8b 45 00] MOV eax, mem4 cs:[ebp]
64 [48 8d 04 c5 00 00 00 00] LEA rax, mem0 [rax*8]
16 [8b 42 fe] MOV ax, mem2 ss:[bp+si*1+0xfffe]
16 [8b 1e 34 12] MOV bx, mem2 ds:[0x1234]
16 [67 66 8b 04 8b] MOV eax, mem4 ds:[ebx+ecx*4]
64 [a1 88 77 66 55 44 33 22 11] MOV eax, mem4 ds:[0x1122334455667788]
64 [67 a1 44 33 22 11] MOV eax, mem4 ds:[0x11223344]
16 [a1 34 12] MOV ax, mem2 ds:[0x1234]

64 [63 c8] MOVSXD ecx, eax
64 [48 63 c8] MOVSXD rcx, eax
32 [63 c8] ARPL ax, cx
64 [eb fe] JMP rel 0xfffffffffffffffe
64 [66 e9 00 00 00 00] JMP rel 0x0
32 [66 e9 00 00] JMP rel 0x0
64 [66 0f 84 00 00 00 00] JZ rel 0x0
64 [67 e3 05] JECXZ rel 0x5
64 [e3 05] JRCXZ rel 0x5
16 [e3 05] JCXZ rel 0x5
64 [66 ff e0] JMP rax
64 [ff 28] JMP mem6 ds:[rax]
64 [48 ff 28] JMP mem10 ds:[rax]
32 [ea 78 56 34 12 10 00] JMP far 0x10:0x12345678
16 [ea 34 12 10 00] JMP far 0x10:0x1234
64 [ea 78 56 34 12 10 00] invalid
64 [f3 c3] RET
64 [48 cf] IRETQ
64 [cf] IRETD
64 [9c] PUSHFQ
64 [66 9c] PUSHF
64 [66 50] PUSH ax
64 [48 98] CDQE
64 [66 99] CWD

64 [f3 a4] REPE MOVSB mem1 ds:[rsi], mem1 ds:[rsi]
64 [f2 a4] REPNE MOVSB mem1 ds:[rsi], mem1 ds:[rsi]
64 [64 a5] MOVSD mem4 fs:[rsi], mem4 fs:[rsi]
64 [f3 48 ab] REPE STOSQ mem8 es:[rdi], rax
64 [64 ab] STOSD mem4 es:[rdi], eax
64 [67 ac] LODSB al, mem1 ds:[esi]
64 [48 6d] INSD mem4 es:[rdi], dx
64 [65 d7] XLAT mem1 gs:[rbx]

64 [f0 01 18] LOCK ADD mem4 ds:[rax], ebx
64 [f0 01 d8] invalid
64 [f0 03 18] invalid
64 [f0 39 18] invalid
64 [f0 8b 18] invalid
64 [f0 0f ba 28 03] LOCK BTS mem4 ds:[rax], imm1 0x3
64 [f0 0f ba 20 03] invalid
64 [f0 48 0f c7 08] LOCK CMPXCHG16B mem16 ds:[rax]
64 [f0 0f c7 08] LOCK CMPXCHG8B mem8 ds:[rax]
64 [0f c7 c8] invalid
64 [f2 f0 87 18] LOCK XCHG mem4 ds:[rax], ebx

64 [f3 0f bc c1] TZCNT eax, ecx
64 [f2 0f bc c1] BSF eax, ecx
64 [66 f3 0f b8 c1] POPCNT ax, cx
64 [0f b8 c1] invalid
64 [f2 f3 0f bc c1] TZCNT eax, ecx
64 [f3 f2 0f 58 c1] ADDSD xmm0, xmm1
64 [f2 f3 0f 58 c1] ADDSS xmm0, xmm1
64 [66 0f 38 f0 00] MOVBE ax, mem2 ds:[rax]
64 [f2 66 0f 38 f1 c1] CRC32 eax, cx
64 [f2 48 0f 38 f0 c1] CRC32 rax, cl
64 [0f 38 f0 c0] invalid
64 [66 0f c7 f0] RDRAND ax
64 [f3 0f c7 f8] RDPID rax
64 [f3 0f ae c0] RDFSBASE eax
32 [f3 0f ae c0] invalid

64 [0f 20 c0] MOV rax, cr0
64 [44 0f 20 c0] MOV rax, cr8
64 [0f 20 00] MOV rax, cr0
64 [0f 20 c8] invalid
64 [44 0f 21 c0] invalid
64 [8e c8] invalid
64 [8e f0] invalid
64 [8e d8] MOV ds, ax
64 [0f 00 c8] STR eax
64 [0f 01 f8] SWAPGS
32 [0f 01 f8] invalid
64 [0f 01 ca] CLAC
64 [66 0f 01 ca] invalid
64 [0f 01 38] INVLPG mem0 ds:[rax]
64 [0f 0b] UD2

64 [c5 f8 58 c1] VADDPS xmm0, xmm0, xmm1
64 [c5 fc 58 c1] VADDPS ymm0, ymm0, ymm1
64 [c4 41 30 58 c1] VADDPS xmm8, xmm9, xmm9
64 [c5 f0 28 c1] invalid
64 [66 c5 f8 58 c1] invalid
64 [f3 c5 f8 58 c1] invalid
64 [f0 c5 f8 58 c1] invalid
64 [48 c5 f8 58 c1] invalid
64 [67 c5 f8 58 00] VADDPS xmm0, xmm0, mem16 ds:[eax]
64 [c5 f8 77] VZEROUPPER
64 [c5 fc 77] VZEROALL
64 [c4 e1 f9 6e c0] VMOVQ xmm0, rax
32 [c4 e1 f9 6e c0] VMOVD xmm0, eax
64 [c4 e2 fd 00 c1] VPSHUFB ymm0, ymm0, ymm1
64 [c4 e3 75 4c c2 30] VPBLENDVB ymm0, ymm1, ymm2, ymm3
64 [c4 e2 79 18 00] VBROADCASTSS xmm0, mem4 ds:[rax]
64 [c4 e2 79 19 00] invalid
64 [c4 e2 71 90 04 98] VPGATHERDD xmm0, mem4 ds:[rax+v3*4], xmm1
64 [c4 e2 71 90 04 20] VPGATHERDD xmm0, mem4 ds:[rax+v4*1], xmm1
64 [c4 e2 71 90 00] invalid
64 [c4 e2 70 f2 c2] ANDN eax, ecx, edx
64 [c4 e2 74 f2 c2] invalid
64 [c4 e3 7b f0 c1 07] RORX eax, ecx, imm1 0x7
64 [62 f1 7c 48 58 c1] invalid
32 [62 00] BOUND eax, mem8 ds:[eax]
32 [62 c0] invalid
32 [c4 00] LES eax, mem6 ds:[eax]
32 [c5 f8 58 c1] VADDPS xmm0, xmm0, xmm1
16 [c5 38] LDS di, mem4 ds:[bx+si*1]
64 [8f e8 78 c0 c1 01] invalid
64 [8f c0] POP rax

64 [0f 6e c0] MOVD mm0, eax
64 [48 0f 6e c0] MOVQ mm0, rax
64 [66 48 0f 7e c0] MOVQ rax, xmm0
64 [f3 0f 7e 00] MOVQ xmm0, mem8 ds:[rax]
64 [66 0f 38 14 c1] BLENDVPS xmm0, xmm1, xmm0
64 [f3 0f 14 c1] invalid
64 [d9 c9] FXCH st1
64 [d8 00] FADD mem4 ds:[rax]
64 [dc c1] FADD st1, st0
64 [db 28] FLD mem10 ds:[rax]
64 [df e0] FNSTSW ax
64 [9b] FWAIT
64 [dd 30] FNSAVE mem0 ds:[rax]
64 [d9 d1] invalid
64 [0f 0f c1 9e] invalid
64 [66 0f 78 c1 08 04] EXTRQ xmm1, imm1 0x8, imm1 0x4

64 [0f 01 c1] VMCALL
64 [0f 01 d9] VMMCALL
64 [f3 0f c7 30] VMXON mem8 ds:[rax]
64 [0f 78 c8] VMREAD rax, rcx
64 [66 0f 38 80 08] INVEPT rcx, mem16 ds:[rax]

64 [06] invalid
64 [60] invalid
64 [82 c0 01] invalid
32 [82 c0 01] ADD al, imm1 0x1
32 [60] PUSHAD
16 [60] PUSHA
32 [40] INC eax
64 [d6] invalid
64 [27] invalid
)";

struct Line {
    CodeMode mode = CodeMode::Bits64;
    std::vector<u8> bytes;
    std::string reading;
};

Line parse(const std::string& text) {
    Line line;
    line.mode = text.starts_with("64")   ? CodeMode::Bits64
                : text.starts_with("32") ? CodeMode::Bits32
                                         : CodeMode::Bits16;
    const std::size_t open = text.find('[');
    const std::size_t close = text.find(']');
    for (std::size_t n = open + 1; n < close; n += 3) {
        unsigned value = 0;
        std::from_chars(&text[n], &text[n] + 2, value, 16);
        line.bytes.push_back(static_cast<u8>(value));
    }
    line.reading = text.substr(close + 2);
    return line;
}

}  // namespace

TEST_CASE("decode: golden readings", "[isa]") {
    std::istringstream lines(kGolden);
    for (std::string text; std::getline(lines, text);) {
        if (text.empty()) continue;
        const Line line = parse(text);
        Insn i;
        const DecodeStatus status = decode(line.bytes, line.mode, i);
        INFO(text);
        CHECK((status == DecodeStatus::Ok ? insn_text(i) : "invalid") == line.reading);
        CHECK((status == DecodeStatus::Ok || status == DecodeStatus::Invalid));
        if (status == DecodeStatus::Ok) CHECK(i.length == line.bytes.size());
    }
}

}  // namespace vg::cpu
