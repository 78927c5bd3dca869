; A child partition's whole day at the hypervisor interface, for tests/hv/guest_test.cpp: 64-bit, identity-mapped, loaded
; at 0x100000. Handlers are at fixed offsets; results go to 0x30000.
bits 64
org 0x100000
    mov esp, 0x200000
    ; leaf 40000000
    mov eax, 0x40000000
    cpuid
    mov [0x30000], ebx
    ; GUEST_OS_ID, HYPERCALL
    mov ecx, 0x40000000
    xor eax, eax
    mov edx, 0x81000006
    wrmsr
    mov ecx, 0x40000001
    mov eax, 0x5001
    xor edx, edx
    wrmsr
    ; SignalEvent, fast, through the page
    mov ecx, 0x1005d
    mov edx, 0x2005
    mov eax, 0x5000
    call rax
    mov [0x30008], rax
    ; VP runs on: SIMP, SINT2 = f3, SCONTROL
    mov ecx, 0x40000083
    mov eax, 0x6001
    xor edx, edx
    wrmsr
    mov ecx, 0x40000092
    mov eax, 0xf3
    wrmsr
    mov ecx, 0x40000080
    mov eax, 1
    wrmsr
    ; reference TSC page at 7000, then the counter and the page's formula
    mov ecx, 0x40000021
    mov eax, 0x7001
    wrmsr
    rdtsc
    shl rdx, 32
    or rax, rdx
    mul qword [0x7008]
    add rdx, [0x7010]
    mov [0x30010], rdx
    mov ecx, 0x40000020
    xor edx, edx
    rdmsr
    shl rdx, 32
    or rax, rdx
    mov [0x30018], rax
    ; direct timer: vector ed, 10 us from now
    mov rbx, rax
    mov ecx, 0x400000b0
    mov eax, 0x1ed9
    xor edx, edx
    wrmsr
    mov ecx, 0x400000b1
    lea rax, [rbx + 100]
    mov rdx, rax
    shr rdx, 32
    wrmsr
    ; write to the hypercall page: the #GP handler skips it
    mov byte [0x5000], 0
    inc dword [0x30020]
    ; a register that is not there
    mov ecx, 0x40000085
    rdmsr
    sti
    ; outsb and a memory hole
    mov al, 'V'
    mov dx, 0x3f8
    out dx, al
    mov ebx, 0xfed00004
    mov eax, [rbx]
    mov [0x30028], eax
.wait:
    hlt
    jmp .wait
times 0x200 - ($-$$) db 0xcc
; #GP: counts, skips: both faulting instructions are found by their length in the table below
gp: add qword [rsp], 0          ; error code
    inc dword [0x30024]
    pop rax
    mov rax, [rsp]
    cmp byte [rax], 0x0f        ; RDMSR: 2 bytes, MOV: 8
    mov eax, 8
    mov edx, 2
    cmove eax, edx
    add [rsp], rax
    iretq
times 0x280 - ($-$$) db 0xcc
message:
    push rax
    push rcx
    push rdx
    mov eax, [0x6200]
    mov [0x30030], eax
    mov rax, [0x6210]
    mov [0x30038], rax
    mov dword [0x6200], 0
    test byte [0x6205], 1
    jz .eoi
    mov ecx, 0x40000084
    wrmsr
.eoi:
    mov ecx, 0x40000070
    wrmsr
    inc dword [0x30040]
    pop rdx
    pop rcx
    pop rax
    iretq
times 0x300 - ($-$$) db 0xcc
timer:
    push rax
    push rcx
    push rdx
    mov ecx, 0x40000020
    rdmsr
    mov [0x30048], eax
    mov ecx, 0x40000070
    wrmsr
    inc dword [0x30044]
    pop rdx
    pop rcx
    pop rax
    iretq
