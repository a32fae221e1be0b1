//! Where the sectors of an md array lie on its members ("docs/disk-layout", section 2.5).
//!
//! Pure arithmetic: an array sector in, a member and a sector of it out, together with everything else that holds the same
//! information (copies, or the parity of the row). Levels and layouts are mainline's; QNAP's kernels changed none of them.
//! Whatever numbers a superblock holds, they are bounded here once, and nothing overflows later.

mod copies;
mod rows;
mod syndrome;
mod zones;

pub use rows::Row;
pub use syndrome::{multiply, power};

use crate::units::Sectors;

/// Members an md superblock can name at most.
pub const MAX_MEMBERS: usize = 1920;
/// The largest chunk size that is believed: 1 GiB.
const MAX_CHUNK: u64 = 1 << 21;
/// The largest member that is believed: 2^48 sectors. Keeps every product below 64 bits.
const MAX_COMPONENT: u64 = 1 << 48;

/// Why numbers are no geometry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// md knows no such level, or one that holds no data in order.
    #[error("level {0} is none this version can read")]
    Level(i32),
    /// A layout number that the level does not have.
    #[error("layout {layout:#x} of level {level} is unknown")]
    Layout {
        /// The level.
        level: i32,
        /// The layout word.
        layout: u32,
    },
    /// A layout of hardware controllers (DDF), which QNAP never makes.
    #[error("layout {0} of RAID 6 is a hardware controller's (DDF); it is not read here")]
    Ddf(u32),
    /// Too few or too many members.
    #[error("level {level} cannot have {found} members")]
    Members {
        /// The level.
        level: i32,
        /// Members given.
        found: usize,
    },
    /// A chunk size that cannot be.
    #[error("chunk size {0} sectors: expected a power of two up to {MAX_CHUNK}")]
    Chunk(u64),
    /// Members without room, or impossibly large.
    #[error("{0} sectors of data on a member cannot be")]
    Component(u64),
}

/// A place on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Role of the member.
    pub role: usize,
    /// Sector from where the member's data begin.
    pub sector: Sectors,
}

/// Everything that can give the bytes of a stretch of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Each of these places has the data; one place only where there is no redundancy.
    Copies(Vec<Place>),
    /// The place has the data; the same sectors of the other members of the row can give them back.
    Parity(Place, Row),
}

/// A stretch of the array that is contiguous on its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Sectors that follow in the same way, at least 1.
    pub length: Sectors,
    /// Where they are.
    pub target: Target,
}

/// How an array is laid out over its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    members: usize,
    size: Sectors,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Zones(zones::Zones),
    Copies(copies::Copies),
    Rows(rows::Rows),
}

impl Geometry {
    /// The layout of an array of this level (-1 linear, 0, 1, 4, 5, 6, 10), layout word and chunk size whose members, by
    /// role, have these many sectors of data. Levels but linear and 0 use as much of each as the smallest has.
    ///
    /// RAID 0 over members of unequal size needs layout 1 (kernels before 3.14) or 2; any other number is taken as 2.
    ///
    /// # Errors
    /// When the numbers make no array.
    pub fn new(level: i32, layout: u32, chunk: Sectors, components: &[Sectors]) -> Result<Self, GeometryError> {
        let members = components.len();
        let least = match level {
            4 | 5 => 2,
            6 => 4,
            -1 | 0 | 1 | 10 => 1,
            other => return Err(GeometryError::Level(other)),
        };
        // RAID 6 counts its data members in a field of 255 numbers.
        let most = if level == 6 { 255 } else { MAX_MEMBERS };
        if members < least || members > most {
            return Err(GeometryError::Members { level, found: members });
        }
        let chunk = checked_chunk(level, chunk)?;
        let smallest = checked_components(components)?;
        let (kind, size) = match level {
            -1 | 0 => {
                let zones = zones::Zones::new(level, layout, chunk, components)?;
                let size = zones.size();
                (Kind::Zones(zones), size)
            }
            1 => {
                let copies = copies::Copies::mirror(members, smallest);
                (Kind::Copies(copies), smallest)
            }
            10 => {
                let copies = copies::Copies::new(layout, chunk, members, smallest)?;
                let size = copies.size();
                (Kind::Copies(copies), size)
            }
            _ => {
                let rows = rows::Rows::new(level, layout, chunk, members)?;
                let size = rows.size(smallest);
                (Kind::Rows(rows), size)
            }
        };
        Ok(Self { members, size, kind })
    }

