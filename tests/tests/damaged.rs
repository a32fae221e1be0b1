//! Damaged pools on whole disks, recovered by `auto` to files: every byte that is not reported unreadable is what QNAP's kernel wrote,
//! exactly the files on lost places are damaged, and the report's numbers are those of the truth.

mod common;

use common::made::{DEVICE, Made};
use common::recovery::Recovery;
use common::tree::{Expected, Range, Tree, hash_without, image_of};
use common::{Loose, Whole, sha256};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tierlift::block::{FileView, View};
use tierlift_forge::{Fixture, ForgeOptions, Mirror, Raid};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, Step, ThinReader};

/// What the sound pool holds: opened once, read as often as needed.
struct Truth {
    pool: Pool,
    loose: Loose,
}

impl Truth {
    fn of(name: &str) -> Self {
        let loose = Loose::unpack(name);
        Self { pool: Pool::open(Arc::new(fs::read(&loose.tmeta).unwrap())).unwrap(), loose }
    }

    /// A device, byte by byte.
    fn bytes(&self, device: u64) -> Vec<u8> {
        let open = |tier: &PathBuf| -> View { Arc::new(FileView::open(tier).unwrap()) };
        let tiers = (0..).zip(self.loose.tiers.iter().map(open)).collect();
        let size = Bytes(self.loose.fixture.truth[&device].sectors * 512);
        let reader = ThinReader::new(&self.pool, tiers, DeviceId(device), self.pool.mode().mode, Some(size)).unwrap();
        let mut bytes = vec![0; usize::try_from(size.0).unwrap()];
        for (start, piece) in (0..).step_by(1 << 20).zip(bytes.chunks_mut(1 << 20)) {
            reader.read_at(Bytes(start), piece).unwrap();
        }
        assert_eq!(sha256(&bytes), self.loose.fixture.truth[&device].sha256, "the truth itself");
        bytes
    }

    /// The ranges of a device that were ever written, as chunks.
    fn mapped(&self, device: u64) -> Vec<Range> {
        let chunk = self.pool.chunk_size().0 * 512;
        let (_, root) = self.pool.roots().found.into_iter().find(|(id, _)| *id == device).unwrap();
        let mut ranges = Vec::new();
        let walked: Result<(), Infallible> = self.pool.mappings(root, |step| {
            if let Step::Found(key, _) = step {
                ranges.push((key * chunk, chunk));
            }
            Ok(())
        });
        let Ok(()) = walked;
        ranges
    }

    /// Hash of a device with zeros where it is lost.
    fn hash(&self, device: u64, lost: &[(u64, u64)]) -> String {
        hash_without(&self.bytes(device), lost)
    }
}

/// A genuine pool with some of its metadata blocks zeroed; the new image lies in `folder`.
fn without(name: &str, blocks: &[MetaBlock], folder: &Path) -> Fixture {
    let mut fixture = Fixture::named(name).unwrap();
    let loose = Loose::unpack(name);
    let mut tmeta = fs::read(&loose.tmeta).unwrap();
    let size = Pool::open(Arc::new(tmeta.clone())).unwrap().blocks().size().bytes();
    for block in blocks {
        let start = usize::try_from(block.0).unwrap() * size;
        tmeta[start..start + size].fill(0);
    }
    let image = fixture.images.get_mut("tmeta.img").unwrap();
    image.path = folder.join("tmeta.img.zst");
    image.sha256 = sha256(&tmeta);
    fs::write(&image.path, zstd::encode_all(tmeta.as_slice(), 1).unwrap()).unwrap();
    fixture
}

/// Recovers all with `auto`; then holds each volume, as an image and by its files, and the report against the truth. Answers with
/// how many bytes of the volumes are lost in all.
fn assert_recovered(whole: &Whole, truth: &Truth, exit: i32) -> u64 {
    assert_right(Recovery::run(whole, &[]), whole, truth, exit)
}

