# Shared by the end-to-end tests: run the real program, look at what it says. Source it after setting VERDIGRIS, GUEST, SOURCE.
set -u
fails=0
work=$(mktemp -d "${TMPDIR:-/tmp}/verdigris-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
export PATH="$PATH:/usr/sbin:/sbin"

need_guest() {
    [ -e "$GUEST/vmlinuz" ] && [ -e "$GUEST/initrd.img" ] && [ -e "$GUEST/base.vhd" ] && return
    echo "skipped: no stock kernel in $GUEST; make it with tools/make-guest"
    exit 125
}
check() {  # check WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        echo "FAILED: $what"
        fails=$((fails + 1))
    fi
}
equal() { [ "$1" = "$2" ] || { echo "  '$1' is not '$2'"; return 1; }; }
contains() { grep -qE -e "$2" "$1" || { echo "  no '$2' in:"; tail -n 5 "$1" | sed 's/^/    /'; return 1; }; }
finish() {
    [ "$fails" -eq 0 ] && exit 0
    echo "$fails checks failed"
    exit 1
}
# long ITEM...: what only VG_LONG=1 asks for; by default what takes minutes and proves little more is left out.
long() { [ -z "${VG_LONG:-}" ] || echo "$@"; }
# Where tools/guest/boot-disk.sh puts the root file system, in bytes.
root_at=$((1048576 + 32 * 1048576))
# boot_disk FILE [LINE...]: a copy of $GUEST/boot.raw with these lines as /boot/grub/extra.cfg.
boot_disk() {
    local file=$1
    shift
    cp --sparse=always "$GUEST/boot.raw" "$work/$file"
    [ $# -eq 0 ] && return
    printf '%s\n' "$@" >"$work/extra.cfg"
    debugfs -w -R "rm /boot/grub/extra.cfg" "$work/$file?offset=$root_at" >/dev/null 2>&1
    debugfs -w -R "write $work/extra.cfg /boot/grub/extra.cfg" "$work/$file?offset=$root_at" >/dev/null 2>&1
}
root_of() { dd if="$work/$1" of="$work/root.img" bs=1M skip=$((root_at / 1048576)) conv=sparse status=none; }
# What the console said, without what moves its cursor: SeaBIOS' and GRUB's screens go over the serial line.
said() { sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\r//g' "${1:-$work/out}" >"$work/console"; }
# exits EXPECTED-CODE ARGUMENTS...: runs verdigris, output in $work/out and $work/err.
exits() {
    local expected=$1 code=0
    shift
    "$VERDIGRIS" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    equal "$code" "$expected" || { tail -n 3 "$work/err" | sed 's/^/    /'; return 1; }
}
