//! What a boot does to attached disks: nothing, whatever they carry.

mod common;

use common::{Whole, monitor, sparse};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::{ForgeOptions, Mirror};
use tierlift_tests::{Image, Settings};

fn made(path: &Path, program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).arg(path).status().unwrap();
    assert!(status.success(), "{program}");
}

/// Whole mirrors with a pool, a file system and swap space: nothing is assembled, mounted, used or activated, every disk is
/// read-only, and not a byte has changed.
#[test]
fn disks_are_left_alone() {
    let whole =
        Whole::forge("F1-plain-ext4", &ForgeOptions { mirror: Mirror::Both, compact: true, ..ForgeOptions::default() });
    let files = sparse(&whole.folder().join("files.img"), 32 << 20);
    made(&files, "mke2fs", &["-q", "-F", "-t", "ext4"]);
    let swap = sparse(&whole.folder().join("swap.img"), 32 << 20);
    made(&swap, "mkswap", &["-q"]);
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap())).source(&files).source(&swap);
    let mut machine = settings.boot().unwrap();
    let mut said = |line: &str| machine.shell(line).unwrap().success().unwrap();
    let disks = whole.forged.disks.len() + 2;
    assert!(!said("cat /proc/mdstat").contains("active"), "an array was assembled");
    assert_eq!(said("grep -c /dev/vd /proc/mounts || true").trim(), "0", "a disk was mounted");
    assert_eq!(said("wc -l < /proc/swaps").trim(), "1", "swap space is used");
    assert!(said("dmsetup ls").contains("No devices found"), "a volume was activated");
    assert_eq!(said("cat /sys/block/vd*/ro"), "1\n".repeat(disks), "a disk can be written to");
    assert_eq!(said("cat /sys/block/vd*/stat | awk '{ if ($5 > 0) print }'"), "", "a disk was written to");
    machine.finish().unwrap();
}

/// A stick that is put in later is treated as the disks that were there.
#[test]
fn a_disk_that_comes_later_is_read_only() {
    let folder = TempDir::new().unwrap();
    let (stick, socket) = (sparse(&folder.path().join("stick.img"), 8 << 20), folder.path().join("monitor"));
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    let drive = format!("if=none,id=stick,format=raw,file={}", stick.display());
    let words = ["-monitor", &listen, "-device", "qemu-xhci,id=hub", "-drive", &drive];
    let mut machine = Settings::new(&Image::from_environment().unwrap()).with(&words).boot().unwrap();
    monitor(&socket, "device_add usb-storage,bus=hub.0,drive=stick");
    let wait = "for i in $(seq 150); do [ \"$(cat /sys/block/sda/ro 2>/dev/null)\" = 1 ] && exit 0; usleep 200000; done; exit 1";
    machine.shell(wait).unwrap().success().unwrap();
    machine.finish().unwrap();
}
