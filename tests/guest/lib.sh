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
# exits EXPECTED-CODE ARGUMENTS...: runs verdigris, output in $work/out and $work/err.
exits() {
    local expected=$1 code=0
    shift
    "$VERDIGRIS" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    equal "$code" "$expected" || { tail -n 3 "$work/err" | sed 's/^/    /'; return 1; }
}
