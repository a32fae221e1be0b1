//! What can go wrong on our side: a target that is full, fails or is pulled out, an overlay without room, a scratch disk too
//! small. Each is said, nothing is lost, and the same command goes on.

mod common;

use common::files::{attached, ext4, volume};
use common::{monitor, sparse};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::Dice;
use tierlift_tests::{Machine, Output};

const VOLUME: &str = "md1/volume";
fn assert_all(machine: &mut Machine, device: &str, hashes: &[String]) {
    let list = format!(
        "mkdir -p /tmp/t && mount -o ro {device} /tmp/t && cd /tmp/t/photos && sha256sum * ; cd / ; umount /tmp/t"
    );
    let list = machine.shell(&list).unwrap().success().unwrap();
    for (number, hash) in hashes.iter().enumerate() {
        assert!(list.contains(&format!("{hash}  {number}\n")), "file {number} in {list}");
    }
}

fn copy(machine: &mut Machine, target: &str) -> Output {
    machine.run(&["copy", VOLUME, target]).unwrap()
}

#[test]
fn a_target_that_runs_full() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path(), |_| ());
    let target = ext4(&folder.path().join("target.img"), 64);
    let mut machine = attached(&forged).writable(&target).boot().unwrap();
    let device = format!("/dev/vd{}", char::from(b'a' + forged.disks.len() as u8));
    // How much room a folder needs is not asked before: what is left (some 12 MiB) is not enough for 24.
    let fill = format!(
        "blockdev --setrw {device}; mkdir -p /tmp/f && mount {device} /tmp/f && head -c 41943040 /dev/zero > /tmp/f/other; sync"
    );
    machine.shell(&fill).unwrap().success().unwrap();
    let words = ["copy", "md1/volume:photos", "/tmp/f/photos"];
    let full = machine.run(&words).unwrap();
    assert!(full.code & 8 != 0 && full.stderr.contains("the target is full"), "{full:?}");
    machine.shell("rm /tmp/f/other; sync").unwrap().success().unwrap();
    let rest = machine.run(&words).unwrap();
    assert_eq!(rest.code, 0, "{rest:?}");
    assert!(!rest.stdout.contains(" 24 files copied"), "it began from nothing: {}", rest.stdout);
    machine.shell("umount /tmp/f").unwrap().success().unwrap();
    assert_all(&mut machine, &device, &hashes);
    machine.finish().unwrap();
}

#[test]
fn a_target_with_bad_sectors() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path(), |_| ());
    let (bad, good) = (ext4(&folder.path().join("bad.img"), 64), ext4(&folder.path().join("good.img"), 64));
    let rules = folder.path().join("rules");
    let sectors = (0..64).map(|number| {
        format!("[inject-error]\nevent = \"pwritev\"\nerrno = \"5\"\nsector = \"{}\"\n\n", 2 * (20 << 10) + number * 8)
    });
    fs::write(&rules, sectors.collect::<String>()).unwrap();
    let drive = format!(
        "if=none,id=bad,format=raw,cache=unsafe,file.driver=blkdebug,file.config={},file.image.driver=file,file.image.filename={}",
        rules.display(),
        bad.display()
    );
    let mut machine = attached(&forged)
        .writable(&good)
        .with(&["-drive", &drive, "-device", "virtio-blk-pci,drive=bad"])
        .boot()
        .unwrap();
    let disks = forged.disks.len() as u8;
    let (good, bad) = (format!("/dev/vd{}", char::from(b'a' + disks)), format!("/dev/vd{}", char::from(b'b' + disks)));
    let failed = copy(&mut machine, &bad);
    assert!(failed.code & 8 != 0 && failed.stderr.contains("another disk"), "{failed:?}");
    let whole = copy(&mut machine, &good);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert_all(&mut machine, &good, &hashes);
    machine.finish().unwrap();
}

#[test]
fn a_target_that_is_pulled_out() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path(), |_| ());
    let target = ext4(&folder.path().join("target.img"), 64);
    let socket = folder.path().join("monitor");
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    let drive = format!("if=none,id=stick,format=raw,cache=unsafe,file={}", target.display());
    let device = "usb-storage,id=usb,bus=hub.0,drive=stick";
    let words = ["-monitor", &listen, "-device", "qemu-xhci,id=hub", "-drive", &drive, "-device", device];
    let mut machine = attached(&forged).with(&words).boot().unwrap();
    machine.shell("while [ ! -e /dev/sda ]; do sleep 0.2; done").unwrap();
    machine
        .shell("(tierlift copy md1/volume /dev/sda > /tmp/said 2>&1; echo exit $? >> /tmp/said) > /dev/null 2>&1 &")
        .unwrap();
    machine.shell("while [ ! -e /mnt/target/photos ]; do :; done").unwrap();
    monitor(&socket, "device_del usb");
    let said = machine.shell("while ! grep -q '^exit' /tmp/said; do sleep 0.2; done; cat /tmp/said").unwrap().stdout;
    assert!(said.contains("exit 8"), "{said}");
    assert!(said.contains("fails") || said.contains("read-only") || said.contains("I/O error"), "{said}");
    assert!(Path::new(&target).exists());
    machine.finish().unwrap();
    // Plugged in again at another machine: the same command ends it.
    let mut machine = attached(&forged).writable(&target).boot().unwrap();
    let device = format!("/dev/vd{}", char::from(b'a' + forged.disks.len() as u8));
    let whole = copy(&mut machine, &device);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert_all(&mut machine, &device, &hashes);
    machine.finish().unwrap();
}