fn assert_right(mut recovery: Recovery, whole: &Whole, truth: &Truth, exit: i32) -> u64 {
    assert_eq!(recovery.code, exit, "{}", recovery.said);
    let mut all = 0;
    for volume in &whole.forged.volumes {
        let name = whole.volume(volume.device);
        let size = truth.loose.fixture.truth[&volume.device].sectors * 512;
        if recovery.said.contains(&format!("NOT recovered: {name}:")) {
            // Then nothing of it can be read at all: not as an image either.
            let read = recovery.image(&name).map(|(_, lost)| lost);
            let mapped = truth.mapped(volume.device);
            assert!(
                read.is_none_or(|lost| mapped.iter().all(|range| covers(&lost, *range))),
                "{name}: something of it is left"
            );
            assert!(
                recovery.copied(&name).is_none() && recovery.text.contains(&format!("{name} was NOT recovered: ")),
                "{name}"
            );
            println!("| {} | {name} | nothing of {size} bytes is left |", whole.fixture.name);
            all += size;
            continue;
        }
        let (hash, lost) = recovery.image(&name).unwrap();
        let bytes: u64 = lost.iter().map(|(_, length)| length).sum();
        assert_eq!(hash, truth.hash(volume.device, &lost), "{name}: wrong bytes, {lost:?} are lost");
        all += bytes;
        let image = whole.folder().join(format!("truth-{}.img", volume.device));
        let Some(tree) = Tree::read(&image_of(&truth.bytes(volume.device), &image)) else {
            let file = format!("{}.img", name.replace('/', "-"));
            let copied = recovery.on_target(&format!("sha256sum {file}*"));
            assert!(copied.starts_with(&hash), "{name}: {copied}");
            println!("| {} | {name} | no file system, {bytes} of {size} bytes lost |", whole.fixture.name);
            continue;
        };
        let loss = recovery.assert_files(&name, &tree, &lost);
        println!("| {} | {name} | {bytes} of {size} bytes lost | {loss:?} |", whole.fixture.name);
    }
    recovery.finish();
    all
}

/// Whether all of a range is lost.
fn covers(lost: &[Range], (offset, length): Range) -> bool {
    lost.iter().any(|(start, long)| *start <= offset && offset + length <= start + long)
}

fn half() -> ForgeOptions {
    ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() }
}

/// A pool that was damaged on purpose, its metadata as they were left; answers with the bytes lost.
fn genuine(name: &str, exit: i32) -> u64 {
    assert_recovered(&Whole::forge(name, &half()), &truth(name), exit)
}

/// What was in a pool before it was damaged.
fn truth(name: &str) -> Truth {
    Truth::of(&Fixture::named(name).unwrap().base.unwrap())
}

#[test]
fn superblock_and_records_lost() {
    assert_eq!(genuine("F8-F2-sb-and-details", 1), 0);
}

#[test]
fn a_fifth_of_all_blocks_lost() {
    assert_ne!(genuine("F8-F2-rand20", 2), 0);
}

#[test]
fn superblock_of_a_tiered_pool_lost_with_a_scratch_disk() {
    let name = "F8-F3-sbzero";
    let whole = Whole::forge(name, &half());
    let mut recovery = Recovery::with_scratch(&whole);
    let made = recovery
        .machine
        .shell("dmsetup table | grep -- -repaired-store; find /run /tmp -name '*.tmeta'")
        .unwrap()
        .stdout;
    assert!(made.lines().count() == 1 && made.contains("linear"), "the new metadata are on the scratch disk: {made}");
    assert_eq!(assert_right(recovery, &whole, &truth(name), 1), 0);
}

#[test]
fn root_of_the_tier_tree_lost() {
    // The tree is a single leaf: nothing tells any more where the data lie, and nothing is made up.
    assert_ne!(genuine("F8-F3-poolmap-root", 2), 0);
}

#[test]
fn a_stale_superblock_that_looks_right() {
    assert_eq!(genuine("F8-F3-stale-valid", 1), 0);
}

#[test]
fn a_full_pool_that_must_be_checked() {
    let truth = Truth::of("F6a-data-full");
    assert_eq!(assert_recovered(&Whole::forge("F6a-data-full", &half()), &truth, 0), 0);
}

