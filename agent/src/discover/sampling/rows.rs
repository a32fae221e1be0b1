//! Rows of RAID 4, 5 and 6: data against parity.

use super::{AT_START, Findings, LIKELY, SAMPLE_BYTES, SAMPLE_SECTORS, Sampler, tolerable};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::lvm_label::Label;
use tierlift_ondisk::raid::{Place, Row, Run, Target};
use tierlift_ondisk::thin::identify;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Rows that must speak against an order before it is refused.
const LEAST_AGAINST: usize = 4;

/// Bytes that must cancel each other out, and how many of them must be something, so that it cannot be by chance.
const CELL_BYTES: usize = 32;
const CELL_DATA: usize = 12;
/// Further rows for a member for which nothing speaks yet.
const MORE_SAMPLES: u64 = 256;

/// One row as it was read.
struct Sample {
    sector: Sectors,
    row: Row,
    /// By role.
    read: Vec<Option<Vec<u8>>>,
}

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Nothing to compare with, or nothing but zeros.
    Silent,
    Fits,
    /// The sum of the data is right, their order is not.
    Order,
    Contradicts,
}

pub(super) struct Rows {
    samples: Vec<Sample>,
}

impl Rows {
    pub(super) fn take(sampler: &Sampler<'_>) -> Self {
        let budget = sampler.budget();
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        let places = wanted(sampler).chain(start()).take(budget / 2).collect::<Vec<_>>();
        for sector in places.into_iter().chain(spread(sampler, budget / 2)) {
            if seen.insert(sector) {
                samples.extend(Sample::read(sampler, sector, SAMPLE_BYTES));
            }
        }
        Self { samples }
    }

    /// More rows, where one member has data.
    pub(super) fn of_member(sampler: &Sampler<'_>, role: usize) -> Self {
        let Some(Some(member)) = sampler.members.get(role) else { return Self { samples: Vec::new() } };
        let step = member.size().to_sectors().0.checked_div(MORE_SAMPLES).unwrap_or(0).max(SAMPLE_SECTORS);
        let in_part = |number: u64| {
            let start = Sectors(number.checked_mul(step)?);
            let data = member.next_data(start.to_bytes()?)?.to_sectors();
            (data.0 < start.0.saturating_add(step)).then(|| aligned(data))
        };
        let places: BTreeSet<Sectors> = (0..MORE_SAMPLES).filter_map(in_part).collect();
        Self { samples: places.into_iter().filter_map(|sector| Sample::read(sampler, sector, SAMPLE_BYTES)).collect() }
    }

    pub(super) fn judge(&self, sampler: &Sampler<'_>, findings: &mut Findings) {
        let fits: Vec<(&Sample, Fit)> = self.samples.iter().map(|sample| (sample, sample.fit())).collect();
        let count = |wanted: Fit| fits.iter().filter(|(_, fit)| *fit == wanted).count();
        let (wrong, order) = (count(Fit::Contradicts), count(Fit::Order));
        let bad = wrong.saturating_add(order);
        let all = bad.saturating_add(count(Fit::Fits));
        if all == 0 {
            return;
        }
        if bad == 0 {
            findings.evidence.push(format!("parity is right in all {all} rows sampled"));
            return;
        }
        let against: Vec<&Sample> = fits
            .iter()
            .filter(|(_, fit)| matches!(fit, Fit::Order | Fit::Contradicts))
            .map(|(sample, _)| *sample)
            .collect();
        if tolerable(bad, all, sampler.dirty) {
            findings.notes.push(format!(
                "parity is wrong in {bad} of {all} rows sampled; so few are what a power cut leaves, and the data are read as \
                 they are"
            ));
            return;
        }
        let told = format!("parity is wrong in {bad} of {all} rows sampled");
        if let Some((one, two)) = exchanged(sampler, &against) {
            findings.refuse = Some(format!(
                "{told}, and right when the members of roles {one} and {two} are exchanged: their superblocks name the wrong \
                 roles; {LIKELY}"
            ));
            return;
        }
        match culprit(sampler, &against) {
            Some(role) => {
                findings.exclude =
                    Some((role, format!("{told}, and its data are what is wrong: it is stale, or of another array")));
            }
            None => {
                findings.refuse = Some(format!(
                    "{told}: a member is stale or of another array, and nothing tells which; {LIKELY}. Leave out one member \
                     after the other until the rest fits"
                ));
            }
        }
    }

