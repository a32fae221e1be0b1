//! A volume that carries no file system we know (a LUN, a disk of another machine) as one sparse image file.

use super::file::{self, Content, Nowhere, Sparse, hex};
use super::kind::Kind;
use crate::block::FileView;
use crate::case::Counts;
use crate::commands::{Failure, Outcome};
use crate::pace::Heartbeat;
use crate::unfinished::Unfinished;
use anyhow::{Context, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// What came of it.
#[derive(Debug)]
pub struct Imaged {
    /// The file.
    pub path: PathBuf,
    /// Counts, of one file.
    pub counts: Counts,
    /// What is lost, in sentences.
    pub losses: Vec<String>,
}

/// Refuses a target whose file system does not hold a file as large as the device.
///
/// # Errors
/// When it does not, or one of them cannot be asked.
pub fn check(device: &Path, folder: &Path) -> anyhow::Result<()> {
    let size = FileView::open(device)?.size().0;
    let kind = Kind::of(folder).with_context(|| format!("{}: its file system cannot be asked", folder.display()))?;
    refused(kind, size)
}

fn refused(kind: Kind, size: u64) -> anyhow::Result<()> {
    match kind.refusal(size) {
        Some(why) => {
            Err(Failure { outcome: Outcome::FAILED, message: format!("the image is too large: {why}") }.into())
        }
        None => Ok(()),
    }
}

/// Copies a device to `target` (`target.damaged` when parts of it cannot be read) and reads the file back; its SHA-256 and its
/// unreadable ranges go to a file of the same name ending in `.json`.
///
/// # Errors
/// When the device cannot be opened, or the target fails or is full.
pub fn copy(device: &Path, target: &Path) -> anyhow::Result<Imaged> {
    let size = FileView::open(device)?.size().0;
    let source = File::open(device).with_context(|| format!("{} cannot be opened", device.display()))?;
    if let Some(done) = already(&source, target, size)? {
        return Ok(done);
    }
    let mut part = target.as_os_str().to_owned();
    part.push(".tierlift-part");
    let part = PathBuf::from(part);
    let _beat = Heartbeat::start(Some(Bytes(size)));
    let failed = || format!("{} cannot be written: is the target full?", part.display());
    let make = || File::options().read(true).write(true).create(true).truncate(true).open(&part);
    let (file, _guard) = Unfinished::make(make, |_| part.clone()).with_context(failed)?;
    file.set_len(size).with_context(failed)?;
    let content = file::read(&source, size, &mut Sparse(&file)).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    let again = file::read(&file, size, &mut Nowhere).with_context(failed)?;
    ensure!(again.sha256 == content.sha256, "{}: the target does not give back what was written to it", part.display());
    let path = if content.lost.is_empty() { target.to_owned() } else { damaged(target) };
    std::fs::rename(&part, &path).with_context(failed)?;
    describe(&path, size, &content)?;
    Ok(told(path, size, &content, false))
}

/// The image of an earlier run, when it is the same.
fn already(source: &File, target: &Path, size: u64) -> anyhow::Result<Option<Imaged>> {
    let there = match File::open(target) {
        Ok(there) if there.metadata().is_ok_and(|found| found.len() == size) => there,
        _ => return Ok(None),
    };
    let (one, other) = (file::read(source, size, &mut Nowhere)?, file::read(&there, size, &mut Nowhere)?);
    let same = one.sha256 == other.sha256 && one.lost.is_empty();
    ensure!(same, "{} is there already and is something else: move it away first", target.display());
    Ok(Some(told(target.to_owned(), size, &one, true)))
}

fn damaged(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

fn describe(path: &Path, size: u64, content: &Content) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    let text = serde_json::json!({
        "schema": "tierlift.image/1", "size": size, "sha256": hex(&content.sha256), "lost": content.lost
    });
    std::fs::write(&name, text.to_string()).with_context(|| format!("{} cannot be written", Path::new(&name).display()))
}

fn told(path: PathBuf, size: u64, content: &Content, identical: bool) -> Imaged {
    let lost = content.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
    let mut counts = Counts { bytes: size.saturating_sub(lost), lost_bytes: lost, ..Counts::default() };
    match (content.lost.is_empty(), identical) {
        (false, _) => counts.damaged = 1,
        (true, true) => counts.identical = 1,
        (true, false) => counts.copied = 1,
    }
    let losses = (lost > 0).then(|| format!("the image: {lost} of {size} bytes cannot be read")).into_iter().collect();
    Imaged { path, counts, losses }
}

/// What a volume is called on the target: its name without anything that could lead elsewhere.
pub fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_+.".contains(c) { c } else { '-' };
    let name: String = name.chars().take(200).map(plain).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_becomes_a_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let (device, target) = (folder.path().join("device"), folder.path().join("lun.img"));
        std::fs::write(&device, b"LUN".repeat(100_000)).unwrap();
        let first = copy(&device, &target).unwrap();
        assert_eq!((first.counts.copied, first.counts.bytes), (1, 300_000));
        assert_eq!(std::fs::read(&target).unwrap(), std::fs::read(&device).unwrap());
        assert!(std::fs::read_to_string(folder.path().join("lun.img.json")).unwrap().contains("\"lost\":[]"));
        assert_eq!(copy(&device, &target).unwrap().counts.identical, 1);
        std::fs::write(&target, vec![1; 300_000]).unwrap();
        assert!(copy(&device, &target).unwrap_err().to_string().contains("something else"));
    }

    #[test]
    fn an_image_that_fat_does_not_hold_is_refused() {
        assert!(refused(Kind::Fat, 4 << 30).unwrap_err().to_string().contains("FAT holds no files of 4 GiB"));
        refused(Kind::Fat, 1 << 30).unwrap();
        refused(Kind::Exfat, 4 << 40).unwrap();
    }

    #[test]
    fn a_folder_leads_nowhere_else() {
        assert_eq!(file_name("vg1/lv1"), "vg1-lv1");
        assert_eq!(file_name("../../etc/x"), "-..-etc-x");
    }
}
