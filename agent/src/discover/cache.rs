//! Whether an SSD cache stood before the volumes, and whether it holds what the disks do not.

use super::{Search, read};
use crate::volume;
use tierlift_ondisk::ssd_cache::{BLOCK_BYTES, State, state};

/// The group and the volume QTS keeps its cache in.
const GROUP: &str = "vg256";
const STORE: &str = "lv256";
/// What to do where recent writes may be missing.
const ADVICE: &str = "The volumes can be read, but recent writes may be missing, in any place: check their file systems on the overlay \
                      before copying, and look at the newest files with care";

impl Search {
    /// Notes what is known of a cache. (A segment of type flashcache alone proves nothing: QTS writes it without any SSD, too.)
    pub(super) fn note_cache(&mut self) {
        let stores: Vec<(usize, String)> =
            self.inventory.volume_groups.iter().enumerate().filter_map(cache_of).collect();
        let configured = self.inventory.harvest.iter().flat_map(|harvest| &harvest.volumes);
        let configured = configured.filter_map(|volume| volume.ssd_cache).reduce(|one, other| one || other);
        for (group, name) in &stores {
            let view = volume::view(&self.inventory, *group, STORE).ok();
            let block = view.and_then(|view| read(&view, 0, BLOCK_BYTES));
            let found = block.and_then(|block| state(&block).ok()).unwrap_or(State::Unknown);
            let (wrong, text) = judge(name, found, configured);
            if wrong { &mut self.inventory.notes } else { &mut self.inventory.remarks }.push(text);
        }
        if stores.is_empty() && configured == Some(true) {
            self.inventory.notes.push(format!(
                "the NAS's settings say that an SSD cache stood before a volume, and no SSD with one (group {GROUP}) is here. If it was a \
                 read-write cache, attach its SSDs, too: they hold writes the disks do not have. {ADVICE}"
            ));
        }
    }
}

fn cache_of((index, group): (usize, &crate::inventory::VolumeGroup)) -> Option<(usize, String)> {
    let is_cache = group.name == GROUP || group.logical_volumes.iter().any(|volume| volume.name == STORE);
    is_cache.then(|| (index, group.name.clone()))
}

/// Whether a cache in this state is something wrong, and what to say.
fn judge(name: &str, found: State, configured: Option<bool>) -> (bool, String) {
    match (found, configured) {
        (_, Some(false)) => {
            (false, format!("{name} is an SSD cache, which the NAS's settings say no volume used; it is left alone"))
        }
        // Closed in order says that its own notes are whole, not that there is nothing left to write back.
        (State::Clean, _) => (
            true,
            format!(
                "{name} is an SSD cache that was closed in order; if it was a read-write cache, it may still hold writes the disks do not \
                 have. {ADVICE}"
            ),
        ),
        (State::Dirty, _) => (
            true,
            format!(
                "{name} is an SSD cache that was in use when it stopped: it may hold writes the disks do not have, and this version \
                 cannot write them back. Never give it to LVM's or dm-cache's own tools. {ADVICE}"
            ),
        ),
        (State::Unknown, _) => (
            true,
            format!(
                "{name} is an SSD cache that does not say whether it holds writes the disks do not have; it does if it was a read-write \
                 cache. {ADVICE}"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cache_that_may_hold_more_than_the_disks_is_wrong() {
        let wrong = |found, configured| judge("vg256", found, configured).0;
        assert!(!wrong(State::Clean, Some(false)) && !wrong(State::Unknown, Some(false)));
        assert!(wrong(State::Clean, None));
        assert!(wrong(State::Dirty, None) && wrong(State::Dirty, Some(true)) && wrong(State::Unknown, None));
        assert!(!wrong(State::Dirty, Some(false)));
    }
}
