; Firmware of 64 KiB, to be run at reset. The first time it shadows memory in every way, says "1" and resets by the way that
; the byte at CMOS 7FH names (0: port CF9, 1: keyboard controller, 2: triple fault); the second time it looks at what was left,
; says "2", waits for a key, says which, and powers off. Anything wrong: "!" and the number of the check.
bits 16
org 0
kCom1 equ 0x3f8
kPm1Control equ 0x604

%macro say 1
    mov dx, kCom1
    mov al, %1
    out dx, al
%endmacro
%macro cmos_read 1
    mov al, %1
    out 0x70, al
    in al, 0x71
%endmacro
%macro cmos_write 2
    mov al, %1
    out 0x70, al
    mov al, %2
    out 0x71, al
%endmacro
; A byte of the host bridge's configuration space.
%macro pam 2
    mov eax, 0x80000000 | (%1 & 0xfc)
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc + (%1 & 3)
    mov al, %2
    out dx, al
%endmacro
%macro expect 3 ; register, value, number
    cmp %1, %2
    mov bl, %3
    jne bad
%endmacro

start:
    cli
    xor ax, ax
    mov ss, ax
    mov sp, 0x7000
    mov ax, 0xd000
    mov ds, ax
    mov ax, 0xf000
    mov es, ax
    cmos_read 0x40
    cmp al, 0x55
    je second

    expect word [0], 0xffff, '0'        ; nothing is behind D0000
    mov word [0], 0x1111
    expect word [0], 0xffff, '1'
    pam 0x93, 0x22                      ; D0000..D7FFF: writes to memory, reads not
    mov word [0], 0x2222
    expect word [0], 0xffff, '2'
    pam 0x93, 0x11                      ; reads from memory, writes not
    expect word [0], 0x2222, '3'
    mov word [0], 0x3333
    expect word [0], 0x2222, '4'
    pam 0x93, 0x33
    mov word [0], 0x4444
    expect word [0], 0x4444, '5'
    ; Code that is copied there runs, and other code that replaces it.
    mov dword [0x10], 0xcb0001b8        ; mov ax, 1; retf
    call 0xd000:0x10
    expect ax, 1, '6'
    mov byte [0x11], 7
    call 0xd000:0x10
    expect ax, 7, '7'
    pam 0x93, 0x11
    call 0xd000:0x10
    expect ax, 7, '8'
    mov byte [0x11], 9                  ; dropped
    call 0xd000:0x10
    expect ax, 7, '9'
    pam 0x93, 0x33
    mov byte [0x11], 9
    call 0xd000:0x10
    expect ax, 9, 'a'
    ; The BIOS copies itself over itself and is writable then.
    mov ax, 0x1000
    mov fs, ax
    xor si, si
    mov cx, 0x8000
.out:
    mov ax, [es:si]
    mov [fs:si], ax
    add si, 2
    loop .out
    jmp 0x1000:.there
.there:
    pam 0x90, 0x20                      ; writes to memory, reads still from ROM
    xor si, si
    mov cx, 0x8000
.back:
    mov ax, [fs:si]
    mov [es:si], ax
    add si, 2
    loop .back
    pam 0x90, 0x30
    jmp 0xf000:.again
.again:
    mov word [es:scratch], 0x1234
    expect word [es:scratch], 0x1234, 'b'
    say '1'
    cmos_write 0x40, 0x55
    cmos_read 0x7f
    cmp al, 1
    je .keyboard
    cmp al, 2
    je .triple
    mov dx, 0xcf9
    mov al, 6
    out dx, al
    jmp $
.keyboard:
    in al, 0x64
    test al, 2
    jnz .keyboard
    mov al, 0xfe
    out 0x64, al
    jmp $
.triple:
    lidt [cs:nothing]
    int3
    jmp $

second:
    expect word [es:scratch], 0, 'c'    ; the ROM is seen again
    expect word [0], 0xffff, 'd'
    pam 0x93, 0x11
    expect word [0], 0x4444, 'e'        ; memory has kept its content
    say '2'
    mov al, 0xf4                        ; the keyboard sends
    out 0x60, al
.key:
    in al, 0x64
    test al, 1
    jz .key
    in al, 0x60
    cmp al, 0xfa
    je .key
    mov dx, kCom1
    out dx, al
    mov dx, kPm1Control
    mov ax, 5 << 10 | 1 << 13
    out dx, ax
    jmp $

bad:
    say '!'
    say bl
    mov dx, kPm1Control
    mov ax, 5 << 10 | 1 << 13
    out dx, ax
    jmp $

scratch dw 0
nothing dw 0, 0, 0
    times 0xfff0 - ($ - $$) db 0xff
    jmp 0xf000:start
    times 0x10000 - ($ - $$) db 0
