//! Where repaired metadata lie: in the folder of the case, or on the scratch disk, with a description in that folder.

use super::{Repaired, SCHEMA};
use crate::activate::dm::DeviceMapper;
use crate::activate::new_metadata;
use crate::case;
use crate::commands::{Failure, Outcome};
use anyhow::{Context, ensure};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Folder beside the case.
const FOLDER: &str = "repaired";
/// A description longer than this is none of ours.
const MAX_BYTES: u64 = 1 << 30;

/// The two files of a pool: new metadata, and their description.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) metadata: PathBuf,
    pub(super) description: PathBuf,
}

impl Files {
    /// Where they are, when a case is kept.
    pub(super) fn of(group: &str, pool: &str) -> Option<Self> {
        let location = case::location()?;
        let folder = location.parent().unwrap_or(Path::new(".")).join(FOLDER);
        // Names come from disks: nothing but letters and digits leads anywhere.
        let plain = |name: &str| -> String {
            let letter = |byte: u8| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("_{byte:02x}"),
            };
            name.bytes().take(60).map(letter).collect()
        };
        let name = format!("{}-{}", plain(group), plain(pool));
        Some(Self { metadata: folder.join(format!("{name}.tmeta")), description: folder.join(format!("{name}.json")) })
    }

    /// The same, where a case must be kept.
    pub(super) fn required(group: &str, pool: &str) -> anyhow::Result<Self> {
        let message = "there is no case to keep repaired metadata in; name one: TIERLIFT_CASE=FOLDER/case.json (needed outside the \
                       appliance only)";
        Self::of(group, pool).ok_or_else(|| Failure { outcome: Outcome::FAILED, message: message.into() }.into())
    }
}

/// The repaired metadata of a pool, when there are any.
///
/// # Errors
/// When the description is there but cannot be read.
pub fn load(group: &str, pool: &str) -> anyhow::Result<Option<Repaired>> {
    let Some(files) = Files::of(group, pool) else { return Ok(None) };
    Ok(read(&files.description)?.filter(|repaired| repaired.group == group && repaired.pool == pool))
}

/// A description, where there is one.
fn read(path: &Path) -> anyhow::Result<Option<Repaired>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).with_context(|| format!("{} cannot be read", path.display()))?;
    let repaired: Repaired = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} describes no repaired pool; remove it and repair anew", path.display()))?;
    ensure!(repaired.schema == SCHEMA, "{}: made by another version ({})", path.display(), repaired.schema);
    Ok(Some(repaired))
}

/// Keeps the description. It comes last: before it is there, the new metadata are not used.
pub(super) fn keep(files: &Files, repaired: &Repaired) -> anyhow::Result<()> {
    let path = &files.description;
    let part = path.with_extension("json.part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec(repaired)?)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Gives the room of new metadata on a scratch disk back.
fn give_back(repaired: &Repaired) -> anyhow::Result<()> {
    if !is_device(&repaired.metadata) {
        return Ok(());
    }
    let dm = DeviceMapper::open()?;
    new_metadata::release(&dm, &repaired.metadata)
        .with_context(|| format!("{} cannot be taken away", repaired.metadata.display()))
}

fn is_device(path: &Path) -> bool {
    new_metadata::is_of_name(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// The devices on a scratch disk that hold new metadata in use.
pub fn devices() -> Vec<PathBuf> {
    let folder = case::location().and_then(|location| location.parent().map(|folder| folder.join(FOLDER)));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let described = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "json"));
    let repaired = described.filter_map(|entry| read(&entry.path()).ok().flatten());
    repaired.map(|repaired| repaired.metadata).filter(|path| is_device(path)).collect()
}

/// Forgets the repaired metadata of a pool: it is read as it was found again. `false` when there were none.
///
/// # Errors
/// When they cannot be removed.
pub fn forget(group: &str, pool: &str) -> anyhow::Result<bool> {
    let Some(files) = Files::of(group, pool) else { return Ok(false) };
    // A description that cannot be read says nothing of a device.
    if let Ok(Some(repaired)) = load(group, pool) {
        give_back(&repaired)?;
    }
    let mut there = false;
    for path in [&files.description, &files.metadata] {
        match std::fs::remove_file(path) {
            Ok(()) => there = true,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be removed", path.display())),
        }
    }
    Ok(there)
}
