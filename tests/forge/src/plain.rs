//! Disks of a NAS without a pool: a static volume, or a file system directly on an array as legacy firmware made it.

use crate::disk::{Array, Forged, Volume, write_disks};
use crate::group::Group;
use crate::{ForgeOptions, disk};
use anyhow::Context;
use std::fs::{self, File};
use std::path::Path;

/// Device id of a volume that is in no pool.
const NO_DEVICE: u64 = 0;

/// Builds the disks of a NAS whose one static volume (`vg288/lv1`, a plain linear volume) holds the bytes of `content`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn forge_static(content: &Path, options: &ForgeOptions, out_dir: &Path) -> anyhow::Result<Forged> {
    forge_linear("vg288", "lv1", content, options, out_dir)
}

/// Builds the SSDs of a cache whose store (`vg256/lv256`) holds the bytes of `content`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn forge_cache(content: &Path, options: &ForgeOptions, out_dir: &Path) -> anyhow::Result<Forged> {
    forge_linear("vg256", "lv256", content, options, out_dir)
}

fn forge_linear(
    group: &str,
    volume: &str,
    content: &Path,
    options: &ForgeOptions,
    out_dir: &Path,
) -> anyhow::Result<Forged> {
    let options = ForgeOptions { volume_group: group.into(), ..options.clone() };
    let bytes = length(content)?;
    let (group, first) = Group::plan_static(volume, bytes.div_ceil(512), &options);
    let array = Array::new(group.pe_counts[0], &options);
    let volume = Volume { name: volume.into(), device: NO_DEVICE, sectors: bytes.div_ceil(512) };
    write_disks(&array, &options, out_dir, volume, |path| {
        disk::write_volume_group(&array, path, &group, &options)?;
        copy(content, path, (options.pe_start + first * options.extent_sectors) * 512)
    })
}

/// Builds the disks of a NAS with the bytes of `content` directly on its data array.
///
/// # Errors
/// When a file cannot be read or written.
pub fn forge_bare(content: &Path, options: &ForgeOptions, out_dir: &Path) -> anyhow::Result<Forged> {
    let bytes = length(content)?;
    let array = Array::of_sectors(bytes.div_ceil(512), options);
    let volume = Volume { name: "volume".into(), device: NO_DEVICE, sectors: array.md_sectors() };
    let options = ForgeOptions { volume_group: "md1".into(), ..options.clone() };
    write_disks(&array, &options, out_dir, volume, |path| copy(content, path, 0))
}

fn length(content: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(content).with_context(|| content.display().to_string())?.len())
}

/// Copies `content` into the array image at `path`, from this byte on; zeros are left as holes.
fn copy(content: &Path, path: &Path, at: u64) -> anyhow::Result<()> {
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    let (mut from, to) = (File::open(content)?, File::options().write(true).open(path)?);
    let (mut block, mut offset) = (vec![0; 1 << 20], at);
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            return Ok(());
        }
        if block[..count].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..count], offset)?;
        }
        offset += count as u64;
    }
}
