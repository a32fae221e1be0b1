//! Doing the damage.

use super::{Accident, Damage, Layout, TreeLayout};
use crate::dice::Dice;
use std::collections::BTreeSet;
use tierlift_ondisk::thin::{BlockKind, Superblock, flags, seal};
use tierlift_ondisk::units::MetaBlock;

impl Accident {
    /// Damages the image of a pool that is laid out so; the same seed does the same. Gives the blocks that differ afterwards.
    ///
    /// `None` when it cannot happen to this pool; the image is then as it was.
    pub fn apply(&self, image: &mut [u8], layout: &Layout, seed: u64) -> Option<BTreeSet<MetaBlock>> {
        let before = image.to_vec();
        let mut dice = Dice::new(seed);
        let noise = dice.below(2) == 1;
        let mut vandal = Vandal { image, layout, dice, noise };
        for damage in self.damages {
            if vandal.apply(*damage).is_none() {
                vandal.image.copy_from_slice(&before);
                return None;
            }
        }
        let size = layout.block_size.bytes();
        let pairs = before.chunks(size).zip(image.chunks(size));
        Some(pairs.zip(0..).filter(|((old, new), _)| old != new).map(|(_, number)| MetaBlock(number)).collect())
    }
}

struct Vandal<'a> {
    image: &'a mut [u8],
    layout: &'a Layout,
    dice: Dice,
    /// What is lost is noise, not zeros.
    noise: bool,
}

impl Vandal<'_> {
    /// Does it, unless there is nothing it could be done to.
    fn apply(&mut self, damage: Damage) -> Option<()> {
        let layout = self.layout;
        match damage {
            Damage::SuperblockLost => self.lose([MetaBlock(0)]),
            Damage::SuperblockChecksum => self.change(MetaBlock(0), |block| block[100] ^= 0x5A),
            Damage::SuperblockStale(commits) => self.make_stale(commits),
            Damage::RingLost => self.lose(layout.ring.iter().copied()),
            Damage::TopLevelRoot => self.lose(layout.top_level.roots.iter().copied()),
            Damage::DetailsRoot => self.lose(layout.details.roots.iter().copied()),
            Damage::DeviceRoot => self.lose_some(layout.mappings.roots.iter().copied(), Count::Exactly(1)),
            Damage::DeviceRoots => self.lose(layout.mappings.roots.iter().copied()),
            Damage::OneLeaf => self.lose_some(layout.mappings.leaves.iter().copied(), Count::Exactly(1)),
            Damage::Random { per_mille } => self.lose_some(layout.used(), Count::PerMille(per_mille)),
            Damage::Contiguous { bytes, at_head } => self.lose_range(bytes, at_head),
            Damage::InnerNodes { percent } => {
                self.lose_some(layout.mappings.inner.iter().copied(), Count::PerMille(percent * 10))
            }
            Damage::Leaves { percent } => {
                self.lose_some(layout.mappings.leaves.iter().copied(), Count::PerMille(percent * 10))
            }
            Damage::Overwritten { percent } => self.overwrite(Count::PerMille(percent * 10)),
            Damage::Torn { percent } => self.tear(Count::PerMille(percent * 10)),
            Damage::BitFlips { blocks } => self.flip(Count::Exactly(blocks)),
            Damage::Displaced => self.displace(),
            Damage::SpaceMapRoots => self.lose(layout.maps.roots()),
            Damage::SpaceMapNodes => self.lose_some(layout.maps.nodes(), Count::PerMille(250)),
            Damage::SpaceMapBitmaps => self.lose_some(layout.maps.bitmaps.iter().copied(), Count::PerMille(500)),
            Damage::SpaceMaps => self.lose(layout.maps.all()),
            Damage::TierRoot => self.lose(layout.tiers.roots.iter().copied()),
            Damage::TierInner => self.lose_some(below_root(&layout.tiers, &layout.tiers.inner), Count::Exactly(1)),
            Damage::TierLeaf => self.lose_some(below_root(&layout.tiers, &layout.tiers.leaves), Count::Exactly(1)),
            Damage::TierMaps => self.lose(layout.tier_maps.all()),
            Damage::NeedsCheck => self.change(MetaBlock(0), |block| {
                block[4] |= flags::NEEDS_CHECK as u8;
                seal(BlockKind::Superblock, block);
            }),
        }
    }
    fn block(&mut self, block: MetaBlock) -> &mut [u8] {
        let size = self.layout.block_size.bytes();
        &mut self.image[block.0 as usize * size..][..size]
    }

    fn change(&mut self, block: MetaBlock, change: impl FnOnce(&mut [u8])) -> Option<()> {
        change(self.block(block));
        Some(())
    }

    fn lose(&mut self, blocks: impl IntoIterator<Item = MetaBlock>) -> Option<()> {
        let blocks: Vec<_> = blocks.into_iter().collect();
        for block in &blocks {
            let mut noise = Dice::new(self.dice.roll());
            let is_noise = self.noise;
            self.block(*block).fill_with(|| if is_noise { noise.roll() as u8 } else { 0 });
        }
        (!blocks.is_empty()).then_some(())
    }

    fn choose(&mut self, from: impl IntoIterator<Item = MetaBlock>, count: Count) -> Vec<MetaBlock> {
        let from: Vec<_> = from.into_iter().collect();
        let count = match count {
            Count::Exactly(count) => count,
            Count::PerMille(share) => (from.len() * share / 1000).max(1),
        };
        self.dice.choose(&from, count)
    }

    fn lose_some(&mut self, from: impl IntoIterator<Item = MetaBlock>, count: Count) -> Option<()> {
        let chosen = self.choose(from, count);
        self.lose(chosen)
    }

    /// The end of the working blocks: beyond it there is only the ring.
    fn extent(&self) -> u64 {
        self.layout.working().last().map_or(0, |block| block.0 + 1)
    }

    /// Only where more is left than is lost.
    fn lose_range(&mut self, bytes: usize, at_head: bool) -> Option<()> {
        let (length, extent) = (self.layout.block_size.blocks_in(bytes as u64), self.extent());
        if length * 2 > extent {
            return None;
        }
        let first = if at_head { 0 } else { 1 + self.dice.below(extent - length) };
        self.lose((first..first + length).map(MetaBlock))
    }

    fn make_stale(&mut self, commits: usize) -> Option<()> {
        let history = &self.layout.history;
        let older = history.get(history.len().checked_sub(commits + 1)?)?;
        let stale = Superblock { number: MetaBlock(0), backup_id: 0, ..older.clone() };
        let bytes = stale.encode(self.layout.block_size);
        self.change(MetaBlock(0), |block| block.copy_from_slice(&bytes))
    }

    fn overwrite(&mut self, count: Count) -> Option<()> {
        let working: Vec<_> = self.layout.working().into_iter().collect();
        for block in self.choose(working.clone(), count) {
            let other = *self.dice.pick(&working)?;
            let content = self.block(other).to_vec();
            self.block(block).copy_from_slice(&content);
        }
        Some(())
    }

    fn tear(&mut self, count: Count) -> Option<()> {
        let half = self.layout.block_size.bytes() / 2;
        for block in self.choose(self.layout.working(), count) {
            self.block(block)[half..].fill(0);
        }
        Some(())
    }

    fn flip(&mut self, count: Count) -> Option<()> {
        let bits = self.layout.block_size.bytes() as u64 * 8;
        for block in self.choose(self.layout.used(), count) {
            let bit = self.dice.below(bits) as usize;
            self.block(block)[bit / 8] ^= 1 << (bit % 8);
        }
        Some(())
    }

    /// A twentieth of the working blocks, shifted by a block or by a chunk of the array.
    fn displace(&mut self) -> Option<()> {
        let shift = *self.dice.pick(&[1, 8, 16])?;
        let (length, extent) = ((self.extent() / 20).max(2 * shift), self.extent());
        let first = 1 + shift + self.dice.below(extent.checked_sub(length + shift + 1)?);
        for block in (first..first + length).rev() {
            let content = self.block(MetaBlock(block - shift)).to_vec();
            self.block(MetaBlock(block)).copy_from_slice(&content);
        }
        Some(())
    }
}

/// How many of a set.
#[derive(Clone, Copy)]
enum Count {
    Exactly(usize),
    /// A share of them, at least one.
    PerMille(usize),
}