    /// The members that some row speaks for: where what is rebuilt for a missing member is empty, all others that have data
    /// there cancel each other out, which only members that belong together do.
    pub(super) fn vouched(&self) -> BTreeSet<usize> {
        self.samples.iter().flat_map(Sample::cancelling).collect()
    }

    /// The members that have anything but zeros in some row.
    pub(super) fn with_data(&self) -> BTreeSet<usize> {
        let rows = self.samples.iter().flat_map(|sample| sample.read.iter().enumerate());
        let full = |bytes: &Option<Vec<u8>>| bytes.iter().flatten().any(|byte| *byte != 0);
        rows.filter(|(_, bytes)| full(bytes)).map(|(role, _)| role).collect()
    }

    /// RAID 5's parity is the same in every order, but parity is seldom zero where not all data are: the members that hold
    /// zeros tell which of them is hardly the parity of a row. Equal data cancel out, and then do so all along a row of chunks:
    /// each row counts once, and a member only as empty when all samples of the row found it so.
    pub(super) fn judge_order(&self, sampler: &Sampler<'_>, findings: &mut Findings) {
        let rows = self.rows_with_zeros();
        let against = |order: &[usize]| {
            let is_zero = |(p, zeros): &&(usize, Vec<bool>)| {
                order.get(*p).and_then(|role| zeros.get(*role)).copied().unwrap_or(false)
            };
            rows.iter().filter(is_zero).count()
        };
        let own: Vec<usize> = (0..sampler.members.len()).collect();
        let now = against(&own);
        let better = sampler.exchanges().map(|(one, two, order)| (against(&order), one, two)).min();
        let named = better
            .filter(|(left, ..)| left.saturating_mul(4) <= now)
            .map(|(_, one, two)| format!("; they would be right with the members of roles {one} and {two} exchanged"));
        let many = now.saturating_mul(4) > rows.len();
        if now >= LEAST_AGAINST && (many || named.is_some()) {
            findings.refuse = Some(format!(
                "in {now} of {} rows sampled the parity cannot be where the superblocks say{}: the members are in the wrong \
                 order; {LIKELY}",
                rows.len(),
                named.unwrap_or_default()
            ));
        } else if rows.len() >= LEAST_AGAINST && now == 0 {
            findings
                .evidence
                .push(format!("the order of the members is right in {} rows with empty parts", rows.len()));
        }
    }

    /// For each row of chunks the role of its parity, and which members are empty in all of its samples.
    fn rows_with_zeros(&self) -> Vec<(usize, Vec<bool>)> {
        let mut rows: BTreeMap<u64, (usize, Vec<bool>)> = BTreeMap::new();
        for sample in &self.samples {
            let Some((p, zeros)) = sample.zeros() else { continue };
            match rows.entry(sample.row.number) {
                Entry::Vacant(vacant) => drop(vacant.insert((p, zeros))),
                Entry::Occupied(mut known) => {
                    known.get_mut().1.iter_mut().zip(zeros).for_each(|(all, here)| *all &= here);
                }
            }
        }
        rows.into_values().collect()
    }
}

/// Member sectors of the array sectors that are most wanted.
fn wanted<'a>(sampler: &'a Sampler<'_>) -> impl Iterator<Item = Sectors> + 'a {
    sampler.wanted.iter().filter_map(|sector| match sampler.geometry.locate(*sector)? {
        Run { target: Target::Parity(Place { sector, .. }, _), .. } => Some(aligned(sector)),
        _ => None,
    })
}

fn start() -> impl Iterator<Item = Sectors> {
    (0..AT_START as u64).map(|number| Sectors(number.saturating_mul(SAMPLE_SECTORS)))
}

