//! Bytes for the reader of the file system: bounded, each read once, and with the flag of an unfinished journal hidden if asked.

use crate::block::View;
use ext4_view::Ext4Read;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Bytes read of all system partitions together.
pub const BUDGET: u64 = 16 << 20;
const PAGE: u64 = 4096;
/// Place of the superblock's word of features a reader must know.
const INCOMPATIBLE_AT: u64 = 1024 + 0x60;
/// "The journal must be replayed first."
const NEEDS_RECOVERY: u8 = 4;

/// What may still be read.
#[derive(Debug, Clone)]
pub(super) struct Budget(Rc<Cell<u64>>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    pub(super) fn left(&self) -> u64 {
        self.0.get()
    }

    /// Nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.left() < PAGE
    }

    fn take(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let left =
            self.left().checked_sub(PAGE).ok_or("as many bytes were read as a scan may read of a system partition")?;
        self.0.set(left);
        Ok(())
    }
}

/// The pages read so far; shared, so that opening a file system twice reads it once.
pub(super) type Pages = Rc<RefCell<BTreeMap<u64, Vec<u8>>>>;

/// A view as the file system's reader wants it.
pub(super) struct Reader {
    view: View,
    budget: Budget,
    pages: Pages,
    hide_journal: bool,
}

impl Reader {
    pub(super) fn new(view: View, budget: Budget, pages: Pages, hide_journal: bool) -> Self {
        Self { view, budget, pages, hide_journal }
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        if let Some(page) = self.pages.borrow().get(&number) {
            return Ok(page.clone());
        }
        self.budget.take()?;
        let start = number.saturating_mul(PAGE);
        let there = self.view.size().0.saturating_sub(start).min(PAGE);
        let mut page = vec![0; usize::try_from(there)?];
        self.view.read_at(Bytes(start), &mut page)?;
        self.pages.borrow_mut().insert(number, page.clone());
        Ok(page)
    }
}

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut done = 0usize;
        while done < into.len() {
            let at = start.checked_add(done as u64).ok_or("beyond all disks")?;
            let page = self.page(at.checked_div(PAGE).unwrap_or_default())?;
            let inside = usize::try_from(at.checked_rem(PAGE).unwrap_or_default())?;
            let from = page.get(inside..).filter(|from| !from.is_empty()).ok_or("beyond the end of the partition")?;
            let rest = into.get_mut(done..).unwrap_or_default();
            let now = from.len().min(rest.len());
            rest.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            done = done.saturating_add(now);
        }
        let flag = INCOMPATIBLE_AT.checked_sub(start).and_then(|at| into.get_mut(usize::try_from(at).ok()?));
        if let (Some(flag), true) = (flag, self.hide_journal) {
            *flag &= !NEEDS_RECOVERY;
        }
        Ok(())
    }
}