fn below_root(tree: &TreeLayout, nodes: &BTreeSet<MetaBlock>) -> Vec<MetaBlock> {
    nodes.iter().copied().filter(|block| !tree.roots.contains(block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::ACCIDENTS;
    use crate::simulator::{Population, Shape, SimulatedPool, Size};
    use tierlift_ondisk::thin::identify;

    fn pool(shape: Shape, writes: u64) -> (SimulatedPool, Layout) {
        let made = Population::Growing.make(shape, Size { writes, commits: 60 }, 4).unwrap();
        let layout = Layout::read(&made.image).unwrap().with_history(made.commits.clone());
        (made, layout)
    }

    fn named(name: &str) -> &'static Accident {
        ACCIDENTS.iter().find(|accident| accident.name == name).unwrap()
    }

    #[test]
    fn the_layout_is_what_the_space_map_counts() {
        for shape in [Shape::MAINLINE, Shape::QNAP_TIERS, Shape::QNAP_BYPASS, Shape::QNAP_V3] {
            let (made, layout) = pool(shape, 12_000);
            let counted = layout.superblock.metadata_map.nr_allocated;
            assert_eq!(layout.used().len() as u64 + 1, counted);
            assert_eq!(layout.live_mappings(&BTreeSet::new()), made.truth.count());
            assert_eq!(layout.device_roots.len(), made.truth.details.len());
            assert_eq!(layout.ring.len(), if shape.ring { 128 } else { 0 });
        }
    }

    #[test]
    fn the_same_seed_does_the_same_and_what_is_told_is_what_differs() {
        let (made, layout) = pool(Shape::QNAP_TIERS, 12_000);
        for accident in ACCIDENTS {
            let hit = |seed| {
                let mut image = made.image.clone();
                let touched = accident.apply(&mut image, &layout, seed);
                (image, touched)
            };
            let (image, touched) = hit(3);
            assert!(hit(3) == (image.clone(), touched.clone()), "{}", accident.name);
            let changed = image != made.image;
            match touched {
                None => assert!(!changed, "{}", accident.name),
                Some(touched) => assert_eq!(changed, !touched.is_empty(), "{}", accident.name),
            }
        }
    }

    #[test]
    fn each_accident_hits_what_it_names() {
        let (made, layout) = pool(Shape::QNAP_TIERS, 60_000);
        let hit = |name| named(name).apply(&mut made.image.clone(), &layout, 5);
        let set = |blocks: &[MetaBlock]| blocks.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(hit("none"), Some(BTreeSet::new()));
        assert_eq!(hit("superblock zeroed"), Some(set(&[MetaBlock(0)])));
        assert_eq!(hit("mapping root"), Some(set(&layout.top_level.roots)));
        assert_eq!(hit("all device roots"), Some(set(&layout.mappings.roots)));
        assert_eq!(hit("inner nodes 100 %"), Some(layout.mappings.inner.clone()));
        assert_eq!(hit("random 5 %").unwrap().len(), layout.used().len() / 20);
        assert!(hit("one leaf").unwrap().is_subset(&layout.mappings.leaves));
        assert!(hit("tier tree leaf").unwrap().is_subset(&layout.tiers.leaves));
        assert_eq!(hit("1 MiB at the head").unwrap().first(), Some(&MetaBlock(0)));
        assert_eq!(hit("stale by 200"), None, "there were only 60 commits");
        let (_, plain) = pool(Shape::MAINLINE, 12_000);
        assert_eq!(named("stale by 1, ring lost").apply(&mut made.image.clone(), &plain, 5), None, "no ring");
    }

    #[test]
    fn damage_that_leaves_checksums_right_does() {
        let (made, layout) = pool(Shape::QNAP_TIERS, 12_000);
        for name in ["stale by 20", "needs_check", "overwritten by another", "displaced"] {
            let mut image = made.image.clone();
            let touched = named(name).apply(&mut image, &layout, 6).unwrap();
            assert!(!touched.is_empty(), "{name}");
            let sound = |block: &MetaBlock| {
                let bytes = &image[block.0 as usize * 8192..][..8192];
                // Never written blocks are moved about too.
                identify(bytes).is_some() || bytes.iter().all(|byte| *byte == 0)
            };
            assert!(touched.iter().all(sound), "{name}");
        }
    }
}