fn aligned(sector: Sectors) -> Sectors {
    Sectors(sector.0 & !SAMPLE_SECTORS.wrapping_sub(1))
}

/// Places with data, spread over the members.
fn spread(sampler: &Sampler<'_>, count: usize) -> Vec<Sectors> {
    let size = sampler.members.iter().flatten().map(ReadAt::size).min().unwrap_or_default().to_sectors();
    let step = size.0.checked_div(count.max(1) as u64).unwrap_or(0).max(SAMPLE_SECTORS);
    let starts = (0..count as u64).map(|number| number.saturating_mul(step));
    let in_part = |start: u64| {
        let end = Sectors(start.saturating_add(step));
        // Not always the start of a part: what lies there may be special.
        let middle = Sectors(start.saturating_add(start.wrapping_mul(0x9e37_79b9).checked_rem(step).unwrap_or(0)));
        sampler.next_data(middle, end).or_else(|| sampler.next_data(Sectors(start), end)).map(aligned)
    };
    starts.filter_map(in_part).collect()
}

/// The two members whose exchange makes all these rows right, when there are such.
fn exchanged(sampler: &Sampler<'_>, against: &[&Sample]) -> Option<(usize, usize)> {
    let order = against.iter().filter(|sample| sample.fit() == Fit::Order).count();
    if order.saturating_mul(2) < against.len() && against.iter().all(|sample| sample.missing() == 0) {
        return None;
    }
    let right = |order: &[usize]| against.iter().filter(|sample| sample.reordered(order).fit() == Fit::Fits).count();
    let found =
        sampler.exchanges().find(|(_, _, order)| right(order).saturating_mul(10) >= against.len().saturating_mul(9));
    found.map(|(one, two, _)| (one, two))
}

/// The one member that explains nearly all rows.
fn culprit(sampler: &Sampler<'_>, against: &[&Sample]) -> Option<usize> {
    let mut guilty: BTreeMap<usize, usize> = BTreeMap::new();
    let mut spoken = 0usize;
    for sample in against {
        // Where only sense tells, whole blocks are needed.
        let whole = Sectors(sample.sector.0 & !15);
        let Some(larger) = Sample::read(sampler, whole, 2 * SAMPLE_BYTES) else { continue };
        let roles = if sample.row.q.is_some() { sample.suspects() } else { larger.suspects() };
        spoken = spoken.saturating_add(usize::from(!roles.is_empty()));
        for role in roles {
            let count = guilty.entry(role).or_default();
            *count = count.saturating_add(1);
        }
    }
    let (role, most) = guilty.iter().max_by_key(|(_, count)| **count)?;
    let others = guilty.values().filter(|count| **count == *most).count();
    (others == 1 && *most >= 2 && most.saturating_mul(10) >= spoken.saturating_mul(9)).then_some(*role)
}

impl Sample {
    fn read(sampler: &Sampler<'_>, sector: Sectors, length: usize) -> Option<Self> {
        let row = sampler.geometry.row_of(sector)?;
        let offset = sector.to_bytes()?;
        let read = |member: &Option<crate::block::View>| {
            let mut bytes = vec![0; length];
            member.as_ref()?.read_at(offset, &mut bytes).ok().map(|()| bytes)
        };
        Some(Self { sector, row, read: sampler.members.iter().map(read).collect() })
    }

    fn known(&self) -> Vec<Option<&[u8]>> {
        self.read.iter().map(Option::as_deref).collect()
    }

    fn missing(&self) -> usize {
        self.read.iter().filter(|bytes| bytes.is_none()).count()
    }

    fn parities(&self) -> usize {
        if self.row.q.is_some() { 2 } else { 1 }
    }

    fn reordered(&self, order: &[usize]) -> Self {
        Self {
            sector: self.sector,
            row: self.row,
            read: order.iter().map(|role| self.read.get(*role).cloned().flatten()).collect(),
        }
    }

