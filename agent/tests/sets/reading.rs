//! Reads the thin devices of what a scan found, as the userland verbs do, and compares them with the truth.

use sha2::{Digest, Sha256};
use std::path::PathBuf;
use tierlift::discover::inventory;
use tierlift::inventory::{Inventory, LogicalVolumeKind, PoolVolume};
use tierlift::volume;
use tierlift_forge::{Fixture, Truth};
use tierlift_ondisk::field::hex;
use tierlift_ondisk::units::{Bytes, DeviceId};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, ThinReader};

/// What is wrong when not exactly `wanted` pools read as they should.
pub(crate) fn check(paths: &[PathBuf], fixture: &Fixture, wanted: usize) -> Option<String> {
    if wanted == 0 {
        return None;
    }
    let found = match inventory(paths) {
        Ok(found) => found,
        Err(error) => return Some(format!("{error:#}")),
    };
    let results: Vec<Result<(), String>> =
        pools(&found).map(|(group, pool)| read_pool(&found, group, pool, fixture)).collect();
    let whole = results.iter().filter(|result| result.is_ok()).count();
    (whole != wanted).then(|| {
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        format!("{whole} pools read as they should instead of {wanted}: {}", errors.join(", "))
    })
}

fn pools(found: &Inventory) -> impl Iterator<Item = (usize, &PoolVolume)> {
    let groups = found.volume_groups.iter().enumerate();
    groups.flat_map(|(index, group)| {
        group.logical_volumes.iter().filter_map(move |volume| match &volume.kind {
            LogicalVolumeKind::Pool(pool) => Some((index, pool)),
            _ => None,
        })
    })
}

fn read_pool(found: &Inventory, group: usize, parts: &PoolVolume, fixture: &Fixture) -> Result<(), String> {
    for (device, truth) in &fixture.truth {
        let hash = hash(found, group, parts, *device, truth).map_err(|error| format!("device {device}: {error:#}"))?;
        if hash != truth.sha256 {
            return Err(format!("device {device} has other bytes"));
        }
    }
    Ok(())
}

fn hash(found: &Inventory, group: usize, parts: &PoolVolume, device: u64, truth: &Truth) -> anyhow::Result<String> {
    let pool = Pool::open(volume::view(found, group, &parts.metadata)?)?;
    let tiers = (0u8..).zip(&parts.tiers).filter_map(|(number, tier)| Some((number, tier.as_ref()?)));
    let tiers = tiers.map(|(number, tier)| anyhow::Ok((number, volume::view(found, group, tier)?)));
    let size = Some(Bytes(truth.sectors * 512));
    let mode = pool.stat().mode.mode;
    let reader = ThinReader::new(&pool, tiers.collect::<Result<_, _>>()?, DeviceId(device), mode, size)?;
    let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    let mut offset = 0;
    while offset < reader.size().0 {
        let count = (reader.size().0 - offset).min(block.len() as u64) as usize;
        reader.read_at(Bytes(offset), &mut block[..count])?;
        hasher.update(&block[..count]);
        offset += count as u64;
    }
    Ok(hex(&hasher.finalize()))
}
