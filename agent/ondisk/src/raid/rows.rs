//! Levels with parity: 4, 5 and 6. A row is the same sectors of all members: data, and one or two of parity that move from
//! row to row as the layout says.

use super::{GeometryError, Place, Run, Target, whole_chunks};
use crate::units::Sectors;

/// Who holds what in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Number of the row of chunks, from 0.
    pub number: u64,
    /// Members of the array.
    pub members: usize,
    /// Role that holds the parity.
    pub p: usize,
    /// Role that holds RAID 6's second syndrome.
    pub q: Option<usize>,
}

impl Row {
    /// The roles that hold data, in the order in which RAID 6 counts them: from behind Q on, round the array.
    pub fn data(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let first = self.q.map_or(0, |q| q.wrapping_add(1));
        let members = self.members;
        let roles = (0..members).map(move |index| first.wrapping_add(index).checked_rem(members).unwrap_or(0));
        roles.filter(move |role| *role != self.p && Some(*role) != self.q)
    }
}

/// The order of data in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// From role 0 on, parities left out.
    Fixed,
    /// From behind the parity on, round the members.
    Rotating,
}

/// Where the parity is in row 0 and how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// From the last role down.
    Left,
    /// From role 0 up.
    Right,
    /// Always role 0.
    First,
    /// Always the last role (that is not Q's own).
    Last,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    chunk: u64,
    members: u64,
    parities: u64,
    walk: Walk,
    order: Order,
    /// Q always lies on the last role, the rest is a RAID 5 (level 5 grown to 6).
    separate_q: bool,
}

impl Rows {
    pub(super) fn new(level: i32, layout: u32, chunk: u64, members: usize) -> Result<Self, GeometryError> {
        let unknown = GeometryError::Layout { level, layout };
        let separate_q = level == 6 && (16..=20).contains(&layout);
        let (walk, order) = match (level, if separate_q { layout & 7 } else { layout }) {
            (4, _) => (Walk::Last, Order::Fixed),
            (_, 0) => (Walk::Left, Order::Fixed),
            (_, 1) => (Walk::Right, Order::Fixed),
            (_, 2) => (Walk::Left, Order::Rotating),
            (_, 3) => (Walk::Right, Order::Rotating),
            (_, 4) => (Walk::First, Order::Fixed),
            (_, 5) => (Walk::Last, Order::Fixed),
            (6, 8..=10) => return Err(GeometryError::Ddf(layout)),
            _ => return Err(unknown),
        };
        let parities = if level == 6 { 2 } else { 1 };
        Ok(Self { chunk, members: members as u64, parities, walk, order, separate_q })
    }

    pub(super) fn parities(&self) -> usize {
        if self.parities == 2 { 2 } else { 1 }
    }

    fn data_members(&self) -> u64 {
        self.members.saturating_sub(self.parities)
    }

    pub(super) fn size(&self, component: Sectors) -> Sectors {
        Sectors(whole_chunks(component.0, self.chunk).saturating_mul(self.data_members()))
    }

    pub(super) fn row_of(&self, sector: Sectors) -> Option<Row> {
        self.row(sector.0.checked_div(self.chunk)?)
    }

    /// The members over which parity moves.
    fn round(&self) -> u64 {
        if self.separate_q { self.members.saturating_sub(1) } else { self.members }
    }

    fn row(&self, stripe: u64) -> Option<Row> {
        let round = self.round();
        let last = if self.separate_q { round.checked_sub(1)? } else { self.members.checked_sub(1)? };
        let step = stripe.checked_rem(round)?;
        let p = match self.walk {
            Walk::Left => last.checked_sub(step)?,
            Walk::Right => step,
            Walk::First => 0,
            Walk::Last => self.data_members(),
        };
        let q = match (self.parities, self.separate_q) {
            (1, _) => None,
            (_, true) => Some(self.members.checked_sub(1)?),
            (_, false) => Some(p.checked_add(1)?.checked_rem(self.members)?),
        };
        let role = |number: u64| usize::try_from(number).ok();
        Some(Row { number: stripe, members: role(self.members)?, p: role(p)?, q: q.and_then(role) })
    }

    pub(super) fn locate(&self, sector: Sectors) -> Option<Run> {
        let in_chunk = sector.0.checked_rem(self.chunk)?;
        let number = sector.0.checked_div(self.chunk)?;
        let stripe = number.checked_div(self.data_members())?;
        let index = number.checked_rem(self.data_members())?;
        let row = self.row(stripe)?;
        let role = self.data_role(&row, usize::try_from(index).ok()?)?;
        let at = stripe.checked_mul(self.chunk)?.checked_add(in_chunk)?;
        let place = Place { role, sector: Sectors(at) };
        Some(Run { length: Sectors(self.chunk.checked_sub(in_chunk)?), target: Target::Parity(place, row) })
    }

    /// The role of data chunk `index` of a row.
    fn data_role(&self, row: &Row, index: usize) -> Option<usize> {
        let first = match self.order {
            Order::Fixed => 0,
            Order::Rotating => row.p.checked_add(1)?,
        };
        // Where Q has a role of its own it lies outside the round; elsewhere it follows P and is skipped like it.
        let round = usize::try_from(self.round()).ok()?;
        let roles = (0..round).filter_map(|step| first.checked_add(step)?.checked_rem(round));
        roles.filter(|role| *role != row.p && Some(*role) != row.q).nth(index)
    }
}
