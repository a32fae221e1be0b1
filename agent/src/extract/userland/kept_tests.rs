//! Attributes, links and holes that are kept, and what is told when they cannot be.

use super::entries::PART;
use super::tests::{Broken, job};
use super::*;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

const BLOCK: usize = 4096;
/// Head of a block of attributes: the magic, one owner, one block.
const HEAD: [u8; 12] = [0, 0, 2, 0xea, 1, 0, 0, 0, 1, 0, 0, 0];

/// A list for a file of mode 0670, as programs see it.
fn list() -> Vec<u8> {
    let entries = [(1, 6, u32::MAX), (2, 4, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(kind, rights, id): (u16, u16, u32)| {
        [&kind.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.into_iter().flat_map(entry).collect()].concat()
}

fn large() -> Vec<u8> {
    (0..3000_u32).map(|number| (number % 251) as u8).collect()
}

fn debugfs(folder: &Path, requests: &[&str]) {
    std::fs::write(folder.join("requests"), requests.join("\n") + "\n").unwrap();
    let done =
        Command::new("debugfs").current_dir(folder).args(["-w", "-f", "requests", "volume.img"]).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(told.lines().count() == 1, "{told}");
}

/// A file system of `photos/first`, `photos/second` (the same file), `alone`, `holes` and `link`, with attributes.
fn made(folder: &Path, inode_size: &str) -> PathBuf {
    let content = folder.join("content");
    std::fs::create_dir_all(content.join("photos")).unwrap();
    for (name, mode) in [("photos/first", 0o670), ("alone", 0o640)] {
        std::fs::write(content.join(name), name).unwrap();
        std::fs::set_permissions(content.join(name), Permissions::from_mode(mode)).unwrap();
    }
    std::fs::hard_link(content.join("photos/first"), content.join("photos/second")).unwrap();
    std::os::unix::fs::symlink("alone", content.join("link")).unwrap();
    let holes = File::create(content.join("holes")).unwrap();
    holes.set_len(16 << 20).unwrap();
    holes.write_all_at(b"in the middle", 8 << 20).unwrap();
    std::fs::write(folder.join("large"), large()).unwrap();
    std::fs::write(folder.join("list"), list()).unwrap();
    let image = folder.join("volume.img");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", inode_size, "-d"]).arg(&content).arg(&image);
    assert!(mke2fs.status().unwrap().success());
    let requests = [
        "ea_set /photos/first user.small hello",
        "ea_set -f large /photos/first user.large",
        "ea_set -f list /photos/first system.posix_acl_access",
        "ea_set /photos user.folder yes",
        "ea_set -f list /photos system.posix_acl_default",
        "sif /link mtime @1000000000",
    ];
    debugfs(folder, &requests);
    image
}

fn value(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65536];
    lgetxattr(path, name, value.as_mut_slice()).ok().map(|length| value[..length].to_vec())
}

/// Whether the file system the tests write to takes this.
fn takes(folder: &Path, name: &str, value: &[u8]) -> bool {
    let probe = folder.join("probe");
    std::fs::create_dir_all(&probe).unwrap();
    lsetxattr(&probe, name, value, XattrFlags::empty()).is_ok()
}

#[test]
fn attributes_and_links_come_over() {
    for inode_size in ["256", "1024"] {
        let folder = tempfile::tempdir_in(".").unwrap();
        let image = made(folder.path(), inode_size);
        let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
        assert_eq!((done.counts.copied, done.counts.damaged, done.counts.failed), (4, 0, 0), "{:?}", done.losses);
        assert_eq!(done.losses, [""; 0]);
        let out = |name: &str| folder.path().join("out").join(name);
        let sets = [
            ("photos/first", "user.small", b"hello".to_vec()),
            ("photos/first", "user.large", large()),
            ("photos/first", "system.posix_acl_access", list()),
            ("photos", "user.folder", b"yes".to_vec()),
            ("photos", "system.posix_acl_default", list()),
        ];
        let mut refused = BTreeSet::new();
        for (path, name, expected) in sets {
            if takes(folder.path(), name, &expected) {
                assert!(value(&out(path), name) == Some(expected), "{path} {name}");
            } else {
                refused.insert(path);
            }
        }
        // To whom lost+found belongs is root's alone to say.
        let owners = u64::from(!nix::unistd::geteuid().is_root());
        assert_eq!((done.counts.owners_dropped, done.counts.extended_dropped), (owners, refused.len() as u64));
        assert_eq!(done.counts.attributes_dropped, owners + done.counts.extended_dropped);
        let mode = |name: &str| std::fs::symlink_metadata(out(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("photos/first"), mode("alone")), (0o670, 0o640));
        let number = |name: &str| std::fs::metadata(out(name)).unwrap().ino();
        assert_eq!(number("photos/first"), number("photos/second"));
        assert_ne!(number("photos/first"), number("alone"));
        assert_eq!(std::fs::symlink_metadata(out("link")).unwrap().mtime(), 1_000_000_000);
        assert_ne!(std::fs::metadata(out("alone")).unwrap().mtime(), 1_000_000_000);
        assert!(done.took >= done.verifying && done.verifying > std::time::Duration::ZERO);
    }
}

#[test]
fn the_manifest_tells_links_and_a_second_run_finds_them() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    let run = || copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    let done = run();
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&done.manifest).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let kind = |path: &str| files.iter().find(|file| file["path"] == path).unwrap()["kind"].clone();
    assert_eq!((kind("photos/first"), kind("photos/second")), ("file".into(), "hardlink".into()));
    let again = run();
    assert_eq!((again.counts.copied, again.counts.identical, again.counts.failed), (0, 4, 0), "{:?}", again.losses);
}

