//! Pools with a past: what happened to a pool decides what lies in its free blocks.

use super::{Shape, SimulatedPool, Simulator};
use crate::dice::Dice;
use tierlift_ondisk::units::DeviceId;

/// The past of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// Volumes that were written to for a long time, with snapshots and clones; nothing was given back.
    Growing,
    /// The same, and in the end much was discarded and a snapshot deleted: what is free now looks alive.
    Shrinking,
    /// Everything written in one transaction, as by a restore: no history at all.
    Compact,
    /// Such a pool over the debris of an older one that has nothing to do with it.
    Foreign,
}

impl Population {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Growing, Self::Shrinking, Self::Compact, Self::Foreign];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Shrinking => "shrinking",
            Self::Compact => "compact",
            Self::Foreign => "foreign",
        }
    }

    /// Lives the life of such a pool.
    ///
    /// # Errors
    /// When the shape is too small for so much life.
    pub fn make(self, shape: Shape, size: Size, seed: u64) -> anyhow::Result<SimulatedPool> {
        match self {
            Self::Growing => Life::begin(Simulator::format(shape)?, size, seed).grow(size.commits)?.end(),
            Self::Shrinking => {
                let ends = size.commits / 10 + 1;
                let life =
                    Life::begin(Simulator::format(shape)?, size, seed).grow(size.commits.saturating_sub(ends))?;
                life.shrink(ends)?.end()
            }
            Self::Compact => Life::begin(Simulator::format(shape)?, size, seed).restore()?.end(),
            Self::Foreign => {
                let older = Self::Growing.make(shape, size, seed ^ 0xF0F0_F0F0)?;
                let pool = Simulator::format_over(shape, older.image)?;
                Life::begin(pool, Size { writes: size.writes / 2, ..size }, seed).restore()?.end()
            }
        }
    }
}

/// How much life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Chunks written, about; with snapshots there are more mappings than that.
    pub writes: u64,
    /// Commits.
    pub commits: u64,
}

/// Volumes that a pool begins with.
const VOLUMES: u64 = 3;

struct Life {
    pool: Simulator,
    dice: Dice,
    size: Size,
    volumes: Vec<DeviceId>,
    snapshots: Vec<DeviceId>,
    next: u64,
}

impl Life {
    fn begin(pool: Simulator, size: Size, seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self { pool, dice, size, volumes: Vec::new(), snapshots: Vec::new(), next: 1 }
    }

    fn end(self) -> anyhow::Result<SimulatedPool> {
        self.pool.finish()
    }

    fn new_id(&mut self) -> DeviceId {
        let id = DeviceId(self.next);
        // Ids need not follow each other.
        self.next += 1 + self.dice.below(3);
        id
    }

    /// Chunks a volume could have: not all are written.
    fn volume_chunks(&self) -> u64 {
        self.size.writes / 2 + 1
    }

    fn make_volumes(&mut self) -> anyhow::Result<()> {
        for _ in 0..VOLUMES {
            let id = self.new_id();
            self.pool.create(id)?;
            self.volumes.push(id);
        }
        Ok(())
    }

    fn volume(&mut self) -> DeviceId {
        self.dice.pick(&self.volumes).copied().unwrap_or_default()
    }

    fn grow(mut self, commits: u64) -> anyhow::Result<Self> {
        self.make_volumes()?;
        let each = self.size.writes / commits.max(1);
        let snapshot_every = commits / 7 + 1;
        for commit in 1..=commits {
            self.write_some(each)?;
            if commit % snapshot_every == 0 {
                self.take_snapshot(commit == 4 * snapshot_every)?;
            }
            if commit % 5 == 0 {
                self.migrate_some()?;
            }
            self.pool.commit()?;
        }
        Ok(self)
    }

    /// Mostly files: runs of chunks. Some scattered single chunks, some thick ranges.
    fn write_some(&mut self, chunks: u64) -> anyhow::Result<()> {
        let mut left = chunks;
        while left > 0 {
            let (volume, first) = (self.volume(), self.dice.below(self.volume_chunks()));
            let length = match self.dice.below(4) {
                0 => 1,
                1 => 1 + self.dice.below(16),
                _ => 1 + self.dice.below(200),
            };
            let length = length.min(left);
            let thick = self.dice.below(20) == 0;
            for chunk in first..first + length {
                if thick { self.pool.map_zeroed(volume, chunk)? } else { self.pool.write(volume, chunk)? }
            }
            left -= length;
        }
        Ok(())
    }

