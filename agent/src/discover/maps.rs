//! Map files of ddrescue: beside an image, or attached as a disk of their own.

use super::{MapOf, read};
use crate::block::ddrescue::{self, HoledView, Map};
use crate::block::{FileView, View};
use crate::inventory::RescueMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// A disk attached as a whole is a little longer than the file that was attached.
const ROUNDING: u64 = 4096;
/// Unread parts looked into when it is not clear which disk a map belongs to, and bytes of each.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: u64 = 4096;

/// A disk or image that could be opened.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) view: View,
    /// What a map says of it.
    pub(super) map: Option<RescueMap>,
    /// It is itself a map: of which disks.
    pub(super) map_of: Option<String>,
}

impl Opened {
    pub(super) fn new(path: &Path, file: FileView) -> Self {
        Self { path: path.to_owned(), view: Arc::new(file), map: None, map_of: None }
    }
}

/// Finds the map of each disk and lets the disk's unread parts read as errors. Answers with what is odd.
pub(super) fn apply(disks: &mut [Opened], named: &[MapOf]) -> Vec<String> {
    let mut notes = Vec::new();
    for disk in disks.iter_mut() {
        if let Some(own) = named.iter().find(|named| named.disk == disk.path) {
            notes.extend(apply_named(disk, &own.map));
            continue;
        }
        for name in ddrescue::names_beside(&disk.path) {
            // Most names do not exist, and a .log may be anything.
            let Some(map) = FileView::open(&name).ok().and_then(|file| parse(&file, &name, &mut notes)) else {
                continue;
            };
            notes.extend(lay_over(disk, &name, &map));
            break;
        }
    }
    for number in 0..disks.len() {
        let Some(disk) = disks.get(number) else { continue };
        let (path, view) = (disk.path.clone(), disk.view.clone());
        let Some(map) = parse(&view, &path, &mut notes) else { continue };
        let named: Vec<usize> = named_owners(disks, named, &path);
        let owners = if named.is_empty() { owners(disks, number, &map) } else { named };
        if owners.len() > 1 {
            notes.push(format!(
                "{} fits several disks equally well, and nothing tells them apart there: on each of them these parts count as \
                 unread. If you know the disk, say --map DISK={}",
                path.display(),
                path.display()
            ));
        }
        let names: Vec<String> = owners.iter().filter_map(|owner| name(disks.get(*owner)?)).collect();
        for owner in owners {
            if disks.get(owner).is_some_and(|disk| disk.map.is_some()) {
                continue;
            }
            notes.extend(disks.get_mut(owner).into_iter().flat_map(|disk| lay_over(disk, &path, &map)));
        }
        if names.is_empty() {
            notes.push(format!(
                "{} is a map of ddrescue for a disk of {} bytes, and no such disk is here: attach the image it belongs to",
                path.display(),
                map.end()
            ));
        }
        if let Some(disk) = disks.get_mut(number) {
            disk.map_of = Some(if names.is_empty() { "a disk that is not here".into() } else { names.join(", ") });
        }
    }
    notes
}

/// A map the user named must be usable: without it, sectors that were never read look like zeros.
fn apply_named(disk: &mut Opened, path: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    let map = FileView::open(path).map_err(|error| format!("{error:#}")).and_then(|file| {
        parse(&file, path, &mut notes).ok_or_else(|| format!("{} is no map of ddrescue", path.display()))
    });
    match map {
        Ok(map) => notes.extend(lay_over(disk, path, &map)),
        Err(error) => notes.push(format!("{}: its map is NOT used: {error}", disk.path.display())),
    }
    notes
}

/// Disks the user named this map for.
fn named_owners(disks: &[Opened], named: &[MapOf], map: &Path) -> Vec<usize> {
    let is_named = |disk: &Opened| named.iter().any(|named| named.map == *map && named.disk == disk.path);
    disks.iter().enumerate().filter(|(_, disk)| is_named(disk)).map(|(number, _)| number).collect()
}

fn name(disk: &Opened) -> Option<String> {
    Some(disk.path.display().to_string())
}

/// The map in a file or disk; `None` when it is none. A damaged one is told.
fn parse(view: &dyn ReadAt, path: &Path, notes: &mut Vec<String>) -> Option<Map> {
    if !ddrescue::looks_like_map(&read(view, 0, 64.min(usize::try_from(view.size().0).ok()?))?) {
        return None;
    }
    if view.size().0 > ddrescue::MAX_BYTES {
        notes.push(format!("{}: begins like a map of ddrescue, but is too long to be one", path.display()));
        return None;
    }
    let bytes = read(view, 0, usize::try_from(view.size().0).ok()?)?;
    match Map::parse(&bytes) {
        Ok(map) => Some(map),
        Err(error) => {
            notes.push(format!(
                "{}: this map of ddrescue is damaged ({error}) and NOT used: sectors that were never read look like zeros. \
                 Repair the map, or attach a good copy of it",
                path.display()
            ));
            None
        }
    }
}

/// Makes what the map calls unread an error on this disk.
fn lay_over(disk: &mut Opened, path: &Path, map: &Map) -> Option<String> {
    let size = disk.view.size();
    let unread = whole_sectors(&map.unread(size), size);
    let name = disk.path.display().to_string();
    disk.view = Arc::new(HoledView::new(disk.view.clone(), unread.clone(), name.clone()));
    disk.map = Some(RescueMap::new(path.to_owned(), unread));
    (size.0.abs_diff(map.end().0) >= ROUNDING).then(|| {
        format!(
            "{name} has {size} bytes, but its map {} speaks of {}: what the map does not speak of counts as unread",
            path.display(),
            map.end()
        )
    })
}

/// Parts grown to whole sectors, and joined where they then touch.
fn whole_sectors(parts: &[Range<u64>], size: Bytes) -> Vec<Range<u64>> {
    let mut whole: Vec<Range<u64>> = Vec::new();
    for part in parts {
        let start = part.start & !511;
        let end = part.end.checked_next_multiple_of(512).unwrap_or(part.end).min(size.0);
        match whole.last_mut().filter(|last| last.end >= start) {
            Some(last) => last.end = last.end.max(end),
            None => whole.push(start..end),
        }
    }
    whole
}

/// The disks an attached map belongs to: those of its size. Where there are several, those that hold nothing but zeros where
/// the map says nothing was read: calling zeros unread invents nothing.
fn owners(disks: &[Opened], own: usize, map: &Map) -> Vec<usize> {
    let fits = |disk: &Opened| {
        disk.map.is_none() && disk.view.size() >= map.end() && disk.view.size().0.saturating_sub(map.end().0) < ROUNDING
    };
    let candidates: Vec<usize> = disks
        .iter()
        .enumerate()
        .filter(|(number, disk)| *number != own && fits(disk))
        .map(|(number, _)| number)
        .collect();
    match candidates.len() {
        0 | 1 => candidates,
        _ => {
            candidates.into_iter().filter(|number| disks.get(*number).is_some_and(|disk| is_blank(disk, map))).collect()
        }
    }
}

fn is_blank(disk: &Opened, map: &Map) -> bool {
    let unread = map.unread(disk.view.size());
    let step = unread.len().div_ceil(SAMPLES).max(1);
    unread.iter().step_by(step).all(|part| {
        let length = part.end.saturating_sub(part.start).min(SAMPLE_BYTES);
        let bytes = usize::try_from(length).ok().and_then(|length| read(&disk.view, part.start, length));
        bytes.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Mapfile. Created by GNU ddrescue version 1.27\n0 + 1\n";

    fn disk(name: &str, bytes: Vec<u8>) -> Opened {
        Opened { path: name.into(), view: Arc::new(bytes), map: None, map_of: None }
    }

    fn map(text: &str) -> Opened {
        let mut bytes = format!("{HEAD}{text}").into_bytes();
        bytes.resize(512, 0);
        disk("/dev/vdm", bytes)
    }

    #[test]
    fn an_attached_map_finds_its_disk_by_size() {
        let mut disks = [
            disk("/dev/vda", vec![7; 8192]),
            map("0 4096 +\n4096 100 -\n4196 3996 +"),
            disk("/dev/vdb", vec![7; 65536]),
        ];
        assert!(apply(&mut disks, &[]).is_empty());
        assert_eq!(disks[1].map_of.as_deref(), Some("/dev/vda"));
        assert_eq!(disks[0].map.as_ref().unwrap().unread.first(), Some(&(4096..4608)), "whole sectors");
        assert!(read(&disks[0].view, 0, 4096).is_some() && read(&disks[0].view, 4400, 10).is_none());
        assert!(disks[2].map.is_none());
    }

    #[test]
    fn of_several_disks_only_those_with_zeros_there_are_meant() {
        let mut with_hole = vec![7; 8192];
        with_hole[4096..4608].fill(0);
        let mut disks =
            [disk("/dev/vda", vec![7; 8192]), disk("/dev/vdb", with_hole), map("0 4096 +\n4096 512 -\n4608 3584 +")];
        assert!(apply(&mut disks, &[]).is_empty());
        assert_eq!(disks[2].map_of.as_deref(), Some("/dev/vdb"));
    }

    #[test]
    fn a_map_that_fits_several_disks_is_laid_over_all_of_them_unless_the_user_knows() {
        let disks = || [disk("/dev/vda", vec![0; 8192]), disk("/dev/vdb", vec![0; 8192]), map("0 4096 +\n4096 4096 -")];
        let mut all = disks();
        assert!(apply(&mut all, &[])[0].contains("--map"));
        assert!(all[0].map.is_some() && all[1].map.is_some());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{HEAD}0 4096 +\n4096 4096 -")).unwrap();
        let mut one = disks();
        one[2].path = file.path().to_owned();
        assert_eq!(apply(&mut one, &[MapOf { disk: "/dev/vdb".into(), map: file.path().into() }]), [""; 0]);
        assert!(one[0].map.is_none() && one[1].map.is_some());
        assert!("/dev/vdb".parse::<MapOf>().is_err());
    }

    #[test]
    fn a_map_of_nothing_and_a_damaged_map_are_told() {
        let mut disks = [disk("/dev/vda", vec![7; 512]), map("0 8192 +")];
        assert!(apply(&mut disks, &[])[0].contains("no such disk is here"));
        let mut disks = [disk("/dev/vda", vec![7; 512]), map("0 512 !")];
        assert!(apply(&mut disks, &[])[0].contains("damaged"));
    }

    #[test]
    fn a_map_beside_an_image_is_honoured() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        std::fs::write(&image, vec![1; 4096]).unwrap();
        std::fs::write(dir.path().join("disk.log"), "just a log").unwrap();
        std::fs::write(dir.path().join("disk.img.map"), format!("{HEAD}0 1024 +\n")).unwrap();
        let mut disks = [Opened::new(&image, FileView::open(&image).unwrap())];
        assert!(apply(&mut disks, &[]).is_empty());
        assert_eq!(disks[0].map.as_ref().unwrap().unread.first(), Some(&(1024..4096)));
    }
}
