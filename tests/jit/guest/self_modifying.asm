; Loops that write their own instructions: the next one, one behind, one ahead, through this address and the alias.
%include "world.inc"
    mov ecx, 20000
.loop:
    mov [rel .immediate + 1], ecx       ; the instruction behind this one
.immediate:
    mov eax, 0x12345678
    mix rax
    lea edx, [rcx * 2 + 1]
    mov [rel .far - CODE + ALIAS + 2], dl   ; further on in the same block, through the other mapping
    and ecx, ecx
    jz .done
    mov esi, ecx
.far:
    add esi, byte 0x11
    mix rsi
    test ecx, 31
    jnz .same
    ; every 32nd time an opcode: ADD becomes SUB becomes ADD
    xor byte [rel .opcode], 0x28
.same:
    mov edi, ebx
.opcode:
    add edi, ecx
    mix rdi
    ; this loop's own jump: its displacement is written with what it has
    mov al, [rel .back + 2]
    mov [rel .back + 2], al
    dec ecx
.back:
    jnz near .loop
.done:
    ; a store that crosses the end of one instruction into the next
    mov ecx, 500
.cross:
    mov eax, ecx
    shl eax, 16
    or eax, 0x9090
    and eax, 0x90909090
    or eax, 0x90909090
    mov [rel .nops + 2], eax
.nops:
    times 8 nop
    inc r12
    loop .cross
    hlt