    /// Sectors of data of the whole array.
    pub fn size(&self) -> Sectors {
        self.size
    }

    /// Members the array has when it is complete.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Where an array sector lies, and how many sectors follow in the same way; `None` beyond the end.
    pub fn locate(&self, sector: Sectors) -> Option<Run> {
        if sector >= self.size {
            return None;
        }
        let run = match &self.kind {
            Kind::Zones(zones) => zones.locate(sector)?,
            Kind::Copies(copies) => copies.locate(sector)?,
            Kind::Rows(rows) => rows.locate(sector)?,
        };
        let left = self.size.checked_sub(sector)?;
        Some(Run { length: run.length.min(left), ..run })
    }

    /// The first array sector from `from` on that may lie at or behind sector `member` of any member, at the usual place of
    /// its data; `None` where sectors of the array do not rise with those of its members (linear).
    pub fn skip_to(&self, from: Sectors, member: Sectors) -> Option<Sectors> {
        let usual = |sector: u64| match self.locate(Sectors(sector))? {
            Run { target: Target::Copies(places), length } => places.first()?.sector.checked_add(length),
            Run { target: Target::Parity(place, _), length } => place.sector.checked_add(length),
        };
        if matches!(&self.kind, Kind::Zones(zones) if !zones.rises()) {
            return None;
        }
        let (mut low, mut high) = (from.0, self.size.0);
        while low < high {
            let middle = low.midpoint(high);
            match usual(middle) {
                Some(end) if end > member => high = middle,
                _ => low = middle.saturating_add(1),
            }
        }
        Some(Sectors(low))
    }

    /// The row a member sector belongs to, for levels with parity.
    pub fn row_of(&self, member_sector: Sectors) -> Option<Row> {
        match &self.kind {
            Kind::Rows(rows) => rows.row_of(member_sector),
            _ => None,
        }
    }

    /// Whether this many and these members (`true` by role) are enough to read everything.
    pub fn can_start(&self, present: &[bool]) -> bool {
        let missing = present.iter().filter(|present| !**present).count();
        let all_named = present.len() == self.members;
        all_named
            && match &self.kind {
                Kind::Zones(_) => missing == 0,
                Kind::Rows(rows) => missing <= rows.parities(),
                Kind::Copies(copies) => copies.can_start(present),
            }
    }
}

fn checked_chunk(level: i32, chunk: Sectors) -> Result<u64, GeometryError> {
    match (level, chunk.0) {
        // A mirror has none; a linear array may name one, to which its members are rounded.
        (1, _) | (-1, 0) => Ok(1),
        (-1 | 0, chunk) if chunk > 0 && chunk <= MAX_CHUNK => Ok(chunk),
        (4 | 5 | 6 | 10, chunk) if chunk.is_power_of_two() && chunk <= MAX_CHUNK => Ok(chunk),
        (_, chunk) => Err(GeometryError::Chunk(chunk)),
    }
}

fn checked_components(components: &[Sectors]) -> Result<Sectors, GeometryError> {
    let wrong = components.iter().find(|component| component.0 == 0 || component.0 > MAX_COMPONENT);
    match (wrong, components.iter().min()) {
        (Some(wrong), _) => Err(GeometryError::Component(wrong.0)),
        (None, smallest) => Ok(smallest.copied().unwrap_or_default()),
    }
}

/// Rounds down to whole chunks.
fn whole_chunks(sectors: u64, chunk: u64) -> u64 {
    sectors.saturating_sub(sectors.checked_rem(chunk).unwrap_or(sectors))
}

#[cfg(test)]
#[path = "raid/tests.rs"]
mod tests;
