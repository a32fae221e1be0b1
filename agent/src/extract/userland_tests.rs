//! Copying without the kernel: large blocks, QNAP's mark, damage.

use super::reader::{INODE, MARK, MOST_BLOCKS};
use super::*;
use crate::extract::manifest::{Entry, State};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use tierlift_ondisk::view::ReadAt;

/// Bytes of which no two blocks are the same.
fn photo() -> Vec<u8> {
    (0..125_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A file system with two files, a link and a folder, in blocks of this size.
pub(super) fn made(folder: &Path, block: &str, features: &str) -> PathBuf {
    let content = folder.join("content");
    std::fs::create_dir_all(content.join("Photos of Mum")).unwrap();
    std::fs::write(content.join("Photos of Mum/one.jpg"), photo()).unwrap();
    std::fs::write(content.join("note.txt"), "hello").unwrap();
    std::os::unix::fs::symlink("note.txt", content.join("link")).unwrap();
    let image = folder.join("volume.img");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", block, "-O", features, "-d"]).arg(&content).arg(&image);
    assert!(mke2fs.output().unwrap().status.success());
    image
}

pub(super) fn job(folder: &Path, source: &Path) -> Job {
    Job {
        name: "vg1/lv1".into(),
        source: source.to_owned(),
        target: folder.join("out"),
        force: false,
        suspicious: [].into(),
    }
}

fn assert_whole(folder: &Path, image: &Path) {
    let done = copy(&job(folder, image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged, done.counts.symlinks), (2, 0, 1), "{:?}", done.losses);
    assert_eq!(std::fs::read(folder.join("out/Photos of Mum/one.jpg")).unwrap(), photo());
    assert_eq!(std::fs::read_link(folder.join("out/link")).unwrap(), Path::new("note.txt"));
    let again = copy(&job(folder, image), &mut |_| {}).unwrap();
    assert_eq!((again.counts.copied, again.counts.identical), (0, 2), "a second run copies nothing");
}

#[test]
fn blocks_that_the_kernel_does_not_mount() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "65536", "extents");
    assert_whole(folder.path(), &image);
}

#[test]
fn qnaps_mark_in_the_place_of_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "4096", "metadata_csum");
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"QNAP", 1024 + 0x3fc).unwrap();
    assert_whole(folder.path(), &image);
}

/// The entry of the manifest for a path of the source.
pub(super) fn manifested(done: &Done, path: &str) -> Entry {
    let object: serde_json::Value = serde_json::from_slice(&std::fs::read(&done.manifest).unwrap()).unwrap();
    let found = object["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap();
    serde_json::from_value(found.clone()).unwrap()
}

/// A map of ddrescue makes holes that give errors, as lost chunks do.
#[test]
fn a_lost_block_costs_its_file_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "4096", "extents");
    let bytes = std::fs::read(&image).unwrap();
    let lost = 80 * 4096;
    let hole = bytes.chunks(4096).position(|block| block == &photo()[lost..lost + 4096]).unwrap() * 4096;
    let view: View = Arc::new(Broken { bytes, hole: hole as u64..hole as u64 + 4096 });
    let done = copy_view(&view, &job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged, done.counts.lost_bytes), (1, 1, 4096), "{:?}", done.losses);
    let damaged = std::fs::read(folder.path().join("out/Photos of Mum/one.jpg.damaged")).unwrap();
    let mut expected = photo();
    expected[lost..lost + 4096].fill(0);
    assert!(damaged == expected);
}

#[test]
fn a_mark_is_sound_as_nothing_and_no_two_are_the_same() {
    let mark = Mark::new();
    let mut block = vec![0; 4096];
    mark.fill(3 * 4096, &mut block);
    assert!(block.chunks(MARK).all(|piece| mark.is(piece)) && mark.is(&block[..100]));
    for inode in block.chunks(INODE) {
        assert!(inode[1] >= 0xf4);
        assert_eq!(inode[4..6], [0, 0]);
    }
    for number in block.chunks(4) {
        assert!(u64::from(u32::from_le_bytes(number.try_into().unwrap())) >= MOST_BLOCKS);
    }
    assert!(!Mark::new().is(&block[..MARK]));
    let mut middle = [0; 8];
    mark.fill(4096 + 512, &mut middle);
    assert_eq!(middle, block[512..520]);
}

pub(super) struct Broken {
    pub(super) bytes: Vec<u8>,
    pub(super) hole: std::ops::Range<u64>,
}

impl ReadAt for Broken {
    fn size(&self) -> Bytes {
        Bytes(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: Bytes, into: &mut [u8]) -> std::io::Result<()> {
        let end = offset.0.saturating_add(into.len() as u64);
        if offset.0 < self.hole.end && end > self.hole.start {
            return Err(std::io::ErrorKind::Other.into());
        }
        self.bytes.read_at(offset, into)
    }
}

/// Ends of files of every first byte, one of which is that of the mark.
#[test]
fn a_short_end_that_looks_like_the_mark_is_data_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir(&content).unwrap();
    for byte in 0..=255_u8 {
        std::fs::write(content.join(byte.to_string()), [vec![7; 1024], vec![byte]].concat()).unwrap();
    }
    let image = folder.path().join("volume.img");
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "1024", "-d"]).arg(&content).arg(&image);
    assert!(mke2fs.output().unwrap().status.success());
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged), (256, 0), "{:?}", done.losses);
    for byte in 0..=255_u8 {
        let copied = std::fs::read(folder.path().join("out").join(byte.to_string())).unwrap();
        assert_eq!(copied.last(), Some(&byte));
    }
}

