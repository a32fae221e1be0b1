//! Making new metadata: salvage, rebuild in stock Linux's form (the only one in which what is lost reads as errors), check.

use super::store::{self, Files};
use super::{Loss, Repaired, SCHEMA};
use crate::activate::dm::DeviceMapper;
use crate::activate::plan::{ModeChoice, Scratch};
use crate::activate::{new_metadata, stack};
use crate::block::{FileView, View};
use crate::case;
use crate::commands::Failure;
use crate::inventory::{Inventory, LogicalVolume, LogicalVolumeKind, PoolVolume, VolumeGroup};
use crate::metadata_file::BlockFile;
use crate::say::tell;
use crate::unfinished::Unfinished;
use crate::volume;
use anyhow::{Context, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tierlift_ondisk::units::{Bytes, Chunk, DeviceId, Sectors};
use tierlift_pool::check::{Verdict, check};
use tierlift_pool::rebuild::{Format, RebuildOptions, Rebuilt, rebuild};
use tierlift_pool::{Hints, Mode, Pool, Salvage, SalvageOptions, SalvageReport, UNKNOWN_LENGTH, salvage};

/// What to repair, and the user's word on how.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Index of the volume group.
    pub group: usize,
    /// Name of the pool.
    pub pool: String,
    /// How to salvage; what it leaves open is filled in from the group's text.
    pub salvage: SalvageOptions,
    /// How the pool lies on its tiers.
    pub mode: Option<ModeChoice>,
}

/// What a repair would give, or gave.
#[derive(Debug)]
pub struct Preview {
    /// The pool as it was salvaged.
    pub(super) pool: Pool,
    options: RebuildOptions,
    pub(super) mode: Mode,
    /// Its name with that of its group.
    pub name: String,
    group_name: String,
    group_id: String,
    pub(super) pool_name: String,
    /// What the salvage did.
    pub salvaged: SalvageReport,
    /// What the rebuild gives.
    pub rebuilt: Rebuilt,
    /// The same by volume.
    pub losses: Vec<Loss>,
    /// Things to know: where text and pool differ.
    pub notes: Vec<String>,
}

impl Preview {
    /// Chunk size of the pool.
    pub fn chunk(&self) -> Sectors {
        self.pool.chunk_size()
    }

    /// Length of the new metadata.
    fn length(&self) -> anyhow::Result<Bytes> {
        let length = self.rebuilt.blocks.checked_mul(self.rebuilt.block_size.bytes() as u64);
        length.map(Bytes).context("metadata of impossible size")
    }

    /// Damage took everything.
    pub fn nothing_left(&self) -> bool {
        !self.rebuilt.is_whole() && self.rebuilt.devices.iter().all(|device| device.found == 0)
    }
}

/// Salvages a pool and tries the rebuild out, without writing anything. `progress` is told the bytes scanned.
///
/// # Errors
/// When the metadata cannot be reached, or nothing of a pool is in them.
pub fn preview(inventory: &Inventory, wanted: &Wanted, progress: &mut dyn FnMut(u64)) -> anyhow::Result<Preview> {
    let group = inventory.volume_groups.get(wanted.group).context("no such volume group")?;
    let parts = stack::parts(group, &wanted.pool)?;
    let name = format!("{}/{}", group.name, wanted.pool);
    let metadata = volume::view(inventory, wanted.group, &parts.metadata)?;
    let options = with_hints(wanted.salvage.clone(), parts);
    let Salvage { pool, report } = salvage(metadata, &options, progress)
        .map_err(|error| Failure::unusable(format!("pool {name} cannot be repaired: {error}")))?;
    if pool.chunks() == UNKNOWN_LENGTH {
        return Err(Failure::unusable(format!(
            "pool {name}: neither a superblock nor the group's text tells how long it is; `tierlift pool repair --chunks` \
             takes the length by hand"
        ))
        .into());
    }
    let mode = mode(&pool, wanted.mode, parts)?;
    let sizes = sizes(group, &wanted.pool);
    let options = RebuildOptions {
        format: Format::Mainline,
        device_sizes: sizes.iter().map(|(id, _, size)| (*id, *size)).collect(),
        mode: Some(mode),
    };
    let rebuilt = rebuild(&pool, &options, &mut std::io::sink())
        .map_err(|error| Failure::unusable(format!("pool {name} cannot be repaired: {error}")))?;
    let losses = Loss::all(&rebuilt, |id| {
        let (_, name, size) = sizes.iter().find(|(device, ..)| *device == id)?;
        Some((name.clone(), size.0.div_ceil(pool.chunk_size().0.max(1))))
    });
    let notes = notes(&pool, parts, &rebuilt, &sizes);
    Ok(Preview {
        options,
        mode,
        name,
        group_name: group.name.clone(),
        group_id: group.id.clone(),
        pool_name: wanted.pool.clone(),
        salvaged: report,
        rebuilt,
        losses,
        notes,
        pool,
    })
}

