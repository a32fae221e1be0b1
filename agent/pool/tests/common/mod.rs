//! Genuine pools in memory, with the truth of their manifests.
#![allow(dead_code, clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod forged;

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tierlift_forge::Fixture;
use tierlift_ondisk::thin::{MappingValue, TierValue};
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::rebuild::{RebuildOptions, Rebuilt, rebuild};
use tierlift_pool::{KeyRange, Pool, Step, ThinReader, View};

/// The pools that are whole.
pub const HEALTHY: [&str; 9] = Fixture::HEALTHY;

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

/// All a pool's trees say: mappings by device and chunk, the tier tree, and the holes of each.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Content {
    pub mappings: BTreeMap<(u64, u64), MappingValue>,
    pub tiers: BTreeMap<u64, TierValue>,
    pub holes: BTreeMap<u64, Vec<KeyRange>>,
    pub tier_holes: Vec<KeyRange>,
    pub lost_roots: Vec<KeyRange>,
}

pub fn content(pool: &Pool) -> Content {
    let mut content = Content::default();
    let table = pool.devices();
    content.lost_roots = table.lost_roots.iter().map(|lost| lost.keys).collect();
    for (id, device) in &table.devices {
        let Some(root) = device.root else { continue };
        let done: Result<(), Infallible> = pool.mappings(root, |step| {
            match step {
                Step::Found(chunk, value) => drop(content.mappings.insert((id.0, chunk), value)),
                Step::Lost(lost) => content.holes.entry(id.0).or_default().push(lost.keys),
            }
            Ok(())
        });
        let Ok(()) = done;
    }
    let done: Result<(), Infallible> = pool.tiers(|step| {
        match step {
            Step::Found(key, value) => drop(content.tiers.insert(key, value)),
            Step::Lost(lost) => content.tier_holes.push(lost.keys),
        }
        Ok(())
    });
    let Ok(()) = done;
    content
}

/// Everything found is true, and everything true is found or lies in a named hole.
pub fn assert_partial(found: &Content, truth: &Content) {
    for (key, value) in &found.mappings {
        assert_eq!(truth.mappings.get(key), Some(value), "device {}, chunk {}: made up", key.0, key.1);
    }
    for (key, value) in &found.tiers {
        assert_eq!(truth.tiers.get(key), Some(value), "tier tree, piece {key}: made up");
    }
    let inside = |holes: &[KeyRange], key: u64| holes.iter().any(|hole| hole.contains(key));
    for (device, chunk) in truth.mappings.keys().filter(|key| !found.mappings.contains_key(key)) {
        let in_device = found.holes.get(device).is_some_and(|holes| inside(holes, *chunk));
        assert!(in_device || inside(&found.lost_roots, *device), "device {device}, chunk {chunk}: gone without a word");
    }
    for key in truth.tiers.keys().filter(|key| !found.tiers.contains_key(key)) {
        assert!(inside(&found.tier_holes, *key), "tier tree, piece {key}: gone without a word");
    }
}

/// SHA-256 of a whole thin device.
pub fn hash(reader: &ThinReader) -> String {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < reader.size().0 {
        let count = buffer.len().min((reader.size().0 - offset) as usize);
        reader.read_at(Bytes(offset), &mut buffer[..count]).unwrap();
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    tierlift_ondisk::field::hex(&hasher.finalize())
}

/// New metadata in memory, opened.
pub fn rebuilt(pool: &Pool, options: &RebuildOptions) -> (Pool, Rebuilt) {
    let mut bytes = Vec::new();
    let report = rebuild(pool, options, &mut bytes).unwrap();
    bytes.resize((report.blocks as usize) * report.block_size.bytes(), 0);
    (Pool::open(Arc::new(bytes)).unwrap(), report)
}
