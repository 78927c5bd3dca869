; Shuts its processor down.
%include "kernel.inc"
code:
    lidt [nothing]
    ud2
nothing:
    dw 0
    dd 0
end:
