//! `cargo xtask demo`: from a damaged sample disk to verified files, with nothing but what this clone builds.

use crate::{deps, image, paths, process};
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_forge::{Fixture, ForgeOptions, Forged, KnownFile, Mirror, forge_disks};
use tierlift_ondisk::field::hex;
use tierlift_tests::{Image, Machine, Settings};

/// A pool that QNAP's own kernel wrote, with a volume of photos and documents.
const SAMPLE: &str = "F1-plain-ext4";
/// Bytes of the protective MBR and the primary partition table.
const PRIMARY_TABLE: usize = 34 * 512;
/// Bytes of the first metadata block, which holds the pool's superblock.
const SUPERBLOCK: usize = 8192;

pub fn run() -> anyhow::Result<()> {
    deps::ensure()?;
    let image = image::build()?;
    let folder = paths::target().join("demo");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let fixture = Fixture::named(SAMPLE)?;
    let forged = damaged_disk(&fixture, &folder)?;
    let target = target(&folder)?;
    recover(&Image { kernel: image.kernel, initramfs: image.initramfs }, &forged, &target)?;
    let files = folder.join("files");
    extract(&target, &files)?;
    verify(&files, fixture.files.get("final").context("the sample names no files")?)?;
    println!("demo: the files are in {}", files.display());
    Ok(())
}

/// One half of a mirror, the other lost, the primary partition table wiped, and the pool's superblock with it: a bad day, but not the
/// end.
fn damaged_disk(fixture: &Fixture, folder: &Path) -> anyhow::Result<Forged> {
    println!("demo: making a QNAP disk around a pool that QNAP's own kernel wrote");
    let options = ForgeOptions { mirror: Mirror::Half, drbd: true, ..ForgeOptions::default() };
    let forged = forge_disks(fixture, &options, folder)?;
    for disk in &forged.disks {
        println!("demo: damaging {}: its mirror half is missing, its primary partition table is wiped", disk.display());
        fs::OpenOptions::new().write(true).open(disk)?.write_all_at(&[0; PRIMARY_TABLE], 0)?;
    }
    let metadata = forged.placed.iter().find(|volume| volume.name.ends_with("_tmeta"));
    let piece = metadata.and_then(|volume| volume.pieces.first()).context("the sample pool has no metadata")?;
    let disk = forged.disks.get(piece.array).context("the sample pool has no disk")?;
    println!("demo: wiping the superblock of the pool on it");
    fs::OpenOptions::new().write(true).open(disk)?.write_all_at(&[0; SUPERBLOCK], piece.disk_sector * 512)?;
    Ok(forged)
}

/// An empty disk with a file system, for the files.
fn target(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("target.img");
    fs::File::create(&path)?.set_len(256 << 20)?;
    process::run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path))?;
    Ok(path)
}

fn recover(image: &Image, forged: &Forged, target: &Path) -> anyhow::Result<()> {
    println!("demo: booting the appliance in QEMU (emulated: 10 to 60 seconds)");
    let settings =
        forged.disks.iter().fold(Settings::new(image), |settings, disk| settings.protected_source(disk, "raw"));
    let mut machine = settings.writable(target).lasting_writes().boot()?;
    println!("demo: ready after {:.1} s", machine.boot_time().as_secs_f64());
    let target = format!("/dev/vd{}", char::from(b'a' + u8::try_from(forged.disks.len())?));
    // A look at the disks says 4, too: nothing of the pool can be used as it is.
    verb(&mut machine, &["scan"], 1 | 2 | 4)?;
    verb(&mut machine, &["auto", "--yes", "--target", &target], 1 | 2)?;
    verb(&mut machine, &["report"], 1 | 2)?;
    machine.finish().context("after the recovery")?;
    println!("demo: the source disk is unchanged, byte for byte");
    Ok(())
}

/// Runs one verb, showing what a person would type and see. An exit code of other bits than `findings` is a failure.
fn verb(machine: &mut Machine, words: &[&str], findings: i32) -> anyhow::Result<()> {
    println!("\ntierlift> {}", words.join(" "));
    let output = machine.run(words)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    if output.code & !findings != 0 {
        bail!("`{}` ended with exit code {}", words.join(" "), output.code);
    }
    Ok(())
}

/// Takes the files out of the target image without root.
fn extract(target: &Path, files: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(files)?;
    // As a user who is not root, debugfs cannot set owners and says so for each file; the bytes are what counts.
    process::output(Command::new("debugfs").arg("-R").arg(format!("rdump / \"{}\"", files.display())).arg(target))?;
    let _ = fs::remove_dir(files.join("lost+found"));
    Ok(())
}

/// Compares each file the manifest names with what was recovered.
fn verify(folder: &Path, expected: &[KnownFile]) -> anyhow::Result<()> {
    println!();
    ensure!(!expected.is_empty(), "the sample names no files");
    let mut wrong = 0;
    for file in expected {
        let path = find(folder, file.path.trim_start_matches("./"))?;
        let hash = fs::read(&path).map(|bytes| hex(&Sha256::digest(&bytes))).unwrap_or_default();
        let verdict = if hash == file.sha256 { "ok" } else { "WRONG" };
        wrong += usize::from(hash != file.sha256);
        println!("demo: {verdict:5} {}  {}", &file.sha256[..16], file.path);
    }
    if wrong > 0 {
        bail!("{wrong} of {} files are not what QNAP's kernel read", expected.len());
    }
    println!("demo: all {} files have the SHA-256 that the manifest names", expected.len());
    Ok(())
}

/// The file itself, or below the one folder that `copy` made for the volume.
fn find(folder: &Path, path: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let inside = entry?.path().join(path);
        if inside.exists() {
            return Ok(inside);
        }
    }
    Ok(folder.join(path))
}
