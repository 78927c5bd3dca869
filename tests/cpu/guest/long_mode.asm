; 64-bit mode system instructions: one line per case (vector, error code, offset of the saved RIP from the case's start,
; saved CS, flags, RSP, SS). Runs from the reset vector as a 64 KiB ROM; output on port 0xe9.
bits 16
org 0xf0000
RESUME equ 0x7000
START equ 0x7008
RESUME_RSP equ 0x7010
R3FLAGS equ 0x7018
SCRATCH equ 0x6000
GDT equ 0x1000
IDT equ 0x2000
TSS equ 0x3000
PML4 equ 0x20000
CODE0 equ 0x08
DATA0 equ 0x10
CODE3_32 equ 0x1b
DATA3 equ 0x23
CODE3 equ 0x2b
%define O(x) ((x)-base0)
base0:
gdt_rom:
 dq 0
 dq 0x00af9b000000ffff    ; 08 code 64
 dq 0x00cf93000000ffff    ; 10 data
 dq 0x00cffb000000ffff    ; 18 code 32 dpl3
 dq 0x00cff3000000ffff    ; 20 data dpl3
 dq 0x00affb000000ffff    ; 28 code 64 dpl3
 dq 0x00008900300001ff, 0 ; 30 TSS
 dq 0x000082004000002f, 0 ; 40 LDT
 dw O(gate_target) , 0x08 , 0xec00, 0xf, 0, 0, 0, 0          ; 50 call gate
 dw O(gate_target) , 0x08 , 0xec00, 0xf, 0, 0, 0x0c00, 0     ; 60 call gate, bad upper type
 dw O(gate_target) , 0x18 , 0xec00, 0xf, 0, 0, 0, 0          ; 70 call gate to 32-bit code
 dq 0x00cf9b000000ffff    ; 80 code 32 dpl0
 dq 0x00ef9b000000ffff    ; 88 code with L and D
 dq 0x0000850000300000    ; 90 task gate
 dq 0x00af9f000000ffff    ; 98 code 64 conforming
gdt_end:
gdtr: dw gdt_end-gdt_rom-1
 dd GDT
idtr: dw 0x3ff
 dq IDT
start:
 cli
 xor ax,ax
 mov ss,ax
 mov sp,0x7000
 mov ds,ax
 mov es,ax
 cld
 mov si,O(gdt_rom)
 mov di,GDT
 mov cx,gdt_end-gdt_rom
 cs rep movsb
 mov di,IDT
 mov bx,O(stubs)
 mov cx,64
.idt:
 mov [di],bx
 mov word [di+2],CODE0
 mov word [di+4],0x8e00
 mov word [di+6],0xf
 mov dword [di+8],0
 mov dword [di+12],0
 add di,16
 add bx,16
 loop .idt
 mov word [IDT+3*16+4],0xee00
 mov word [IDT+0x30*16+4],0xee00
 mov word [IDT+0x31*16+4],0xef02   ; trap gate, IST 2
 mov word [IDT+0x32*16+4],0xe600   ; 16-bit gate
 mov word [IDT+0x33*16+2],0x80     ; 32-bit code
 mov word [IDT+0x34*16+4],0xe500   ; task gate
 mov word [IDT+0x35*16+10],0x1     ; non-canonical target
 mov word [IDT+0x36*16+2],0x88     ; L and D
 mov word [IDT+0x37*16+2],0x98     ; conforming
 mov word [IDT+0x37*16+4],0xee00
 mov word [IDT+12*16+4],0x8e01     ; #SS on IST 1
 ; page tables: 1 GiB one to one by 2 MiB pages, user accessible; 4 KiB pages at 2 MiB
 mov eax,0x2000
 mov es,ax
 xor di,di
 mov cx,0x8000
 xor ax,ax
 rep stosw
 mov dword [es:0],PML4+0x1007
 mov dword [es:0x1000],PML4+0x2007
 mov di,0x2000
 mov eax,0x87
.pd:
 mov [es:di],eax
 mov dword [es:di+4],0
 add eax,0x200000
 add di,8
 cmp di,0x3000
 jb .pd
 mov dword [es:0x2008],PML4+0x3007  ; 2 MiB..4 MiB through a page table
 mov dword [es:0x3000],0x200007     ; 200000: all
 mov dword [es:0x3008],0x201005     ; 201000: read-only user
 mov dword [es:0x3010],0x202003     ; 202000: supervisor
 mov dword [es:0x3018],0x203007     ; 203000: no execute
 mov dword [es:0x301c],0x80000000
 mov dword [es:0x3020],0x204006     ; 204000: not present
 mov dword [es:0x3028],0x205007     ; 205000: reserved bit
 mov dword [es:0x302c],0x00080000
 xor ax,ax
 mov es,ax
 o32 lgdt [cs:O(gdtr)]
 mov eax,0x20
 mov cr4,eax
 mov eax,PML4
 mov cr3,eax
 mov ecx,0xc0000080
 mov eax,0x901
 xor edx,edx
 wrmsr
 mov eax,0x80010011
 mov cr0,eax
 jmp dword CODE0:lm
