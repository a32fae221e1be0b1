//! Directory blocks.

use super::{field16, field32};

const HEADER: usize = 8;
const REGULAR: u8 = 1;
const MOST_KINDS: u8 = 7;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The inode it leads to.
    pub(super) inode: u32,
    /// The name.
    pub(super) name: Vec<u8>,
    /// It may lead to a plain file: that is what is written, or nothing is.
    pub(super) may_be_file: bool,
}

/// The names in a directory block, `None` when it is none: lengths lead exactly to its end, inodes exist, names are names.
pub(super) fn entries(block: &[u8], inodes: u64) -> Option<Vec<Entry>> {
    let mut found = Vec::new();
    let mut rest = block;
    while !rest.is_empty() {
        let length = usize::from(field16(rest, 4));
        // In blocks of 64 KiB a length of 0 or 65535 stands for all of it.
        let length = if matches!(length, 0 | 0xffff) && block.len() > 0xffff { rest.len() } else { length };
        let (entry, behind) = rest.split_at_checked(length).filter(|(entry, _)| entry.len() >= HEADER)?;
        rest = behind;
        let (inode, name, kind) = (field32(entry, 0), *entry.get(6)?, *entry.get(7)?);
        if length.checked_rem(4) != Some(0) {
            return None;
        }
        if inode == 0 {
            continue;
        }
        let name = entry.get(HEADER..HEADER.saturating_add(usize::from(name)))?.to_vec();
        let sound = !name.is_empty() && !name.iter().any(|byte| matches!(byte, 0 | b'/')) && kind <= MOST_KINDS;
        if !sound || u64::from(inode) > inodes {
            return None;
        }
        found.push(Entry { inode, name, may_be_file: matches!(kind, 0 | REGULAR) });
    }
    (!found.is_empty()).then_some(found)
}
