//! What rows say before anything is known of order, chunk size or layout: which members have data, whether all sum up to
//! nothing, and which one is the sum of all.

use super::candidates::Candidates;
use std::collections::BTreeSet;
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// Rows for a first look, and for a proposal.
pub(super) const FEW: u64 = 24;
pub(super) const MANY: u64 = 512;
const SAMPLE: usize = 4096;
const SAMPLE_SECTORS: u64 = 8;
/// Rows that must agree at least.
const LEAST: usize = 6;

/// The redundancy of a set of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parity {
    None,
    Mirror,
    /// All sum up to nothing; or all but one disk do.
    Single(Option<usize>),
    Double,
}

/// One row.
pub(super) struct Row {
    pub(super) sector: Sectors,
    /// By disk: anything but zeros.
    pub(super) full: Vec<bool>,
    /// All sum up to nothing.
    pub(super) cancels: bool,
    /// All are the same.
    equal: bool,
    /// The disks that are the sum of all: without one of them the rest sums up to nothing.
    pub(super) sum: Vec<usize>,
}

pub(super) struct Facts {
    pub(super) rows: Vec<Row>,
    disks: usize,
}

impl Facts {
    /// Reads about so many rows, where anything lies.
    pub(super) fn take(candidates: &Candidates, count: u64) -> Self {
        let size = candidates.component(Sectors(SAMPLE_SECTORS));
        let rows = places(candidates, size, count).into_iter().filter_map(|sector| Row::read(candidates, sector));
        Self { rows: rows.filter(|row| row.full.iter().any(|full| *full)).collect(), disks: candidates.disks.len() }
    }

    pub(super) fn parity(&self) -> Parity {
        let all = self.rows.len();
        let most = |count: usize| count >= LEAST && count.saturating_mul(10) >= all.saturating_mul(9);
        let count = |test: &dyn Fn(&Row) -> bool| self.rows.iter().filter(|row| test(row)).count();
        if most(count(&|row| row.equal)) {
            return Parity::Mirror;
        }
        // Where one disk has data only, nothing can cancel.
        if most(count(&|row| row.cancels)) && self.disks >= 3 {
            return Parity::Single(None);
        }
        let sums: BTreeSet<usize> = self.rows.iter().flat_map(|row| row.sum.iter().copied()).collect();
        let always = sums.iter().find(|disk| most(count(&|row| row.cancels || row.sum.contains(disk))));
        match always {
            Some(disk) if self.disks >= 4 => Parity::Single(Some(*disk)),
            None if self.disks >= 4 && most(count(&|row| !row.sum.is_empty())) => Parity::Double,
            _ => Parity::None,
        }
    }

    pub(super) fn told(&self, parity: Parity) -> String {
        let all = self.rows.len();
        match parity {
            Parity::Mirror => format!("the disks hold the same in all {all} places sampled"),
            Parity::Single(_) => {
                format!("the disks sum up to nothing in the {all} rows sampled, as data and parity of RAID 5 do")
            }
            Parity::Double => format!("in the {all} rows sampled all disks but one sum up to nothing, as in RAID 6"),
            Parity::None => String::new(),
        }
    }
}

impl Row {
    fn read(candidates: &Candidates, sector: Sectors) -> Option<Self> {
        let offset = sector.to_bytes()?;
        let mut total = vec![0u8; SAMPLE];
        let mut read = Vec::new();
        for disk in &candidates.disks {
            let mut bytes = vec![0; SAMPLE];
            disk.view.read_at(offset, &mut bytes).ok()?;
            total.iter_mut().zip(&bytes).for_each(|(to, from)| *to ^= from);
            read.push(bytes);
        }
        let cancels = total.iter().all(|byte| *byte == 0);
        let sum = read.iter().enumerate().filter(|(_, bytes)| !cancels && **bytes == total).map(|(disk, _)| disk);
        Some(Self {
            sector,
            sum: sum.collect(),
            full: read.iter().map(|bytes| bytes.iter().any(|byte| *byte != 0)).collect(),
            cancels,
            equal: read.windows(2).all(|pair| pair.first() == pair.last()),
        })
    }
}

/// Places with data: at the start, then spread, each disk's own in turn.
fn places(candidates: &Candidates, size: Sectors, count: u64) -> BTreeSet<Sectors> {
    let step = size.0.checked_div(count).unwrap_or(0).max(SAMPLE_SECTORS);
    let start = (0..count / 8).map(|number| Sectors(number.saturating_mul(SAMPLE_SECTORS)));
    let spread = (0..count).filter_map(|number| {
        let from = number.saturating_mul(step);
        let from = Sectors(from.saturating_add(from.wrapping_mul(0x9e37_79b9).checked_rem(step)?));
        let disk = usize::try_from(number).ok()?.checked_rem(candidates.disks.len())?;
        let next = candidates.disks.get(disk)?.view.next_data(from.to_bytes()?)?;
        Some(Sectors(Bytes(next.0).to_sectors().0 & !SAMPLE_SECTORS.wrapping_sub(1)))
    });
    start.chain(spread).filter(|sector| sector.0.saturating_add(SAMPLE_SECTORS) <= size.0).collect()
}
