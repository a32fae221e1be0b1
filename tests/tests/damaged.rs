//! Damaged pools on whole disks, repaired in the appliance and read through the kernel, byte by byte: everything that is not
//! reported unreadable is what QNAP's kernel wrote, and no more is lost than the repair said.

mod common;

use common::{Loose, Whole, sha256, sparse};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tierlift::block::{FileView, View};
use tierlift_forge::{Fixture, ForgeOptions, Mirror, Raid};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, ThinReader};
use tierlift_tests::{Image, Settings};

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

    /// Hash of a device with zeros where it is lost.
    fn hash(&self, device: u64, lost: &[(u64, u64)]) -> String {
        let open = |tier: &PathBuf| -> View { Arc::new(FileView::open(tier).unwrap()) };
        let tiers = (0..).zip(self.loose.tiers.iter().map(open)).collect();
        let size = Bytes(self.loose.fixture.truth[&device].sectors * 512);
        let reader = ThinReader::new(&self.pool, tiers, DeviceId(device), self.pool.mode().mode, Some(size)).unwrap();
        let mut bytes = vec![0; usize::try_from(size.0).unwrap()];
        for (start, piece) in (0..).step_by(1 << 20).zip(bytes.chunks_mut(1 << 20)) {
            reader.read_at(Bytes(start), piece).unwrap();
        }
        if lost.is_empty() {
            assert_eq!(sha256(&bytes), self.loose.fixture.truth[&device].sha256, "the truth itself");
        }
        for (offset, length) in lost {
            let start = usize::try_from(*offset).unwrap();
            bytes[start..start + usize::try_from(*length).unwrap()].fill(0);
        }
        sha256(&bytes)
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

/// Repairs, copies each volume as an image, and holds it against the truth. Answers with how many bytes are lost in all.
fn assert_repaired(whole: &Whole, truth: &Truth, exit: i32) -> u64 {
    let target = sparse(&whole.folder().join("target.img"), 1 << 30);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&target).status().unwrap().success());
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let mut machine = settings.writable(&target).boot().unwrap();
    let device = format!("/dev/vd{}", char::from(b'a' + u8::try_from(whole.forged.disks.len()).unwrap()));
    let group = &whole.forged.volume_group;
    let said = machine.run(&["repair", &format!("{group}/tp1"), "--yes", "--json"]).unwrap();
    assert_eq!(said.code, exit, "{}{}", said.stdout, said.stderr);
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    let chunk = truth.pool.chunk_size().0 * 512;
    let mut all = 0;
    for volume in &whole.forged.volumes {
        let loss = told["losses"].as_array().unwrap().iter().find(|loss| loss["device"] == volume.device);
        let name = format!("{group}/{}", volume.name);
        let copied = machine.run(&["copy", "--image", &name, &device]).unwrap();
        let Some(loss) = loss else {
            assert_ne!(copied.code, 0, "{name} is lost, but was copied");
            all += truth.loose.fixture.truth[&volume.device].sectors * 512;
            continue;
        };
        let read = format!("mount -o ro {device} /mnt && cat /mnt/{group}-{}.img*.json; umount /mnt", volume.name);
        let image: Value = serde_json::from_str(&machine.shell(&read).unwrap().success().unwrap()).unwrap();
        let range = |range: &Value| (range["offset"].as_u64().unwrap(), range["length"].as_u64().unwrap());
        let lost: Vec<(u64, u64)> = image["lost"].as_array().unwrap().iter().map(range).collect();
        let bytes: u64 = lost.iter().map(|(_, length)| length).sum();
        assert_eq!(image["sha256"], truth.hash(volume.device, &lost), "{name}: wrong bytes, {lost:?} are lost");
        let said = loss["lost_chunks"].as_u64().unwrap().saturating_mul(chunk);
        assert!(bytes <= said, "{name}: {bytes} bytes give errors, {said} were told");
        assert_eq!(copied.code == 0, bytes == 0, "{name}: {}", copied.stdout);
        println!("{} {name}: {bytes} bytes lost", whole.fixture.name);
        all += bytes;
    }
    machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
    machine.finish().unwrap();
    all
}

fn half() -> ForgeOptions {
    ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() }
}

/// A pool that was damaged on purpose, its metadata as they were left; answers with the bytes lost.
fn genuine(name: &str, exit: i32) -> u64 {
    let base = Fixture::named(name).unwrap().base.unwrap();
    assert_repaired(&Whole::forge(name, &half()), &Truth::of(&base), exit)
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
fn superblock_of_a_tiered_pool_lost() {
    assert_eq!(genuine("F8-F3-sbzero", 1), 0);
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
    assert_eq!(assert_repaired(&Whole::forge("F6a-data-full", &half()), &truth, 0), 0);
}

#[test]
fn a_leaf_lost_on_a_degraded_raid5() {
    let options = ForgeOptions { raid: Some(Raid::new(5, 3)), compact: true, ..ForgeOptions::default() };
    let truth = Truth::of("F4-thick-clone");
    let (_, leaf) = truth.pool.roots().found[1];
    let folder = tempfile::tempdir().unwrap();
    let mut whole = Whole::forge_fixture(without("F4-thick-clone", &[leaf], folder.path()), &options);
    whole.forged.disks.remove(1);
    assert_ne!(assert_repaired(&whole, &truth, 2), 0);
}

#[test]
fn roots_lost_of_a_crashed_pool() {
    let truth = Truth::of("F7-tier-crash-1");
    let folder = tempfile::tempdir().unwrap();
    let lost = [MetaBlock(0), truth.pool.superblock().details_root];
    let whole = Whole::forge_fixture(without("F7-tier-crash-1", &lost, folder.path()), &half());
    assert_eq!(assert_repaired(&whole, &truth, 1), 0);
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
    assert_eq!(assert_repaired(&whole, &truth, 1), 0);
}
