//! The second pass: writing what was planned, and everything that is counted from it.

use super::RebuildOptions;
use super::devices::{Devices, NewDevice};
use super::error::RebuildError;
use super::layout::layout;
use super::output::Writer;
use super::pieces::{Piece, Pieces};
use super::report::{LeftBehind, MOST_RANGES, Rebuilt, RebuiltDevice, RebuiltTiers};
use super::space::{bitmaps, roomy, write_map, write_own_map};
use super::superblock::{Roots, keeps_copies, recorded_blocks, slots, superblock, write_copies};
use super::tree::TreeBuilder;
use super::trees::Trees;
use crate::counts::Counts;
use crate::mode::Mode;
use crate::pool::Pool;
use tierlift_ondisk::thin::{MAX_TIERS, SpaceMapRoot, Superblock, flags};
use tierlift_ondisk::units::{Chunk, MetaBlock};

pub(super) struct Build<'a, 'o> {
    pub pool: &'a Pool,
    pub options: &'a RebuildOptions,
    pub mode: Mode,
    pub time: u32,
    pub pieces: Pieces<'a>,
    pub writer: Writer<'o>,
}

impl Build<'_, '_> {
    pub(super) fn write(mut self, devices: Devices<'_, '_>) -> Result<Rebuilt, RebuildError> {
        self.check_room()?;
        let mut roots = Roots::default();
        let (left_out, future_times) = (devices.survey.left_out, devices.survey.ahead);
        let (report, chunks) = self.devices(devices, &mut roots)?;
        let tiers = if self.options.mainline() { self.tiers_report() } else { self.tiers(&mut roots)? };
        let error_chunk = Some(Chunk(self.pool.chunks())).filter(|chunk| chunks.get(chunk.0) > 0);
        let length = self.pool.chunks().saturating_add(error_chunk.map_or(0, |_| 1));
        roots.data = write_map(&mut self.writer, length, chunks.iter())?;
        roots.metadata = self.own_map()?;
        let new = Superblock { time: self.time, ..superblock(self.pool, self.options, self.writer.size, &roots) };
        let copies = keeps_copies(self.pool, self.options);
        let blocks = roots.metadata.nr_blocks;
        let copy = copies.then(|| write_copies(&mut self.writer, self.pool, &new, blocks)).transpose()?;
        let size = self.writer.size;
        self.writer.finish(&new.encode(size))?;
        let layout = self.options.mainline().then(|| layout(self.pool, &self.pieces, self.mode, error_chunk));
        Ok(Rebuilt {
            block_size: size,
            blocks,
            blocks_used: roots.metadata.nr_allocated,
            chunks_used: roots.data.nr_allocated,
            chunks_unaccounted: self.unaccounted(&chunks, left_out),
            copy,
            devices: report,
            unknown_devices: Vec::new(),
            tiers,
            left_behind: LeftBehind { future_times, ..self.left_behind() },
            error_chunk,
            layout,
        })
    }

    /// Refuses sizes that no metadata device could hold the maps of, before anything is written.
    fn check_room(&self) -> Result<(), RebuildError> {
        let tiers = self.pieces.named.iter().map(Counts::len);
        let spaces = tiers.filter(|_| !self.options.mainline()).chain([self.pool.chunks()]);
        let wanted = spaces.fold(0_u64, |sum, blocks| sum.saturating_add(bitmaps(self.writer.size, blocks)));
        self.writer.check(wanted)
    }

    /// Mapping trees and records; gives the use of the chunks.
    fn devices(
        &mut self,
        devices: Devices<'_, '_>,
        roots: &mut Roots,
    ) -> Result<(Vec<RebuiltDevice>, Counts), RebuildError> {
        let record_size = devices.record_size().bytes();
        let Devices { survey, new, report, .. } = devices;
        let mut trees = Trees::new(survey.plan, self.pool.chunks().saturating_add(1));
        let (mut mapping, mut details) = (TreeBuilder::new(8), TreeBuilder::new(record_size));
        for NewDevice { id, root, record } in new {
            let root = trees.write(&mut self.writer, root)?;
            self.writer.point(root);
            mapping.push(&mut self.writer, id.0, root.0.to_le_bytes())?;
            details.push(&mut self.writer, id.0, record.encode())?;
        }
        roots.mapping = self.finish(mapping)?;
        roots.details = self.finish(details)?;
        Ok((report, trees.chunks))
    }

    fn finish<V: AsRef<[u8]>>(&mut self, tree: TreeBuilder<V>) -> Result<MetaBlock, RebuildError> {
        let root = tree.finish(&mut self.writer)?;
        self.writer.point(root);
        Ok(root)
    }

    fn tiers(&mut self, roots: &mut Roots) -> Result<RebuiltTiers, RebuildError> {
        if self.pool.superblock().tier_num == 0 {
            return Ok(RebuiltTiers::default());
        }
        let mut tree = TreeBuilder::new(8);
        let writer = &mut self.writer;
        self.pieces.visit(|piece| match piece {
            Piece::Kept(key, value) => tree.push(writer, key, value.encode().to_le_bytes()),
            Piece::Lost(_) => Ok(()),
        })?;
        roots.tiers = self.finish(tree)?;
        roots.tier_maps = self.tier_maps()?;
        Ok(self.tiers_report())
    }

    fn tier_maps(&mut self) -> Result<[SpaceMapRoot; MAX_TIERS], RebuildError> {
        let mut maps = [SpaceMapRoot::default(); MAX_TIERS];
        let declared = self.pool.superblock().tier_num as usize;
        for (map, named) in maps.iter_mut().zip(&self.pieces.named).take(declared) {
            // What several pieces claim was given to none of them.
            *map = write_map(&mut self.writer, named.len(), named.iter().filter(|(_, count)| *count == 1))?;
        }
        Ok(maps)
    }

    fn tiers_report(&self) -> RebuiltTiers {
        let mut report = RebuiltTiers::default();
        let done: Result<(), std::convert::Infallible> = self.pieces.visit(|piece| {
            match piece {
                Piece::Kept(..) => report.pieces = report.pieces.saturating_add(1),
                Piece::Lost(lost) => {
                    report.lost_ranges = report.lost_ranges.saturating_add(1);
                    if report.lost.len() < MOST_RANGES {
                        report.lost.push(lost);
                    }
                }
            }
            Ok(())
        });
        let Ok(()) = done;
        report
    }

    /// The metadata's own map, with the superblock and its copies counted.
    fn own_map(&mut self) -> Result<SpaceMapRoot, RebuildError> {
        let recorded = recorded_blocks(self.pool, self.writer.size);
        let blocks =
            if self.options.mainline() { roomy(&self.writer, recorded).min(self.writer.room()) } else { recorded };
        self.writer.point(MetaBlock(0));
        if keeps_copies(self.pool, self.options) {
            slots(blocks).for_each(|slot| self.writer.point(slot));
        }
        write_own_map(&mut self.writer, blocks)
    }

    /// What was left out may have named a chunk each.
    fn unaccounted(&self, chunks: &Counts, left_out: u64) -> u64 {
        let marks = u64::from(chunks.get(self.pool.chunks()) > 0);
        let named = chunks.non_zero().saturating_sub(marks).saturating_add(left_out);
        self.pool.superblock().data_map.nr_allocated.saturating_sub(named)
    }

    fn left_behind(&self) -> LeftBehind {
        let old = self.pool.superblock();
        LeftBehind {
            metadata_snapshot: Some(old.held_root).filter(|root| root.0 != 0),
            clone_counts: old.clone_root.0 != 0,
            needs_check: old.has(flags::NEEDS_CHECK),
            future_times: 0,
        }
    }
}
