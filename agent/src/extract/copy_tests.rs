use super::*;
use std::os::unix::fs::PermissionsExt;

struct Disks {
    root: tempfile::TempDir,
}

impl Disks {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("src/dir/empty")).unwrap();
        let disks = Self { root };
        disks.put("src/one", "first");
        disks.put("src/dir/two", "second");
        disks
    }

    fn put(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn copy(&self, force: bool) -> anyhow::Result<Done> {
        let job = Job { name: "vg1/lv1".into(), source: self.path("src"), target: self.path("dst"), force };
        run(&job, &mut |_| {})
    }
}

#[test]
fn a_tree_is_copied_with_links_and_modes() {
    let disks = Disks::new();
    std::fs::set_permissions(disks.path("src/dir"), std::fs::Permissions::from_mode(0o500)).unwrap();
    std::fs::hard_link(disks.path("src/one"), disks.path("src/same")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", disks.path("src/outside")).unwrap();
    let done = disks.copy(false).unwrap();
    assert_eq!((done.counts.copied, done.counts.directories, done.counts.symlinks), (3, 2, 1));
    assert_eq!((disks.read("dst/one"), disks.read("dst/dir/two")), ("first".into(), "second".into()));
    assert!(same_file(&disks.path("dst/one"), &disks.path("dst/same")));
    assert_eq!(std::fs::read_link(disks.path("dst/outside")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(std::fs::metadata(disks.path("dst/dir")).unwrap().permissions().mode() & 0o777, 0o500);
    assert_eq!(outcome(&done.counts), Outcome::CLEAN);
    assert!(!disks.path("dst/.tierlift-parts").exists());
}

#[test]
fn a_second_run_copies_nothing_again() {
    let disks = Disks::new();
    disks.copy(false).unwrap();
    let again = disks.copy(false).unwrap();
    assert_eq!((again.counts.copied, again.counts.identical), (0, 2));
    // Without the lines of the first run the files themselves are compared.
    std::fs::remove_file(disks.path("dst/tierlift-manifest.lines")).unwrap();
    assert_eq!(disks.copy(false).unwrap().counts.identical, 2);
}

#[test]
fn a_different_file_is_left_alone_without_force() {
    let disks = Disks::new();
    std::fs::create_dir(disks.path("dst")).unwrap();
    disks.put("dst/one", "other");
    let done = disks.copy(false).unwrap();
    assert_eq!((done.counts.failed, disks.read("dst/one")), (1, "other".into()));
    assert_eq!(outcome(&done.counts), Outcome::REPORTED);
    assert_eq!((disks.copy(true).unwrap().counts.failed, disks.read("dst/one")), (0, "first".into()));
}

#[test]
fn a_link_on_the_target_is_never_followed() {
    let disks = Disks::new();
    std::fs::create_dir_all(disks.path("dst")).unwrap();
    std::fs::create_dir(disks.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(disks.path("elsewhere"), disks.path("dst/dir")).unwrap();
    let done = disks.copy(false).unwrap();
    assert_eq!(std::fs::read_dir(disks.path("elsewhere")).unwrap().count(), 0);
    // The directory, the one inside it and the file.
    assert!(done.counts.failed >= 2, "{:?}", done.losses);
    assert_eq!(disks.read("dst/one"), "first");
}

#[test]
fn the_manifest_tells_hashes() {
    let disks = Disks::new();
    let done = disks.copy(false).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&std::fs::read(done.manifest).unwrap()).unwrap();
    let files = object["files"].as_array().unwrap();
    let one = files.iter().find(|file| file["path"] == "one").unwrap();
    assert_eq!(one["sha256"], "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e");
    assert_eq!(one["state"], "copied");
}

#[test]
fn an_impossible_size_costs_only_that_file() {
    let disks = Disks::new();
    let huge = File::create(disks.path("src/huge")).unwrap();
    // Where the test's file system cannot have such a file there is nothing to see, and the rest must hold all the same.
    let made = huge.set_len(MAX_FILE + 1).is_ok();
    let done = disks.copy(false).unwrap();
    assert_eq!((done.counts.copied, done.counts.damaged), (if made { 2 } else { 3 }, u64::from(made)));
}

#[test]
fn a_full_or_failing_target_stops_the_copy() {
    for code in [nix::libc::ENOSPC, nix::libc::EDQUOT, nix::libc::EIO, nix::libc::EROFS] {
        assert!(matches!(judge(io::Error::from_raw_os_error(code), "x"), Stop::Target(_)), "{code}");
    }
    for code in [nix::libc::EINVAL, nix::libc::ENAMETOOLONG, nix::libc::EFBIG] {
        assert!(matches!(judge(io::Error::from_raw_os_error(code), "x"), Stop::File(..)), "{code}");
    }
}

#[test]
fn a_single_file_can_be_copied() {
    let disks = Disks::new();
    let job = Job { name: "one".into(), source: disks.path("src/one"), target: disks.path("dst"), force: false };
    assert_eq!(run(&job, &mut |_| {}).unwrap().counts.copied, 1);
    assert_eq!(disks.read("dst/one"), "first");
}
