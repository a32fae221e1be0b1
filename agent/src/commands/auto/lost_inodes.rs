//! Files that nobody can name or count any more, because the tables that held their inodes cannot be read.
//!
//! A repair of the file system writes such tables anew, empty, and everything that is left looks sound. So it must be told here.

use super::Work;
use super::volumes::Chosen;
use crate::activate::bring_up::bring_up;
use crate::block::FileView;
use crate::case;
use crate::commands::Outcome;
use crate::ext4::survey;
use crate::say::say;

impl Work<'_> {
    /// Tells how many files may be lost with their inodes; `damaged` when the copy met anything that cannot be read.
    pub(super) fn tell_lost_inodes(&mut self, volume: &Chosen, damaged: bool) -> anyhow::Result<()> {
        let maps = case::load()?.map(|case| case.chunk_maps).unwrap_or_default();
        if !damaged && !maps.iter().any(|map| map.volume == volume.name && map.lost > 0) {
            return Ok(());
        }
        let active = bring_up(&self.dm, &mut self.session, volume.group, &volume.wish, &self.request)?;
        let device = self.opened(volume, &active)?;
        let unknown = survey(&FileView::open(&device)?, &[]).map_or(0, |found| found.unknown);
        if unknown == 0 {
            return Ok(());
        }
        self.outcome = self.outcome.and(Outcome::DAMAGE);
        let why = format!(
            "up to {unknown} of its files and folders are lost with their inodes: the tables of these cannot be read, and nobody can \
             tell how many of them were in use"
        );
        say!("  a part of {} was NOT recovered: {why}", volume.name);
        case::keep(|case| case.failed(&format!("A part of {}", volume.name), &why))
    }
}
