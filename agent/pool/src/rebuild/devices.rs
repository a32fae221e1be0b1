//! The devices of the new pool: a tree and a record for each.

use super::error::RebuildError;
use super::plan::NodeId;
use super::report::{LossReason, MOST_RANGES, RebuiltDevice};
use super::survey::{Subtree, Survey};
use super::{Format, RebuildOptions};
use crate::pool::{DeviceTable, Pool, ThinDevice};
use std::rc::Rc;
use tierlift_ondisk::thin::{CloneRecord, DetailsSize, DeviceDetails, Family, NO_ORIGIN};
use tierlift_ondisk::units::{Chunk, DeviceId};

/// A device to be written.
pub(super) struct NewDevice {
    pub id: DeviceId,
    pub root: NodeId,
    pub record: DeviceDetails,
}

/// Plans all devices.
pub(super) struct Devices<'p, 'a> {
    pool: &'p Pool,
    options: &'p RebuildOptions,
    time: u32,
    table: &'p DeviceTable,
    record_size: DetailsSize,
    pub survey: Survey<'a>,
    told: usize,
    pub new: Vec<NewDevice>,
    pub report: Vec<RebuiltDevice>,
}

impl<'p, 'a> Devices<'p, 'a> {
    pub(super) fn new(
        pool: &'p Pool,
        options: &'p RebuildOptions,
        time: u32,
        table: &'p DeviceTable,
        survey: Survey<'a>,
    ) -> Self {
        let record_size = record_size(pool, options, table);
        Self { pool, options, time, table, record_size, survey, told: 0, new: Vec::new(), report: Vec::new() }
    }

    /// Length of the records.
    pub(super) fn record_size(&self) -> DetailsSize {
        self.record_size
    }

    pub(super) fn plan(&mut self, id: DeviceId, device: &ThinDevice) -> Result<(), RebuildError> {
        let mut tree = self.tree(id, device, None)?;
        let mark = self.options.mainline().then(|| self.marks(id, device, &tree));
        if let Some(mark) = mark.filter(|_| tree.has_holes()) {
            tree = self.tree(id, device, Some(mark))?;
        }
        let root = self.survey.plan.root(&tree.forest)?;
        let written = if tree.is_unmarked() { 0 } else { self.survey.plan.mapped(root) };
        let mut lost = Vec::new();
        tree.losses.list(&mut lost, MOST_RANGES.saturating_sub(self.told));
        self.told = self.told.saturating_add(lost.len());
        let open = lost.last().is_some_and(|range| range.keys.last == u64::MAX);
        self.report.push(RebuiltDevice {
            id,
            recorded: device.details.map(|record| record.mapped.0),
            found: tree.found,
            written,
            record_made_up: device.details.is_none(),
            lost,
            lost_ranges: tree.losses.ranges,
            marked_up_to: mark.filter(|_| open && !tree.is_unmarked()),
            left_out: tree.is_unmarked(),
        });
        if !tree.is_unmarked() {
            self.new.push(NewDevice { id, root, record: self.record(device.details, written) });
        }
        Ok(())
    }

    fn tree(&mut self, id: DeviceId, device: &ThinDevice, mark: Option<u64>) -> Result<Rc<Subtree>, RebuildError> {
        match device.root {
            Some(root) => self.survey.tree(root, mark),
            None => {
                let reason = self.table.root_hole(id).map_or(LossReason::NoTree, LossReason::from);
                self.survey.nothing(reason, mark)
            }
        }
    }

    /// The last virtual chunk to be marked as lost where a hole has no end of its own: the device's end when it is known,
    /// else as far as the mappings that are missing would reach if they all lay behind the last one known.
    fn marks(&self, id: DeviceId, device: &ThinDevice, tree: &Subtree) -> u64 {
        if let Some(size) = self.options.device_sizes.get(&id) {
            let chunks = size.0.div_ceil(self.pool.chunk_size().0.max(1));
            return chunks.saturating_sub(1);
        }
        let recorded = match device.details {
            Some(record) => record.mapped.0,
            None => self.pool.superblock().data_map.nr_allocated.min(self.pool.chunks()),
        };
        let missing = recorded.saturating_sub(tree.found);
        let next = tree.last_key().map_or(0, |last| last.saturating_add(1));
        next.saturating_add(missing).saturating_sub(1)
    }

    /// The record as it was, with the number of mappings really written; or one made up, whose times make every mapping
    /// count as shared, so that nothing is overwritten that another device may use.
    fn record(&self, known: Option<DeviceDetails>, written: u64) -> DeviceDetails {
        let superblock = self.pool.superblock();
        let made_up = || DeviceDetails {
            mapped: Chunk(0),
            transaction: superblock.transaction,
            creation_time: self.time,
            snapshot_time: self.time,
            clone: Some(CloneRecord { time: self.time, reserved: u64::MAX }),
            origin: Some(NO_ORIGIN),
        };
        let known = known.unwrap_or_else(made_up);
        let record = DeviceDetails {
            mapped: Chunk(written),
            transaction: known.transaction.min(superblock.transaction),
            creation_time: known.creation_time.min(self.time),
            snapshot_time: known.snapshot_time.min(self.time),
            clone: known.clone.map(|clone| CloneRecord { time: clone.time.min(self.time), ..clone }),
            origin: known.origin,
        };
        match self.record_size {
            DetailsSize::QnapClone => record,
            DetailsSize::Qnap => DeviceDetails { clone: None, ..record },
            DetailsSize::Mainline => {
                // Stock Linux has one time for both kinds of sharing.
                let cloned = record.clone.map_or(0, |clone| clone.time);
                let snapshot_time = record.snapshot_time.max(cloned);
                DeviceDetails { snapshot_time, clone: None, origin: None, ..record }
            }
        }
    }
}

/// Record times from here on are taken for damage: a pool would have to be snapshotted two million times, and a mapping has
/// room for twice that.
const MOST_TIME: u32 = 1 << 21;

/// The new pool's time: no record may be from the future, as of a superblock that is older than its trees.
pub(super) fn pool_time(pool: &Pool, table: &DeviceTable) -> u32 {
    let records = table.devices.values().filter_map(|device| device.details);
    let times = records
        .flat_map(|record| [record.creation_time, record.snapshot_time, record.clone.map_or(0, |clone| clone.time)]);
    times.filter(|time| *time < MOST_TIME).fold(pool.superblock().time, u32::max)
}

/// Records keep the length they have; without any, what the version's kernels write.
fn record_size(pool: &Pool, options: &RebuildOptions, table: &DeviceTable) -> DetailsSize {
    if options.format == Format::Mainline {
        return DetailsSize::Mainline;
    }
    let known = table.devices.values().find_map(|device| device.details.map(|record| record.size()));
    known.unwrap_or(match (pool.family(), pool.superblock().version) {
        (Family::Mainline, _) => DetailsSize::Mainline,
        (Family::Qnap, 4..) => DetailsSize::QnapClone,
        (Family::Qnap, _) => DetailsSize::Qnap,
    })
}
