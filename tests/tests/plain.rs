//! Volumes that are in no pool: directly on an array, static, encrypted.

mod common;

use common::{sha256, sparse};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::{ForgeOptions, Forged, Mirror, Raid, forge_bare, forge_static};
use tierlift_tests::{Image, Machine, Settings};

const PASSWORD: &str = "correct horse battery";
/// What QNAP's rule makes of the password (`openssl passwd -1 -salt YCCaQNAP`).
const BY_QNAPS_RULE: &str = "$1$YCCaQNAP$R0IrohxWVIbRgyr3ghIP4/";

/// An ext4 file system with one file, and the hash of the file.
fn file_system(folder: &Path) -> (PathBuf, String) {
    let content = folder.join("content");
    fs::create_dir_all(content.join("Public")).unwrap();
    let bytes: Vec<u8> = (0..2_000_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    fs::write(content.join("Public/photo.raw"), &bytes).unwrap();
    let path = sparse(&folder.join("volume.img"), 32 << 20);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^dir_index", "-d"]).arg(&content).arg(&path);
    assert!(mke2fs.status().unwrap().success());
    (path, sha256(&bytes))
}

fn boot(forged: &Forged) -> Machine {
    let settings = Settings::new(&Image::from_environment().unwrap());
    forged.disks.iter().fold(settings, |settings, disk| settings.source(disk)).boot().unwrap()
}

fn assert_photo(machine: &mut Machine, volume: &str, hash: &str) {
    machine.run(&["mount", volume, "/mnt/volume"]).unwrap().success().unwrap();
    let said = machine.shell("sha256sum /mnt/volume/Public/photo.raw").unwrap().success().unwrap();
    assert!(said.starts_with(hash), "{said}");
}

fn end(mut machine: Machine) {
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    let left = machine.shell("dmsetup ls; cat /proc/mdstat").unwrap().success().unwrap();
    assert!(left.contains("No devices found") && !left.contains("md100"), "{left}");
    machine.finish().unwrap();
}

#[test]
fn a_file_system_directly_on_an_array() {
    let folder = TempDir::new().unwrap();
    let (image, hash) = file_system(folder.path());
    let options = ForgeOptions { raid: Some(Raid::new(5, 3)), compact: true, ..ForgeOptions::default() };
    let forged = forge_bare(&image, &options, folder.path()).unwrap();
    let mut machine = boot(&forged);
    assert_photo(&mut machine, "md1/volume", &hash);
    end(machine);
}

#[test]
fn a_static_volume_on_a_mirror() {
    let folder = TempDir::new().unwrap();
    let (image, hash) = file_system(folder.path());
    let options = ForgeOptions { mirror: Mirror::Both, compact: true, drbd: true, ..ForgeOptions::default() };
    let forged = forge_static(&image, &options, folder.path()).unwrap();
    let mut machine = boot(&forged);
    assert_photo(&mut machine, "vg288/lv1", &hash);
    end(machine);
}

/// Encrypts an image in a machine of its own, as QNAP's firmware does: LUKS 1 with what its rule makes of the password.
fn encrypt(image: &Path, folder: &Path) -> PathBuf {
    let luks = sparse(&folder.join("luks.img"), fs::metadata(image).unwrap().len() + (4 << 20));
    let settings = Settings::new(&Image::from_environment().unwrap());
    let mut machine = settings.source(image).writable(&luks).boot().unwrap();
    let format = "cryptsetup luksFormat --batch-mode --type luks1 --cipher aes-cbc-essiv:sha256 --hash sha1 --pbkdf-force-iterations 1000";
    machine
        .shell(&format!(
            "export DM_DISABLE_UDEV=1; printf %s '{BY_QNAPS_RULE}' > /tmp/key && blockdev --setrw /dev/vdb && \
             {format} --key-file /tmp/key /dev/vdb && cryptsetup open --key-file /tmp/key /dev/vdb plain && \
             dd if=/dev/vda of=/dev/mapper/plain bs=1M && cryptsetup close plain"
        ))
        .unwrap()
        .success()
        .unwrap();
    machine.finish().unwrap();
    luks
}

#[test]
fn an_encrypted_static_volume() {
    let folder = TempDir::new().unwrap();
    let (image, hash) = file_system(folder.path());
    let luks = encrypt(&image, folder.path());
    let forged =
        forge_static(&luks, &ForgeOptions { compact: true, ..ForgeOptions::default() }, folder.path()).unwrap();
    let mut machine = boot(&forged);
    let locked = machine.run(&["mount", "vg288/lv1", "/mnt/volume"]).unwrap();
    assert!(locked.code == 4 && locked.stderr.contains("tierlift unlock"), "{} {}", locked.code, locked.stderr);
    let wrong = machine.run_with_input(&["unlock", "vg288/lv1"], "wrong\n").unwrap();
    assert!(wrong.code == 4 && wrong.stderr.contains("none of 2 tries"), "{} {}", wrong.code, wrong.stderr);
    let right = machine.run_with_input(&["unlock", "vg288/lv1"], &format!("{PASSWORD}\n")).unwrap();
    assert!(right.stderr.contains("QNAP's rule") && !right.stderr.contains("horse"), "{}", right.stderr);
    right.success().unwrap();
    assert_photo(&mut machine, "vg288/lv1", &hash);
    let report = machine.run(&["report"]).unwrap().success().unwrap();
    assert!(!report.contains("horse") && !report.contains("$1$") && report.contains("unlocked vg288/lv1"), "{report}");
    end(machine);
}

/// One command, the password on its input, and the files are on the target; nothing of the password stays anywhere.
#[test]
fn auto_opens_what_is_encrypted() {
    let folder = TempDir::new().unwrap();
    let (image, hash) = file_system(folder.path());
    let luks = encrypt(&image, folder.path());
    let forged =
        forge_static(&luks, &ForgeOptions { compact: true, ..ForgeOptions::default() }, folder.path()).unwrap();
    let target = sparse(&folder.path().join("target.img"), 128 << 20);
    let settings =
        forged.disks.iter().fold(Settings::new(&Image::from_environment().unwrap()), |all, disk| all.source(disk));
    let mut machine = settings.writable(&target).boot().unwrap();
    let last = format!("/dev/vd{}", char::from(b'a' + u8::try_from(forged.disks.len()).unwrap()));
    let words = ["auto", "--yes", "--format", "--target", &last, "--password"];
    let wrong = machine.run_with_input(&words, "wrong\n").unwrap();
    assert!(wrong.code & 8 != 0 && wrong.stdout.contains("is encrypted"), "{} {}", wrong.code, wrong.stdout);
    // What failed is no finished recovery: the same command goes on with it.
    let words = ["auto", "--yes", "--target", &last, "--password"];
    let right = machine.run_with_input(&words, &format!("{PASSWORD}\n")).unwrap();
    assert_eq!(right.code, 0, "{}{}", right.stdout, right.stderr);
    let look = format!(
        "mount -o ro {last} /mnt && sha256sum /mnt/vg288-lv1/Public/photo.raw; grep -rl horse /mnt/tierlift-case /run; umount /mnt"
    );
    let found = machine.shell(&look).unwrap();
    assert!(found.stdout.starts_with(&hash), "{} {}", found.stdout, found.stderr);
    assert_eq!(found.stdout.lines().count(), 1, "the password is kept: {}", found.stdout);
    end(machine);
}

/// The table of block groups is gone: the kernel does not mount it; e2fsck repairs it on an overlay, and the files are there.
#[test]
fn a_file_system_that_cannot_be_mounted_is_repaired_on_an_overlay() {
    use std::os::unix::fs::FileExt;
    let folder = TempDir::new().unwrap();
    let (image, hash) = file_system(folder.path());
    let block = if fs::read(&image).unwrap()[1024 + 0x18] == 2 { 4096 } else { 2048 };
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(&[0; 1024], block).unwrap();
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let forged = forge_static(&image, &options, folder.path()).unwrap();
    let mut machine = boot(&forged);
    assert_ne!(machine.run(&["mount", "vg288/lv1", "/mnt/volume"]).unwrap().code, 0);
    let look = machine.run(&["fsck", "vg288/lv1"]).unwrap();
    assert!(look.code & 6 != 0 && look.stdout.contains("Nothing was changed"), "{} {}", look.code, look.stdout);
    let repaired = machine.run(&["fsck", "vg288/lv1", "--yes"]).unwrap();
    assert_eq!(repaired.code, 1, "{} {}", repaired.stdout, repaired.stderr);
    assert_eq!(machine.run(&["fsck", "vg288/lv1"]).unwrap().code, 0, "sound on the overlay");
    assert_photo(&mut machine, "vg288/lv1", &hash);
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    assert_ne!(machine.run(&["mount", "vg288/lv1", "/mnt/volume"]).unwrap().code, 0, "the disks were repaired");
    end(machine);
}

/// Blocks of 64 KiB, as some ARM models make them: the kernel does not mount them, the files come out all the same.
#[test]
fn auto_reads_blocks_that_the_kernel_does_not_mount() {
    let folder = TempDir::new().unwrap();
    let (_, hash) = file_system(folder.path());
    let image = sparse(&folder.path().join("large.img"), 64 << 20);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "65536", "-d"]).arg(folder.path().join("content")).arg(&image);
    assert!(mke2fs.output().unwrap().status.success());
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let forged = forge_static(&image, &options, folder.path()).unwrap();
    let target = sparse(&folder.path().join("target.img"), 128 << 20);
    let settings = Settings::new(&Image::from_environment().unwrap());
    let settings = forged.disks.iter().fold(settings, |all, disk| all.source(disk));
    let mut machine = settings.writable(&target).boot().unwrap();
    let last = format!("/dev/vd{}", char::from(b'a' + u8::try_from(forged.disks.len()).unwrap()));
    let refused = machine.run(&["mount", "vg288/lv1"]).unwrap();
    assert!(refused.code == 4 && refused.stderr.contains("--without-mount"), "{} {}", refused.code, refused.stderr);
    let said = machine.run(&["auto", "--yes", "--format", "--target", &last]).unwrap();
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    let look = format!("mount -o ro {last} /mnt && sha256sum /mnt/vg288-lv1/Public/photo.raw; umount /mnt");
    let found = machine.shell(&look).unwrap().success().unwrap();
    assert!(found.starts_with(&hash), "{found}");
    end(machine);
}

