#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::ext4::{Inodes, ROOT, Survey, survey};
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// A file system with `kept/0` … and `lost/0` … of 5000 bytes each.
const FILES: usize = 20;

fn made() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    for directory in ["kept", "lost"] {
        std::fs::create_dir_all(tree.join(directory)).unwrap();
        for number in 0..FILES {
            std::fs::write(tree.join(directory).join(format!("{directory}-{number}.txt")), [b'x'; 5000]).unwrap();
        }
    }
    let image = folder.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let made =
        Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"]).arg(&tree).arg(&image).status();
    assert!(made.unwrap().success());
    std::fs::read(image).unwrap()
}

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(made);

fn debugfs(image: &Path, request: &str) -> String {
    let output = Command::new("debugfs").args(["-w", "-R", request]).arg(image).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn with(bytes: &[u8], work: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::write(&image, bytes).unwrap();
    work(&image);
    std::fs::read(image).unwrap()
}

/// Numbers of the files in `lost`, by name.
fn numbers(image: &Path) -> BTreeMap<String, u64> {
    let listed = debugfs(image, "ls -p /lost");
    let entry = |line: &str| {
        let parts: Vec<&str> = line.split('/').collect();
        let (number, name) = (parts.get(1)?.parse().ok()?, parts.get(5)?);
        name.starts_with("lost-").then(|| ((*name).to_owned(), number))
    };
    listed.lines().filter_map(entry).collect()
}

#[test]
fn files_are_counted_and_dated() {
    let found = survey(&*SOUND, &[]).unwrap();
    // The directories: /, kept, lost, lost+found.
    let expected = Survey { files: 2 * FILES as u64, directories: 4, ..Survey::default() };
    let newest = found.newest.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    assert!((now - 3600..=now + 60).contains(&newest), "{newest} {now}");
    assert_eq!(Survey { newest: None, ..found }, expected);
}

#[test]
fn files_that_touch_what_is_lost_are_counted() {
    let mut block = 0;
    with(&SOUND, |image| {
        block = debugfs(image, "blocks /kept/kept-3.txt").split_whitespace().next().unwrap().parse().unwrap()
    });
    let lost = |blocks: u64| vec![block * 4096..(block + blocks) * 4096];
    let damaged = |lost: &[_]| survey(&*SOUND, lost).unwrap().damaged_files;
    assert_eq!(damaged(&lost(1)), 1);
    // Its second block, and the one of the next file.
    assert_eq!(damaged(&[(block + 1) * 4096..(block + 2) * 4096 + 1]), 2);
    assert_eq!(damaged(&[0..4096]), 0);
}

#[test]
fn a_lost_directory_still_tells_its_names() {
    let mut numbers = BTreeMap::new();
    let broken = with(&SOUND, |image| {
        numbers = self::numbers(image);
        debugfs(image, "clri /lost");
    });
    assert_eq!(numbers.len(), FILES);
    let wanted: BTreeSet<u64> = numbers.values().copied().collect();
    let found = lost_names(&broken, &wanted);
    let names: BTreeMap<String, u64> =
        found.iter().map(|(number, found)| (String::from_utf8(found.name.clone()).unwrap(), *number)).collect();
    assert_eq!(names, numbers);
    assert!(found.values().all(|found| !found.in_journal));
    // A directory that is still there is not searched: its names are no lost ones.
    assert!(lost_names(&*SOUND, &wanted).is_empty());
}

#[test]
fn a_name_that_is_not_alone_is_no_answer() {
    let mut numbers = BTreeMap::new();
    let broken = with(&SOUND, |image| {
        numbers = self::numbers(image);
        debugfs(image, "ln /lost/lost-1.txt /lost/other.txt");
        debugfs(image, "clri /lost");
    });
    let number = numbers["lost-1.txt"];
    assert!(lost_names(&broken, &BTreeSet::from([number])).is_empty());
    assert_eq!(lost_names(&broken, &BTreeSet::from([number, numbers["lost-2.txt"]])).len(), 1);
}

#[test]
fn copies_of_the_superblock_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(140 << 20).unwrap();
    let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-b", "4096", "-N", "64"]).arg(&image).status();
    assert!(made.unwrap().success());
    let mut bytes = std::fs::read(image).unwrap();
    let before = survey(&bytes, &[]);
    assert_eq!(before.as_ref().unwrap().directories, 2);
    bytes[..8192].fill(0);
    assert_eq!(survey(&bytes, &[]), before);
}

#[test]
fn names_in_a_directory_have_their_numbers() {
    let (mut expected, mut directory) = (BTreeMap::new(), 0);
    let image = with(&SOUND, |image| {
        debugfs(image, "ln /lost/lost-1.txt /lost/other.txt");
        expected = numbers(image);
        directory = Inodes::open(&*SOUND).unwrap().numbers(ROOT)[b"lost".as_slice()];
    });
    let inodes = Inodes::open(&image).unwrap();
    let found = inodes.numbers(directory);
    let number = |name: &str| u64::from(found[name.as_bytes()]);
    assert!(expected.iter().all(|(name, expected)| number(name) == *expected));
    assert_eq!((found.len(), number("other.txt")), (FILES + 3, expected["lost-1.txt"]));
    // debugfs makes the name and leaves the count of names as it is.
    let one = inodes.find(found[b"lost-1.txt".as_slice()]).unwrap();
    assert_eq!((one.inode.links, one.identity.size, one.identity.mode & 0xf000), (1, 5000, 0x8000));
    assert!(inodes.find(0).is_none() && inodes.find(u32::MAX).is_none());
    assert!(inodes.numbers(found[b"lost-1.txt".as_slice()]).is_empty(), "a file is no directory");
}

#[test]
fn names_that_contradict_each_other_have_no_number() {
    let mut broken = SOUND.clone();
    let name = broken.windows(10).position(|name| name == b"lost-3.txt").unwrap();
    broken[name..name + 10].copy_from_slice(b"lost-2.txt");
    let inodes = Inodes::open(&broken).unwrap();
    let found = inodes.numbers(inodes.numbers(ROOT)[b"lost".as_slice()]);
    assert!(!found.contains_key(b"lost-2.txt".as_slice()) && found.contains_key(b"lost-1.txt".as_slice()));
}

proptest! {
    #[test]
    fn whatever_the_bytes_say(places in proptest::collection::vec((0..300_000_usize, any::<u8>()), 0..40)) {
        let mut bytes = SOUND.clone();
        for (place, value) in places {
            bytes[place] = value;
        }
        let _ = survey(&bytes, &[100..5000, 1 << 20..2 << 20]);
        let _ = lost_names(&bytes, &(0..500).collect());
        if let Some(inodes) = Inodes::open(&bytes) {
            for number in 0..100 {
                let _ = (inodes.numbers(number), inodes.find(number).map(|found| inodes.attributes(&found)));
            }
        }
    }

    #[test]
    fn any_block_is_a_directory_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = directory::entries(&bytes, 1000);
    }
}