    fn take_snapshot(&mut self, clone: bool) -> anyhow::Result<()> {
        let (origin, id) = (self.volume(), self.new_id());
        if clone && self.pool.shape().has_clones() {
            self.pool.clone_device(id, origin)?;
            self.volumes.push(id);
        } else {
            self.pool.snapshot(id, origin)?;
            self.snapshots.push(id);
        }
        Ok(())
    }

    fn migrate_some(&mut self) -> anyhow::Result<()> {
        let pieces: Vec<_> = self.pool.truth().tiers.keys().copied().collect();
        for _ in 0..pieces.len().min(4) {
            let piece = self.dice.pick(&pieces).copied().unwrap_or_default();
            self.pool.migrate(piece, self.dice.below(3) as u8)?;
        }
        Ok(())
    }

    /// Gives back about a third of the volumes, and in the middle of it a snapshot.
    fn shrink(mut self, commits: u64) -> anyhow::Result<Self> {
        let runs = self.volume_chunks() / 100;
        for commit in 0..commits {
            for _ in 0..runs.div_ceil(commits) {
                let (volume, first) = (self.volume(), self.dice.below(self.volume_chunks()));
                let length = 50 + self.dice.below(150);
                (first..first + length).try_for_each(|chunk| self.pool.discard(volume, chunk))?;
            }
            if commit == commits / 2 && !self.snapshots.is_empty() {
                let oldest = self.snapshots.remove(0);
                self.pool.delete(oldest)?;
            }
            self.pool.collect_pieces()?;
            self.pool.commit()?;
        }
        Ok(self)
    }

    /// In one transaction: volumes from front to back with gaps, one snapshot, and a little that differs from it.
    fn restore(mut self) -> anyhow::Result<Self> {
        self.make_volumes()?;
        let each = self.size.writes / VOLUMES;
        for volume in self.volumes.clone() {
            let mut chunk = 0;
            for _ in 0..each {
                chunk += if self.dice.below(50) == 0 { 1 + self.dice.below(40) } else { 1 };
                self.pool.write(volume, chunk)?;
            }
        }
        self.take_snapshot(false)?;
        self.write_some(self.size.writes / 50)?;
        self.pool.commit()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { writes: 6000, commits: 40 };

    #[test]
    fn a_seed_makes_the_same_pool_again_and_another_makes_another() {
        let make = |seed| Population::Shrinking.make(Shape::QNAP_TIERS, SIZE, seed).unwrap();
        let (first, again, other) = (make(1), make(1), make(2));
        assert!(first.image == again.image && first.truth == again.truth);
        assert!(first.image != other.image);
    }

    #[test]
    fn each_past_shows() {
        let make = |population: Population| population.make(Shape::QNAP_TIERS, SIZE, 9).unwrap();
        let [growing, shrinking, compact, foreign] = Population::ALL.map(make);
        assert_eq!([&growing, &shrinking].map(|pool| pool.commits.len()), [41, 41]);
        assert_eq!([&compact, &foreign].map(|pool| pool.commits.len()), [2, 2]);
        assert!(shrinking.truth.mappings.len() < growing.truth.mappings.len());
        let debris = |pool: &SimulatedPool| {
            let written = pool.image.chunks(8192).filter(|block| block.iter().any(|byte| *byte != 0)).count();
            written - pool.commits.last().unwrap().metadata_map.nr_allocated as usize
        };
        let debris = [&growing, &shrinking, &compact, &foreign].map(debris);
        let [growing_debris, shrinking_debris, compact_debris, foreign_debris] = debris;
        assert!(compact_debris < 15, "a fresh pool leaves only what formatting wrote: {debris:?}");
        assert!(growing_debris > 20 && shrinking_debris > 25 && foreign_debris > 40, "{debris:?}");
        let zeroed =
            growing.truth.mappings.values().flat_map(|device| device.values()).filter(|value| value.zeroed > 0);
        assert!(zeroed.count() > 100);
    }
}
