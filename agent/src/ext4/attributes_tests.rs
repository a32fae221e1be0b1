//! Attributes as e2fsprogs writes them, and damaged ones.
#![allow(clippy::arithmetic_side_effects)]

use super::*;
use crate::ext4::{Inodes, ROOT};
use proptest::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use tierlift_ondisk::units::Bytes;

const BLOCK: u64 = 4096;

/// A list with a user and a group by number, as programs give it to the kernel.
fn list() -> Vec<u8> {
    let entries =
        [(1, 6, u32::MAX), (2, 4, 1000), (4, 5, u32::MAX), (8, 7, 70_000), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let entry = |(kind, rights, id): (u16, u16, u32)| {
        [&kind.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.into_iter().flat_map(entry).collect()].concat()
}

fn big() -> Vec<u8> {
    (0..3000_u32).map(|number| (number % 251) as u8).collect()
}

/// A file system with one file, to which debugfs gives attributes.
fn image(folder: &Path, inode_size: &str, requests: &[&str]) -> Vec<u8> {
    let tree = folder.join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("file"), "content").unwrap();
    std::fs::write(folder.join("big"), big()).unwrap();
    std::fs::write(folder.join("list"), list()).unwrap();
    let image = folder.join("image");
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", inode_size, "-d"]).arg(&tree).arg(&image);
    assert!(mke2fs.status().unwrap().success());
    for request in requests {
        let done = Command::new("debugfs").current_dir(folder).args(["-w", "-R", request, "image"]).output().unwrap();
        // Its exit code tells nothing.
        assert_eq!(String::from_utf8_lossy(&done.stderr).lines().count(), 1, "{request}: {done:?}");
    }
    std::fs::read(image).unwrap()
}

const ALL: [&str; 5] = [
    "ea_set /file user.small hello",
    "ea_set /file trusted.empty ''",
    "ea_set -f big /file user.big",
    "ea_set -f list /file system.posix_acl_access",
    "ea_set -f list /file security.capability",
];

fn read(view: &dyn ReadAt) -> Attributes {
    let inodes = Inodes::open(view).unwrap();
    let number = inodes.numbers(ROOT)[b"file".as_slice()];
    inodes.attributes(&inodes.find(number).unwrap())
}

fn value<'a>(found: &'a Attributes, name: &str) -> &'a [u8] {
    &found.values[name.as_bytes()]
}

/// Where the only block of attributes lies.
fn block(image: &[u8]) -> usize {
    let is_block = |block: &[u8]| field32(block, 0) == MAGIC && field32(block, 8) == 1;
    let mut blocks = image.chunks(BLOCK as usize);
    let place = blocks.position(is_block).unwrap() * BLOCK as usize;
    assert!(!blocks.any(is_block));
    place
}

fn assert_all(found: &Attributes) {
    assert_eq!((found.lost, found.values.len()), (0, 5), "{:?}", found.values.keys());
    assert_eq!(value(found, "user.small"), b"hello");
    assert_eq!(value(found, "user.big"), big());
    assert_eq!(value(found, "system.posix_acl_access"), list());
    assert_eq!(value(found, "security.capability"), list());
}

#[test]
fn in_the_inode_and_in_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "256", &ALL);
    let found = read(&image);
    assert_all(&found);
    // One of them lies in the inode: it is still there without the block.
    let mut without = image.clone();
    let place = block(&image);
    without[place..place + BLOCK as usize].fill(0);
    let left = read(&without);
    assert_eq!(left.lost, 1);
    assert!(!left.values.is_empty() && left.values.len() < found.values.len());
    assert!(left.values.iter().all(|(name, value)| found.values.get(name) == Some(value)));
}

#[test]
fn small_inodes_have_only_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "128", &ALL);
    assert_all(&read(&image));
}

#[test]
fn a_file_without_attributes_has_lost_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(&image(folder.path(), "256", &[])), Attributes::default());
}

struct Broken(Vec<u8>, Range<u64>);

impl ReadAt for Broken {
    fn size(&self) -> Bytes {
        self.0.size()
    }

    fn read_at(&self, offset: Bytes, into: &mut [u8]) -> std::io::Result<()> {
        if offset.0 < self.1.end && offset.0 + into.len() as u64 > self.1.start {
            return Err(std::io::ErrorKind::Other.into());
        }
        self.0.read_at(offset, into)
    }
}

#[test]
fn an_unreadable_block_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "128", &ALL);
    let place = block(&image) as u64;
    let found = read(&Broken(image, place + 100..place + 101));
    assert_eq!(found, Attributes { lost: 1, ..Attributes::default() });
}

