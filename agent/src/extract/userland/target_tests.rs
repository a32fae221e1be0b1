//! Targets that do not take all that a NAS had, copies that go on, and file systems that cannot be read at all.

use super::entries::PART;
use super::tests::{Broken, job, made, manifested};
use super::*;
use crate::commands::Outcome;
use crate::extract::copy::{self, outcome};
use crate::extract::manifest::State;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

/// A file system of what is in the folder's `content`.
fn image(folder: &Path, options: &[&str]) -> PathBuf {
    let image = folder.join("volume.img");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-b", "4096"]).args(options).arg("-d").arg(folder.join("content")).arg(&image);
    let done = mke2fs.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    image
}

/// Names that Windows does not take, a file with two names, and links.
fn strange(folder: &Path) -> PathBuf {
    let content = folder.join("content");
    std::fs::create_dir_all(content.join("12:30/Sub")).unwrap();
    for file in ["12:30/Sub/what?", "12:30/end.", "README", "readme", "one"] {
        std::fs::write(content.join(file), file).unwrap();
    }
    std::fs::hard_link(content.join("one"), content.join("one|two")).unwrap();
    std::os::unix::fs::symlink("12:30/end.", content.join("link")).unwrap();
    std::os::unix::fs::symlink(OsStr::from_bytes(b"b\xe4r"), content.join("other")).unwrap();
    content
}

/// A copy as if the target were of this kind.
fn copy_to(kind: Kind, job: &Job, view: &View, told: &mut Vec<String>) -> Done {
    std::fs::create_dir_all(&job.target).unwrap();
    let opened = open(view, &job.name).unwrap();
    copy_on(kind, view, opened, job, &mut |line| told.push(line.to_owned())).unwrap()
}

fn on(kind: Kind, job: &Job) -> Done {
    let view: View = Arc::new(FileView::open(&job.source).unwrap());
    copy_to(kind, job, &view, &mut Vec::new())
}

/// What is below a folder, but for what is Tierlift's own, and for lost+found, which only a file system has.
fn listed(root: &Path) -> Vec<String> {
    let listed = Command::new("find").args([".", "-mindepth", "1", "-printf", "%P\n"]).current_dir(root).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let mut listed: Vec<String> = listed
        .lines()
        .filter(|path| !path.starts_with("tierlift-manifest") && *path != "lost+found")
        .map(String::from)
        .collect();
    listed.sort();
    listed
}

/// Whoever mounted the file system before finds the same names, and the other way round.
#[test]
fn names_are_those_that_a_copy_of_the_mounted_tree_has() {
    let folder = tempfile::tempdir().unwrap();
    let content = strange(folder.path());
    let job = job(folder.path(), &image(folder.path(), &["-t", "ext4"]));
    let done = on(Kind::Share, &job);
    let here = listed(&job.target);
    let small = manifested(&done, "readme").written_as.unwrap();
    assert!(here.contains(&"12：30/Sub/what？".to_owned()) && here.contains(&small), "{here:?}");
    assert_eq!(manifested(&done, "12:30").written_as.as_deref(), Some("12：30"));
    assert_eq!(manifested(&done, "12:30/Sub").written_as, None);
    // 12:30, what?, end., readme and one|two.
    assert_eq!((done.counts.names_changed, outcome(&done.counts)), (5, Outcome::REPORTED));
    let mounted = Job { source: content, target: folder.path().join("mounted"), ..job };
    std::fs::create_dir(&mounted.target).unwrap();
    copy::run_on(Kind::Share, &mounted, &mut |_| {}).unwrap();
    assert_eq!(here, listed(&mounted.target));
}

