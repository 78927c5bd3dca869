// From the PVH entry (Xen "x86/HVM direct boot ABI": 32-bit, flat, no paging, EBX = hvm_start_info) to C++ in long mode; the
// vectors; and the one place where interrupts are open.
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start32

    .section .bss
    .balign 4096
pml4:       .skip 4096
pdpt:       .skip 4096
directory:  .skip 4096 * 4      // 4 GiB in 2 MiB pages
    .global boot_pml4
    .set boot_pml4, pml4
    .balign 16
    .global stack_bottom
stack_bottom:
    .skip 256 * 1024
stack_top:
    .skip 16 * 1024
fault_stack_top:

    .section .data
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9a000000ffff    // 0x08: 64-bit code
    .quad 0x00cf92000000ffff    // 0x10: data
tss_descriptor:
    .quad 0, 0                  // 0x18: completed below
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
    .balign 16
tss:
    .long 0
    .quad 0, 0, 0, 0
    .quad fault_stack_top       // IST 1: faults have a stack of their own, so that an overflow can be told
    .quad 0, 0, 0, 0, 0, 0, 0
    .word 0, 104

    .section .text.entry, "ax"
    .code32
    .global start32
start32:
    cli
    cld
    movl %ebx, %esi
    movl $stack_top, %esp
    movl $(pdpt + 3), pml4
    movl $(directory + 3), %eax
    movl $pdpt, %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 1b
    movl $directory, %edi
    movl $0x83, %eax            // present, writable, 2 MiB
    movl $2048, %ecx
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0x620, %eax           // PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $0xc0000080, %ecx      // EFER: LME
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80010033, %eax      // PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $start64

    .code64
start64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq $tss, %rax
    movq $tss_descriptor, %rdi
    movw $103, (%rdi)
    movw %ax, 2(%rdi)
    shrq $16, %rax
    movb %al, 4(%rdi)
    movb $0x89, 5(%rdi)         // available 64-bit TSS
    movb %ah, 7(%rdi)
    movl $0x18, %eax
    ltr %ax
    fninit
    xorl %ebp, %ebp
    movl %esi, %edi
    call start
3:  hlt
    jmp 3b

// void wait_for_interrupt(): a call, so that handlers need not save what a call may change.
    .text
    .global wait_for_interrupt
wait_for_interrupt:
    sti
    hlt
    cli
    ret

// u64 call_hypervisor(u64 control, u64 input, u64 output): through the hypercall page, HyperCall(RCX, RDX, R8).
    .global call_hypervisor
call_hypervisor:
    movq %rdx, %r8
    movq %rdi, %rcx
    movq %rsi, %rdx
    jmp *hypercall_entry(%rip)

// 256 stubs of 16 bytes: vector and error code on the stack, then interrupt_frame's order.
    .balign 16
    .global vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp common_stub
    .set vector, vector + 1
    .endr

common_stub:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbx
    andq $-16, %rsp
    call on_vector
    movq %rbx, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .section .note.GNU-stack, "", @progbits
