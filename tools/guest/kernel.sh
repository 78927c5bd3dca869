# Shared by the scripts that make guests: Debian kernel packages and initial RAM disks of their modules. Source it.

# fetch_kernel DIRECTORY PACKAGE WORK: unpacks the package into WORK/kernel (kept as .deb in DIRECTORY); sets `version`.
fetch_kernel() {
    local out=$1 package=$2 work=$3 real deb
    # A meta package depends on the kernel of the day.
    kernel_of_the_day() {
        apt-cache depends --no-recommends --no-suggests "$package" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
    }
    case $package in
        linux-image-[0-9]*) real=$package ;;
        *) real=$(kernel_of_the_day)
           # Container images come without package lists.
           if [ -z "$real" ] && [ "$(id -u)" -eq 0 ] && apt-get update -qq >/dev/null 2>&1; then real=$(kernel_of_the_day); fi ;;
    esac
    if [ -z "$real" ]; then
        echo "$(basename "$0"): package $package is not known to apt; run apt-get update first, with a network" >&2
        return 1
    fi
    deb=$(ls "$out/$real"_*.deb 2>/dev/null | head -n 1 || true)
    if [ -z "$deb" ]; then
        echo "$(basename "$0"): fetching $real"
        (cd "$out" && apt-get download -qq "$real") >/dev/null 2>&1 || {
            echo "$(basename "$0"): apt-get download $real failed; is a network there?" >&2
            return 1
        }
        deb=$(ls "$out/$real"_*.deb | head -n 1)
    fi
    dpkg-deb -x "$deb" "$work/kernel"
    version=$(ls "$work/kernel/lib/modules")
}

# make_initrd FILE WORK INIT MODULE...: busybox, the modules with what they depend on, in loading order, and INIT as /init.
make_initrd() {
    local file=$1 work=$2 init=$3 root=$2/initrd module path name
    shift 3
    mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules}
    cp /bin/busybox "$root/bin/busybox"
    depmod -b "$work/kernel" "$version"
    : >"$root/modules/order"
    for module in "$@"; do
        modprobe -d "$work/kernel" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r path; do
        name=$(basename "$path")
        case $name in
            *.xz) xz -dc "$path" >"$root/modules/${name%.xz}"; name=${name%.xz} ;;
            *.zst) zstd -qdc "$path" >"$root/modules/${name%.zst}"; name=${name%.zst} ;;
            *) cp "$path" "$root/modules/$name" ;;
        esac
        echo "$name" >>"$root/modules/order"
    done
    cp "$init" "$root/init"
    chmod +x "$root/init"
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible | gzip -9n) >"$file"
}
