; Millions of blocks of one instruction: a field of jumps to the next instruction, run through again and again from other
; offsets, which makes other blocks of the same bytes.
%include "world.inc"
LENGTH equ 0x170000
    mov r13d, 3                         ; rounds
.round:
    mov rdi, FIELD
    add rdi, r13
    mov ecx, LENGTH / 2 - 16
    mov ax, 0x00eb                      ; jmp $+2
    rep stosw
    mov byte [rdi], 0xc3
    inc rdi
    mix rdi
    mov rax, FIELD
    add rax, r13
    call rax
    add r12, LENGTH / 2
    dec r13
    jnz .round
    ; conditional ones, whose blocks have two ways out
    mov rdi, FIELD
    mov ecx, LENGTH / 2 - 16
    mov ax, 0x0074                      ; jz $+2
    rep stosw
    mov byte [rdi], 0xc3
    mov rax, FIELD
    call rax
    hlt
