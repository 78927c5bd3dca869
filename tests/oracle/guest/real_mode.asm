; A real-mode program of loops, strings, decimal arithmetic and far calls. Ends in HLT; its registers and memory are
; the result. Loaded at 3000:0000, with DS = ES = 1000 and SS:SP = 2000:f000.
    bits 16
    org 0
start:
    mov bp, 140                 ; rounds down to 100: ENTER reads frames below BP
round:
    ; a pseudo-random table of 256 words at 0x100
    mov di, 0x100
    mov cx, 256
    mov ax, bp
    imul ax, ax, 0x6255
fill:
    imul ax, ax, 0x4e6d
    add ax, 0x3039
    rol ax, 3
    stosw
    loop fill
    ; sort it
    mov dx, 255
outer:
    mov si, 0x100
    mov cx, dx
    xor bl, bl
inner:
    lodsw
    cmp ax, [si]
    jbe ordered
    xchg ax, [si]
    mov [si-2], ax
    inc bl
ordered:
    loop inner
    test bl, bl
    jz sorted
    dec dx
    jnz outer
sorted:
    ; packed decimal sum of 32 bytes, ASCII adjustments beside it
    mov si, 0x100
    mov cx, 32
    xor dx, dx
decimal:
    lodsb
    and al, 0x77
    add al, dl
    daa
    mov dl, al
    adc dh, 0
    sub al, 0x29
    das
    aam
    add al, 7
    aaa
    push ax
    aad
    sub al, 3
    aas
    pop bx
    xor [si+0x400], ax
    add [si+0x500], bx
    loop decimal
    ; strings both ways
    mov si, 0x100
    mov di, 0x900
    mov cx, 128
    rep movsd
    std
    mov si, 0xaff
    mov di, 0xb03
    mov cx, 200
    rep movsb
    cld
    mov si, 0x100
    mov di, 0x900
    mov cx, 512
    repe cmpsb
    pushf
    pop word [0x80]
    mov [0x82], cx
    mov al, dl
    mov di, 0x900
    mov cx, 512
    repne scasb
    mov [0x84], di
    mov bx, 0x100
    xlatb
    ; far, nested frames, flags, divisions
    call 0x3000:far_procedure
    pusha
    enter 16, 3
    mov [bp-8], ax
    leave
    popa
    mov ax, [0x100]
    or ax, 1
    mov cx, ax
    mov ax, 0xbeef
    xor dx, dx
    div cx
    mov [0x86], dx
    add [0x88], ax
    cwd
    idiv cx
    clc
    sbb [0x8a], ax
    shld [0x8c], dx, 5
    rcr word [0x8e], 1
    dec bp
    cmp bp, 100
    jnz round
    hlt
far_procedure:
    push es
    push 0x1800
    pop es
    lahf
    sahf
    seto al
    cbw
    bsf cx, [0x102]
    btc [0x90], cx
    les di, [0x104]
    lds si, [cs:pointer]
    mov di, es
    pop es
    retf
pointer:
    dw 0x1234, 0x1000
