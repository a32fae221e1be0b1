//! A volume that carries no file system we know (a LUN, a disk of another machine) as one sparse image file.
//!
//! It is copied in segments ([`part`]), so that a copy that was cut goes on where it was. A finished image is known again by the
//! JSON beside it ([`finished`]).

mod finished;
mod part;
mod progress;
mod same;

use super::file::LostRange;
use super::kind::Kind;
use super::room;
use crate::block::FileView;
use crate::case::Counts;
use crate::pace::Heartbeat;
use crate::unfinished::folder_of;
use anyhow::Context;
use part::Part;
use std::fs::File;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Bytes copied, put on the disk and noted together: what a power cut may cost.
const SEGMENT: u64 = 64 << 20;

/// An image to be made.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// The volume's device.
    pub device: &'a Path,
    /// The volume's name: "vg1/lv1". The part of another one is never gone on with.
    pub volume: &'a str,
    /// The file on the target. When parts of the volume cannot be read, `.damaged` is added to its name.
    pub target: &'a Path,
    /// What was ever written to the volume, at most, where that is known. The image needs no more room where files have holes.
    pub expected: Option<Bytes>,
}

/// What came of it.
#[derive(Debug)]
pub struct Imaged {
    /// The file.
    pub path: PathBuf,
    /// Counts, of one file.
    pub counts: Counts,
    /// What is lost, in sentences.
    pub losses: Vec<String>,
    /// An earlier run had finished it; it was only read back.
    pub was_there: bool,
}

/// Why there will be no image of this volume; the target can take others.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Copies a device to the target and reads the file back; its SHA-256 and its unreadable ranges go to a file of the same name
/// ending in `.json`. An image that is there already is read back once; a copy that was cut goes on.
///
/// # Errors
/// [`Refused`] when the target cannot hold it, or another file of that name is there. Others when the device cannot be opened, or
/// the target fails or is full.
pub fn copy(image: &Image<'_>) -> anyhow::Result<Imaged> {
    let size = FileView::open(image.device)?.size().0;
    let source = File::open(image.device).with_context(|| format!("{} cannot be opened", image.device.display()))?;
    copy_from(image, &source, size, SEGMENT)
}

fn copy_from(image: &Image<'_>, source: &File, size: u64, segment: u64) -> anyhow::Result<Imaged> {
    let _beat = Heartbeat::start(Some(Bytes(size)));
    let names = [image.target.to_owned(), damaged(image.target)];
    if let Some((path, lost)) = finished::find(source, &names, size)? {
        part::forget_lines(image.target);
        return Ok(told(path, size, &lost, true));
    }
    check_room(image, size)?;
    let mut part = Part::open(image.target, image.volume, size, segment)?;
    let kept = part.keep(source)?;
    if kept > Bytes(0) {
        crate::say::tell!("copy: going on with the image: {} of {} are there", kept.human(), Bytes(size).human());
    }
    part.fill(source)?;
    let content = part.read_back()?;
    let path = if content.lost.is_empty() { image.target.to_owned() } else { damaged(image.target) };
    // Before it has its name: an image is never without it.
    finished::describe(&path, size, &content)?;
    part.finish(image.target, &path)?;
    Ok(told(path, size, &content.lost, false))
}

/// Refuses a target that does not hold the image.
fn check_room(image: &Image<'_>, size: u64) -> anyhow::Result<()> {
    let folder = folder_of(image.target);
    let kind = Kind::of(folder).with_context(|| format!("{}: its file system cannot be asked", folder.display()))?;
    // What an earlier run wrote is part of the image.
    let room = room::free(folder)?.0.saturating_add(part::allocated(image.target).0);
    Ok(refused(kind, size, image.expected, Bytes(room))?)
}

/// Where files have no holes, all of the volume must have room. Elsewhere only what was ever written to it, and where nobody knows
/// how much that is, nothing is refused: a copy that ends because the target is full goes on later, on a larger one anew.
fn refused(kind: Kind, size: u64, expected: Option<Bytes>, room: Bytes) -> Result<(), Refused> {
    if let Some(why) = kind.refusal(size) {
        return Err(Refused(format!("the image is too large: {why}")));
    }
    let (needed, what) = match kind {
        Kind::Fat | Kind::Exfat => (Some(Bytes(size)), "is the size of the volume, and files have no holes there"),
        _ => (expected.map(|expected| expected.min(Bytes(size))), "are in use on the volume"),
    };
    match needed.filter(|needed| *needed > room) {
        Some(needed) => Err(Refused(format!(
            "the target is too small for the image: {} {what}, {} are free on the target. Name a larger one",
            needed.human(),
            room.human()
        ))),
        None => Ok(()),
    }
}

fn damaged(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

fn told(path: PathBuf, size: u64, lost: &[LostRange], was_there: bool) -> Imaged {
    let bytes = lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
    let mut counts = Counts { bytes: size, lost_bytes: bytes, ..Counts::default() };
    match (lost.is_empty(), was_there) {
        (false, _) => counts.damaged = 1,
        (true, true) => counts.identical = 1,
        (true, false) => counts.copied = 1,
    }
    let earlier = if was_there { " (copied earlier, read back now)" } else { "" };
    let loss = || format!("the image: {bytes} of {size} bytes cannot be read{earlier}");
    let losses = (bytes > 0).then(loss).into_iter().collect();
    Imaged { path, counts, losses, was_there }
}

/// What a volume is called on the target: its name without anything that could lead elsewhere.
pub fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_+.".contains(c) { c } else { '-' };
    let name: String = name.chars().take(200).map(plain).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
#[path = "image_tests.rs"]
mod tests;
