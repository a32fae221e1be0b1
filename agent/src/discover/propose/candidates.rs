//! Which disks may be members of an array that lost its superblocks.

use super::super::given::{GivenArray, data_place};
use super::super::{Search, read};
use super::shapes::Shape;
use crate::block::View;
use crate::inventory::{Array, Extents};
use tierlift_ondisk::md::place_1_0;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Smaller ones are no data partitions.
const LEAST: Sectors = Sectors(8 << 11);

/// A disk that may be a member.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) place: Extents,
    pub(super) view: View,
}

/// What the superblocks of other members tell.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) shape: Shape,
    /// By candidate: the role it has.
    pub(super) fixed: Vec<Option<usize>>,
}

/// Disks that may be members of one array.
#[derive(Clone)]
pub(super) struct Candidates {
    pub(super) disks: Vec<Candidate>,
    pub(super) frame: Option<Frame>,
}

impl Candidates {
    pub(super) fn names(&self) -> Vec<String> {
        self.disks.iter().map(|disk| disk.name.clone()).collect()
    }

    pub(super) fn view(&self, disk: usize) -> Option<View> {
        self.disks.get(disk).map(|disk| disk.view.clone())
    }

    pub(super) fn without(&self, extra: usize) -> Self {
        let mut fewer = self.clone();
        if extra < fewer.disks.len() {
            fewer.disks.remove(extra);
        }
        fewer
    }

    /// Sectors of data on each member, in whole chunks.
    pub(super) fn component(&self, chunk: Sectors) -> Sectors {
        let given = GivenArray { level: 0, chunk, layout: 0, members: Vec::new() };
        self.disks.iter().filter_map(|disk| given.component(disk.place.length)).min().unwrap_or_default()
    }

    /// The array as the user would name it.
    pub(super) fn given(&self, shape: &Shape, order: &[Option<usize>]) -> GivenArray {
        let name = |disk: &Option<usize>| Some(self.disks.get((*disk)?)?.name.clone());
        GivenArray {
            level: shape.level,
            chunk: shape.chunk,
            layout: shape.layout,
            members: order.iter().map(name).collect(),
        }
    }
}

/// Disks that belong nowhere; and arrays that cannot be put together, each with those disks.
pub(super) fn sets(search: &Search) -> Vec<Candidates> {
    let free = free(search);
    if free.is_empty() {
        return Vec::new();
    }
    let broken = search.inventory.arrays.iter().filter(|array| is_broken(array));
    let with_frames: Vec<Candidates> = broken.filter_map(|array| framed(search, array, &free)).collect();
    if with_frames.is_empty() { vec![Candidates { disks: free, frame: None }] } else { with_frames }
}

/// Data partitions without a superblock that hold anything.
fn free(search: &Search) -> Vec<Candidate> {
    let taken = |place: &Extents| {
        let mut members = search.inventory.arrays.iter().flat_map(|array| &array.members);
        members.any(|member| member.place.disk == place.disk && member.place.start == place.start)
    };
    let disks = search.inventory.disks.iter().enumerate();
    let places = disks.map(|(index, disk)| data_place(index, disk));
    places.filter(|place| place.length >= LEAST && !taken(place)).filter_map(|place| candidate(search, place)).collect()
}

fn candidate(search: &Search, place: Extents) -> Option<Candidate> {
    let disk = search.inventory.disks.get(place.disk)?;
    let view = search.open(&place)?;
    // Nothing but zeros at its start and where its first data are: an empty disk.
    let first = view.next_data(tierlift_ondisk::units::Bytes(0))?;
    let start = read(&view, first.0 & !4095, 4096);
    let late = place_1_0(place.length)?.to_bytes()?;
    (first < late && start.is_some()).then(|| Candidate { name: disk.path.display().to_string(), place, view })
}

fn is_broken(array: &Array) -> bool {
    !array.system && array.assembly.is_none() && array.usable_member.is_none() && array.shape.is_some()
}

/// The members of an array that have superblocks, and the disks that may be the others.
fn framed(search: &Search, array: &Array, free: &[Candidate]) -> Option<Candidates> {
    let (level, layout, chunk) = array.shape?;
    let shape = Shape { level, layout, chunk, members: usize::try_from(array.raid_disks).ok()? };
    let known = array.members.iter().filter(|member| member.current && member.on_array.is_none());
    let known = known.filter_map(|member| {
        let role = usize::try_from(member.role?).ok()?;
        Some((candidate(search, member.place.clone())?, Some(role)))
    });
    let all: Vec<(Candidate, Option<usize>)> = known.chain(free.iter().map(|disk| (disk.clone(), None))).collect();
    let (disks, fixed) = all.into_iter().unzip();
    Some(Candidates { disks, frame: Some(Frame { shape, fixed }) })
}
