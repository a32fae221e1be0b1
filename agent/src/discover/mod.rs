//! From disks to md arrays and physical volumes: fills the inventory ("docs/disk-layout").
//!
//! One broken structure never hides the rest: what cannot be read or understood becomes a note, and the search goes on.
//! Nothing is decided from names, numbers or partition types alone; a member belongs to the array whose UUID it carries.

mod arrays;
mod assemble;
mod bare;
mod cache;
mod disks;
mod given;
mod groups;
mod harvest;
mod judge;
mod lost_table;
mod maps;
mod physical;
mod probe;
mod propose;
mod sampling;
mod signature;
mod table;
mod verify;

pub use disks::default_disks;
pub use given::GivenArray;
pub use propose::Proposal;

use crate::block::{FileView, SubView, View};
use crate::inventory::{Disk, Extents, Inventory};
use crate::volume::choice::Choices;
use crate::volume::generation::{FoundText, Generation};
use maps::Opened;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Looks at disks or image files and tells everything found on them.
///
/// A path that cannot be opened is told in its disk's `content` and in the notes, and does not stop the others.
///
/// # Errors
/// When no path is given, or none of them can be opened.
pub fn inventory(paths: &[PathBuf]) -> anyhow::Result<Inventory> {
    look(paths, &Wishes::default()).map(|found| found.inventory)
}

/// What a search shall do beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Texts of volume groups to use in place of the newest.
    pub texts: Choices,
    /// Read whole metadata areas for every text that is left in them.
    pub every_text: bool,
    /// Disks and the maps of ddrescue that belong to them, where that cannot be found out.
    pub maps: Vec<MapOf>,
    /// Look for the order of members without superblocks.
    pub propose: bool,
}

/// Which map of ddrescue belongs to which disk; on the command line `DISK=MAP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOf {
    /// The disk or image.
    pub disk: PathBuf,
    /// The map: a file, or a disk it is attached as.
    pub map: PathBuf,
}

impl std::str::FromStr for MapOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (disk, map) = text.split_once('=').ok_or("a disk and its map are wanted, as /dev/vda=/dev/vdb")?;
        Ok(Self { disk: disk.into(), map: map.into() })
    }
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Everything on the disks.
    pub inventory: Inventory,
    /// The texts of all groups, newest first: all there are when asked for, else those that were read to choose one.
    pub generations: Vec<Generation>,
    /// What members without superblocks may be, when that was asked for.
    pub proposals: Vec<Proposal>,
}

/// As [`inventory`], with wishes.
///
/// # Errors
/// As [`inventory`], and when a text that was asked for is not there or means nothing.
pub fn look(paths: &[PathBuf], wishes: &Wishes) -> anyhow::Result<Found> {
    anyhow::ensure!(!paths.is_empty(), "no disk and no image file to look at; attach the disks or name image files");
    let mut search =
        Search { every_text: wishes.every_text || !wishes.texts.generations.is_empty(), ..Search::default() };
    search.texts = wishes.texts.read_files()?;
    let mut seen = Vec::new();
    let (mut opened, mut unreadable) = (Vec::new(), Vec::new());
    let mut last_error = None;
    for path in paths {
        let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if seen.contains(&canonical) {
            log::info!("{} was named twice; it is looked at once", path.display());
            continue;
        }
        seen.push(canonical);
        match FileView::open(path) {
            Ok(file) => {
                opened.push(Opened::new(path, file));
                unreadable.push(None);
            }
            Err(error) => {
                unreadable.push(Some((path.clone(), format!("{error:#}"))));
                last_error = Some(error);
            }
        }
    }
    if let (Some(error), true) = (last_error, opened.is_empty()) {
        return Err(error);
    }
    search.inventory.notes.extend(maps::apply(&mut opened, &wishes.maps));
    let mut opened = opened.into_iter();
    // In the order given.
    for disk in unreadable {
        match disk {
            Some((path, why)) => search.add_unreadable(path, why),
            None => opened.next().into_iter().for_each(|disk| search.add_disk(disk)),
        }
    }
    search.finish(wishes)
}

/// Times that samples may change what an array is made of.
const MAX_DECISIONS: usize = 6;

