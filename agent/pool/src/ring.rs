//! The ring of superblock copies: found at every end the device may have had, and held against block 0.

use crate::blocks::Blocks;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use tierlift_ondisk::thin::ring::{SLOTS, Slot, decode_slot, other_ends, slot_block};
use tierlift_ondisk::thin::{Superblock, flags};
use tierlift_ondisk::units::MetaBlock;

/// The copies found, oldest first, and the slots that were never used.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// Each copy with its block, by ascending `backup_id`.
    pub copies: Vec<(MetaBlock, Superblock)>,
    /// Slots that hold a placeholder.
    pub placeholders: u64,
}

/// Where a copy is and what it says of its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CopyPlace {
    /// Sequence number.
    pub backup_id: u64,
    /// Its block.
    pub block: MetaBlock,
    /// Transaction id.
    pub transaction: u64,
    /// Pool time.
    pub time: u32,
}

impl fmt::Display for CopyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backup_id, block, transaction, time } = self;
        write!(f, "number {backup_id} in block {block}, transaction {transaction}, time {time}")
    }
}

/// What the ring says of block 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RingState {
    /// The pool keeps no copies.
    Off,
    /// The pool keeps copies but none was found.
    NoCopies,
    /// The newest copy is the state of block 0.
    Agrees,
    /// Block 0 is older than the newest copy.
    Behind {
        /// Commits between the two, when block 0's state is among the copies.
        commits: Option<u64>,
    },
    /// The newest copy is another state, and neither is provably the older one: normal for one commit after a power cut.
    Differs,
}

impl RingState {
    /// Block 0 is so old that blocks it points at may have been reused.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Behind { commits } if commits != Some(1))
    }
}

impl Ring {
    /// Reads the slots at every end the device may have had: its own, the one its space map records, and the sizes at which
    /// LVM and kernels capped it. A copy is genuine only at the place it names, so wrong ends find nothing.
    pub fn find(blocks: &Blocks) -> Self {
        let present = blocks.present();
        let caps = other_ends(blocks.size()).iter().copied().filter(|end| *end < present);
        let ends = [present, blocks.count()].into_iter().chain(caps);
        let mut slots = BTreeMap::new();
        let mut buffer = Vec::new();
        for place in ends.flat_map(|end| (1..=SLOTS).filter_map(move |slot| slot_block(end, slot))) {
            if !slots.contains_key(&place) && blocks.read_raw(place, &mut buffer).is_ok() {
                slots.insert(place, decode_slot(&buffer, place));
            }
        }
        Self::from_slots(slots)
    }

    fn from_slots(slots: BTreeMap<MetaBlock, Option<Slot>>) -> Self {
        let mut ring = Self::default();
        for (place, slot) in slots {
            match slot {
                Some(Slot::Copy(copy)) => ring.copies.push((place, *copy)),
                Some(Slot::Placeholder) => ring.placeholders = ring.placeholders.saturating_add(1),
                None => {}
            }
        }
        ring.copies.sort_by_key(|(_, copy)| copy.backup_id);
        ring
    }

    /// The copy with the highest number.
    pub fn newest(&self) -> Option<&(MetaBlock, Superblock)> {
        self.copies.last()
    }

    /// Place and age of the newest copy.
    pub fn newest_place(&self) -> Option<CopyPlace> {
        self.newest().map(|(block, copy)| CopyPlace {
            backup_id: copy.backup_id,
            block: *block,
            transaction: copy.transaction,
            time: copy.time,
        })
    }

    /// Holds the ring against block 0.
    pub fn judge(&self, block0: &Superblock) -> RingState {
        if !block0.has(flags::SUPERBLOCK_BACKUP) {
            return RingState::Off;
        }
        let Some((_, newest)) = self.newest() else { return RingState::NoCopies };
        if newest.same_state(block0) {
            return RingState::Agrees;
        }
        if let Some((_, same)) = self.copies.iter().rev().find(|(_, copy)| copy.same_state(block0)) {
            return RingState::Behind { commits: newest.backup_id.checked_sub(same.backup_id) };
        }
        // Both clocks only ever rise.
        if newest.time > block0.time || newest.transaction > block0.transaction {
            return RingState::Behind { commits: None };
        }
        RingState::Differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(time: u32, transaction: u64, mapping_root: u64) -> Superblock {
        let blank = Superblock::decode(&[0; 404]).unwrap();
        let mapping_root = MetaBlock(mapping_root);
        Superblock { flags: flags::SUPERBLOCK_BACKUP, time, transaction, mapping_root, ..blank }
    }

    fn ring(states: &[Superblock]) -> Ring {
        let numbered = |(id, copy): (usize, &Superblock)| {
            let place = MetaBlock(1000_u64.saturating_sub(id as u64));
            (place, Superblock { backup_id: id as u64, number: place, ..copy.clone() })
        };
        Ring { copies: states.iter().enumerate().map(numbered).collect(), placeholders: 0 }
    }

    #[test]
    fn which_is_newer() {
        let (old, middle, new) = (state(1, 1, 10), state(1, 1, 20), state(3, 2, 30));
        let all = ring(&[old.clone(), middle.clone(), new.clone()]);
        assert_eq!(all.judge(&new), RingState::Agrees);
        assert_eq!(all.judge(&middle), RingState::Behind { commits: Some(1) });
        assert_eq!(all.judge(&old), RingState::Behind { commits: Some(2) });
        assert_eq!(all.judge(&state(1, 1, 5)), RingState::Behind { commits: None });
        assert_eq!(all.judge(&state(3, 2, 40)), RingState::Differs);
        assert_eq!(ring(&[]).judge(&new), RingState::NoCopies);
        assert_eq!(all.judge(&Superblock { flags: 0, ..old.clone() }), RingState::Off);
        assert_eq!(all.judge(&Superblock { flags: new.flags | 1, ..new.clone() }), RingState::Agrees);
    }

    #[test]
    fn one_commit_is_a_power_cut_and_more_is_stale() {
        assert!(!RingState::Behind { commits: Some(1) }.is_stale());
        assert!(RingState::Behind { commits: Some(2) }.is_stale());
        assert!(RingState::Behind { commits: None }.is_stale());
        assert!(!RingState::Agrees.is_stale() && !RingState::Differs.is_stale());
    }
}
