//! What is done to thin devices: making, writing, discarding, snapshots, clones, deleting.

use super::Simulator;
use super::node::number;
use super::store::Holds;
use super::tree::Tree;
use anyhow::Context;
use tierlift_ondisk::thin::{CloneRecord, DetailsSize, DeviceDetails, Family, MappingValue, NO_ORIGIN};
use tierlift_ondisk::units::{Chunk, DeviceId};

impl Simulator {
    /// Makes an empty device.
    ///
    /// # Errors
    /// When the id is taken or the metadata device is full.
    pub fn create(&mut self, id: DeviceId) -> anyhow::Result<()> {
        let tree = Tree::create(&mut self.store, 8, Holds::Chunks)?;
        let record = self.record(0, self.time, self.time, NO_ORIGIN);
        self.add_device(id, tree.root, record)
    }

    /// A record of a device made now.
    fn record(&self, mapped: u64, snapshot_time: u32, clone_time: u32, origin: u64) -> DeviceDetails {
        let size = self.shape.details_size();
        DeviceDetails {
            mapped: Chunk(mapped),
            transaction: self.transaction,
            creation_time: self.time,
            snapshot_time,
            clone: (size == DetailsSize::QnapClone).then_some(CloneRecord { time: clone_time, reserved: u64::MAX }),
            origin: (size != DetailsSize::Mainline).then_some(origin),
        }
    }

    fn add_device(&mut self, id: DeviceId, root: u64, record: DeviceDetails) -> anyhow::Result<()> {
        anyhow::ensure!(!self.truth.details.contains_key(&id), "device {id} exists already");
        self.top_level.insert(&mut self.store, id.0, &root.to_le_bytes())?;
        self.truth.details.insert(id, record);
        self.truth.mappings.entry(id).or_default();
        self.changed_details.insert(id);
        self.transaction += 1;
        self.dirty = true;
        Ok(())
    }

    fn tree(&self, id: DeviceId) -> anyhow::Result<Tree> {
        let root = self.top_level.get(&self.store, id.0).with_context(|| format!("no device {id}"))?;
        Ok(Tree::at(number(root), Holds::Chunks))
    }

    fn put_tree(&mut self, id: DeviceId, before: u64, tree: Tree) -> anyhow::Result<()> {
        self.dirty = true;
        if tree.root == before {
            return Ok(());
        }
        self.top_level.insert(&mut self.store, id.0, &tree.root.to_le_bytes())
    }

    /// The mapping of a virtual chunk, as the trees have it.
    pub fn mapping(&self, id: DeviceId, virtual_chunk: u64) -> Option<MappingValue> {
        let tree = self.tree(id).ok()?;
        let value = tree.get(&self.store, virtual_chunk)?;
        Some(MappingValue::decode(number(value), self.shape.family))
    }

    /// Whether a chunk mapped at `time` may be needed by another device too, so that it must not be written in place.
    fn is_shared(&self, id: DeviceId, time: u32) -> bool {
        self.truth
            .details
            .get(&id)
            .is_some_and(|record| record.snapshot_time > time || record.clone.is_some_and(|clone| clone.time > time))
    }

    /// Writes a virtual chunk. A chunk of its own is overwritten where it lies; else a new one is allocated.
    ///
    /// # Errors
    /// When there is no such device, or the pool or its metadata device is full.
    pub fn write(&mut self, id: DeviceId, virtual_chunk: u64) -> anyhow::Result<()> {
        let before = self.mapping(id, virtual_chunk);
        let chunk = match before {
            Some(mapping) if !self.is_shared(id, mapping.time) => {
                if mapping.zeroed == 0 {
                    self.place_on_tier(mapping.chunk)?;
                    return Ok(());
                }
                mapping.chunk
            }
            _ => Chunk(self.store.data.allocate()?),
        };
        self.map(id, virtual_chunk, chunk, 0)?;
        self.place_on_tier(chunk)
    }

    /// Allocates a virtual chunk that must read as zeros whatever lies beneath, as a thick volume's do until they are written.
    /// Stock Linux has no such flag and writes the zeros.
    ///
    /// # Errors
    /// As [`Simulator::write`].
    pub fn map_zeroed(&mut self, id: DeviceId, virtual_chunk: u64) -> anyhow::Result<()> {
        if self.mapping(id, virtual_chunk).is_some() {
            return Ok(());
        }
        let chunk = Chunk(self.store.data.allocate()?);
        self.map(id, virtual_chunk, chunk, u8::from(self.shape.family == Family::Qnap))
    }