#[test]
fn holes_stay_holes() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    let copied = folder.path().join("out/holes");
    assert!(std::fs::read(&copied).unwrap() == std::fs::read(folder.path().join("content/holes")).unwrap());
    assert!(copied.metadata().unwrap().blocks() * 512 <= 64 << 10);
}

#[test]
fn a_lost_block_of_attributes_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    let sound = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    let bytes = std::fs::read(&image).unwrap();
    let is_large = |block: &[u8]| block.starts_with(&HEAD) && block.windows(300).any(|part| part == &large()[..300]);
    let hole = (bytes.chunks(BLOCK).position(is_large).unwrap() * BLOCK) as u64;
    let view: View = Arc::new(Broken { bytes, hole: hole..hole + 1 });
    let done = copy_view(&view, &job(folder.path(), &image), &mut |_| {}).unwrap();
    // The file itself is whole, and its other name is a link all the same.
    assert_eq!((done.counts.copied, done.counts.damaged), (4, 0), "{:?}", done.losses);
    let lost_ones = [("user.large", large()), ("system.posix_acl_access", list())];
    let first = folder.path().join("out/photos/first");
    // What was in the block is not there; that it had this file's attributes counts once.
    let gone: Vec<_> = lost_ones.iter().filter(|(name, _)| value(&first, name).is_none()).collect();
    assert!(gone.iter().any(|(name, _)| *name == "user.large"));
    let all = [("user.small", b"hello".to_vec()), ("user.large", large()), ("system.posix_acl_access", list())];
    let took_all = all.iter().all(|(name, value)| takes(folder.path(), name, value));
    assert_eq!(done.counts.extended_dropped, sound.counts.extended_dropped + u64::from(took_all));
}

