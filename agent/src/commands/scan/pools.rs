//! The pools of all groups: opened read-only, and compared with what the text says of them.

use crate::inventory::{Inventory, LogicalVolumeKind, PoolVolume, VolumeGroup};
use crate::volume;
use serde::Serialize;
use std::collections::BTreeSet;
use tierlift_ondisk::units::{Chunk, DeviceId, Sectors};
use tierlift_pool::{Mode, Pool, RingState, Stat};

/// One pool.
#[derive(Debug, Serialize)]
pub(super) struct PoolReport {
    /// Index of its volume group.
    pub(super) group: usize,
    /// Name of the pool's volume.
    pub(super) pool: String,
    /// Its state; absent when it cannot be opened.
    pub(super) stat: Option<Stat>,
    /// Why it cannot be opened.
    pub(super) error: Option<String>,
    /// Devices the pool has and no volume of the text names.
    pub(super) unnamed: Vec<DeviceId>,
    /// What is wrong with it.
    pub(super) wrong: Vec<String>,
    /// What is odd and harmless for reading.
    pub(super) odd: Vec<String>,
}

/// Looks into every pool.
pub(super) fn look(inventory: &Inventory) -> Vec<PoolReport> {
    let mut reports = Vec::new();
    for (index, group) in inventory.volume_groups.iter().enumerate() {
        for volume in &group.logical_volumes {
            if let LogicalVolumeKind::Pool(pool) = &volume.kind {
                reports.push(report(inventory, index, group, &volume.name, pool));
            }
        }
    }
    reports
}

fn report(inventory: &Inventory, index: usize, group: &VolumeGroup, name: &str, parts: &PoolVolume) -> PoolReport {
    let mut report = PoolReport {
        group: index,
        pool: name.to_owned(),
        stat: None,
        error: None,
        unnamed: Vec::new(),
        wrong: Vec::new(),
        odd: Vec::new(),
    };
    let opened = volume::view(inventory, index, &parts.metadata).and_then(|view| Ok(Pool::open(view)?));
    match opened {
        Ok(pool) => {
            let stat = pool.stat();
            compare(&mut report, group, parts, &stat);
            tiers(&mut report, inventory, parts, &stat.mode.mode);
            report.stat = Some(stat);
        }
        Err(error) => {
            let error = format!("{error:#}");
            report.wrong.push(format!("it cannot be opened: {error}"));
            report.error = Some(error);
        }
    }
    report
}

/// The pool's own figures against the text's ("docs/lvm"): the superblock decides, differences are told.
fn compare(report: &mut PoolReport, group: &VolumeGroup, parts: &PoolVolume, stat: &Stat) {
    report.wrong.extend(stat.damage.iter().cloned());
    let short = stat.metadata_present < stat.metadata.total;
    let list = if short || matches!(stat.ring, RingState::Behind { .. }) { &mut report.wrong } else { &mut report.odd };
    list.extend(stat.warnings.iter().cloned());
    if let Some(Chunk(chunks)) = parts.chunks.filter(|chunks| chunks.0 != stat.chunks.total) {
        let total = stat.chunks.total;
        let (text, meaning) = if chunks > total {
            (
                "more",
                "the pool was to grow, or the text is newer than its metadata; QNAP's kernel would grow it, here it stays as it is",
            )
        } else {
            (
                "fewer",
                "the text is older than its metadata, and what it says of volumes may be, too: look for a newer text with `tierlift lvm \
              generations`",
            )
        };
        let line = format!(
            "the text gives it {chunks} chunks, {text} than its superblock's {total}, which decides: {meaning}"
        );
        // A text that knows less than the pool leaves volumes out, or in their former size.
        if chunks < total { &mut report.wrong } else { &mut report.odd }.push(line);
    }
    if let Some(size) = parts.chunk_size.filter(|size| *size != stat.chunk_size) {
        report.odd.push(format!(
            "chunk size: {size} sectors in the text, {} in its superblock; the superblock decides",
            stat.chunk_size
        ));
    }
    if let Some(id) = parts.transaction_id.filter(|id| *id != stat.transaction) {
        report.odd.push(format!("transaction id: {id} in the text, {} in its superblock", stat.transaction));
    }
    devices(report, group, stat);
}

fn devices(report: &mut PoolReport, group: &VolumeGroup, stat: &Stat) {
    let in_pool: BTreeSet<DeviceId> = stat.devices.iter().map(|device| device.id).collect();
    let mut named = BTreeSet::new();
    for volume in &group.logical_volumes {
        let LogicalVolumeKind::Thin { pool, device, .. } = &volume.kind else { continue };
        if *pool != report.pool {
            continue;
        }
        named.insert(*device);
        if !in_pool.contains(device) {
            report.wrong.push(format!(
                "{}: the pool knows no device {device}: the volume was deleted, or the pool's metadata are older than the text",
                volume.name
            ));
        }
    }
    report.unnamed = in_pool.difference(&named).copied().collect();
}

/// Tiers that carry data must be there in full.
fn tiers(report: &mut PoolReport, inventory: &Inventory, parts: &PoolVolume, mode: &Mode) {
    for (number, tier) in (0u8..).zip(&parts.tiers) {
        let needed = match mode {
            Mode::Plain => number == 0,
            Mode::Bypass { tier } => *tier == number,
            Mode::TierMap | Mode::Undecided => {
                parts.enable_map.is_none_or(|map| map.checked_shr(number.into()).unwrap_or(0) & 1 == 1)
            }
            Mode::Empty => false,
        };
        let missing = match tier {
            Some(tier) => missing(inventory, report.group, tier),
            None => Some("there is no such volume".into()),
        };
        if let Some(missing) = missing.filter(|_| needed) {
            report
                .wrong
                .push(format!("tier {number}: {missing}; what lies there cannot be read, and nothing else has a copy"));
        }
    }
}

/// What of a volume is missing, in words.
pub(super) fn missing(inventory: &Inventory, group: usize, volume: &str) -> Option<String> {
    match lost_of_all(inventory, group, volume) {
        Ok((Sectors(0), _)) => None,
        Ok((lost, all)) => {
            let human = |sectors: Sectors| sectors.to_bytes().unwrap_or_default().human();
            Some(format!("{} of {} of {volume} are missing", human(lost), human(all)))
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Sectors of a mapped volume that cannot be read, and all of them.
pub(super) fn lost_of_all(inventory: &Inventory, group: usize, volume: &str) -> anyhow::Result<(Sectors, Sectors)> {
    let (mut lost, mut all) = (0u64, 0u64);
    for (length, target) in volume::stretches_on_disks(inventory, group, volume)? {
        all = all.saturating_add(length.0);
        if target == volume::DiskTarget::Error {
            lost = lost.saturating_add(length.0);
        }
    }
    Ok((Sectors(lost), Sectors(all)))
}