/// A directory is lost: its files come back without their names, sorted by what is in them, and the report counts both ways.
#[test]
fn a_lost_directory() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path(), |image| {
        assert!(Command::new("debugfs").args(["-w", "-R", "clri /photos"]).arg(image).status().unwrap().success());
    });
    let target = ext4(&folder.path().join("target.img"), 96);
    let mut machine = attached(&forged).writable(&target).boot().unwrap();
    let device = format!("/dev/vd{}", char::from(b'a' + forged.disks.len() as u8));
    let said = machine.run(&["auto", "--yes", "--target", &device]).unwrap();
    assert_eq!(said.code & !3, 0, "{said:?}");
    let look = format!(
        "mount -o ro {device} /mnt && cd /mnt/md1-volume && sha256sum lost+found/*; cat lost+found-sorted/list.txt; \
         cat /mnt/tierlift-case/report.txt; cd /; umount /mnt"
    );
    let look = machine.shell(&look).unwrap().success().unwrap();
    for (number, hash) in hashes.iter().enumerate() {
        assert!(look.contains(hash.as_str()), "{hash} is missing in {look}");
        // The directory's block is still there, though nothing leads to it.
        let line = look.lines().find(|line| line.starts_with(hash.as_str())).unwrap();
        let inode = line.rsplit('#').next().unwrap();
        assert!(look.contains(&format!("calls inode {inode} '{number}'; likely, not proven")), "{number} in {look}");
    }
    assert!(
        look.contains("0 with a name that a snapshot proves, 24 with one that a left directory block tells"),
        "{look}"
    );
    assert!(look.contains("; also lost+found-sorted/others/"), "{look}");
    assert!(look.contains("the 24 files without a name (lost+found) counted as lost: 100.00 % of all bytes"), "{look}");
    machine.finish().unwrap();
}

/// Garbage in the inode tables makes the repair write all of them.
fn garbage_in_inodes(image: &Path) {
    let said = Command::new("dumpe2fs").arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let table = said.lines().rev().find_map(|line| line.trim().strip_prefix("Inode table at ")).unwrap();
    let blocks: Vec<u64> = table.split(' ').next().unwrap().split('-').map(|word| word.parse().unwrap()).collect();
    let block: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"))
        .map(|word| word.trim().parse().unwrap())
        .unwrap();
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    let mut dice = Dice::new(3);
    let bytes: Vec<u8> = (0..(4 << 20) / 4).flat_map(|_| (dice.below(1 << 32) as u32).to_le_bytes()).collect();
    let room = (blocks[1] - blocks[0] + 1) * block;
    file.write_all_at(&bytes[..bytes.len().min(room as usize)], blocks[0] * block).unwrap();
}

#[test]
fn an_overlay_that_runs_full_and_a_larger_one() {
    let folder = TempDir::new().unwrap();
    let (forged, _) = volume(folder.path(), garbage_in_inodes);
    let (scratch, small) =
        (sparse(&folder.path().join("scratch.img"), 1 << 30), sparse(&folder.path().join("small.img"), 4 << 20));
    let mut machine = attached(&forged).writable(&scratch).writable(&small).boot().unwrap();
    let disks = forged.disks.len() as u8;
    let (scratch, small) =
        (format!("/dev/vd{}", char::from(b'a' + disks)), format!("/dev/vd{}", char::from(b'b' + disks)));
    let refused = machine.run(&["activate", VOLUME, "--scratch", &small]).unwrap();
    assert!(refused.code == 8 && refused.stderr.contains("larger"), "{refused:?}");
    machine.run(&["activate", VOLUME]).unwrap().success().unwrap();
    machine.shell("mount -o remount,size=1M /run/tierlift/store").unwrap().success().unwrap();
    let full = machine.run(&["fsck", VOLUME, "--yes"]).unwrap();
    assert!(
        full.code == 8 && full.stderr.contains("about to run full") && full.stderr.contains("--scratch"),
        "{full:?}"
    );
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    let repaired = machine.run(&["fsck", VOLUME, "--yes", "--scratch", &scratch]).unwrap();
    assert_eq!(repaired.code & !1, 0, "{repaired:?}");
    let mounted = machine.run(&["mount", VOLUME, "/mnt/volume"]).unwrap();
    assert_eq!(mounted.code, 0, "{mounted:?}");
    let report = machine.run(&["report"]).unwrap().stdout;
    assert!(report.contains("used"), "{report}");
    machine.finish().unwrap();
}