#[test]
fn what_fat_does_not_hold_costs_only_itself_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let content = strange(folder.path());
    std::fs::write(content.join(".TIERLIFT-PART"), "a name that files have here while they are written").unwrap();
    File::create(content.join("film.mkv")).unwrap().set_len(4 << 30).unwrap();
    let job = job(folder.path(), &image(folder.path(), &["-t", "ext4"]));
    let view: View = Arc::new(FileView::open(&job.source).unwrap());
    let mut told = Vec::new();
    let done = copy_to(Kind::Fat, &job, &view, &mut told);
    assert!(told.iter().any(|line| line.contains("FAT holds no files of 4 GiB")), "{told:?}");
    let mut losses = done.losses.clone();
    losses.sort();
    let part = ".TIERLIFT-PART: files are written under this name before they get their own";
    assert_eq!(losses, [part, "film.mkv: FAT holds no files of 4 GiB and more; use exFAT, NTFS or ext4"]);
    assert_eq!((done.counts.copied, done.counts.failed, done.counts.damaged), (6, 2, 0));
    assert_eq!((done.counts.symlinks, done.counts.symlinks_dropped, done.counts.hard_links_dropped), (0, 2, 1));
    let entry = manifested(&done, "link");
    let why = "the target has no symbolic links; it leads to 12:30/end.";
    assert_eq!((entry.state, entry.why.as_deref()), (State::Skipped, Some(why)));
    assert!(manifested(&done, "other").why.unwrap().ends_with("(bytes 62e472)"));
    let number = |name: &str| std::fs::metadata(job.target.join(name)).unwrap().ino();
    assert_ne!(number("one"), number("one｜two"));
    assert!(job.target.join("link").symlink_metadata().is_err());
}

#[test]
fn a_target_of_linux_takes_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let content = strange(folder.path());
    std::fs::write(content.join(".TIERLIFT-PART"), "other letters").unwrap();
    let job = job(folder.path(), &image(folder.path(), &["-t", "ext4"]));
    let done = on(Kind::Unix, &job);
    assert_eq!((done.counts.copied, done.counts.failed, done.counts.names_changed), (7, 0, 0), "{:?}", done.losses);
    assert_eq!(listed(&job.target), listed(&content));
}

#[test]
fn a_copy_that_was_interrupted_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "4096", "extents");
    let job = job(folder.path(), &image);
    on(Kind::Ntfs, &job);
    // The lines of the manifest were never put on the disk, a file is missing, and a part was left.
    std::fs::remove_file(job.target.join("tierlift-manifest.lines")).unwrap();
    std::fs::remove_file(job.target.join("note.txt")).unwrap();
    std::fs::write(job.target.join(PART), "half").unwrap();
    let again = on(Kind::Ntfs, &job);
    assert_eq!((again.counts.copied, again.counts.identical, again.counts.failed), (1, 1, 0), "{:?}", again.losses);
    assert_eq!(std::fs::read(job.target.join("note.txt")).unwrap(), b"hello");
    // Other bytes of the same length are not what the volume has.
    std::fs::remove_file(job.target.join("tierlift-manifest.lines")).unwrap();
    std::fs::write(job.target.join("note.txt"), "jello").unwrap();
    let third = on(Kind::Ntfs, &job);
    assert_eq!((third.counts.copied, third.counts.identical, third.counts.failed), (0, 1, 1), "{:?}", third.losses);
    assert_eq!(std::fs::read(job.target.join("note.txt")).unwrap(), b"jello");
}

/// A file of two blocks of which the second is lost, under a name that is another one on the target.
fn with_a_lost_block(folder: &Path) -> (View, Job) {
    let content = folder.join("content");
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("end."), [[7; 4096], [9; 4096]].concat()).unwrap();
    let source = image(folder, &["-t", "ext4"]);
    let bytes = std::fs::read(&source).unwrap();
    let block = bytes.chunks(4096).position(|block| block == [9; 4096]).unwrap() as u64;
    let hole = block.saturating_mul(4096)..block.saturating_add(1).saturating_mul(4096);
    (Arc::new(Broken { bytes, hole }), job(folder, &source))
}

#[test]
fn a_damaged_file_is_told_with_the_name_that_it_got() {
    let folder = tempfile::tempdir().unwrap();
    let (view, job) = with_a_lost_block(folder.path());
    for _ in 0..2 {
        let done = copy_to(Kind::Exfat, &job, &view, &mut Vec::new());
        assert_eq!((done.counts.damaged, done.counts.lost_bytes, done.counts.names_changed), (1, 4096, 1));
        let entry = manifested(&done, "end.");
        assert_eq!((entry.state, entry.written_as.as_deref()), (State::Damaged, Some("end．.damaged")));
        assert_eq!(done.damaged, [Path::new("end.")]);
        assert_eq!(std::fs::read(job.target.join("end．.damaged")).unwrap(), [[7; 4096], [0; 4096]].concat());
    }
}