bits 64
puts:
 mov al,[rsi]
 inc rsi
 test al,al
 jz .r
 out 0xe9,al
 jmp puts
.r: ret
hex8:
 mov ecx,8
.l: rol edx,4
 mov al,dl
 and al,15
 add al,'0'
 cmp al,'9'
 jbe .d
 add al,7
.d: out 0xe9,al
 loop .l
 mov al,' '
 out 0xe9,al
 ret
nl: mov al,10
 out 0xe9,al
 ret
ok:
 mov rbx,rax
 mov rsi,s_ok
 call puts
 mov edx,ebx
 call hex8
 jmp nl
s_ok: db " ok ",0
s_trap: db " v/e/ip/cs/fl/sp/ss ",0
s_pf: db "cr2 ",0
s_gate: db " gate ip/cs/sp/ss ",0
s_sys: db " syscall rcx/r11/cs/ss ",0
%macro T 1
 %push t
 jmp %%go
%%s: db %1,0
%%go:
 mov rsi,%%s
 call puts
 mov qword [RESUME],%$next
 mov qword [START],%$start
 mov [RESUME_RSP],rsp
 xor eax,eax
%$start:
%endmacro
%macro E 0
 call ok
%$next:
 %pop
%endmacro
%macro R3 0
 push DATA3
 push 0xa000
 push qword [R3FLAGS]
 push CODE3
 push %%l
 iretq
%%l:
%endmacro
align 16
stubs:
%assign v 0
%rep 64
 %if v==8 || (v>=10 && v<=14) || v==17
  db 0x90,0x90
 %else
  push -2
 %endif
 push v
 jmp near report
 align 16
 %assign v v+1
%endrep
report:
 mov rbp,rsp
 cld
 mov rsi,s_trap
 call puts
 mov edx,[rbp]
 call hex8
 mov edx,[rbp+8]
 call hex8
 mov rdx,[rbp+16]
 sub rdx,[START]
 call hex8
 mov edx,[rbp+24]
 call hex8
 mov edx,[rbp+32]
 and edx,0xfffff72a
 call hex8
 mov rdx,[rbp+40]
 call hex8
 mov edx,[rbp+48]
 call hex8
 cmp dword [rbp],14
 jne .nopf
 mov rsi,s_pf
 call puts
 mov rdx,cr2
 call hex8
.nopf:
 call nl
resume:
 mov eax,DATA0
 mov ss,ax
 mov ds,ax
 mov es,ax
 mov rsp,[RESUME_RSP]
 push 2
 popfq
 jmp [RESUME]
gate_target:
 mov rbp,rsp
 mov rsi,s_gate
 call puts
 mov rdx,[rbp]
 sub rdx,[START]
 call hex8
 mov edx,[rbp+8]
 call hex8
 mov edx,[rbp+16]
 call hex8
 mov edx,[rbp+24]
 call hex8
 mov edx,ss
 call hex8
 mov edx,ebp
 call hex8
 call nl
 jmp resume
syscall_target:
 mov rbp,rcx
 mov rsp,0x9000
 mov rsi,s_sys
 call puts
 mov rdx,rbp
 sub rdx,[START]
 call hex8
 mov edx,r11d
 call hex8
 mov edx,cs
 call hex8
 mov edx,ss
 call hex8
 pushfq
 pop rdx
 and edx,0xfffff72a
 call hex8
 call nl
 jmp resume
sysenter_target:
 mov rsi,s_sys
 call puts
 mov edx,esp
 call hex8
 mov edx,cs
 call hex8
 mov edx,ss
 call hex8
 call nl
 jmp resume
lm:
 mov eax,DATA0
 mov ds,ax
 mov es,ax
 mov fs,ax
 mov gs,ax
 mov ss,ax
 mov esp,0x8000
 lidt [idtr]
 mov qword [R3FLAGS],2
 mov edi,TSS
 mov ecx,64
 xor eax,eax
 rep stosq
 mov dword [TSS+4],0x9008          ; misaligned: delivery aligns
 mov dword [TSS+0x24],0xc000
 mov dword [TSS+0x2c],0xd000
 mov word [TSS+0x66],0x200
 mov ax,0x30
 ltr ax
 mov ax,0x40
 lldt ax
 mov ecx,0xc0000081
 xor eax,eax
 mov edx,0x00180008
 wrmsr
 inc ecx
 mov eax,syscall_target
 xor edx,edx
 wrmsr
 mov ecx,0xc0000084
 mov eax,0x200
 wrmsr
 mov ecx,0x174
 mov eax,8
 wrmsr
 inc ecx
 mov eax,0xe000
 wrmsr
 inc ecx
 mov eax,sysenter_target
 wrmsr
%include "long_mode_cases.inc"
 mov rsi,s_end
 call puts
 mov al,0x10
 out 0xf4,al
 cli
 hlt
s_end: db "end",10,0
 times 0xfff0-($-$$) db 0x90
bits 16
 jmp 0xf000:O(start)
 times 0x10000-($-$$) db 0
