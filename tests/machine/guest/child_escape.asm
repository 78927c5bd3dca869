; Control characters, an endless line, and reads of ports and of memory that are nobody's; then it powers itself off.
%include "kernel.inc"
code:
    print 27
    print '['
    print '2'
    print 'J'
    mov ecx, 3000
.more:
    print 'x'
    dec ecx
    jnz .more
    print 10
    mov dx, 0x1234
    in eax, dx
    cmp eax, -1
    jne bad
    in al, dx
    cmp eax, -1
    jne bad
    print 'n'
    print 10
    power_off
bad:
    print 'b'
    power_off
end:
