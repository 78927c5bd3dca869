; An instruction across two pages, the second of which becomes another page, vanishes and comes back.
%include "world.inc"
    handler 14, fault
    ; CODE+0x1000 and CODE+0x2000 are first and second page; CODE+0x3000 is the other second page. The page table is
    ; rewritten, so the physical addresses are kept here.
    mov r8, [PTE(CODE + 0x2000)]
    mov r9, [PTE(CODE + 0x3000)]
    mov ecx, 1500
.loop:
    call first
    mix rax
    mov eax, ecx
    and eax, 7
    cmp eax, 1
    je .vanish
    cmp eax, 3
    je .other
    cmp eax, 5
    je .back
    cmp eax, 6
    je .write
    jmp .next
.vanish:
    mov qword [PTE(CODE + 0x2000)], 0
    jmp .invalidate
.other:
    mov [PTE(CODE + 0x2000)], r9
    jmp .invalidate
.back:
    mov [PTE(CODE + 0x2000)], r8
    jmp .invalidate
.write:
    mov [PTE(CODE + 0x2000)], r8
    invlpg [CODE + 0x2000]
    mov [CODE + 0x2000], cl             ; the last three bytes of the immediate, from their own page
    mov [ALIAS + 0x3000 + 1], cl        ; and of the other one
    jmp .next
.invalidate:
    invlpg [CODE + 0x2000]
.next:
    dec ecx
    jnz .loop
    hlt
fault:                                  ; the second page comes back
    inc r12
    mov rdx, cr2
    mix rdx
    mov rdx, [rsp + 8]                  ; RIP
    mix rdx
    mov rdx, [rsp]
    mix rdx
    mov [PTE(CODE + 0x2000)], r8
    invlpg [CODE + 0x2000]
    add rsp, 8
    iretq
    times 0x1ffe - ($ - $$) nop
first:
    db 0xb8, 0x11                       ; mov eax, imm32: two bytes here, three in the next page
    db 0x22, 0x33, 0x44
    ret
    times 0x3000 - ($ - $$) nop
    db 0x55, 0x66, 0x77
    inc rax
    ret
    times 0x3ff0 - ($ - $$) nop
