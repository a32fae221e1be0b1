//! Extended attributes: in an inode behind its fields, and in a block of their own.
//!
//! What cannot be read or makes no sense is counted, one for each entry, or one for all that lie behind it.

use super::layout::Layout;
use super::{field16, field32, read_block};
use std::collections::BTreeMap;
use tierlift_ondisk::view::ReadAt;

const MAGIC: u32 = 0xea02_0000;
/// Where an inode's fields of any age end, and the field with the length of the newer ones.
const OLD_FIELDS: usize = 0x80;
/// Block of attributes, and the upper 16 bits of its number.
const BLOCK_AT: usize = 0x68;
const BLOCK_HIGH_AT: usize = 0x76;
/// Head of the block, and of an entry.
const BLOCK_HEAD: usize = 32;
const ENTRY: usize = 16;
/// Entries and names are filled up to a multiple of this; so many zeros end the list.
const UNIT: usize = 4;
/// Longest value; the kernel takes none that is longer.
const MAX_VALUE: usize = 64 << 10;
/// Content of a short file that lies in its inode has this name. It is no attribute of the user's.
const INLINE_CONTENT: &[u8] = b"system.data";

const ACCESS_LIST: u8 = 2;
const DEFAULT_LIST: u8 = 3;

/// The extended attributes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Values by full name, in the form that programs see.
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How many, at least, there are besides these that cannot be read.
    pub lost: u64,
}

/// Attributes of an inode, given all its bytes.
pub(super) fn of(view: &dyn ReadAt, layout: &Layout, inode: &[u8]) -> Attributes {
    let mut found = Attributes::default();
    found.in_inode(inode);
    let block = u64::from(field16(inode, BLOCK_HIGH_AT)) << 32 | u64::from(field32(inode, BLOCK_AT));
    if block > 0 {
        let inside = block < layout.blocks;
        match inside.then(|| read_block(view, block, layout.block_size)).flatten() {
            Some(bytes) => found.in_block(&bytes),
            None => found.lose(),
        }
    }
    found
}

/// An entry of a list.
struct Entry<'a> {
    prefix: u8,
    name: &'a [u8],
    /// Where the value lies in the area.
    offset: usize,
    size: usize,
    /// Inode that has the value; 0 for values in the area.
    inode: u32,
}

impl Attributes {
    fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    fn in_inode(&mut self, inode: &[u8]) {
        let newer = if inode.len() > OLD_FIELDS { usize::from(field16(inode, OLD_FIELDS)) } else { 0 };
        if newer == 0 {
            return;
        }
        let start = OLD_FIELDS.saturating_add(newer);
        let Some(room) = inode.get(start..).filter(|_| newer.checked_rem(UNIT) == Some(0)) else {
            return self.lose();
        };
        // Without the magic nothing was ever put there.
        if room.len() >= UNIT && field32(room, 0) == MAGIC {
            self.area(room.get(UNIT..).unwrap_or_default(), 0);
        }
    }

    fn in_block(&mut self, block: &[u8]) {
        let (magic, blocks) = (field32(block, 0), field32(block, 8));
        if magic == MAGIC && blocks == 1 { self.area(block, BLOCK_HEAD) } else { self.lose() }
    }

    /// An area with a list of entries from `first` on, and their values, counted from the start of the area.
    fn area(&mut self, area: &[u8], first: usize) {
        let mut entries = Vec::new();
        let mut at = first;
        // Each entry is longer than nothing: there are never more than the area has units.
        loop {
            match area.get(at..at.saturating_add(UNIT)) {
                Some([0, 0, 0, 0]) => break,
                Some(_) => {}
                None => {
                    self.lose();
                    break;
                }
            }
            let Some((entry, next)) = entry(area, at) else {
                self.lose();
                break;
            };
            entries.push(entry);
            at = next;
        }
        // Values of sound entries do not lie in each other.
        let mut room = area.len().saturating_sub(at);
        for entry in entries {
            self.value(area, at, &mut room, &entry);
        }
    }

    /// `end` is where the list of entries ends.
    fn value(&mut self, area: &[u8], end: usize, room: &mut usize, entry: &Entry<'_>) {
        let Some(name) = full_name(entry.prefix, entry.name) else { return self.lose() };
        if name == INLINE_CONTENT {
            return;
        }
        let bytes = match (entry.inode, entry.size) {
            (0, 0) => Some(&[][..]),
            (0, size) if size <= MAX_VALUE.min(*room) && entry.offset >= end => {
                area.get(entry.offset..).and_then(|rest| rest.get(..size))
            }
            // Values in inodes of their own: the reader of the files refuses file systems that have them.
            _ => None,
        };
        *room = room.saturating_sub(bytes.map_or(0, <[u8]>::len));
        let is_list = matches!(entry.prefix, ACCESS_LIST | DEFAULT_LIST);
        let value = bytes.and_then(|bytes| if is_list { access_list(bytes) } else { Some(bytes.to_vec()) });
        match value {
            Some(value) if !self.values.contains_key(&name) => drop(self.values.insert(name, value)),
            _ => self.lose(),
        }
    }
}

/// The entry at this place and where the next one is; `None` when it does not end inside the area.
fn entry(area: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let head = area.get(at..at.checked_add(ENTRY)?)?;
    let &[length, prefix, ..] = head else { return None };
    let name_at = at.checked_add(ENTRY)?;
    let name_end = name_at.checked_add(usize::from(length))?;
    let entry = Entry {
        prefix,
        name: area.get(name_at..name_end)?,
        offset: usize::from(field16(head, 2)),
        inode: field32(head, 4),
        size: usize::try_from(field32(head, 8)).ok()?,
    };
    Some((entry, name_end.checked_next_multiple_of(UNIT)?))
}

/// `None` for a prefix we do not know, and for names that cannot be.
fn full_name(prefix: u8, name: &[u8]) -> Option<Vec<u8>> {
    let start: &[u8] = match prefix {
        1 => b"user.",
        ACCESS_LIST => b"system.posix_acl_access",
        DEFAULT_LIST => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        _ => return None,
    };
    // Of access control lists the prefix is the whole name.
    let is_whole = matches!(prefix, ACCESS_LIST | DEFAULT_LIST);
    (is_whole == name.is_empty() && !name.contains(&0)).then(|| [start, name].concat())
}

/// An access control list as the kernel takes it, from the shorter form on the disk.
fn access_list(stored: &[u8]) -> Option<Vec<u8>> {
    const STORED: u32 = 1;
    const TAKEN: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let mut list = TAKEN.to_le_bytes().to_vec();
    let (version, mut rest) = stored.split_at_checked(4)?;
    if field32(version, 0) != STORED {
        return None;
    }
    while !rest.is_empty() {
        // The owner, the owning group, the mask, all others; a user and a group by number.
        let length = match field16(rest, 0) {
            1 | 4 | 0x10 | 0x20 => 4,
            2 | 8 => 8,
            _ => return None,
        };
        let (entry, behind) = rest.split_at_checked(length)?;
        let (kind, id) = entry.split_at_checked(4)?;
        list.extend_from_slice(kind);
        list.extend_from_slice(&if id.is_empty() { NOBODY } else { field32(id, 0) }.to_le_bytes());
        rest = behind;
    }
    Some(list)
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