/// Writes what a preview promised, checks it, and keeps it with the case; on the scratch disk, where there is one with room.
///
/// # Errors
/// When nothing is left to write, the new metadata cannot be written, or the check finds anything wrong with them.
pub fn make(preview: &Preview, scratch: Option<(&DeviceMapper, &Scratch)>) -> anyhow::Result<Repaired> {
    if preview.nothing_left() {
        return Err(Failure::unusable(format!(
            "pool {}: not a single mapping could be read, so nothing was repaired",
            preview.name
        ))
        .into());
    }
    let files = Files::required(&preview.group_id, &preview.pool_name)?;
    let folder = files.metadata.parent().context("the case has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    // First the old description: a run that is cut short leaves none, so half a file is never used.
    store::forget(&preview.group_id, &preview.pool_name)?;
    let on_scratch = scratch.map(|(dm, scratch)| write_to_scratch(preview, dm, scratch)).transpose()?.flatten();
    let (metadata, rebuilt) = match on_scratch {
        Some(written) => written,
        None => (files.metadata.clone(), write_to_case(preview, &files.metadata)?),
    };
    let repaired = Repaired {
        schema: SCHEMA.into(),
        group: preview.group_id.clone(),
        pool: preview.pool_name.clone(),
        metadata,
        generation: preview.salvaged.generation.to_argument(),
        mode: told(preview.mode),
        chunk: preview.pool.chunk_size(),
        chunks: Chunk(preview.pool.chunks()),
        transaction_id: preview.pool.stat().transaction,
        layout: rebuilt.layout.unwrap_or_default(),
        losses: preview.losses.clone(),
        whole: preview.rebuilt.is_whole(),
        made: case::now(),
    };
    store::keep(&files, &repaired)?;
    Ok(repaired)
}

/// Writes new metadata to the scratch disk, and answers where they are; `None` when it has no room for them.
fn write_to_scratch(
    preview: &Preview,
    dm: &DeviceMapper,
    scratch: &Scratch,
) -> anyhow::Result<Option<(PathBuf, Rebuilt)>> {
    let length = preview.length()?;
    let name = (preview.group_name.as_str(), preview.pool_name.as_str());
    let Some(path) = new_metadata::reserve(dm, scratch, name, length.to_sectors())? else {
        tell!(
            "the new metadata ({}) have no room on scratch disk {}: they are kept in memory",
            length.human(),
            scratch.path.display()
        );
        return Ok(None);
    };
    let failed = || {
        format!(
            "scratch disk {} cannot be written, so the pool was not repaired; the source disks are as they were. Name another disk \
             with --scratch; or leave it out, after `tierlift deactivate --all`, to keep new metadata in memory",
            scratch.path.display()
        )
    };
    let written = File::options().read(true).write(true).open(&path).with_context(failed);
    let written = written.and_then(|file| write(preview, &file, &path, failed));
    match written {
        Ok(rebuilt) => Ok(Some((path, rebuilt))),
        Err(error) => {
            let _ = new_metadata::release(dm, &path);
            Err(error)
        }
    }
}

/// Writes new metadata beside the case.
fn write_to_case(preview: &Preview, path: &Path) -> anyhow::Result<Rebuilt> {
    let failed = || {
        format!(
            "{} cannot be written: has the machine too little memory? Nothing is left of it; new metadata need 16 bytes for each \
             mapping, and half of the machine's memory is there for them and for the case",
            path.display()
        )
    };
    let make = || File::options().read(true).write(true).create_new(true).open(path);
    let (file, _guard) = Unfinished::make(make, |_| path.to_owned()).with_context(failed)?;
    let written = preview.length().and_then(|length| {
        file.set_len(length.0).with_context(failed)?;
        write(preview, &file, path, failed)
    });
    // A file that is not whole would take the memory that everything else needs.
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// Writes new metadata and checks them; `failed` says what it means when they cannot be written.
fn write(preview: &Preview, file: &File, path: &Path, failed: impl Fn() -> String) -> anyhow::Result<Rebuilt> {
    let rebuilt = rebuild(&preview.pool, &preview.options, &mut BlockFile::new(file)).with_context(&failed)?;
    file.sync_all().with_context(&failed)?;
    verify(Arc::new(FileView::open(path)?), preview)?;
    Ok(rebuilt)
}

/// New metadata must be clean, and hold what the preview promised.
fn verify(metadata: View, preview: &Preview) -> anyhow::Result<()> {
    let pool =
        Pool::open(metadata).context("the new metadata cannot be opened: a mistake of this program; keep the disks")?;
    let found = check(&pool, &mut |_| {});
    if found.verdict != Verdict::Clean {
        let first = found.findings.first().map(ToString::to_string).unwrap_or_default();
        bail!(
            "the new metadata are not clean ({first}): a mistake of this program. Nothing was changed; the disks are as before"
        );
    }
    let promised = preview.rebuilt.devices.iter().filter(|device| !device.left_out).count();
    if pool.stat().devices.len() != promised {
        bail!("the new metadata hold {} devices, not {promised}: a mistake of this program", pool.stat().devices.len());
    }
    Ok(())
}

/// What no superblock tells any more, LVM's text does.
fn with_hints(mut options: SalvageOptions, parts: &PoolVolume) -> SalvageOptions {
    let given = options.hints;
    options.hints = Hints {
        chunk_size: given.chunk_size.or(parts.chunk_size),
        chunks: given.chunks.or(parts.chunks.map(|chunks| chunks.0)),
        transaction: given.transaction.or(parts.transaction_id),
    };
    options
}

/// How the pool lies on its tiers: the user's word, the metadata's, then the text's.
fn mode(pool: &Pool, wanted: Option<ModeChoice>, parts: &PoolVolume) -> anyhow::Result<Mode> {
    let found = pool.mode();
    let highest = || {
        let map = parts.enable_map.filter(|map| *map > 0)?;
        u8::try_from(map.ilog2()).ok()
    };
    match (wanted, found.mode) {
        (None, Mode::Undecided) => match (parts.bypass, highest()) {
            (Some(false), _) => Ok(Mode::TierMap),
            (Some(true), Some(tier)) => Ok(Mode::Bypass { tier }),
            _ => Err(Failure::unusable(format!(
                "nothing tells how the pool lies on its tiers ({}); say --tier-map for automatic tiering, --bypass without",
                found.evidence.join("; ")
            ))
            .into()),
        },
        (None, mode) => Ok(mode),
        (Some(ModeChoice::TierMap), _) => Ok(Mode::TierMap),
        (Some(ModeChoice::Bypass), Mode::Bypass { tier }) => Ok(Mode::Bypass { tier }),
        (Some(ModeChoice::Bypass), _) => {
            Ok(Mode::Bypass { tier: highest().context("the group's text does not tell which tier is in use")? })
        }
    }
}

fn told(mode: Mode) -> String {
    match mode {
        Mode::Plain => "plain (one data device)".into(),
        Mode::Bypass { tier } => format!("bypass (all data on tier {tier})"),
        Mode::TierMap => "tier map (data spread over the tiers)".into(),
        Mode::Empty => "empty".into(),
        Mode::Undecided => "undecided".into(),
    }
}

/// Thin devices with their volumes' names and sizes.
pub(super) fn sizes(group: &VolumeGroup, pool: &str) -> Vec<(DeviceId, String, Sectors)> {
    let thin = |volume: &LogicalVolume| match &volume.kind {
        LogicalVolumeKind::Thin { pool: of, device, .. } if of == pool => {
            Some((*device, volume.name.clone(), volume.size))
        }
        _ => None,
    };
    group.logical_volumes.iter().filter_map(thin).collect()
}

/// As `lvconvert --repair` compares them, and more.
fn notes(pool: &Pool, parts: &PoolVolume, rebuilt: &Rebuilt, sizes: &[(DeviceId, String, Sectors)]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differs = |what: &str, text: Option<u64>, here: u64| {
        if let Some(text) = text.filter(|text| *text != here) {
            notes.push(format!("{what}: the volume group's text says {text}, the pool {here}"));
        }
    };
    differs("transaction id", parts.transaction_id, pool.stat().transaction);
    differs("chunk size in sectors", parts.chunk_size.map(|size| size.0), pool.chunk_size().0);
    differs("length in chunks", parts.chunks.map(|chunks| chunks.0), pool.chunks());
    for (id, name, _) in sizes.iter().filter(|(id, ..)| !rebuilt.devices.iter().any(|device| device.id == *id)) {
        notes.push(format!("volume {name} is thin device {id}, of which the metadata hold nothing: it cannot be read"));
    }
    notes
}