#[test]
fn damage_anywhere_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "1024", "extents,metadata_csum");
    let sound = std::fs::read(&image).unwrap();
    let mut seed = 7_u64;
    for round in 0..60 {
        let mut bytes = sound[..4 << 20].to_vec();
        for _ in 0..40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 20).unwrap() % (1 << 19);
            bytes[at] ^= 1 << (seed % 8);
        }
        let path = folder.path().join("broken.img");
        std::fs::write(&path, &bytes).unwrap();
        let target = folder.path().join(format!("out-{round}"));
        let job = Job { name: "x".into(), source: path, target, force: false, suspicious: [].into() };
        // Whatever comes of it: it ends, and without a panic.
        let _ = copy(&job, &mut |_| {});
    }
}

/// QNAP orders the indexes of directories in its own way: names are listed, and not found by them.
#[test]
fn indexes_in_qnaps_order_are_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content/many");
    std::fs::create_dir_all(&content).unwrap();
    for number in 0..600 {
        std::fs::write(content.join(format!("a file with a rather long name {number}")), number.to_string()).unwrap();
    }
    for features in ["dir_index,metadata_csum", "dir_index,^metadata_csum"] {
        let image = folder.path().join("volume.img");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", features, "-d"]);
        assert!(mke2fs.arg(folder.path().join("content")).arg(&image).output().unwrap().status.success());
        // Makes the indexes; its code tells that it changed something.
        assert!(Command::new("e2fsck").args(["-fyD"]).arg(&image).output().unwrap().status.code() < Some(4));
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let mut seed = [0; 16];
        file.read_exact_at(&mut seed, 1024 + 0xec).unwrap();
        // Another seed is another order.
        seed.iter_mut().for_each(|byte| *byte = !*byte);
        file.write_all_at(&seed, 1024 + 0xec).unwrap();
        file.write_all_at(b"QNAP", 1024 + 0x3fc).unwrap();
        let target = folder.path().join(features);
        let done = copy(&Job { target, ..job(folder.path(), &image) }, &mut |_| {}).unwrap();
        assert_eq!((done.counts.copied, done.counts.damaged), (600, 0), "{:?}", done.losses);
    }
}

#[test]
fn a_file_that_a_repair_took_parts_out_of_is_never_whole() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "4096", "extents");
    let said = Command::new("debugfs").args(["-R", "stat /note.txt"]).arg(&image).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let number: u64 = said.strip_prefix("Inode: ").unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let job = Job { suspicious: [number].into(), ..job(folder.path(), &image) };
    for _ in 0..2 {
        let done = copy(&job, &mut |_| {}).unwrap();
        let counts = &done.counts;
        assert_eq!(
            (counts.copied + counts.identical, counts.damaged, counts.lost_bytes),
            (1, 1, 5),
            "{:?}",
            done.losses
        );
        let entry = manifested(&done, "note.txt");
        assert_eq!((entry.state, entry.written_as.as_deref()), (State::Damaged, Some("note.txt.damaged")));
        assert_eq!((entry.why.as_deref(), entry.lost), (job.doubt(Some(number)), vec![]));
        assert!(!job.target.join("note.txt").exists());
    }
    // Where numbers cannot be read, any file may be one of them.
    assert!(job.doubt(None).is_some() && job.doubt(Some(number + 1)).is_none());
}

#[test]
fn a_damaged_file_takes_the_place_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir_all(&content).unwrap();
    std::fs::write(content.join("note.txt.damaged"), "whole").unwrap();
    let image = made(folder.path(), "4096", "extents");
    let bytes = std::fs::read(&image).unwrap();
    let hole = bytes.chunks(4096).position(|block| block.starts_with(b"hello\0")).unwrap() as u64 * 4096;
    let view: View = Arc::new(Broken { bytes, hole: hole..hole + 4096 });
    for _ in 0..2 {
        let done = copy_view(&view, &job(folder.path(), &image), &mut |_| {}).unwrap();
        assert_eq!((done.counts.damaged, done.counts.lost_bytes, done.counts.failed), (1, 5, 0), "{:?}", done.losses);
        let out = folder.path().join("out");
        assert_eq!(std::fs::read(out.join("note.txt.damaged")).unwrap(), b"whole");
        let name = manifested(&done, "note.txt").written_as.unwrap();
        assert!(name.starts_with("note.txt~") && name.ends_with(".damaged"), "{name}");
        assert_eq!(std::fs::read(out.join(name)).unwrap(), [0; 5]);
    }
}

#[test]
fn bytes_of_a_file_with_several_names_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir_all(&content).unwrap();
    std::fs::write(content.join("one"), "five!").unwrap();
    std::fs::hard_link(content.join("one"), content.join("two")).unwrap();
    let image = made(folder.path(), "4096", "extents");
    for _ in 0..2 {
        let counts = copy(&job(folder.path(), &image), &mut |_| {}).unwrap().counts;
        assert_eq!((counts.copied + counts.identical, counts.bytes), (4, 5 + 5 + photo().len() as u64));
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_lost_with_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "65536", "extents");
    let huge = Command::new("debugfs").args(["-w", "-R", "sif /note.txt size 0x100000000001"]).arg(&image).output();
    assert!(huge.unwrap().status.success());
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    let size = 16 << 40;
    assert_eq!((done.counts.damaged, done.counts.lost_bytes), (1, size), "{:?}", done.losses);
    assert_eq!(done.counts.recovered_bytes(), photo().len() as u64);
}