    /// The row with what is missing rebuilt; `None` when too much is.
    fn filled(&self) -> Option<Vec<Vec<u8>>> {
        let known = self.known();
        let role = |(role, bytes): (usize, &Option<Vec<u8>>)| bytes.clone().or_else(|| self.row.rebuild(role, &known));
        self.read.iter().enumerate().map(role).collect()
    }

    fn fit(&self) -> Fit {
        if self.missing() >= self.parities()
            || self.read.iter().flatten().all(|bytes| bytes.iter().all(|byte| *byte == 0))
        {
            return Fit::Silent;
        }
        let Some(filled) = self.filled() else { return Fit::Silent };
        let known: Vec<Option<&[u8]>> = filled.iter().map(|bytes| Some(bytes.as_slice())).collect();
        let right = |role: usize| self.row.rebuild(role, &known).as_ref() == filled.get(role);
        match (right(self.row.p), self.row.q.is_none_or(right)) {
            (true, true) => Fit::Fits,
            (true, false) if self.missing() == 0 => Fit::Order,
            _ => Fit::Contradicts,
        }
    }

    /// Roles whose data would explain the contradiction, were they wrong.
    fn suspects(&self) -> Vec<usize> {
        let without = |role: usize| {
            let mut read = self.read.clone();
            read.get_mut(role).and_then(Option::take)?;
            Some(Self { sector: self.sector, row: self.row, read })
        };
        let suspect = |role: &usize| {
            let Some(others) = without(*role) else { return false };
            match self.row.q {
                // Two parities: one locates the wrong member, as long as nothing is missing.
                Some(_) => others.fit() == Fit::Fits,
                // One: the wrong member is the one that, rebuilt from the others, makes sense.
                // Parity itself makes sense wherever all but one member are empty.
                None => {
                    *role != self.row.p
                        && self.row.rebuild(*role, &others.known()).is_some_and(|bytes| makes_sense(&bytes))
                }
            }
        };
        (0..self.read.len()).filter(suspect).collect()
    }

    /// Members that have data in a stretch in which a missing member, rebuilt from them, has none.
    fn cancelling(&self) -> BTreeSet<usize> {
        let known = self.known();
        let missing = known.iter().enumerate().filter(|(_, bytes)| bytes.is_none());
        let rebuilt: Vec<Vec<u8>> = missing.filter_map(|(role, _)| self.row.rebuild(role, &known)).collect();
        let data_in = |bytes: &[u8], cell: usize| {
            let cell = bytes.chunks(CELL_BYTES).nth(cell).unwrap_or_default();
            cell.iter().filter(|byte| **byte != 0).count()
        };
        let mut found = BTreeSet::new();
        for cell in 0..SAMPLE_BYTES / CELL_BYTES {
            if rebuilt.iter().any(|bytes| data_in(bytes, cell) == 0) {
                let here = known.iter().enumerate().filter_map(|(role, bytes)| Some((role, (*bytes)?)));
                found.extend(here.filter(|(_, bytes)| data_in(bytes, cell) >= CELL_DATA).map(|(role, _)| role));
            }
        }
        found
    }

    /// Role of the parity and which roles hold nothing but zeros, when that tells anything: some do, some do not.
    fn zeros(&self) -> Option<(usize, Vec<bool>)> {
        if self.row.q.is_some() {
            return None;
        }
        let zeros: Vec<bool> = self.filled()?.iter().map(|bytes| bytes.iter().all(|byte| *byte == 0)).collect();
        let empty = zeros.iter().filter(|zero| **zero).count();
        (empty > 0 && empty < zeros.len()).then_some((self.row.p, zeros))
    }
}

/// Whether bytes hold a structure with a right checksum.
fn makes_sense(bytes: &[u8]) -> bool {
    let half = bytes.len() / 2;
    let whole = |part: Option<&[u8]>| part.and_then(identify).is_some();
    let label = bytes.get(512..1024).and_then(|sector| Label::decode(sector).ok());
    whole(Some(bytes))
        || whole(bytes.get(..half))
        || whole(bytes.get(half..))
        || label.is_some_and(|label| label.checksum_ok)
}
