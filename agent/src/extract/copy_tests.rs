use super::entries::MAX_FILE;
use super::links::same_file;
use super::*;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

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
        run(&self.job(force), &mut |_| {})
    }

    fn job(&self, force: bool) -> Job {
        Job { name: "vg1/lv1".into(), source: self.path("src"), target: self.path("dst"), force, suspicious: [].into() }
    }

    /// A copy as if the target were of this kind.
    fn copy_on(&self, kind: Kind) -> Done {
        std::fs::create_dir_all(self.path("dst")).unwrap();
        run_on(kind, &self.job(false), &mut |_| {}).unwrap()
    }

    /// What is on the target, but for what is Tierlift's own.
    fn listed(&self) -> Vec<String> {
        let root = self.path("dst");
        let met = Walk::new(&root).unwrap().filter_map(|met| match met {
            Met::Enter(path) | Met::Entry(path, _) => Some(path.to_str().unwrap().to_owned()),
            _ => None,
        });
        met.filter(|path| !path.is_empty() && !path.starts_with("tierlift-manifest")).collect()
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
    assert_eq!(done.counts.lost_bytes, if made { MAX_FILE } else { 0 });
}

#[test]
fn a_single_file_can_be_copied() {
    let disks = Disks::new();
    let job = Job {
        name: "one".into(),
        source: disks.path("src/one"),
        target: disks.path("dst"),
        force: false,
        suspicious: [].into(),
    };
    assert_eq!(run(&job, &mut |_| {}).unwrap().counts.copied, 1);
    assert_eq!(disks.read("dst/one"), "first");
}

