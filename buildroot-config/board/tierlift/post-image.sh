#!/bin/sh
# Writes images that boot into the folder $1, from the kernel and the initramfs
# that lie in it. Which ones: the further arguments, or all of them. Layouts,
# menu and machine description are those of `cargo xtask image --all`.
#
# Buildroot gives BUILD_DIR and HOST_DIR; GRUB_PC and GRUB_EFI may name other
# folders with GRUB's parts.
set -eu

BINARIES_DIR=$1
shift
BOARD=$(cd "$(dirname "$0")" && pwd)
SOURCE=$(cd "$BOARD/../../.." && pwd)/xtask/src/disk_image
WORK=$BUILD_DIR/tierlift-images
TIME="2026-01-01 00:00:00 UTC"
VOLUME=2026-01-01-00-00-00-00
COMMON="normal configfile linux serial terminal echo test search search_fs_uuid part_gpt part_msdos fat iso9660"
EFI="efi_gop all_video"

PATH=$HOST_DIR/bin:$HOST_DIR/sbin:$PATH
SOURCE_DATE_EPOCH=1767225600
TZ=UTC
MTOOLS_SKIP_CHECK=1
export PATH SOURCE_DATE_EPOCH TZ MTOOLS_SKIP_CHECK

# The folder with GRUB's parts for a platform, in its build folder.
grub_parts() {
	for folder in "$BUILD_DIR"/grub2-*/build-"$1"/grub-core; do
		[ -d "$folder" ] && echo "$folder" && return
	done
	echo "post-image.sh: grub2 was not built for $1" >&2
	return 1
}

bytes() {
	stat -L -c %s "$1"
}

# Puts a number of $3 bytes, least byte first, to offset $2 of the file $1.
number() {
	value=$4
	text=
	for _ in $(seq "$3"); do
		text="$text\\$(printf %03o $((value % 256)))"
		value=$((value / 256))
	done
	# shellcheck disable=SC2059
	printf "$text" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

inputs() {
	GRUB_PC=${GRUB_PC:-$(grub_parts i386-pc)}
	GRUB_EFI=${GRUB_EFI:-$(grub_parts x86_64-efi)}
	mkdir -p "$WORK"
	cp "$BINARIES_DIR/bzImage" "$WORK/bzImage"
	cp "$BINARIES_DIR/rootfs.cpio.zst" "$WORK/initramfs"
	cp "$SOURCE/grub.cfg" "$WORK/grub.cfg"
}

# GRUB's first sector knows at which sector the core lies, and the core's first
# sector where the rest of it lies.
bios_loader() {
	# shellcheck disable=SC2086
	grub-mkimage -O i386-pc -p "(,gpt2)/boot/grub" -d "$GRUB_PC" -o "$WORK/core.img" $COMMON biosdisk
	sectors=$((($(bytes "$WORK/core.img") + 511) / 512))
	if [ $sectors -gt 2048 ]; then
		echo "post-image.sh: GRUB's core takes $sectors sectors; its partition has 2048" >&2
		return 1
	fi
	truncate -s $((sectors * 512)) "$WORK/core.img"
	number "$WORK/core.img" 500 8 2049
	number "$WORK/core.img" 508 2 $((sectors - 1))
	number "$WORK/core.img" 510 2 $((0x820))
	cp "$GRUB_PC/boot.img" "$WORK/boot.img"
	number "$WORK/boot.img" $((0x5c)) 8 2048
	number "$WORK/boot.img" $((0x64)) 1 $((0xff))
	number "$WORK/boot.img" $((0x66)) 2 $((0x9090))
}

raw() {
	bios_loader
	# shellcheck disable=SC2086
	grub-mkimage -O x86_64-efi -p /boot/grub -d "$GRUB_EFI" -o "$WORK/BOOTX64.EFI" $COMMON $EFI
	touch -d "$TIME" "$WORK/BOOTX64.EFI" "$WORK/grub.cfg" "$WORK/bzImage" "$WORK/initramfs"
	total=$(($(bytes "$WORK/bzImage") + $(bytes "$WORK/initramfs") + $(bytes "$WORK/BOOTX64.EFI")))
	files=$(((total + 1048575) / 1048576 + 4))
	# Fewer clusters would make it another kind of FAT.
	[ $files -ge 34 ] || files=34
	sed -e "s/@FILES_MIB@/$files/" -e "s/@DISK_MIB@/$((files + 3))/" \
		"$BOARD/genimage.cfg.in" > "$WORK/genimage.cfg"
	rm -rf "$WORK/empty" "$WORK/temporary"
	mkdir "$WORK/empty"
	genimage --rootpath "$WORK/empty" --tmppath "$WORK/temporary" --inputpath "$WORK" \
		--outputpath "$WORK" --config "$WORK/genimage.cfg"
	mv "$WORK/tierlift.raw" "$BINARIES_DIR/tierlift.raw"
}

convert() {
	[ -n "${RAW_DONE:-}" ] || raw
	RAW_DONE=yes
	qemu-img convert -f raw -m 1 "$@"
}

ova() {
	convert -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic \
		"$BINARIES_DIR/tierlift.raw" "$WORK/tierlift-disk1.vmdk"
	sed -e "s/@SIZE@/$(bytes "$WORK/tierlift-disk1.vmdk")/" \
		-e "s/@CAPACITY@/$(bytes "$BINARIES_DIR/tierlift.raw")/" "$SOURCE/machine.ovf" > "$WORK/tierlift.ovf"
	for part in tierlift.ovf tierlift-disk1.vmdk; do
		sum=$(sha256sum "$WORK/$part")
		echo "SHA256($part)= ${sum%% *}"
	done > "$WORK/tierlift.mf"
	tar --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="$TIME" \
		-C "$WORK" -cf "$BINARIES_DIR/tierlift.ova" tierlift.ovf tierlift.mf tierlift-disk1.vmdk
}

iso() {
	tree=$WORK/iso
	rm -rf "$tree"
	mkdir -p "$tree/boot/grub"
	cp "$WORK/bzImage" "$WORK/initramfs" "$tree/boot/"
	cp "$WORK/grub.cfg" "$tree/boot/grub/"
	# shellcheck disable=SC2086
	grub-mkimage -O i386-pc-eltorito -p /boot/grub -d "$GRUB_PC" -o "$tree/boot/grub/cd.img" $COMMON biosdisk
	cat > "$WORK/early.cfg" <<-END
	search --no-floppy --fs-uuid --set=root --hint=cd0 $VOLUME
	set prefix=(\$root)/boot/grub
	END
	# shellcheck disable=SC2086
	grub-mkimage -O x86_64-efi -p /boot/grub -c "$WORK/early.cfg" -d "$GRUB_EFI" -o "$WORK/CDX64.EFI" $COMMON $EFI
	touch -d "$TIME" "$WORK/CDX64.EFI"
	image=$tree/boot/grub/efi.img
	truncate -s $((($(bytes "$WORK/CDX64.EFI") + 262144 + 511) / 512 * 512)) "$image"
	mkfs.vfat --invariant -F 12 -S 512 -s 1 -n TIERLIFT -i 71E2F11E "$image" > /dev/null
	mmd -i "$image" ::/EFI ::/EFI/BOOT
	mcopy -m -i "$image" "$WORK/CDX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
	find "$tree" -exec touch -d "$TIME" {} +
	date=$(echo "$VOLUME" | tr -d -)
	rm -f "$BINARIES_DIR/tierlift.iso"
	# The disk's identifier is "Tierlift bootdsk" in the order of bytes on the disk.
	xorriso -as mkisofs -quiet -r -J -V TIERLIFT --modification-date="$date" --set_all_file_dates "$date" \
		--gpt_disk_guid 546965726c69667420626f6f7464736b \
		-c boot/boot.cat -b boot/grub/cd.img -no-emul-boot -boot-load-size 4 -boot-info-table \
		--grub2-boot-info --grub2-mbr "$GRUB_PC/boot_hybrid.img" --protective-msdos-label \
		--efi-boot boot/grub/efi.img -efi-boot-part --efi-boot-image \
		-o "$BINARIES_DIR/tierlift.iso" "$tree"
}

inputs
[ $# -gt 0 ] || set -- raw vhd vhdx vmdk ova qcow2 iso
for kind in "$@"; do
	file=$BINARIES_DIR/tierlift.$kind
	source=$BINARIES_DIR/tierlift.raw
	case $kind in
	raw) raw; RAW_DONE=yes ;;
	vhd) convert -O vpc -o subformat=fixed,force_size=on "$source" "$file" ;;
	vhdx) convert -O vhdx "$source" "$file" ;;
	vmdk) convert -O vmdk -o subformat=monolithicSparse,adapter_type=lsilogic "$source" "$file" ;;
	qcow2) convert -c -O qcow2 -o compat=1.1 "$source" "$file" ;;
	ova) ova ;;
	iso) iso ;;
	*) echo "post-image.sh: no image is called $kind" >&2; exit 1 ;;
	esac
	echo "post-image.sh: $file ($(bytes "$file") bytes)"
done
