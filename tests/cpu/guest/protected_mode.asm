; Protected-mode system instructions: one line of output per case (vector, error code, offset of the saved IP from the
; case's start, saved CS, saved flags). Runs from the reset vector as a 64 KiB ROM; output on port 0xe9.
bits 16
org 0
base0:
RESUME equ 0x7000
START equ 0x7004
RESUME_ESP equ 0x7008
R3FLAGS equ 0x700c
GDT equ 0x1000
IDT equ 0x2000
TSS equ 0x3000
TSS2 equ 0x3800
TSS16 equ 0x3c00
LDT equ 0x4000

%define DESC(base,limit,attr) (((limit)&0xffff)|(((base)&0xffffff)<<16)|((attr)<<40)|((((limit)>>16)&15)<<48)|((((base)>>24)&255)<<56))
%define GATE(sel,off,attr,cnt) (((off)&0xffff)|((sel)<<16)|((cnt)<<32)|((attr)<<40)|((((off)>>16)&0xffff)<<48))
CODE0 equ 0x08
DATA0 equ 0x10
CODE3 equ 0x1b
DATA3 equ 0x23

gdt_rom:
 dq 0
 dq DESC(0xf0000,0xffff,0x409b)    ; 08
 dq DESC(0,0xfffff,0xc093)         ; 10
 dq DESC(0xf0000,0xffff,0x40fb)    ; 18
 dq DESC(0,0xfffff,0xc0f3)         ; 20
 dq DESC(TSS,0x1ff,0x0089)         ; 28
 dq DESC(TSS2,0x67,0x0089)         ; 30
 dq DESC(TSS16,0x2b,0x0081)        ; 38
 dq DESC(LDT,0x2f,0x0082)          ; 40
 dq DESC(0xf0000,0xffff,0x409f)    ; 48 conforming
 dq DESC(0xf0000,0xffff,0x009b)    ; 50 code16
 dq DESC(0,0xfffff,0xc013)         ; 58 data not present
 dq DESC(0xf0000,0xffff,0x401b)    ; 60 code not present
 dq DESC(0,0x0fff,0x4097)          ; 68 expand down
 dq DESC(0,0xfffff,0xc091)         ; 70 read only
 dq DESC(0xf0000,0xffff,0x4099)    ; 78 execute only
 dq DESC(0x6000,0x00ff,0x0093)     ; 80 small data
 dq GATE(0x08,gate32_target-base0,0xec,2); 88
 dq GATE(0x08,gate16_target-base0,0xe4,1); 90
 dq GATE(0x30,0,0xe5,0)            ; 98 task gate
 dq DESC(0xf0000,0xffff,0x40bb)    ; a0 code dpl1
 dq DESC(0,0xfffff,0xc0b3)         ; a8 data dpl1
 dq GATE(0x08,gate32_target-base0,0x6c,0); b0 not present
 dq GATE(0x08,gate32_target-base0,0x8c,0); b8 dpl0 gate
 dq GATE(0x48,conf_target-base0,0xec,0)  ; c0 gate to conforming
 dq DESC(0,0xffff,0x0093)          ; c8 16-bit stack
 dq 0x0000800000000000             ; d0 type 0 present
 dq GATE(0x10,0,0xec,0)            ; d8 gate to data
 dq GATE(0,0,0xec,0)               ; e0 gate to null
 dq DESC(TSS2,0x66,0x0089)         ; e8 short TSS
 dq DESC(LDT,0x2f,0x0002)          ; f0 LDT not present
 dq DESC(TSS,0x1ff,0x0009)         ; f8 TSS not present
gdt_end:
gdtr: dw gdt_end-gdt_rom-1
 dd GDT
idtr: dw 0x1ff
 dd IDT
ivt: dw 0x3ff
 dd 0
ldt_rom:
 dq 0
 dq DESC(0xf0000,0xffff,0x409b)    ; 0c
 dq DESC(0,0xfffff,0xc093)         ; 14
 dq DESC(0,0xfffff,0xc0f3)         ; 1c
 dq 0
 dq 0
start:
 cli
 xor ax,ax
 mov ss,ax
 mov sp,0x7000
 mov ds,ax
 mov es,ax
 cld
 mov si,gdt_rom
 mov di,GDT
 mov cx,gdt_end-gdt_rom
 cs rep movsb
 mov si,ldt_rom
 mov di,LDT
 mov cx,48
 cs rep movsb
 ; IDT: 64 gates
 mov di,IDT
 mov bx,stubs
 mov cx,64
.idt:
 mov [di],bx
 mov word [di+2],CODE0
 mov word [di+4],0x8e00
 mov word [di+6],0
 add di,8
 add bx,16
 loop .idt
 mov word [IDT+3*8+4],0xee00
 mov word [IDT+4*8+4],0xee00
 mov word [IDT+5*8+4],0xee00
 mov word [IDT+0x30*8+4],0xee00    ; user gate
 mov word [IDT+0x31*8+4],0xef00    ; trap gate
 mov word [IDT+0x32*8+4],0x6e00    ; not present dpl3
 mov word [IDT+0x33*8+4],0xe600    ; 16-bit gate
 mov word [IDT+0x34*8+4],0xe500    ; task gate
 mov word [IDT+0x34*8+2],0x30
 mov word [IDT+0x35*8+4],0xec00    ; call gate in the IDT: invalid
 mov word [IDT+0x36*8+2],0         ; null selector
 mov word [IDT+0x37*8+2],0x10      ; data selector
 mov word [IDT+0x38*8+2],0x60      ; not-present code
 mov word [IDT+0x39*8+2],0x200     ; beyond the GDT
 mov word [IDT+0x3a*8+4],0xee00
 mov word [IDT+0x3a*8+2],0x48      ; conforming
 o32 lgdt [cs:gdtr]
 o32 lidt [cs:idtr]
 smsw ax
 or al,1
 lmsw ax
 jmp dword CODE0:pm
bits 32
puts:
 mov al,[cs:esi]
 inc esi
 test al,al
 jz .r
 out 0xe9,al
 jmp puts
.r: ret
; prints edx in 8 digits
hex8:
 mov ecx,8
.l: rol edx,4
 mov al,dl
 and al,15
 cmp al,10
 sbb al,0x69
 das
 out 0xe9,al
 loop .l
 mov al,' '
 out 0xe9,al
 ret
nl: mov al,10
 out 0xe9,al
 ret
ok:
 push ecx
 push edx
 push ebx
 pushfd
 mov edx,[esp]
 and edx,0xfffff72a       ; without AF PF SF OF CF: keep ZF
 mov ebx,eax
 push edx
 mov esi,s_ok
 call puts
 mov edx,ebx
 call hex8
 pop edx
 call hex8
 call nl
 mov eax,ebx
 popfd
 pop ebx
 pop edx
 pop ecx
 ret
s_ok: db " ok ",0
s_trap: db " v/e/ip/cs/fl ",0
%macro T 1
 %push t
 jmp %%go
%%s: db %1,0
%%go:
 mov esi,%%s
 call puts
 mov dword [RESUME],%$next
 mov dword [START],%$start
 mov [RESUME_ESP],esp
 xor eax,eax
%$start:
%endmacro
%macro E 0
 call ok
%$next:
 %pop
%endmacro
%macro R3 0
 push dword DATA3
 push dword 0xa000
 push dword [R3FLAGS]
 push dword CODE3
 push dword %%l
 iret
%%l:
%endmacro
align 16
stubs:
%assign v 0
%rep 64
 %if v==8 || (v>=10 && v<=14) || v==17
 %else
  push dword 0xeeeeeeee
 %endif
 push dword v
 jmp near report
 align 16
 %assign v v+1
%endrep
report:
 mov ax,DATA0
 mov ds,ax
 mov es,ax
 mov ebp,esp
 cld
 mov esi,s_trap
 call puts
 mov edx,[ss:ebp]
 call hex8
 mov edx,[ss:ebp+4]
 call hex8
 mov edx,[ss:ebp+8]
 sub edx,[START]
 call hex8
 mov edx,[ss:ebp+12]
 and edx,0xffff
 call hex8
 mov edx,[ss:ebp+16]
 and edx,0xfffff72a
 call hex8
 test dword [ss:ebp+16],0x20000
 jnz .v86
 test dword [ss:ebp+12],3
 jz .same
 mov edx,[ss:ebp+20]
 call hex8
 mov edx,[ss:ebp+24]
 and edx,0xffff
 call hex8
 jmp .same
.v86:
 mov ebx,5
 lea edi,[ebp+20]
.vl: mov edx,[ss:edi]
 call hex8
 add edi,4
 dec ebx
 jns .vl
.same:
 call nl
 mov ax,DATA0
 mov ss,ax
 mov fs,ax
 mov gs,ax
 mov esp,[RESUME_ESP]
 push dword 2
 popfd
 jmp [RESUME]
s_g32: db " gate32 ",0
s_g16: db " gate16 ",0
s_task: db " task ",0
dump_stack:    ; ebx words of size ecx... prints 6 dwords from ss:ebp
 mov ebx,6
.l: mov edx,[ss:ebp]
 call hex8
 add ebp,4
 dec ebx
 jnz .l
 ret
gate32_target:
 mov ax,DATA0
 mov ds,ax
 mov ebp,esp
 mov esi,s_g32
 call puts
 mov edx,[ss:ebp]
 sub edx,[START]
 mov [ss:ebp],edx
 call dump_stack
 call nl
 jmp finish
gate16_target:
 mov ax,DATA0
 mov ds,ax
 mov ebp,esp
 mov esi,s_g16
 call puts
 mov edx,[START]
 sub [ss:ebp],dx
 call dump_stack
 call nl
finish:
 mov ax,DATA0
 mov ss,ax
 mov ds,ax
 mov es,ax
 mov esp,[RESUME_ESP]
 push dword 2
 popfd
 jmp [RESUME]
conf_target:
 int 0x30
task_entry:      ; of TSS2
 mov esi,s_task
 call puts
 pushfd
 pop edx
 call hex8
 str edx
 call hex8
 mov edx,[TSS2]
 call hex8
 mov edx,[TSS+0x24]
 call hex8
 mov edx,[TSS+0x20]
 sub edx,[START]
 call hex8
 mov edx,cr0
 call hex8
 call nl
 iretd
 ; a second entry continues here
 mov esi,s_task
 call puts
 mov edx,esp
 call hex8
 call nl
 iretd
pm:
 mov ax,DATA0
 mov ds,ax
 mov es,ax
 mov fs,ax
 mov gs,ax
 mov ss,ax
 mov esp,0x8000
 mov dword [R3FLAGS],2
 mov edi,TSS
 mov ecx,0x200/4
 xor eax,eax
 rep stosd
 mov edi,TSS2
 mov ecx,0x80/4
 rep stosd
 mov dword [TSS+4],0x9000
 mov dword [TSS+8],DATA0
 mov dword [TSS+0xc],0xb000
 mov dword [TSS+0x10],0xa9
 mov dword [TSS+0x64],0x00880000   ; I/O map at 0x88
 mov dword [TSS+0x88],0xffffffff
 mov dword [TSS+0x8c],0xffffffff
 mov dword [TSS+0x88+0x1c],0xffffff01
 mov byte [TSS+0x88+0xe9/8],0x00   ; e8-ef open
 mov byte [TSS+0x1ff],0xff
 mov dword [TSS2+0x20],task_entry
 mov dword [TSS2+0x24],2
 mov dword [TSS2+0x38],0xc000
 mov dword [TSS2+0x48],DATA0
 mov dword [TSS2+0x4c],CODE0
 mov dword [TSS2+0x50],DATA0
 mov dword [TSS2+0x54],DATA0
 mov dword [TSS2+0x58],DATA0
 mov dword [TSS2+0x5c],DATA0
 mov ax,0x28
 ltr ax
 mov ax,0x40
 lldt ax
%include "protected_mode_cases.inc"
 mov esi,s_end
 call puts
 mov al,0x10
 out 0xf4,al
 cli
 hlt
s_end: db "end",10,0
 times 0xfff0-($-$$) db 0x90
bits 16
 jmp 0xf000:start
 times 0x10000-($-$$) db 0