/// QNAP's mark with the features on that it contradicts: indexes in another order, checksums where the mark is.
#[test]
fn a_file_system_with_qnaps_mark_and_misleading_features() {
    use std::os::unix::fs::FileExt;
    let folder = TempDir::new().unwrap();
    let content = folder.path().join("many");
    fs::create_dir_all(&content).unwrap();
    for number in 0..2000 {
        fs::write(content.join(format!("Photo of a Summer Day {number:05}.jpeg")), number.to_string()).unwrap();
    }
    let image = sparse(&folder.path().join("volume.img"), 32 << 20);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-I", "128", "-O", "dir_index,metadata_csum", "-d"])
        .arg(&content)
        .arg(&image);
    assert!(mke2fs.status().unwrap().success());
    let file = fs::OpenOptions::new().read(true).write(true).open(&image).unwrap();
    file.write_all_at(b"QNAP", 1024 + 0x3fc).unwrap();
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let forged = forge_static(&image, &options, folder.path()).unwrap();
    let mut machine = boot(&forged);
    let said = machine.run(&["mount", "vg288/lv1", "/mnt/volume"]).unwrap().success().unwrap();
    assert!(said.contains("off on the overlay"), "{said}");
    let count = machine.shell("cat /mnt/volume/Photo* | wc -c; cat '/mnt/volume/Photo of a Summer Day 01234.jpeg'");
    assert_eq!(count.unwrap().success().unwrap(), "6890\n1234");
    end(machine);
}