#[test]
fn a_leaf_lost_on_a_degraded_raid5() {
    let options = ForgeOptions { raid: Some(Raid::new(5, 3)), compact: true, ..ForgeOptions::default() };
    let truth = Truth::of("F4-thick-clone");
    let (_, leaf) = truth.pool.roots().found[1];
    let folder = tempfile::tempdir().unwrap();
    let mut whole = Whole::forge_fixture(without("F4-thick-clone", &[leaf], folder.path()), &options);
    whole.forged.disks.remove(1);
    assert_ne!(assert_recovered(&whole, &truth, 2), 0);
}

#[test]
fn roots_lost_of_a_crashed_pool() {
    let truth = Truth::of("F7-tier-crash-1");
    let folder = tempfile::tempdir().unwrap();
    let lost = [MetaBlock(0), truth.pool.superblock().details_root];
    let whole = Whole::forge_fixture(without("F7-tier-crash-1", &lost, folder.path()), &half());
    assert_eq!(assert_recovered(&whole, &truth, 1), 0);
}

/// The root of a volume's mapping tree that has leaves below it.
#[test]
fn an_inner_node_lost() {
    let truth = Truth::of("F7-crash-1");
    let tmeta = fs::read(&truth.loose.tmeta).unwrap();
    let size = truth.pool.blocks().size().bytes();
    let is_inner = |block: MetaBlock| tmeta[usize::try_from(block.0).unwrap() * size + 4] == 1;
    let (_, inner) = truth.pool.roots().found.into_iter().find(|(_, root)| is_inner(*root)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let whole = Whole::forge_fixture(without("F7-crash-1", &[inner], folder.path()), &half());
    assert_eq!(assert_recovered(&whole, &truth, 1), 0);
}

/// A leaf in the middle of a volume is lost on a degraded array: exactly the files whose blocks it mapped are damaged, in exactly
/// those ranges, and the directories and inodes at the beginning lead to all others.
#[test]
fn files_on_a_lost_leaf_of_a_degraded_raid5() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Made::new(folder.path(), 128, &["-b", "4096", "-O", "^metadata_csum,^dir_index"]);
    let middle = made.leaves[1];
    made.lose(folder.path(), &[middle]);
    let options = ForgeOptions { raid: Some(Raid::new(5, 3)), compact: true, ..ForgeOptions::default() };
    let (volume, mut whole) = (made.volume, Whole::forge_fixture(made.fixture, &options));
    whole.forged.disks.remove(0);
    let mut recovery = Recovery::run(&whole, &[]);
    assert_eq!(recovery.code, 2, "{}", recovery.said);
    let (name, tree) =
        (whole.volume(DEVICE), Tree::read(&image_of(&volume, &folder.path().join("truth.img"))).unwrap());
    let (hash, lost) = recovery.image(&name).unwrap();
    assert_eq!(hash, hash_without(&volume, &lost));
    let loss = recovery.assert_files(&name, &tree, &lost);
    println!("| made, leaf lost, RAID5 | {name} | {loss:?} |");
    assert!(loss.files > 3 && loss.files < loss.all_files / 2, "{loss:?}");
    recovery.finish();
}

/// The first leaf is lost, and with it the superblock of the file system, inodes and directories: copies of the superblock lead to
/// what is left.
#[test]
fn a_file_system_that_lost_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut made =
        Made::new(folder.path(), 288, &["-b", "4096", "-O", "^metadata_csum,^dir_index,^flex_bg", "-N", "168"]);
    let first = made.leaves[0];
    made.lose(folder.path(), &[first]);
    let (volume, whole) = (made.volume, Whole::forge_fixture(made.fixture, &half()));
    let mut recovery = Recovery::run(&whole, &[]);
    let (name, tree) =
        (whole.volume(DEVICE), Tree::read(&image_of(&volume, &folder.path().join("truth.img"))).unwrap());
    let (hash, lost) = recovery.image(&name).unwrap();
    assert_eq!(hash, hash_without(&volume, &lost));
    let unreachable = tree.expect(&lost).into_values().filter(|expected| *expected == Expected::Unreachable).count();
    let loss = recovery.assert_files(&name, &tree, &lost);
    assert!(unreachable > 0 && loss.nameless > 0, "{loss:?}: {}", recovery.said);
    assert!(recovery.text.contains("are lost with their inodes"), "{}", recovery.text);
    println!("| made, first leaf lost | {name} | {unreachable} cannot be reached | {loss:?} |");
    recovery.finish();
}
