# Shared by the scripts that make guests: programs of Debian packages with the libraries that they need. Source it.

# dependencies_of PACKAGE: itself and all that it depends on, by apt's lists.
dependencies_of() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
        grep '^[a-z]' | sort -u
}

# fetch_packages DIRECTORY TREE PACKAGE...: unpacks the packages into TREE (kept as .deb in DIRECTORY).
fetch_packages() {
    local out=$1 tree=$2 package missing=()
    shift 2
    mkdir -p "$out" "$tree"
    for package in "$@"; do
        [ -n "$(ls "$out/${package}"_*.deb 2>/dev/null)" ] || missing+=("$package")
    done
    if [ "${#missing[@]}" -ne 0 ]; then
        echo "$(basename "$0"): fetching ${missing[*]}"
        # Container images come without package lists.
        [ "$(id -u)" -ne 0 ] || [ -n "$(apt-cache policy "${missing[0]}" 2>/dev/null)" ] || apt-get update -qq >/dev/null 2>&1
        (cd "$out" && apt-get download -qq "${missing[@]}") >/dev/null 2>&1 || {
            echo "$(basename "$0"): apt-get download failed; is a network there?" >&2
            return 1
        }
    fi
    for package in "$@"; do dpkg-deb -x "$(ls "$out/${package}"_*.deb | head -n 1)" "$tree"; done
}

# copy_libraries ROOT TREE PROGRAM...: the shared objects that the programs need, from TREE ("": what is installed) or, if
# they are not there, from this system, to ROOT/lib.
copy_libraries() {
    local root=$1 tree=$2 loader=/lib64/ld-linux-x86-64.so.2 library needed
    shift 2
    [ -n "$tree" ] && [ -e "$tree$loader" ] && loader=$tree$loader
    mkdir -p "$root/lib/x86_64-linux-gnu" "$root/lib64"
    needed=$(for each in "$@"; do
        "$loader" --library-path "$([ -z "$tree" ] || find "$tree" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')" --list "$each"
    done) || { echo "$(basename "$0"): libraries are missing; run tools/setup" >&2; return 1; }
    if grep -q 'not found' <<<"$needed"; then
        echo "$(basename "$0"): $(grep -m 1 'not found' <<<"$needed" | sed 's/^[[:space:]]*//'); run tools/setup" >&2
        return 1
    fi
    grep -o '/[^ ]*' <<<"$needed" | sort -u | while read -r library; do
        case $library in
            */ld-linux-x86-64.so.2) cp -L "$library" "$root/lib64/" ;;
            *) cp -L "$library" "$root/lib/x86_64-linux-gnu/" ;;
        esac
    done
}