    fn map(&mut self, id: DeviceId, virtual_chunk: u64, chunk: Chunk, zeroed: u8) -> anyhow::Result<()> {
        let mut tree = self.tree(id)?;
        let before = tree.root;
        let value = MappingValue { chunk, zeroed, time: self.time };
        tree.insert(&mut self.store, virtual_chunk, &value.encode(self.shape.family).to_le_bytes())?;
        self.put_tree(id, before, tree)?;
        if self.truth.mappings.entry(id).or_default().insert(virtual_chunk, value).is_none() {
            self.count(id, 1);
        }
        Ok(())
    }

    fn count(&mut self, id: DeviceId, change: i64) {
        if let Some(record) = self.truth.details.get_mut(&id) {
            record.mapped = Chunk(record.mapped.0.saturating_add_signed(change));
            self.changed_details.insert(id);
        }
    }

    /// Forgets a virtual chunk, if it is mapped.
    ///
    /// # Errors
    /// When there is no such device, or the metadata device is full.
    pub fn discard(&mut self, id: DeviceId, virtual_chunk: u64) -> anyhow::Result<()> {
        let mut tree = self.tree(id)?;
        if tree.get(&self.store, virtual_chunk).is_none() {
            return Ok(());
        }
        let before = tree.root;
        tree.remove(&mut self.store, virtual_chunk)?;
        self.put_tree(id, before, tree)?;
        self.truth.mappings.entry(id).or_default().remove(&virtual_chunk);
        self.count(id, -1);
        Ok(())
    }

    /// Makes `id` a snapshot of `origin`.
    ///
    /// # Errors
    /// When the id is taken, there is no such origin, or the metadata device is full.
    pub fn snapshot(&mut self, id: DeviceId, origin: DeviceId) -> anyhow::Result<()> {
        let time = self.next_time();
        self.share(id, origin, |pool, mapped| pool.record(mapped, time, 1, origin.0))?;
        if let Some(record) = self.truth.details.get_mut(&origin) {
            record.snapshot_time = time;
        }
        Ok(())
    }

    /// Makes `id` an independent, writable copy of `origin`; only QNAP's version 4 can.
    ///
    /// # Errors
    /// As [`Simulator::snapshot`], and when the pool has no clones.
    pub fn clone_device(&mut self, id: DeviceId, origin: DeviceId) -> anyhow::Result<()> {
        anyhow::ensure!(self.shape.has_clones(), "only version 4 has clones");
        let time = self.next_time();
        self.share(id, origin, |pool, mapped| pool.record(mapped, 1, time, NO_ORIGIN))?;
        if let Some(record) = self.truth.details.get_mut(&origin) {
            // A snapshot that is cloned keeps its own clone time, as the kernel has it.
            if let (Some(NO_ORIGIN), Some(clone)) = (record.origin, &mut record.clone) {
                clone.time = time;
            }
        }
        Ok(())
    }

    fn next_time(&mut self) -> u32 {
        self.time += self.shape.time_step();
        self.time
    }

    fn share(
        &mut self,
        id: DeviceId,
        origin: DeviceId,
        record: impl Fn(&Self, u64) -> DeviceDetails,
    ) -> anyhow::Result<()> {
        let root = self.tree(origin)?.root;
        let mappings = self.truth.mappings.get(&origin).cloned().unwrap_or_default();
        self.store.metadata.hold(root);
        let record = record(self, mappings.len() as u64);
        self.add_device(id, root, record)?;
        self.truth.mappings.insert(id, mappings);
        self.changed_details.insert(origin);
        Ok(())
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// When there is no such device, or the metadata device is full.
    pub fn delete(&mut self, id: DeviceId) -> anyhow::Result<()> {
        // A record that no commit has seen is not in the tree yet.
        if self.details.get(&self.store, id.0).is_some() {
            self.details.remove(&mut self.store, id.0)?;
        }
        self.top_level.remove(&mut self.store, id.0)?;
        self.truth.details.remove(&id);
        self.truth.mappings.remove(&id);
        self.changed_details.remove(&id);
        self.transaction += 1;
        self.dirty = true;
        Ok(())
    }
}
