; Posts hundreds of channel messages whose answers it never takes, signals connections that are not there, and moves its
; overlay pages through all of its memory; then it powers itself off.
%include "kernel.inc"
kHypercallPage equ 0x300000
kInput equ 0x310000
code:
    mov esp, 0x2f0000
    write_msr 0x40000000, 0x80000000, 1
    write_msr 0x40000001, 0, kHypercallPage | 1
    write_msr 0x40000083, 0, 0x320001     ; SIMP
    write_msr 0x40000092, 0, 0x50         ; SINT2
    write_msr 0x40000080, 0, 1            ; SCONTROL
    ; PostMessage: connection 4, message type 1, INITIATE_CONTACT 5.3
    mov edi, kInput
    mov dword [edi], 4
    mov dword [edi + 4], 0
    mov dword [edi + 8], 1
    mov dword [edi + 12], 40
    mov dword [edi + 16], 14
    mov dword [edi + 20], 0
    mov dword [edi + 24], 0x50003
    mov dword [edi + 28], 0
    mov dword [edi + 32], 2               ; SINT
    mov ebp, 600
.post:
    mov eax, 0x5c
    call hypercall
    dec ebp
    jnz .post
    ; garbage of every length
    mov ebp, 240
.garbage:
    mov [kInput + 12], ebp
    mov eax, 0x5c
    call hypercall
    dec ebp
    jnz .garbage
    ; SignalEvent on 300 connections
    mov ebp, 300
.signal:
    mov [kInput], ebp
    mov dword [kInput + 4], 0
    mov eax, 0x5d
    call hypercall
    dec ebp
    jnz .signal
    ; the message page in every 2 MiB of memory, and outside
    mov ebp, 0x400000
.move:
    mov eax, ebp
    or eax, 1
    mov ecx, 0x40000083
    xor edx, edx
    wrmsr
    add ebp, 0x200000
    cmp ebp, 0x4000000
    jb .move
    print 'd'
    print 10
    power_off
hypercall:
    xor edx, edx
    xor ebx, ebx
    mov ecx, kInput
    xor edi, edi
    xor esi, esi
    call kHypercallPage
    ret
end:
