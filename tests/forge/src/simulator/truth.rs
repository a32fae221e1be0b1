//! What is true of a simulated pool, kept in plain maps beside the trees.

use std::collections::BTreeMap;
use tierlift_ondisk::thin::{DeviceDetails, MappingValue, TierValue};
use tierlift_ondisk::units::DeviceId;

/// Everything a pool's trees should say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// Of each thin device: virtual chunk to mapping.
    pub mappings: BTreeMap<DeviceId, BTreeMap<u64, MappingValue>>,
    /// Of each thin device: its record.
    pub details: BTreeMap<DeviceId, DeviceDetails>,
    /// The tier tree.
    pub tiers: BTreeMap<u64, TierValue>,
}

impl Truth {
    /// Mappings of all devices.
    pub fn count(&self) -> u64 {
        self.mappings.values().map(|device| device.len() as u64).sum()
    }
}
