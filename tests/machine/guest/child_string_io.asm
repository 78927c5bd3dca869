; An instruction that the parent does not emulate.
%include "kernel.inc"
code:
    mov esi, image
    mov ecx, 4
    mov dx, 0x3f8
    rep outsb
    power_off
end:
