//! The data device of a repaired pool: the tiers put together as the repair found them.

use super::plan::Table;
use super::pool_table::MISSING;
use super::wire::TargetLine;
use crate::repair::Repaired;
use tierlift_ondisk::units::Sectors;
use tierlift_pool::rebuild::Target;

/// The table. `tiers` are paths of the tier devices, or [`MISSING`]; `length` is the length of such a device. What lies on a missing
/// tier, or behind a tier's end, gives errors.
pub fn data_table(repaired: &Repaired, tiers: &[String], length: impl Fn(&str) -> Sectors) -> Vec<TargetLine> {
    let lengths: Vec<u64> = tiers.iter().map(|tier| length(tier).0).collect();
    let mut table = Table::default();
    for segment in &repaired.layout {
        match segment.target {
            Target::Zero => table.add(segment.length.0, "zero", ""),
            Target::Error => table.add(segment.length.0, "error", ""),
            Target::Linear { tier, offset } => {
                let path = tiers.get(usize::from(tier)).filter(|path| *path != MISSING);
                let end = lengths.get(usize::from(tier)).copied().unwrap_or(0);
                let here = end.saturating_sub(offset.0).min(segment.length.0);
                let here = if path.is_some() { here } else { 0 };
                table.add(here, "linear", format!("{} {offset}", path.map_or("", String::as_str)));
                table.add(segment.length.0.saturating_sub(here), "error", "");
            }
        }
    }
    table.into_lines()
}

impl Repaired {
    /// Whether any data lie on this tier.
    pub fn uses(&self, tier: usize) -> bool {
        self.layout
            .iter()
            .any(|segment| matches!(segment.target, Target::Linear { tier: on, .. } if usize::from(on) == tier))
    }
}
