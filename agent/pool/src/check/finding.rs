//! What a check can find: where, how bad, what was expected, what it costs.

use super::kind::Kind;
use super::structure::Structure;
use serde::{Serialize, Serializer};
use std::fmt;
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};

/// How bad a finding is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Odd, and without consequence.
    Note,
    /// Nothing is lost, but something is not as it should be.
    Suspicion,
    /// Space that is counted as used but is not: harmless.
    Leak,
    /// The metadata is wrong: data is lost, or would be when the pool is written to.
    Damage,
}

impl Severity {
    /// The word shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Suspicion => "suspicion",
            Self::Leak => "leak",
            Self::Damage => "damage",
        }
    }
}

/// Where a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The part of the metadata.
    pub structure: Structure,
    /// The metadata block, when it is one.
    pub block: Option<MetaBlock>,
    /// First byte of that block on the metadata device.
    pub offset: Option<Bytes>,
}

/// What a finding costs its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The thin device whose chunks are counted; `None` when they are chunks of the pool.
    pub device: Option<DeviceId>,
    /// The first chunk that may be concerned.
    pub first_chunk: u64,
    /// The last; `None` when it is not known.
    pub last_chunk: Option<u64>,
    /// How many at most; `None` when it is not known.
    pub chunks_at_most: Option<u64>,
    /// Their bytes.
    pub bytes_at_most: Option<Bytes>,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_chunk {
            Some(last) if last == self.first_chunk => write!(f, "concerned: chunk {last}")?,
            Some(last) => write!(f, "concerned: chunks {} to {last}", self.first_chunk)?,
            None => write!(f, "concerned: chunks from {} on", self.first_chunk)?,
        }
        match self.device {
            Some(device) => write!(f, " of device {device}")?,
            None => f.write_str(" of the pool")?,
        }
        match (self.chunks_at_most, self.bytes_at_most) {
            (Some(chunks), Some(bytes)) => write!(f, "; at most {chunks} of them hold data ({})", bytes.human()),
            _ => Ok(()),
        }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// What it costs, when it costs data.
    pub cost: Option<Cost>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { structure, block, offset } = self.place;
        write!(f, "{structure}")?;
        if let (Some(block), Some(offset)) = (block, offset) {
            write!(f, ", block {block} (byte {offset})")?;
        }
        write!(f, ": {}", self.kind)?;
        match &self.cost {
            Some(cost) => write!(f, " [{cost}]"),
            None => Ok(()),
        }
    }
}

/// For programs: the fields, and the sentence for people.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            severity: Severity,
            #[serde(flatten)]
            place: Place,
            #[serde(flatten)]
            kind: &'a Kind,
            cost: Option<Cost>,
            text: String,
        }
        let Self { severity, place, kind, cost } = self;
        Told { severity: *severity, place: *place, kind, cost: *cost, text: self.to_string() }.serialize(serializer)
    }
}