/// The target refuses one name: here because a folder has it, elsewhere because of its letters.
#[test]
fn a_name_the_target_refuses_costs_one_file_only() {
    let folder = tempfile::tempdir().unwrap();
    let (view, job) = with_a_lost_block(folder.path());
    std::fs::create_dir_all(job.target.join("end..damaged/folder")).unwrap();
    let done = copy_to(Kind::Unix, &job, &view, &mut Vec::new());
    assert_eq!((done.counts.copied, done.counts.failed), (0, 1), "{:?}", done.losses);
    assert!(done.losses[0].starts_with("end.: it cannot be given its name"), "{:?}", done.losses);
    assert!(!job.target.join(PART).exists());
}

/// Old file systems have inodes that are too small for checksums and times of ext4.
#[test]
fn small_inodes_are_read() {
    let kinds: [&[&str]; 4] = [
        &["-t", "ext2", "-I", "128"],
        &["-t", "ext3", "-I", "128"],
        &["-t", "ext4", "-I", "128", "-O", "^metadata_csum"],
        &["-t", "ext4", "-I", "128", "-O", "metadata_csum"],
    ];
    for options in kinds {
        let folder = tempfile::tempdir().unwrap();
        let content = folder.path().join("content");
        std::fs::create_dir_all(content.join("photos")).unwrap();
        std::fs::write(content.join("photos/one"), vec![5; 300_000]).unwrap();
        std::fs::hard_link(content.join("photos/one"), content.join("two")).unwrap();
        let job = job(folder.path(), &image(folder.path(), options));
        let done = on(Kind::Unix, &job);
        assert_eq!((done.counts.copied, done.counts.damaged), (2, 0), "{options:?}: {:?}", done.losses);
        assert_eq!(std::fs::read(job.target.join("photos/one")).unwrap(), vec![5; 300_000]);
        assert_eq!(manifested(&done, "two").size, 300_000);
    }
}

/// Nothing is copied, so it must not look like a copy that came to its end.
#[test]
fn a_root_directory_that_cannot_be_read_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), "4096", "extents");
    let bytes = std::fs::read(&image).unwrap();
    let root = bytes.chunks(4096).position(|block| block.windows(8).any(|name| name == b"note.txt")).unwrap();
    let inode_table = bytes.get(4096 + 8..4096 + 12).unwrap().try_into().map(u32::from_le_bytes).unwrap();
    for lost in [root as u64, u64::from(inode_table)] {
        let hole = lost * 4096..(lost + 1) * 4096;
        let view: View = Arc::new(Broken { bytes: bytes.clone(), hole });
        let job = job(folder.path(), &image);
        let error = copy_view(&view, &job, &mut |_| {}).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.outcome, Outcome::UNUSABLE);
        assert!(failure.message.contains("cannot be read without the kernel"), "{}", failure.message);
        assert!(failure.message.contains("mount it instead"), "{}", failure.message);
        assert!(!job.target.exists());
    }
}

/// An empty file system is no damaged one.
#[test]
fn an_empty_root_directory_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("content")).unwrap();
    let done = on(Kind::Unix, &job(folder.path(), &image(folder.path(), &["-t", "ext4"])));
    assert_eq!((done.counts.copied, done.counts.damaged, done.counts.directories), (0, 0, 1), "{:?}", done.losses);
}

/// What is read piece by piece is joined in the right order, with holes and an end that fills no block.
#[test]
fn large_files_with_holes_come_over_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    std::fs::create_dir(&content).unwrap();
    let file = File::create(content.join("holes")).unwrap();
    for at in [0_u64, (1 << 20) - 5, (3 << 20) + 4095, 9 << 20] {
        file.write_all_at(at.to_string().as_bytes(), at).unwrap();
    }
    let job = job(folder.path(), &image(folder.path(), &["-t", "ext4"]));
    let done = on(Kind::Unix, &job);
    assert_eq!((done.counts.copied, done.counts.damaged), (1, 0), "{:?}", done.losses);
    assert!(std::fs::read(job.target.join("holes")).unwrap() == std::fs::read(content.join("holes")).unwrap());
}
