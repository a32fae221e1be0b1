//! Genuine pools: decompressed into memory, with the truth of their manifests.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
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

fn path(pool: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(pool).join(file)
}

pub fn unpack(pool: &str, file: &str) -> Vec<u8> {
    zstd::decode_all(std::fs::File::open(path(pool, file)).unwrap()).unwrap()
}

pub fn metadata(pool: &str) -> Vec<u8> {
    unpack(pool, "tmeta.img.zst")
}

pub fn tiers(pool: &str) -> BTreeMap<u8, View> {
    (0..3)
        .map(|tier| (tier, format!("tierdata_{tier}.img.zst")))
        .filter(|(_, file)| path(pool, file).exists())
        .map(|(tier, file)| (tier, Arc::new(unpack(pool, &file)) as View))
        .collect()
}

pub fn manifest(pool: &str) -> serde_json::Value {
    serde_json::from_reader(std::fs::File::open(path(pool, "manifest.json")).unwrap()).unwrap()
}

pub fn truth(pool: &str) -> Vec<Truth> {
    let manifest = manifest(pool);
    let truth = manifest.get("truth").or_else(|| manifest.get("truth_if_fully_recovered")).unwrap();
    let one = |(id, told): (&String, &serde_json::Value)| Truth {
        device: DeviceId(id.parse().unwrap()),
        size: Sectors(told["sectors"].as_u64().unwrap()).to_bytes().unwrap(),
        sha256: told["sha256"].as_str().unwrap().to_owned(),
    };
    truth.as_object().unwrap().iter().map(one).collect()
}

pub fn xml(pool: &str) -> String {
    String::from_utf8(unpack(pool, "thin_dump.xml.zst")).unwrap()
}
