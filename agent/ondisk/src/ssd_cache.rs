//! The first block of QNAP's SSD cache: whether it holds data that is nowhere else ("docs/lvm").
//!
//! QTS 5 uses a cache like mainline's dm-cache, with a superblock of its own order behind the common head. QTS 4 uses flashcache, whose
//! published source writes nothing here; upstream's begins with a word for its state, which is looked for as a hint. A cache is
//! only ever judged: neither kind must be given to mainline's tools.

use crate::DecodeError;
use crate::field::Fields;

/// Bytes that are looked at.
pub const BLOCK_BYTES: usize = 4096;
/// Magic number of dm-cache, octal 06142003.
const MAGIC: u64 = 0x18_c403;
const CLEAN_SHUTDOWN: u32 = 1;
const NEEDS_CHECK: u32 = 2;
/// State words of flashcache.
const FLASHCACHE: [(u32, State); 4] = [
    (0xdead_beef, State::Dirty),
    (0xc824_9756, State::Dirty),
    (0xface_cafe, State::Clean),
    (0xcafe_feed, State::Clean),
];

/// What a cache says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Shut down in order: what it holds is on the disks, too.
    Clean,
    /// In use when it was last written: it may hold the only copy of recent writes.
    Dirty,
    /// It does not say.
    Unknown,
}

/// Judges a cache by its first block.
///
/// # Errors
/// When there is less than a block.
pub fn state(block: &[u8]) -> Result<State, DecodeError> {
    let fields = Fields::new("SSD cache", block);
    fields.bytes("first block", 0, BLOCK_BYTES)?;
    if fields.u64("magic", 32)? == MAGIC {
        let flags = fields.u32("flags", 4)?;
        let clean = flags & CLEAN_SHUTDOWN != 0 && flags & NEEDS_CHECK == 0;
        return Ok(if clean { State::Clean } else { State::Dirty });
    }
    let words = block.chunks_exact(4).filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
    let known =
        words.filter_map(|word| FLASHCACHE.iter().find(|(known, _)| *known == word)).map(|(_, state)| *state).next();
    Ok(known.unwrap_or(State::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::put;
    use proptest::prelude::*;

    #[test]
    fn dm_caches_say_whether_they_were_shut_down() {
        for (flags, expected) in [(1u32, State::Clean), (0, State::Dirty), (3, State::Dirty), (2, State::Dirty)] {
            let mut block = vec![0; BLOCK_BYTES];
            put(&mut block, 4, &flags.to_le_bytes());
            put(&mut block, 32, &MAGIC.to_le_bytes());
            assert_eq!(state(&block).unwrap(), expected, "{flags}");
        }
    }

    #[test]
    fn flashcaches_are_judged_by_their_state_word() {
        let mut block = vec![0; BLOCK_BYTES];
        assert_eq!(state(&block).unwrap(), State::Unknown);
        put(&mut block, 512, &0xface_cafeu32.to_le_bytes());
        assert_eq!(state(&block).unwrap(), State::Clean);
        put(&mut block, 0, &0xdead_beefu32.to_le_bytes());
        assert_eq!(state(&block).unwrap(), State::Dirty);
    }

    #[test]
    fn every_prefix_is_an_error() {
        assert!((0..BLOCK_BYTES).all(|length| state(&vec![0; length]).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(state(&bytes).is_ok(), bytes.len() >= BLOCK_BYTES);
        }
    }
}
