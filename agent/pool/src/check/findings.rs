//! Collecting findings, bounded: a device full of damage must not become a memory full of sentences.

use super::finding::{Cost, Finding, Place, Severity};
use super::kind::Kind;
use super::structure::Structure;
use serde::Serialize;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::units::{Bytes, MetaBlock};

/// Findings of one kind that are kept; later ones are only counted.
pub(crate) const MOST_OF_A_KIND: u64 = 1000;

/// How many findings there were, whether kept or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Of [`Severity::Damage`].
    pub damage: u64,
    /// Of [`Severity::Leak`].
    pub leak: u64,
    /// Of [`Severity::Suspicion`].
    pub suspicion: u64,
    /// Of [`Severity::Note`].
    pub note: u64,
}

impl Totals {
    fn of(&mut self, severity: Severity) -> &mut u64 {
        match severity {
            Severity::Damage => &mut self.damage,
            Severity::Leak => &mut self.leak,
            Severity::Suspicion => &mut self.suspicion,
            Severity::Note => &mut self.note,
        }
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        [self.damage, self.leak, self.suspicion, self.note].into_iter().fold(0, u64::saturating_add)
    }
}

#[derive(Debug)]
pub(super) struct Findings {
    size: BlockSize,
    pub list: Vec<Finding>,
    pub totals: Totals,
    seen: HashMap<Discriminant<Kind>, u64>,
}

impl Findings {
    pub(super) fn new(size: BlockSize) -> Self {
        Self { size, list: Vec::new(), totals: Totals::default(), seen: HashMap::new() }
    }

    pub(super) fn add(&mut self, structure: Structure, block: impl Into<Option<MetaBlock>>, kind: Kind) {
        self.add_costly(structure, block, kind, None);
    }

    pub(super) fn add_costly(
        &mut self,
        structure: Structure,
        block: impl Into<Option<MetaBlock>>,
        kind: Kind,
        cost: Option<Cost>,
    ) {
        // No kernel reads the clone counts.
        let milder = structure == Structure::Clones;
        let severity = if milder { kind.severity().min(Severity::Suspicion) } else { kind.severity() };
        let total = self.totals.of(severity);
        *total = total.saturating_add(1);
        let seen = self.seen.entry(discriminant(&kind)).or_default();
        *seen = seen.saturating_add(1);
        if *seen <= MOST_OF_A_KIND {
            let block = block.into();
            let offset = block.and_then(|block| block.0.checked_mul(self.size.bytes() as u64)).map(Bytes);
            self.list.push(Finding { severity, place: Place { structure, block, offset }, kind, cost });
        }
    }
}
