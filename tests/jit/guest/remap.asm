; Page tables rewritten under execution: a page of code that is another page each time, by INVLPG, by MOV CR3, and while
; the code itself runs.
%include "world.inc"
    mov r8, [PTE(CODE + 0x1000)]
    mov r9, [PTE(CODE + 0x2000)]
    mov ecx, 4000
.loop:
    call CODE + 0x1000
    mix rax
    call ALIAS + 0x1000
    mix rax
    test ecx, 1
    jz .by_cr3
    mov [PTE(CODE + 0x1000)], r9
    mov [PTE(CODE + 0x2000)], r8
    invlpg [CODE + 0x1000]
    invlpg [CODE + 0x2000]
    jmp .next
.by_cr3:
    mov [PTE(CODE + 0x1000)], r8
    mov [PTE(CODE + 0x2000)], r9
    mov rax, cr3
    mov cr3, rax
.next:
    ; what runs is written through the page that it is not mapped at any more
    mov [CODE + 0x2000 + 1], cx
    dec ecx
    jnz .loop
    hlt
    times 0x1000 - ($ - $$) nop
    mov eax, 0x11111111
    call .self
    inc rax
    ret
.self:                                  ; pulls its own page away: what follows is the other page's code
    mov r10, [PTE(CODE + 0x1000)]
    mov r11, [PTE(CODE + 0x2000)]
    mov [PTE(CODE + 0x1000)], r11
    mov [PTE(CODE + 0x2000)], r10
    invlpg [CODE + 0x1000]
    invlpg [CODE + 0x2000]
    add rax, 3
    ret
    times 0x2000 - ($ - $$) nop
    mov eax, 0x22222222
    call .self2
    dec rax
    ret
.self2:
    mov r10, [PTE(CODE + 0x1000)]
    mov r11, [PTE(CODE + 0x2000)]
    mov [PTE(CODE + 0x1000)], r11
    mov [PTE(CODE + 0x2000)], r10
    invlpg [CODE + 0x1000]
    invlpg [CODE + 0x2000]
    add rax, 5
    ret
    times 0x3000 - ($ - $$) nop
