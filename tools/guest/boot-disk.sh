# Shared by the scripts that make disks which a PC's firmware boots. Source it. Sectors: the partition table and boot.img,
# core.img behind it; from 1 MiB a FAT partition with GRUB for UEFI; then the root file system.
boot_disk_sector=512 boot_disk_efi_start=2048 boot_disk_efi_size=$((32 * 2048))
boot_disk_root_start=$((boot_disk_efi_start + boot_disk_efi_size))

need_boot_disk_tools() {
    local each
    for each in grub-mkimage mformat mke2fs; do
        command -v $each >/dev/null || { echo "$(basename "$0"): $each is not there; run tools/setup" >&2; return 1; }
    done
}

# make_boot_disk FILE WORK ROOT MIB MODULE...: a partition table, GRUB for a BIOS in front of the first partition, GRUB for
# UEFI in it, and the folder ROOT as an ext4 file system of MIB MiB called "root" whose /boot/grub/grub.cfg they read. The
# MODULEs are GRUB's, beside those for the file systems and scripts.
make_boot_disk() {
    local file=$1 work=$2 root=$3 root_size=$(($4 * 2048)) sector=$boot_disk_sector
    shift 4
    local efi_start=$boot_disk_efi_start efi_size=$boot_disk_efi_size root_start=$boot_disk_root_start disk=$work/boot.raw
    cat >"$work/early.cfg" <<'CFG'
search --no-floppy --label root --set root
set prefix=($root)/boot/grub
CFG
    local modules=(part_msdos fat ext2 search search_label normal configfile echo test sleep reboot halt minicmd "$@")
    grub-mkimage -O i386-pc -c "$work/early.cfg" -p /boot/grub -o "$work/core.img" biosdisk "${modules[@]}"
    grub-mkimage -O x86_64-efi -c "$work/early.cfg" -p /boot/grub -o "$work/grub.efi" "${modules[@]}" efi_gop all_video
    [ "$(stat -c %s "$work/core.img")" -le $(((efi_start - 1) * sector)) ] || {
        echo "$(basename "$0"): core.img does not fit" >&2
        return 1
    }
    truncate -s $(((root_start + root_size) * sector)) "$disk"
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=1 count=440 conv=notrunc status=none
    dd if="$work/core.img" of="$disk" bs=$sector seek=1 conv=notrunc status=none
    python3 - "$disk" $efi_start $efi_size $root_start $root_size <<'PY'
import struct, sys
path, *numbers = sys.argv[1:]
efi_start, efi_size, root_start, root_size = map(int, numbers)
def entry(active, kind, start, size):
    return struct.pack('<B3sB3sII', 0x80 if active else 0, b'\xfe\xff\xff', kind, b'\xfe\xff\xff', start, size)
with open(path, 'r+b') as disk:
    disk.seek(440)
    disk.write(struct.pack('<IH', 0x76677264, 0) + entry(False, 0xef, efi_start, efi_size) +
               entry(True, 0x83, root_start, root_size) + bytes(32) + b'\x55\xaa')
PY
    truncate -s $((efi_size * sector)) "$work/efi.raw"
    mformat -i "$work/efi.raw" -v EFI -N 76677264 ::
    mmd -i "$work/efi.raw" ::/EFI ::/EFI/BOOT
    mcopy -i "$work/efi.raw" "$work/grub.efi" ::/EFI/BOOT/BOOTX64.EFI
    truncate -s $((root_size * sector)) "$work/root.raw"
    mke2fs -q -t ext4 -L root -d "$root" "$work/root.raw"
    dd if="$work/efi.raw" of="$disk" bs=1M seek=$((efi_start / 2048)) conv=notrunc,sparse status=none
    dd if="$work/root.raw" of="$disk" bs=1M seek=$((root_start / 2048)) conv=notrunc,sparse status=none
    mv "$disk" "$file"
}