/// The directory can be read no more: what lies in it is lost, and says so.
#[test]
fn a_name_without_a_number_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    let view: View = Arc::new(FileView::open(&image).unwrap());
    let mark = Mark::new();
    let system = reader::open(&view, &mark).unwrap();
    let job = job(folder.path(), &image);
    std::fs::create_dir(&job.target).unwrap();
    let (kind, ledger) = (Kind::Unix, Ledger::begin(&job).unwrap());
    let (inodes, names) = (Numbers::open(&view, &mark), Names::given(kind));
    let mut tell = |_: &str| {};
    let (links, damaged_names) = (HashMap::new(), DamagedNames::new(kind));
    let mut work = Work {
        system,
        view: &view,
        mark,
        inodes,
        links,
        job: &job,
        kind,
        names,
        damaged_names,
        ledger,
        things: 0,
        tell: &mut tell,
    };
    work.directory(&mut Vec::new(), None, 0).unwrap();
    // lost+found, photos, its two names, alone, holes and link.
    let others = u64::from(!nix::unistd::geteuid().is_root());
    let Done { counts, losses, .. } = &work.ledger.done;
    assert_eq!((counts.copied, counts.extended_dropped, counts.owners_dropped), (4, 7, others), "{losses:?}");
    let number = |name: &str| std::fs::metadata(job.target.join(name)).unwrap().ino();
    assert_ne!(number("photos/first"), number("photos/second"));
}

/// In the journal waits a newer state of an inode: the older attributes on the volume are not taken for its own.
#[test]
fn what_waits_in_the_journal_is_newer_than_attributes_on_the_volume() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    // The block of inodes as it becomes when the attributes of one are changed.
    let older = std::fs::read(&image).unwrap();
    debugfs(folder.path(), &["sif /photos/first ctime @1234567890"]);
    let newer = std::fs::read(&image).unwrap();
    std::fs::write(&image, &older).unwrap();
    let blocks = || older.chunks(BLOCK).zip(newer.chunks(BLOCK));
    assert_eq!(blocks().filter(|(older, newer)| older != newer).count(), 1);
    let block = blocks().position(|(older, newer)| older != newer).unwrap();
    std::fs::write(folder.path().join("newer"), &newer[block * BLOCK..(block + 1) * BLOCK]).unwrap();
    debugfs(folder.path(), &["jo -c -v 3", &format!("jw -b {block} newer"), "jc"]);
    let view: View = Arc::new(FileView::open(&image).unwrap());
    assert!(reader::journal_waits(&view));
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged), (4, 0), "{:?}", done.losses);
    let first = folder.path().join("out/photos/first");
    assert_eq!(value(&first, "user.small"), None);
    assert_ne!(first.metadata().unwrap().ino(), folder.path().join("out/photos/second").metadata().unwrap().ino());
    let others = u64::from(!nix::unistd::geteuid().is_root());
    let folders = [("user.folder", b"yes".to_vec()), ("system.posix_acl_default", list())];
    let refused = u64::from(!folders.iter().all(|(name, value)| takes(folder.path(), name, value)));
    // Of both names, and of nothing else.
    assert_eq!((done.counts.extended_dropped, done.counts.owners_dropped), (2 + refused, others));
}

/// A link that has the name of a folder, or of files being written, leads nothing out of the target.
#[test]
fn links_on_the_target_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
    std::fs::create_dir(&out).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("precious"), "kept").unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("photos")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("precious"), out.join(PART)).unwrap();
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.failed), (2, 1), "{:?}", done.losses);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1);
    assert_eq!(std::fs::read(elsewhere.join("precious")).unwrap(), b"kept");
}

/// Only blocks that are larger than usual leave room for such a size.
#[test]
fn an_impossible_size_costs_one_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let image = super::tests::made(folder.path(), "65536", "extents");
    debugfs(folder.path(), &["sif /note.txt size 0x100000000001"]);
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged), (1, 1), "{:?}", done.losses);
    assert_eq!(done.losses, ["note.txt: its size (17592186044417 bytes) is impossible"]);
    assert!(!folder.path().join("out").join(PART).exists());
}

/// No room is made for what a damaged inode says that the place has.
#[test]
fn an_impossible_link_costs_itself_only() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "256");
    debugfs(folder.path(), &["sif /link size 0xf0000000000"]);
    let done = copy(&job(folder.path(), &image), &mut |_| {}).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged, done.counts.symlinks), (4, 1, 0));
    assert_eq!(done.losses, ["link: where it leads cannot be read"]);
}