/// The entry of the manifest for a path of the source.
fn manifested(done: &Done, path: &str) -> Entry {
    let object: serde_json::Value = serde_json::from_slice(&std::fs::read(&done.manifest).unwrap()).unwrap();
    let found = object["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap();
    serde_json::from_value(found.clone()).unwrap()
}

/// A source with names that Windows does not take.
fn strange() -> Disks {
    let disks = Disks::new();
    std::fs::create_dir_all(disks.path("src/12:30/Sub")).unwrap();
    disks.put("src/12:30/Sub/what?", "below");
    disks.put("src/README", "large");
    disks.put("src/readme", "small");
    std::fs::hard_link(disks.path("src/one"), disks.path("src/one|two")).unwrap();
    std::fs::set_permissions(disks.path("src/12:30"), std::fs::Permissions::from_mode(0o500)).unwrap();
    disks
}

#[test]
fn names_are_written_as_windows_takes_them() {
    let disks = strange();
    let done = disks.copy_on(Kind::Ntfs);
    assert_eq!((done.counts.names_changed, done.counts.failed, done.counts.copied), (4, 0, 6), "{:?}", done.losses);
    let small = manifested(&done, "readme").written_as.unwrap();
    assert!(small.starts_with("readme~"), "{small}");
    let mut expected = [
        "12：30",
        "12：30/Sub",
        "12：30/Sub/what？",
        "README",
        "dir",
        "dir/empty",
        "dir/two",
        "one",
        "one｜two",
        &small,
    ];
    expected.sort_unstable();
    let mut listed = disks.listed();
    listed.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!((disks.read(&format!("dst/{small}")), disks.read("dst/README")), ("small".into(), "large".into()));
    assert!(same_file(&disks.path("dst/one"), &disks.path("dst/one｜two")));
    assert_eq!(std::fs::metadata(disks.path("dst/12：30")).unwrap().permissions().mode() & 0o777, 0o500);
    assert_eq!(manifested(&done, "12:30").written_as.as_deref(), Some("12：30"));
    assert_eq!(manifested(&done, "12:30/Sub").written_as, None);
    assert_eq!(manifested(&done, "one|two").written_as.as_deref(), Some("one｜two"));
    assert_eq!(outcome(&done.counts), Outcome::REPORTED);
}

#[test]
fn a_second_run_finds_changed_names_again() {
    let disks = strange();
    let first = disks.copy_on(Kind::Ntfs);
    let listed = disks.listed();
    let again = disks.copy_on(Kind::Ntfs);
    assert_eq!((again.counts.copied, again.counts.identical, again.counts.failed), (0, 6, 0), "{:?}", again.losses);
    assert_eq!((again.counts.names_changed, disks.listed()), (first.counts.names_changed, listed.clone()));
    // Without the lines of the first run, and with a part of what it wrote gone.
    std::fs::remove_file(disks.path("dst/tierlift-manifest.lines")).unwrap();
    std::fs::remove_file(disks.path("dst/README")).unwrap();
    let third = disks.copy_on(Kind::Ntfs);
    assert_eq!((third.counts.copied, third.counts.identical, disks.listed()), (1, 5, listed));
    assert_eq!((disks.read("dst/README"), manifested(&third, "readme").state), ("large".into(), State::Identical));
}

#[test]
fn a_single_file_has_the_name_it_has_in_its_folder() {
    let disks = strange();
    let small = manifested(&disks.copy_on(Kind::Ntfs), "readme").written_as.unwrap();
    std::fs::create_dir(disks.path("alone")).unwrap();
    let job = Job { source: disks.path("src/readme"), target: disks.path("alone"), ..disks.job(false) };
    run_on(Kind::Ntfs, &job, &mut |_| {}).unwrap();
    assert_eq!(disks.read(&format!("alone/{small}")), "small");
}

#[test]
fn on_linux_names_stay() {
    let disks = strange();
    let done = disks.copy_on(Kind::Unix);
    assert_eq!((done.counts.names_changed, disks.read("dst/12:30/Sub/what?")), (0, "below".into()));
    assert_eq!(outcome(&done.counts), Outcome::CLEAN);
}

#[test]
fn links_that_the_target_cannot_hold_are_in_the_manifest() {
    let disks = Disks::new();
    std::os::unix::fs::symlink("dir/two", disks.path("src/link")).unwrap();
    let strange = std::ffi::OsStr::from_bytes(b"b\xe4r");
    std::os::unix::fs::symlink(strange, disks.path("src/other")).unwrap();
    for kind in [Kind::Exfat, Kind::Fat] {
        let done = disks.copy_on(kind);
        assert_eq!((done.counts.symlinks_dropped, done.counts.failed, done.counts.symlinks), (2, 0, 0));
        assert!(done.losses.is_empty() && disks.path("dst/link").symlink_metadata().is_err());
        let entry = manifested(&done, "link");
        let why = "the target has no symbolic links; it leads to dir/two";
        assert_eq!((entry.state, entry.why.as_deref()), (State::Skipped, Some(why)));
        assert!(manifested(&done, "other").why.unwrap().ends_with("(bytes 62e472)"));
        assert_eq!(outcome(&done.counts), Outcome::REPORTED);
    }
    assert_eq!(disks.copy_on(Kind::Ntfs).counts.symlinks, 2);
}

#[test]
fn a_file_that_fat_does_not_hold_is_told_before_and_costs_only_itself() {
    let disks = Disks::new();
    std::fs::create_dir(disks.path("dst")).unwrap();
    File::create(disks.path("src/film.mkv")).unwrap().set_len(4 << 30).unwrap();
    let mut told = Vec::new();
    let done = run_on(Kind::Fat, &disks.job(false), &mut |line| told.push(line.to_owned())).unwrap();
    assert!(told[0].contains("film.mkv"), "{told:?}");
    assert_eq!((done.counts.copied, done.counts.failed, done.counts.damaged), (2, 1, 0));
    assert_eq!(done.losses, ["film.mkv: FAT holds no files of 4 GiB and more; use exFAT, NTFS or ext4"]);
}

#[test]
fn a_damaged_file_is_told_with_the_name_that_it_got() {
    let disks = strange();
    disks.put("src/12:30/end.", "all of it");
    let mut tell = |_: &str| {};
    std::fs::create_dir_all(disks.path("dst/12：30")).unwrap();
    let job = disks.job(false);
    let mut copy = Copy::begin(Kind::Exfat, &job, &mut tell).unwrap();
    let place = copy.place("12:30/end.".into());
    let found = std::fs::metadata(&place.source).unwrap();
    // Shorter than its inode says: its end is lost.
    disks.put("src/12:30/end.", "all");
    copy.entry(place, &found, None).unwrap();
    copy.settle().unwrap();
    let counts = &copy.ledger.done.counts;
    assert_eq!((counts.damaged, counts.lost_bytes, counts.names_changed), (1, 6, 1));
    assert_eq!(disks.read("dst/12：30/end．.damaged"), "all\0\0\0\0\0\0");
    let done = copy.ledger.finish(Ok(()), Instant::now()).unwrap();
    let entry = manifested(&done, "12:30/end.");
    assert_eq!((entry.state, entry.written_as.as_deref()), (State::Damaged, Some("end．.damaged")));
}

#[test]
fn a_further_name_becomes_a_file_where_there_are_no_links() {
    let disks = Disks::new();
    std::fs::hard_link(disks.path("src/one"), disks.path("src/same")).unwrap();
    for run in 0..2 {
        let done = disks.copy_on(Kind::Exfat);
        let written = if run == 0 { (3, 0) } else { (0, 3) };
        assert_eq!((done.counts.copied, done.counts.identical), written);
        assert_eq!((done.counts.hard_links_dropped, done.counts.failed), (1, 0), "{:?}", done.losses);
        assert_eq!(outcome(&done.counts), Outcome::CLEAN);
    }
    assert_eq!(disks.read("dst/same"), "first");
    assert!(!same_file(&disks.path("dst/one"), &disks.path("dst/same")));
}

#[test]
fn bytes_of_a_file_with_several_names_count_once() {
    let disks = Disks::new();
    disks.put("src/large", &"x".repeat(1 << 20));
    for name in ["src/dir/again", "src/zz"] {
        std::fs::hard_link(disks.path("src/large"), disks.path(name)).unwrap();
    }
    let bytes = (1 << 20) + "firstsecond".len() as u64;
    // Copied, found again, and where each name becomes a file.
    for kind in [Kind::Unix, Kind::Unix, Kind::Exfat] {
        let done = disks.copy_on(kind);
        assert_eq!((done.counts.copied + done.counts.identical, done.counts.bytes), (5, bytes), "{kind:?}");
    }
}

/// What a copy makes of things that change after they were looked at.
fn changed_meanwhile(disks: &Disks, kind: Kind, paths: &[&str], change: impl FnOnce()) -> Done {
    let (mut tell, job) = (|_: &str| {}, disks.job(false));
    ["dst/lost+found", "dst/dir"].iter().for_each(|path| std::fs::create_dir_all(disks.path(path)).unwrap());
    let mut copy = Copy::begin(kind, &job, &mut tell).unwrap();
    let places: Vec<Place> = paths.iter().map(|path| copy.place(path.into())).collect();
    let found: Vec<Metadata> = places.iter().map(|place| std::fs::metadata(&place.source).unwrap()).collect();
    change();
    places.into_iter().zip(&found).for_each(|(place, found)| copy.entry(place, found, None).unwrap());
    copy.settle().unwrap();
    copy.ledger.done
}

#[test]
fn files_that_cannot_be_opened_are_lost_with_their_size() {
    let disks = Disks::new();
    std::fs::hard_link(disks.path("src/one"), disks.path("src/same")).unwrap();
    let gone = || ["src/one", "src/same"].iter().for_each(|name| std::fs::remove_file(disks.path(name)).unwrap());
    let counts = changed_meanwhile(&disks, Kind::Unix, &["dir/two", "one", "same"], gone).counts;
    assert_eq!((counts.copied, counts.damaged, counts.failed), (1, 2, 0));
    assert_eq!((counts.bytes, counts.lost_bytes, counts.recovered_bytes()), (11, 5, 6));
}

#[test]
fn what_is_lost_of_nameless_files_is_none_of_their_bytes() {
    let disks = Disks::new();
    std::fs::create_dir(disks.path("src/lost+found")).unwrap();
    disks.put("src/lost+found/#12", "whole");
    disks.put("src/lost+found/#13", "twelve bytes");
    let cut = || disks.put("src/lost+found/#13", "twelve");
    let paths = ["one", "lost+found/#12", "lost+found/#13"];
    let done = changed_meanwhile(&disks, Kind::Unix, &paths, cut);
    let counts = done.counts;
    assert_eq!((counts.copied, counts.damaged, counts.nameless, counts.nameless_bytes), (2, 1, 1, 5 + 6));
    assert_eq!((counts.bytes, counts.lost_bytes), (5 + 5 + 12, 6));
    let mut named = counts;
    done.lost_found.iter().for_each(|(_, less)| named.take_away(less));
    assert_eq!(named, Counts { copied: 1, bytes: 5, ..Counts::default() });
}

#[test]
fn a_damaged_file_takes_the_place_of_no_other() {
    for (kind, other) in [(Kind::Unix, "one.damaged"), (Kind::Ntfs, "ONE.Damaged")] {
        let disks = Disks::new();
        disks.put(&format!("src/{other}"), "whole");
        let paths = [other, "one", "dir/two"];
        let cut = || ["src/one", "src/dir/two"].iter().for_each(|name| disks.put(name, "x"));
        for run in 0..2 {
            disks.put("src/one", "first");
            disks.put("src/dir/two", "second");
            let done = changed_meanwhile(&disks, kind, &paths, cut);
            assert_eq!((done.counts.damaged, done.counts.failed), (2, 0), "{:?}", done.losses);
            assert_eq!(disks.read(&format!("dst/{other}")), "whole", "run {run}");
            assert_eq!(disks.read("dst/dir/two.damaged"), "x\0\0\0\0\0");
            let listed = disks.listed();
            let marked: Vec<&String> =
                listed.iter().filter(|name| name.starts_with("one~") && name.ends_with(".damaged")).collect();
            // The second run finds the same name.
            assert_eq!(
                (marked.len(), disks.read(&format!("dst/{}", marked[0]))),
                (1, "x\0\0\0\0".into()),
                "{listed:?}"
            );
        }
    }
}

#[test]
fn no_link_on_the_way_leads_to_an_older_form() {
    let disks = Disks::new();
    std::os::unix::fs::symlink(disks.path("src/dir"), disks.path("src/docs")).unwrap();
    std::os::unix::fs::symlink("one", disks.path("src/link")).unwrap();
    std::os::unix::fs::symlink(disks.path("src"), disks.path("root")).unwrap();
    let is_whole = |root: &str, path: &str| is_whole(&disks.path(root), Path::new(path));
    assert!(is_whole("src", "one") && is_whole("src", "dir/two"));
    for path in ["docs/two", "link", "dir", "dir/../one", "dir/none", "one/two", "", "/etc/passwd"] {
        assert!(!is_whole("src", path), "{path}");
    }
    assert!(!is_whole("root", "one"), "not even the root");
}

#[test]
fn a_file_that_a_repair_took_parts_out_of_is_never_whole() {
    let disks = Disks::new();
    std::fs::hard_link(disks.path("src/one"), disks.path("src/same")).unwrap();
    std::os::unix::fs::symlink("one", disks.path("src/link")).unwrap();
    let number = |path: &str| std::fs::symlink_metadata(disks.path(path)).unwrap().ino();
    let job = Job { suspicious: [number("src/one"), number("src/link")].into(), ..disks.job(false) };
    for run_number in 0..2 {
        let done = run(&job, &mut |_| {}).unwrap();
        let counts = &done.counts;
        assert_eq!((counts.copied + counts.identical, counts.damaged, counts.failed), (1, 3, 0), "{:?}", done.losses);
        assert_eq!((counts.bytes, counts.lost_bytes, counts.symlinks), (11, 5, 0), "run {run_number}");
        assert_eq!(done.damaged, [Path::new("one"), Path::new("same")]);
        assert!(done.losses.iter().all(|loss| loss.ends_with(REPAIRED)), "{:?}", done.losses);
        assert_eq!(disks.listed(), ["dir", "dir/empty", "dir/two", "one.damaged", "same.damaged"]);
        assert_eq!(disks.read("dst/one.damaged"), "first");
        let object: serde_json::Value = serde_json::from_slice(&std::fs::read(done.manifest).unwrap()).unwrap();
        let one = object["files"].as_array().unwrap().iter().find(|file| file["path"] == "one").unwrap();
        assert_eq!((&one["state"], &one["written_as"]), (&"damaged".into(), &"one.damaged".into()));
        assert_eq!(one["why"], REPAIRED);
        assert_eq!(outcome(&done.counts), Outcome::DAMAGE);
    }
}

/// A copy made before the repair knew nothing of it. It stays, and does not make the file whole.
#[test]
fn what_was_copied_before_a_repair_does_not_make_a_file_whole() {
    let disks = Disks::new();
    disks.copy(false).unwrap();
    let number = std::fs::metadata(disks.path("src/one")).unwrap().ino();
    let job = Job { suspicious: [number].into(), ..disks.job(false) };
    let counts = run(&job, &mut |_| {}).unwrap().counts;
    assert_eq!((counts.identical, counts.damaged, counts.failed), (1, 1, 0));
    assert_eq!((disks.read("dst/one"), disks.read("dst/one.damaged")), ("first".into(), "first".into()));
}

#[test]
fn a_disk_that_gives_back_other_bytes_ends_the_copy() {
    let disks = Disks::new();
    // More than are read back together, so that there are some before, with and behind the wrong one.
    let names: Vec<String> = (0..100).map(|number| format!("file{number:03}")).collect();
    names.iter().for_each(|name| disks.put(&format!("src/{name}"), name));
    let (mut tell, job) = (|_: &str| {}, disks.job(false));
    std::fs::create_dir(disks.path("dst")).unwrap();
    let mut copy = Copy::begin(Kind::Unix, &job, &mut tell).unwrap();
    for name in &names {
        let place = copy.place(name.into());
        let found = std::fs::metadata(&place.source).unwrap();
        copy.entry(place, &found, None).unwrap();
    }
    disks.put("dst/.tierlift-parts/50", "file05X");
    let error = format!("{:#}", copy.settle().unwrap_err());
    copy.batch.end();
    assert!(error.starts_with("at file050: the target disk gives back other bytes"), "{error}");
    assert_eq!(disks.listed(), names[..50], "what is right has its name, and no part is left");
    assert_eq!(copy.ledger.done.counts.copied, 50);
}

#[test]
fn files_get_their_modes_also_where_nobody_may_read_them() {
    let disks = Disks::new();
    for mode in [0o400, 0o4755, 0o2710, 0o000, 0o666, 0o604] {
        std::fs::set_permissions(disks.path("src/one"), std::fs::Permissions::from_mode(mode)).unwrap();
        let done = disks.copy(true).unwrap();
        // Only root reads what nobody may read.
        if done.counts.damaged == 0 {
            assert_eq!(std::fs::metadata(disks.path("dst/one")).unwrap().mode() & 0o7777, mode);
            assert_eq!(done.counts.attributes_dropped, 0, "{mode:o}");
        }
        let _ = std::fs::remove_file(disks.path("dst/one"));
    }
}