#[test]
fn a_damaged_entry_costs_itself_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let sound = image(folder.path(), "128", &ALL);
    let place = block(&sound);
    let (mut at, mut names) = (place + BLOCK_HEAD, 0);
    while sound[at..at + 4] != [0; 4] {
        let (entry, next) = entry(&sound[place..place + BLOCK as usize], at - place).unwrap();
        let name = full_name(entry.prefix, entry.name).unwrap();
        let mut broken = sound.clone();
        // Its value lies where the entries are.
        broken[at + 2..at + 4].copy_from_slice(&40_u16.to_le_bytes());
        let found = read(&broken);
        // An empty value lies nowhere.
        let lost = u64::from(entry.size > 0);
        assert_eq!((found.lost, found.values.len() as u64), (lost, 5 - lost));
        assert_ne!(found.values.contains_key(&name), entry.size > 0);
        for (field, value) in [(8, u32::MAX), (4, 12)] {
            let mut broken = sound.clone();
            broken[at + field..at + field + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!((read(&broken).lost, read(&broken).values.len()), (1, 4));
        }
        (at, names) = (place + next, names + 1);
    }
    assert_eq!(names, 5);
    // A list without an end.
    let mut broken = sound;
    broken[at..at + 4].copy_from_slice(&[255; 4]);
    assert_eq!(read(&broken).lost, 1);
}

#[test]
fn lists_that_make_no_sense_are_none() {
    assert_eq!(access_list(&[1, 0, 0, 0]), Some(vec![2, 0, 0, 0]));
    for stored in [&[][..], &[2, 0, 0, 0], &[1, 0, 0, 0, 1], &[1, 0, 0, 0, 3, 0, 0, 0], &[1, 0, 0, 0, 2, 0, 0, 0, 1]] {
        assert_eq!(access_list(stored), None, "{stored:?}");
    }
}

#[test]
fn names() {
    let name = |prefix, name: &[u8]| full_name(prefix, name).map(|name| String::from_utf8(name).unwrap());
    assert_eq!(name(1, b"a").as_deref(), Some("user.a"));
    assert_eq!(name(ACCESS_LIST, b"").as_deref(), Some("system.posix_acl_access"));
    let none = [(1, &b""[..]), (DEFAULT_LIST, b"x"), (0, b"x"), (5, b"x"), (9, b"c"), (1, b"a\0b")];
    assert!(none.iter().all(|(prefix, text)| name(*prefix, text).is_none()));
}

/// Content in the inode is not an attribute, and not lost.
#[test]
fn inline_content_is_none() {
    let mut inode = vec![0; 256];
    inode[OLD_FIELDS] = 32;
    inode[160..164].copy_from_slice(&MAGIC.to_le_bytes());
    inode[164..184].copy_from_slice(b"\x04\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0data");
    let mut found = Attributes::default();
    found.in_inode(&inode);
    assert_eq!(found, Attributes::default());
}

fn total(found: &Attributes) -> usize {
    found.values.values().map(Vec::len).sum()
}

proptest! {
    #[test]
    fn any_bytes_are_bounded(mut bytes in proptest::collection::vec(any::<u8>(), 0..70_000), extra in 0..40_u16) {
        for (place, value) in [(0, MAGIC), (8, 1), (128, u32::from(extra)), (128 + usize::from(extra), MAGIC)] {
            if let Some(field) = bytes.get_mut(place..place + 4) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        for part in [Attributes::in_inode, Attributes::in_block] {
            let mut found = Attributes::default();
            part(&mut found, &bytes);
            prop_assert!(total(&found) <= 2 * bytes.len());
        }
    }

    #[test]
    fn entries_of_any_kind(entries in proptest::collection::vec((0..9_u8, 0..5_u8, 0..300_u16, 0..200_u32), 0..20)) {
        let mut block = vec![0; 600];
        block[..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[8] = 1;
        let entries: Vec<u8> = entries.iter().flat_map(|(prefix, length, offset, size)| {
            let mut entry = vec![*length, *prefix];
            entry.extend(offset.to_le_bytes());
            entry.extend([0; 4]);
            entry.extend(size.to_le_bytes());
            entry.extend([7; 4]);
            entry.extend(vec![b'n'; usize::from(length.next_multiple_of(4))]);
            entry
        }).collect();
        let length = entries.len().min(500);
        block[32..32 + length].copy_from_slice(&entries[..length]);
        let mut found = Attributes::default();
        found.in_block(&block);
        prop_assert!(total(&found) <= 2 * block.len());
    }
}