/// A search under way: the inventory so far and the open disks behind it.
#[derive(Default)]
struct Search {
    inventory: Inventory,
    /// One for each disk of the inventory; `None` when it could not be opened.
    views: Vec<Option<View>>,
    /// Members of md arrays, before they are grouped.
    members: Vec<arrays::Found>,
    /// What samples of arrays said.
    decisions: verify::Decisions,
    /// Physical volumes.
    volumes: Vec<physical::Found>,
    /// Texts of groups that are not from a physical volume.
    texts: Vec<FoundText>,
    /// Read whole metadata areas.
    every_text: bool,
    /// Arrays the user named, as written, by their UUIDs.
    given: BTreeMap<String, String>,
}

impl Search {
    fn add_unreadable(&mut self, path: PathBuf, why: String) {
        self.inventory.notes.push(why.clone());
        let content = Some(format!("cannot be read: {why}"));
        let disk =
            Disk { path, size: Bytes(0), table: "none".into(), partitions: Vec::new(), content, rescue_map: None };
        self.inventory.disks.push(disk);
        self.views.push(None);
    }

    fn add_disk(&mut self, disk: Opened) {
        let index = self.inventory.disks.len();
        let Opened { path, view, map, map_of } = disk;
        let size = view.size();
        self.views.push(Some(view.clone()));
        let boot = disks::is_boot_disk(&view).then(|| "boot disk of the appliance, left alone".to_owned());
        let left_alone = boot.or_else(|| map_of.as_ref().map(|of| format!("a map of ddrescue, of {of}")));
        let disk = Disk {
            path: path.clone(),
            size,
            table: "none".into(),
            partitions: Vec::new(),
            content: left_alone.clone(),
            rescue_map: map,
        };
        self.inventory.disks.push(disk);
        if left_alone.is_some() {
            return;
        }
        let table = table::read_table(&view);
        let notes = table.notes.iter().map(|note| format!("{}: {note}", path.display()));
        self.inventory.notes.extend(notes);
        let whole = Extents { disk: index, start: Default::default(), length: size.to_sectors() };
        let mut partitions = table.partitions;
        let mut content = None;
        if partitions.is_empty() {
            content = Some(self.probe(&whole));
        }
        for partition in &mut partitions {
            let place = Extents { disk: index, start: partition.start, length: partition.length };
            partition.content = self.probe(&place);
        }
        content = content.into_iter().chain(signature::on_disk(&view)).reduce(|all, more| format!("{all}; {more}"));
        if let Some(disk) = self.inventory.disks.get_mut(index) {
            disk.table = table.kind.into();
            disk.partitions = partitions;
            disk.content = content;
        }
    }

    /// Everything there is of a stretch of a disk, as bytes; shorter than the stretch when the image is cut short.
    fn open(&self, place: &Extents) -> Option<View> {
        let disk = self.views.get(place.disk)?.clone()?;
        let (start, length) = place.start.to_bytes().zip(place.length.to_bytes())?;
        let there = length.0.min(disk.size().0.checked_sub(start.0)?);
        Some(Arc::new(SubView::new(disk, start, Bytes(there)).ok()?))
    }

    fn look_into_arrays(&mut self, choices: &Choices) -> anyhow::Result<Vec<Generation>> {
        self.group_members();
        self.probe_arrays(0);
        // Arrays on arrays.
        let known = self.inventory.arrays.len();
        self.group_members();
        self.probe_arrays(known);
        self.harvest();
        let generations = self.read_groups(choices)?;
        self.add_bare_volumes();
        self.note_cache();
        Ok(generations)
    }

    fn finish(mut self, wishes: &Wishes) -> anyhow::Result<Found> {
        let choices = &wishes.texts;
        self.add_given(&choices.arrays)?;
        let (inventory, members, texts) = (self.inventory.clone(), self.members.clone(), self.texts.clone());
        let direct = self.volumes.clone();
        let mut generations = self.look_into_arrays(choices)?;
        for _ in 0..MAX_DECISIONS {
            if !self.verify() {
                break;
            }
            // A decision changes what is read, so everything above the members is looked at anew.
            (self.inventory, self.members, self.texts) = (inventory.clone(), members.clone(), texts.clone());
            self.volumes = direct.clone();
            generations = self.look_into_arrays(choices)?;
        }
        let proposals = if wishes.propose { self.propose() } else { Vec::new() };
        if !wishes.propose {
            self.note_members();
        }
        Ok(Found { inventory: self.inventory, generations, proposals })
    }
}

/// `count` bytes at `offset`, or `None` when they cannot be read.
fn read(view: &dyn ReadAt, offset: u64, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    view.read_at(Bytes(offset), &mut bytes).ok().map(|()| bytes)
}
