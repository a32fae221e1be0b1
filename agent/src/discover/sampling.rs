//! Do the data of an array's members fit together, whatever their superblocks say?
//!
//! A member that stopped years ago, one of another array, or two that were exchanged give an array that reads without an
//! error and damages every file. So before an array is accepted, samples of its rows are compared with their parity, and
//! structures that know their own place (blocks of pool metadata) are looked for where they must be. Reads are few and
//! spread over what is in use.

mod cache;
mod copies;
mod places;
mod rows;

pub(super) use cache::Remembered;
pub(super) use places::Block;

use crate::block::{RaidView, View};
use rows::Rows;
use tierlift_ondisk::raid::Geometry;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Bytes of a sample on each member: half a large block of pool metadata.
const SAMPLE_BYTES: usize = 4096;
const SAMPLE_SECTORS: u64 = 8;
/// Bytes that are read of all members together.
const BUDGET: usize = 6 << 20;
const LEAST_SAMPLES: usize = 48;
const MOST_SAMPLES: usize = 512;
/// Samples at the very start of the members, where LVM's label and texts are.
const AT_START: usize = 6;

/// What the samples say.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The role whose data contradict all others', and why.
    pub(super) exclude: Option<(usize, String)>,
    /// Why the array must not be read as it is.
    pub(super) refuse: Option<String>,
    /// What speaks for the array.
    pub(super) evidence: Vec<String>,
    /// Small things that are wrong.
    pub(super) notes: Vec<String>,
}

/// The members of an array by role, and what is known of their use.
pub(super) struct Sampler<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) members: Vec<Option<View>>,
    /// Array sectors worth a look, most wanted first.
    pub(super) wanted: Vec<Sectors>,
    /// Blocks of pool metadata and where on the array they should be.
    pub(super) blocks: Vec<Block>,
    /// Not shut down in order: a few rows may be torn.
    pub(super) dirty: bool,
    /// Something known lies on the array.
    pub(super) known: bool,
}

impl Sampler<'_> {
    /// Takes the samples and judges.
    pub(super) fn look(&self) -> Findings {
        let mut findings = Findings::default();
        let rows = Rows::take(self);
        rows.judge(self, &mut findings);
        copies::judge(self, &mut findings);
        if findings.exclude.is_none() && findings.refuse.is_none() {
            places::judge(self, &rows, &mut findings);
        }
        if findings.exclude.is_none() && findings.refuse.is_none() {
            rows.judge_order(self, &mut findings);
        }
        findings
    }

    fn present(&self) -> Vec<bool> {
        self.members.iter().map(Option::is_some).collect()
    }

    /// No member more could be missed of an array with parity: there is nothing left to compare with.
    fn at_limit(&self) -> bool {
        let present = self.present();
        let without = |role: usize| {
            let mut fewer = present.clone();
            fewer.get_mut(role).is_some_and(std::mem::take) && self.geometry.can_start(&fewer)
        };
        self.geometry.row_of(Sectors(0)).is_some() && !(0..present.len()).any(without)
    }

    /// Parity does not tell the order of the members: only RAID 6 does, as long as it can be checked at all.
    fn order_is_open(&self) -> bool {
        self.at_limit() || self.geometry.row_of(Sectors(0)).is_none_or(|row| row.q.is_none())
    }

    /// The members that have something but zeros here.
    fn with_data(&self, sector: Sectors, length: usize) -> Vec<usize> {
        let has_data = |member: &Option<View>| {
            let mut bytes = vec![0; length];
            let read = member.as_ref().zip(sector.to_bytes());
            read.is_some_and(|(member, offset)| member.read_at(offset, &mut bytes).is_ok())
                && bytes.iter().any(|byte| *byte != 0)
        };
        self.members.iter().enumerate().filter(|(_, member)| has_data(member)).map(|(role, _)| role).collect()
    }

    fn budget(&self) -> usize {
        let one = SAMPLE_BYTES.saturating_mul(self.members.len().max(1));
        BUDGET.checked_div(one).unwrap_or(0).clamp(LEAST_SAMPLES, MOST_SAMPLES)
    }

    /// The array with its members in another order.
    fn reordered(&self, order: &[usize]) -> Option<RaidView> {
        let members = order.iter().map(|role| self.members.get(*role).cloned().flatten());
        RaidView::new(self.geometry.clone(), members.collect()).ok()
    }

    /// All orders in which two members are exchanged.
    fn exchanges(&self) -> impl Iterator<Item = (usize, usize, Vec<usize>)> {
        let count = self.members.len();
        // More members than any NAS has would only cost time.
        let pairs =
            (0..count.min(32)).flat_map(move |one| (one.saturating_add(1)..count.min(32)).map(move |two| (one, two)));
        pairs.map(move |(one, two)| {
            let mut order: Vec<usize> = (0..count).collect();
            order.swap(one, two);
            (one, two, order)
        })
    }

    /// The next sector from `sector` on, before `end`, at which a member has data.
    fn next_data(&self, sector: Sectors, end: Sectors) -> Option<Sectors> {
        let start = sector.to_bytes()?;
        let next = self.members.iter().flatten().filter_map(|member| member.next_data(start)).min()?;
        Some(next.to_sectors()).filter(|next| *next < end)
    }
}

/// Whether a tenth or so of the samples, or what a power cut leaves, explains so many that do not fit.
fn tolerable(wrong: usize, all: usize, dirty: bool) -> bool {
    let limit = if dirty { 2usize.saturating_add(all / 16) } else { 1 };
    wrong <= limit
}

/// "the likely reason" that a frightened person may find in a search engine.
const LIKELY: &str = "reading it so would give errors such as \"blocknr X != wanted Y\" and damaged files";
