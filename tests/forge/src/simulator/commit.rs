//! The end of a transaction: trees first, then space maps, then the copy in the ring, then block 0.

use super::Simulator;
use super::shape::TIER_BLOCK;
use tierlift_ondisk::thin::ring::{SLOTS, slot_block};
use tierlift_ondisk::thin::{MAGIC, SpaceMapRoot, Superblock};
use tierlift_ondisk::units::{MetaBlock, Sectors};

impl Simulator {
    /// Makes everything done so far what a power cut cannot undo.
    ///
    /// # Errors
    /// When the metadata device is full.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        for id in std::mem::take(&mut self.changed_details) {
            if let Some(record) = self.truth.details.get(&id) {
                self.details.insert(&mut self.store, id.0, &record.encode())?;
            }
        }
        let mut data = std::mem::take(&mut self.store.data);
        self.data_map.flush(&mut self.store, &mut data)?;
        self.store.data = data;
        for (counts, map) in &mut self.tier_maps {
            map.flush(&mut self.store, counts)?;
        }
        self.metadata_map.flush(&mut self.store)?;
        self.store.write_nodes();
        self.write_superblock();
        self.seal();
        Ok(())
    }

    /// The copy in the ring, then block 0. Formatting writes no copy: the kernel has not read its own flag yet.
    fn write_superblock(&mut self) {
        let superblock = self.superblock();
        let size = self.shape.block_size;
        if self.shape.ring && !self.commits.is_empty() {
            let id = self.commits.len() as u64 - 1;
            if let Some(place) = slot_block(self.shape.metadata_blocks, id % SLOTS + 1) {
                let copy = Superblock { number: place, backup_id: id, ..superblock.clone() };
                self.store.write(place.0, &copy.encode(size));
            }
        }
        self.store.write(0, &superblock.encode(size));
        self.commits.push(superblock);
    }

    fn seal(&mut self) {
        self.store.metadata.seal();
        self.store.data.seal();
        self.tier_maps.iter_mut().for_each(|(counts, _)| counts.seal());
        self.dirty = false;
    }

    fn superblock(&self) -> Superblock {
        let shape = &self.shape;
        let block_sectors = shape.block_size.bytes() as u64 / 512;
        let mut tier_maps = [SpaceMapRoot::default(); 3];
        for (place, (counts, map)) in tier_maps.iter_mut().zip(&self.tier_maps) {
            *place = map.root(counts);
        }
        Superblock {
            flags: shape.flags(),
            number: MetaBlock(0),
            uuid: [0; 16],
            magic: MAGIC,
            version: shape.version,
            time: self.time,
            transaction: self.transaction,
            held_root: MetaBlock(0),
            data_map: self.data_map.root(&self.store.data),
            tier_maps,
            rescan_needed: 0,
            metadata_map: self.metadata_map.root(&self.store),
            mapping_root: MetaBlock(self.top_level.root),
            details_root: MetaBlock(self.details.root),
            chunk_size: shape.chunk_size,
            metadata_block_size: Sectors(block_sectors),
            // QNAP's kernel counts in 4 KiB whatever the block size.
            metadata_nr_blocks: shape.metadata_blocks * block_sectors / 8,
            compat_flags: 0,
            compat_ro_flags: 0,
            incompat_flags: 0,
            backup_id: 0,
            reserve_block_count: 0,
            clone_root: MetaBlock(0),
            tier_num: shape.tiers,
            tier_root: MetaBlock(self.tier_tree.map_or(0, |tree| tree.root)),
            tier_block_size: if shape.tiers > 0 { TIER_BLOCK } else { Sectors(0) },
        }
    }
}
