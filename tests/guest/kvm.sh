# Shared by the tests that run KVM in a guest. Source it behind lib.sh, and define machine NAME INITRD CMDLINE, which makes
# $work/NAME.toml for the model in $model.
if [ ! -e "$GUEST/vmlinuz" ] || [ ! -e "$GUEST/initrd.img" ]; then
    echo "skipped: no stock kernel with KVM in $GUEST; make it with tools/make-kvm-guest"
    exit 125
fi

complaints() {  # what KVM and the kernels say when something is wrong
    # KVM of 6.1 does not pass on that the processor is safe from SRSO (SRSO_NO): its guest warns of that.
    ! grep -v 'Speculative Return Stack Overflow: WARNING: See' "$1" |
        grep -E 'WARNING:|BUG:|Call Trace|Oops|unhandled|kvm.*(error|fail|warn)|not loaded|KVM: entry failed'
}

monitor_runs() {  # monitor_runs MODULE PARAMETER...: which are Y (or 1)
    local module=$1 parameter
    shift
    machine monitor monitor.img ""
    check "$module: the monitor's run passes by power-off" exits 0 run "$work/monitor.toml" --guest-time 60s
    cp "$work/out" "$work/console"
    for parameter in "$@"; do check "$module: it has $parameter" contains "$work/console" "$module $parameter"; done
    for text in 'monitor: KVM API version 12' 'monitor: sum 7 after 3 exits, count ! after 2' "the monitor's guests are right"; do
        check "$module: $text" contains "$work/console" "$text"
    done
    check "$module: nobody complains" complaints "$work/console"
}
without() {  # without MODULE OPTION...: other ways to run the same guests
    local module=$1 options off
    shift
    for options in "$@"; do
        machine options monitor.img "${module/_/}=$options"
        check "$module $options: the run passes by power-off" exits 0 run "$work/options.toml" --guest-time 60s
        cp "$work/out" "$work/console"
        off="${options%:0} [N0]"
        check "$module $options: it is off" grep -q "$module $off" "$work/console"
        check "$module $options: the monitor's guests are right" contains "$work/console" "the monitor's guests are right"
        check "$module $options: nobody complains" complaints "$work/console"
    done
}
qemu_runs() {  # qemu_runs KIND...: a second stock kernel under QEMU
    for kind in "$@"; do
        machine qemu initrd.img "kvmqemu=$kind"
        check "$model, QEMU $kind: the run passes by power-off" exits 0 run "$work/qemu.toml" --guest-time 300s --wall-time 500s
        cp "$work/out" "$work/console"
        for text in 'inner: userspace reached' 'inner: 1 processor' \
            'inner: sha256 d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025' 'inner: done' 'initrd: qemu ended with 0'; do
            check "$model, QEMU $kind: $text" contains "$work/console" "$text"
        done
        check "$model, QEMU $kind: nobody complains" complaints "$work/console"
    done
}
# Both engines, and the same again: one state. From where userspace begins: the kernel's own boot is held to be equal elsewhere.
state() {  # state ENGINE
    "$VERDIGRIS" run --restore "$work/begin.vgs" --engine "$1" --guest-time 60s --stats "$work/$1.json" -q >"$work/$1.console" 2>&1 </dev/null
    sed -n 's/.*"state_hash": "\(.*\)".*/\1/p' "$work/$1.json"
}
same_state() {
    machine monitor monitor.img ""
    check "$model: a snapshot at userspace" exits 0 run "$work/monitor.toml" --guest-time 60s --snapshot-at "console:initrd. userspace=$work/begin.vgs"
    first=$(state jit)
    check "$model: the state hash is told" test -n "$first"
    check "$model: a second run ends in the same state" equal "$(state jit)" "$first"
    check "$model: the interpreter ends in the same state" equal "$(state step)" "$first"
    check "$model: KVM's guests ran in it" contains "$work/step.console" "the monitor's guests are right"
    rm -f "$work/begin.vgs"
}
