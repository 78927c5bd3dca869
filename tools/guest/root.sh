# Shared by the scripts that make guests: ext4 root disks with busybox. Source it.

# make_root FILE SIZE INIT: a raw image with an ext4 file system (the same bytes of structure in every run) and INIT as
# /sbin/init. Uses the folder $work.
make_root() {
    local file=$1 size=$2 init=$3 disk=$work/disk applet
    rm -rf "$disk"
    mkdir -p "$disk"/{bin,dev,etc,proc,sys,sbin,tmp,var,root}
    cp /bin/busybox "$disk/bin/busybox"
    for applet in sh sed cat ls mount umount sync dmesg grep uname echo sleep date wc head tail dd md5sum; do
        ln -s busybox "$disk/bin/$applet"
    done
    cp "$init" "$disk/sbin/init"
    chmod +x "$disk/sbin/init"
    truncate -s "$size" "$file"
    mke2fs -q -t ext4 -L verdigris -U 5c17be11-0000-4000-8000-000000000001 -E hash_seed=5c17be11-0000-4000-8000-000000000002,root_owner=0:0 \
        -d "$disk" "$file"
}
