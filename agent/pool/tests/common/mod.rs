//! Genuine pools in memory, with the truth of their manifests.
#![allow(dead_code, clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use tierlift_forge::Fixture;
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_pool::View;

/// The pools that are whole.
pub const HEALTHY: [&str; 9] = [
    "F1-plain-ext4",
    "F2-snaps",
    "F3-3tiers",
    "F4-thick-clone",
    "F4c-zeroflag",
    "F5-v2-4k",
    "F6a-data-full",
    "F7-crash-1",
    "F7-tier-crash-1",
];

/// What is true of a thin device.
pub struct Truth {
    pub device: DeviceId,
    pub size: Bytes,
    pub sha256: String,
}

fn image(fixture: &Fixture, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; fixture.images[name].bytes as usize];
    let keep = |offset: u64, block: &[u8]| {
        bytes[offset as usize..][..block.len()].copy_from_slice(block);
        Ok(())
    };
    fixture.stream(name, keep).unwrap();
    bytes
}

pub fn metadata(pool: &str) -> Vec<u8> {
    image(&Fixture::named(pool).unwrap(), "tmeta.img")
}

pub fn tiers(pool: &str) -> BTreeMap<u8, View> {
    let fixture = Fixture::named(pool).unwrap();
    let names = (0..3).map(|tier| (tier, format!("tierdata_{tier}.img")));
    let there = names.filter(|(_, name)| fixture.images.contains_key(name));
    there.map(|(tier, name)| (tier, Arc::new(image(&fixture, &name)) as View)).collect()
}

pub fn truth(pool: &str) -> Vec<Truth> {
    let one = |(id, told): (u64, tierlift_forge::Truth)| Truth {
        device: DeviceId(id),
        size: Sectors(told.sectors).to_bytes().unwrap(),
        sha256: told.sha256,
    };
    Fixture::named(pool).unwrap().truth.into_iter().map(one).collect()
}

pub fn xml(pool: &str) -> String {
    Fixture::named(pool).unwrap().xml_dump().unwrap().unwrap()
}
