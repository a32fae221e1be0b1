//! Damaged pools on whole disks, repaired with `tierlift repair` and read through the kernel: what history gives back is what
//! QNAP's kernel read, what is lost gives errors, and the disks stay as they were.

mod common;

use common::{Loose, Whole, sha256, sparse};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tempfile::TempDir;
use tierlift_forge::{ForgeOptions, Mirror};
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::Pool;
use tierlift_tests::{Image, Machine, Settings};

/// The pool's metadata as they lie on the first disk: their place there in bytes, and themselves.
fn metadata(whole: &Whole) -> (u64, Vec<u8>) {
    let place = whole.forged.placed.iter().find(|volume| volume.name.ends_with("_tmeta")).unwrap();
    let [piece] = place.pieces[..] else { panic!("{place:?}") };
    let loose = Loose::unpack(&whole.fixture.name);
    (piece.disk_sector * 512, std::fs::read(&loose.tmeta).unwrap())
}

fn lose(whole: &Whole, pick: impl Fn(&Pool) -> Vec<MetaBlock>) {
    let (place, bytes) = metadata(whole);
    let pool = Pool::open(Arc::new(bytes)).unwrap();
    let size = pool.blocks().size().bytes();
    let disk = OpenOptions::new().write(true).open(&whole.forged.disks[0]).unwrap();
    for block in pick(&pool) {
        disk.write_all_at(&vec![0; size], place + block.0 * size as u64).unwrap();
    }
}

fn boot(whole: &Whole) -> Machine {
    whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap()
}

fn half() -> ForgeOptions {
    ForgeOptions { mirror: Mirror::Half, ..ForgeOptions::default() }
}

fn pool(whole: &Whole) -> String {
    format!("{}/tp1", whole.forged.volume_group)
}

#[test]
fn superblock_and_all_roots_lost() {
    let whole = Whole::forge("F2-snaps", &half());
    lose(&whole, |pool| vec![MetaBlock(0), pool.superblock().mapping_root, pool.superblock().details_root]);
    let mut machine = boot(&whole);
    assert_ne!(machine.run(&["activate", "--all"]).unwrap().code, 0, "a pool without a superblock was activated");
    assert_eq!(machine.run(&["repair", &pool(&whole), "--yes"]).unwrap().code, 1, "repaired and whole");
    whole.assert_every_volume(&mut machine);
    let report = machine.run(&["report"]).unwrap();
    assert!(report.stdout.contains("nothing was lost"), "{}", report.stdout);
    machine.finish().unwrap();
}

/// New metadata need no memory where a scratch disk is named. They outlive `deactivate`, go with `--undo`, and are
/// not forgotten by another repair while the pool is active.
#[test]
fn new_metadata_on_a_scratch_disk() {
    let whole = Whole::forge("F2-snaps", &half());
    lose(&whole, |pool| vec![MetaBlock(0), pool.superblock().mapping_root, pool.superblock().details_root]);
    let folder = TempDir::new().unwrap();
    let disks =
        [("small", 1 << 20), ("scratch", 256 << 20)].map(|(name, size)| sparse(&folder.path().join(name), size));
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let mut machine = disks.iter().fold(settings, |settings, disk| settings.writable(disk)).boot().unwrap();
    let first = b'a' + u8::try_from(whole.forged.disks.len()).unwrap();
    let [small, scratch] = [first, first + 1].map(|letter| format!("/dev/vd{}", char::from(letter)));
    let (pool, store) = (pool(&whole), format!("{}-tp1-repaired-store", whole.forged.volume_group));
    let said = machine.run(&["repair", &pool, "--yes", "--scratch", &small]).unwrap();
    assert!(said.code == 1 && said.stderr.contains("they are kept in memory"), "{said:?}");
    let said = machine.run(&["repair", &pool, "--yes", "--scratch", &scratch]).unwrap();
    assert!(said.code == 1 && said.stdout.contains(&format!("new metadata in /dev/mapper/{store}")), "{said:?}");
    for way in [vec!["activate", "--all"], vec!["activate", "--all", "--scratch", &scratch]] {
        machine.run(&way).unwrap().success().unwrap();
        let again = machine.run(&["repair", &pool, "--yes"]).unwrap();
        assert!(again.code == 8 && again.stderr.contains("is active with the new metadata"), "{again:?}");
        whole.assert_every_active_volume(&mut machine);
        machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
        let left = machine.shell("dmsetup ls --noheadings | cut -f1; find /run /tmp -name '*.tmeta'").unwrap();
        assert_eq!(left.stdout.trim(), store, "only the new metadata are left, and none in memory");
    }
    machine.run(&["repair", &pool, "--undo"]).unwrap().success().unwrap();
    let left = machine.shell("dmsetup ls").unwrap().success().unwrap();
    assert!(left.contains("No devices found"), "{left}");
    assert_ne!(machine.run(&["activate", "--all"]).unwrap().code, 0, "read as it was found again");
    machine.finish().unwrap();
}

#[test]
fn the_roots_of_a_pool_of_three_tiers_lost() {
    let whole = Whole::forge("F3-3tiers", &half());
    lose(&whole, |pool| vec![MetaBlock(0), pool.superblock().details_root]);
    let mut machine = boot(&whole);
    assert_eq!(machine.run(&["repair", &pool(&whole), "--yes"]).unwrap().code, 1, "repaired and whole");
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}

/// One device's only leaf is gone: it gives errors from end to end, the others are as they were.
#[test]
fn a_lost_leaf_gives_errors_and_nothing_else_changes() {
    let whole = Whole::forge("F4-thick-clone", &half());
    let (_, bytes) = metadata(&whole);
    let roots = Pool::open(Arc::new(bytes)).unwrap().roots().found;
    let (_, lost_root) = roots[1];
    let lost: Vec<u64> = roots.iter().filter(|(_, root)| *root == lost_root).map(|(id, _)| *id).collect();
    assert!(!lost.is_empty() && lost.len() < roots.len());
    lose(&whole, |_| vec![lost_root]);
    let mut machine = boot(&whole);
    assert_eq!(machine.run(&["repair", &pool(&whole), "--yes"]).unwrap().code & 2, 2, "damage is told");
    assert_eq!(machine.run(&["activate", "--all"]).unwrap().code, 2, "what is missing is told");
    for volume in &whole.forged.volumes {
        let truth = &whole.fixture.truth[&volume.device];
        let path = format!("/dev/mapper/{}-{}", whole.forged.volume_group, volume.name);
        if lost.contains(&volume.device) {
            let read = format!("dd if={path} of=/dev/null bs=4096 count=1 iflag=direct");
            assert_ne!(machine.shell(&read).unwrap().code, 0, "a lost chunk of device {} is readable", volume.device);
        } else {
            let hash = machine.shell(&format!("sha256sum < {path}")).unwrap().success().unwrap();
            assert!(hash.starts_with(&truth.sha256), "device {}: {hash}", volume.device);
        }
    }
    let original = machine.shell(&format!("sha256sum < /dev/mapper/{}-tp1_meta0", whole.forged.volume_group)).unwrap();
    let (_, mut as_found) = metadata(&whole);
    let size = Pool::open(Arc::new(as_found.clone())).unwrap().blocks().size().bytes();
    let start = usize::try_from(lost_root.0).unwrap() * size;
    as_found[start..start + size].fill(0);
    assert!(original.stdout.starts_with(&sha256(&as_found)), "the original metadata are not what was found");
    machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
    machine.finish().unwrap();
}
