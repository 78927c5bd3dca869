; Says something and powers itself off.
%include "kernel.inc"
code:
    print 'o'
    print 'k'
    print 10
    power_off
end:
