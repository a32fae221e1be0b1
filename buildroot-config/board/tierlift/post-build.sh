#!/bin/sh
# Makes the root file system what `cargo xtask image` makes of the same overlay.
set -eu

TARGET_DIR=$1

# Git keeps no modes here: a file that starts with #! is a program.
find "$TARGET_DIR/etc" -type f | while IFS= read -r file; do
	if [ "$(head -c 2 "$file" | tr -d '\0')" = '#!' ]; then
		chmod 755 "$file"
	fi
done

# Nothing starts by itself: rcS is ours, and what packages want started goes.
rm -f "$TARGET_DIR"/etc/init.d/S[0-9]* "$TARGET_DIR/etc/init.d/rcK" "$TARGET_DIR/etc/fstab"

# busybox is the first process, without a script of Buildroot's before it.
ln -sf /usr/bin/busybox "$TARGET_DIR/init"
mkdir -p "$TARGET_DIR/mnt" "$TARGET_DIR/proc" "$TARGET_DIR/sys" "$TARGET_DIR/run"

# Of OpenSSH only the SFTP server is wanted, where Debian has it.
mkdir -p "$TARGET_DIR/usr/lib/openssh"
ln -sf ../../libexec/sftp-server "$TARGET_DIR/usr/lib/openssh/sftp-server"
rm -f "$TARGET_DIR/usr/sbin/sshd" "$TARGET_DIR/usr/libexec/sshd-session" "$TARGET_DIR/usr/libexec/sshd-auth"
rm -rf "$TARGET_DIR/etc/ssh"

# mdadm looks here first; what it finds must be the one that finds no arrays.
ln -sf mdadm/mdadm.conf "$TARGET_DIR/etc/mdadm.conf"
