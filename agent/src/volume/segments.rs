//! From segments of extents to stretches of physical volumes.

use crate::inventory::{LogicalVolumeKind, Stretch, StretchTarget, VolumeGroup};
use std::collections::{BTreeMap, VecDeque};
use tierlift_ondisk::lvm_text::{Section, Value};
use tierlift_ondisk::units::Sectors;

/// Stretches of all volumes of a group together; a genuine group has a few dozen.
const MAX_STRETCHES: usize = 1 << 18;
/// Segments of one volume that are read.
const MAX_SEGMENTS: usize = 1 << 16;
/// Volumes made of volumes made of volumes: deeper than this is a circle.
const MAX_NESTING: u32 = 8;

/// The type of a segment without the `+FLAG`s newer LVM appends; stock's default is striped.
pub(super) fn segment_type(segment: &Section) -> &str {
    segment.text("type").and_then(|kind| kind.split('+').next()).unwrap_or("striped")
}

/// Places the volumes of a group.
pub(super) struct Layout<'a> {
    extent_size: u64,
    /// Start, extents and name of each physical volume, in the order of the text.
    physical: Vec<(u64, u64, &'a str)>,
    physical_by_name: BTreeMap<&'a str, usize>,
    missing: Vec<bool>,
    texts: BTreeMap<&'a str, &'a Section>,
    /// Stretches that may still be made.
    budget: usize,
    notes: Vec<String>,
}

/// Why a volume cannot be placed.
type Refusal = String;

impl<'a> Layout<'a> {
    pub(super) fn new(group: &'a VolumeGroup, texts: &[(&'a str, &'a Section)]) -> Self {
        let pvs = &group.physical_volumes;
        Self {
            extent_size: group.extent_size.0,
            physical: pvs.iter().map(|pv| (pv.pe_start.0, pv.pe_count.0, pv.name.as_str())).collect(),
            physical_by_name: pvs.iter().enumerate().map(|(index, pv)| (pv.name.as_str(), index)).collect(),
            missing: pvs.iter().map(|pv| pv.place.is_none()).collect(),
            texts: texts.iter().copied().collect(),
            budget: MAX_STRETCHES,
            notes: Vec::new(),
        }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    /// Size and content of a volume. Pools and thin volumes are opaque here.
    pub(super) fn volume(&mut self, name: &str, text: &'a Section) -> (Sectors, LogicalVolumeKind) {
        let segments = match tile(text) {
            Ok(segments) => segments,
            Err(why) => {
                self.notes.push(format!("{name}: {why}; this volume cannot be used"));
                return (Sectors(0), LogicalVolumeKind::Opaque(why));
            }
        };
        let extents = segments.last().map_or(0, |segment| segment.start.saturating_add(segment.count));
        let Some(size) = extents.checked_mul(self.extent_size) else {
            return (Sectors(0), LogicalVolumeKind::Opaque("size beyond all disks".into()));
        };
        if let Some(kind) = segments.iter().map(|segment| segment_type(segment.text)).find(|kind| !mappable(kind)) {
            return (Sectors(size), LogicalVolumeKind::Opaque(kind.to_owned()));
        }
        match self.stretches(name, &segments, 0) {
            Ok(stretches) => (Sectors(size), LogicalVolumeKind::Mapped(stretches)),
            Err(why) => {
                self.notes.push(format!("{name}: {why}; this volume cannot be used"));
                (Sectors(size), LogicalVolumeKind::Opaque(why))
            }
        }
    }

    fn stretches(&mut self, name: &str, segments: &[Segment<'a>], depth: u32) -> Result<Vec<Stretch>, Refusal> {
        let mut all = Vec::new();
        for segment in segments {
            let length = Sectors(segment.count.checked_mul(self.extent_size).ok_or("size beyond all disks")?);
            match segment_type(segment.text) {
                "zero" => self.push(&mut all, length, StretchTarget::Zero)?,
                "error" => self.push(&mut all, length, StretchTarget::Error)?,
                _ => self.striped(name, segment, length, depth, &mut all)?,
            }
        }
        Ok(all)
    }

    fn push(&mut self, all: &mut Vec<Stretch>, length: Sectors, target: StretchTarget) -> Result<(), Refusal> {
        self.budget = self.budget.checked_sub(1).ok_or("too many pieces to be a genuine group")?;
        if length.0 > 0 {
            all.push(Stretch { length, target });
        }
        Ok(())
    }

    fn striped(
        &mut self,
        name: &str,
        segment: &Segment<'a>,
        length: Sectors,
        depth: u32,
        all: &mut Vec<Stretch>,
    ) -> Result<(), Refusal> {
        let areas = areas(segment.text)?;
        let count = areas.len() as u64;
        let each = segment.count.checked_div(count).ok_or("a segment without any area")?;
        if segment.count.checked_rem(count) != Some(0) {
            return Err(format!("{} extents do not divide into {count} stripes", segment.count));
        }
        let mut columns = Vec::new();
        for (area, extent) in areas {
            columns.push(self.area(name, area, extent, each, depth)?);
        }
        match <[_; 1]>::try_from(columns) {
            Ok([column]) => {
                all.extend(column);
                Ok(())
            }
            Err(columns) => self.interleave(segment.text, columns, length, all),
        }
    }

    /// `count` extents of a physical or logical volume, from `extent` on.
    fn area(
        &mut self,
        name: &str,
        area: &'a str,
        extent: u64,
        count: u64,
        depth: u32,
    ) -> Result<Vec<Stretch>, Refusal> {
        let length = Sectors(count.checked_mul(self.extent_size).ok_or("size beyond all disks")?);
        let from = extent.checked_mul(self.extent_size).ok_or("extent beyond all disks")?;
        if let Some(index) = self.physical_by_name.get(area).copied() {
            let mut column = Vec::new();
            let target = self.on_physical_volume(name, index, extent, count);
            self.push(&mut column, length, target)?;
            return Ok(column);
        }
        let Some(text) = self.texts.get(area).copied() else {
            self.notes.push(format!("{name}: it lies on {area}, which the text does not describe; reads there fail"));
            let mut column = Vec::new();
            self.push(&mut column, length, StretchTarget::Error)?;
            return Ok(column);
        };
        if depth >= MAX_NESTING {
            return Err(format!("it is made of {area}, which is made of others without end"));
        }
        let segments = tile(text)?;
        if let Some(segment) = segments.iter().find(|segment| !mappable(segment_type(segment.text))) {
            return Err(format!("it is made of {area}, a {} volume", segment_type(segment.text)));
        }
        let whole = self.stretches(area, &segments, depth.saturating_add(1))?;
        self.cut(whole, from, length.0)
    }

    fn on_physical_volume(&mut self, name: &str, index: usize, extent: u64, count: u64) -> StretchTarget {
        let (start, extents, pv) = self.physical.get(index).copied().unwrap_or_default();
        let inside = extent.checked_add(count).is_some_and(|end| end <= extents);
        let sector = extent.checked_mul(self.extent_size).and_then(|sector| sector.checked_add(start));
        match sector {
            Some(_) if self.missing.get(index).copied().unwrap_or(true) => StretchTarget::Error,
            Some(sector) if inside => StretchTarget::Pv(index, Sectors(sector)),
            _ => {
                self.notes.push(format!(
                    "{name}: extents {extent}+{count} lie beyond the end of {pv} ({extents} extents); reads there fail"
                ));
                StretchTarget::Error
            }
        }
    }

    /// The part `from .. from + length` of a volume; what lies beyond its end cannot be read.
    fn cut(&mut self, whole: Vec<Stretch>, from: u64, length: u64) -> Result<Vec<Stretch>, Refusal> {
        let mut queue = VecDeque::from(whole);
        self.take(&mut queue, from)?;
        self.take(&mut queue, length)
    }

    /// The next `length` sectors of a queue, made up with errors when it ends before.
    fn take(&mut self, queue: &mut VecDeque<Stretch>, length: u64) -> Result<Vec<Stretch>, Refusal> {
        let (mut taken, mut left) = (Vec::new(), length);
        while left > 0 {
            let next = queue.pop_front().unwrap_or(Stretch { length: Sectors(left), target: StretchTarget::Error });
            let now = next.length.0.min(left);
            if now < next.length.0 {
                let rest = Sectors(next.length.0.saturating_sub(now));
                queue.push_front(Stretch { length: rest, target: shifted(next.target.clone(), now) });
            }
            self.push(&mut taken, Sectors(now), next.target)?;
            left = left.saturating_sub(now);
        }
        Ok(taken)
    }

    /// Deals the columns out in turns of one stripe.
    fn interleave(
        &mut self,
        segment: &Section,
        columns: Vec<Vec<Stretch>>,
        length: Sectors,
        all: &mut Vec<Stretch>,
    ) -> Result<(), Refusal> {
        let stripe = segment.number("stripe_size").filter(|size| *size > 0).ok_or("stripes without a size")?;
        let turns = length.0.div_ceil(stripe);
        if turns > self.budget as u64 {
            return Err(format!(
                "striped over {} places in {turns} pieces of {stripe} sectors, more than this version maps",
                columns.len()
            ));
        }
        let mut columns: Vec<VecDeque<Stretch>> = columns.into_iter().map(VecDeque::from).collect();
        let mut left = length.0;
        while left > 0 {
            for column in &mut columns {
                let now = stripe.min(left);
                let piece = self.take(column, now)?;
                all.extend(piece);
                left = left.saturating_sub(now);
            }
        }
        Ok(())
    }
}

fn shifted(target: StretchTarget, by: u64) -> StretchTarget {
    match target {
        StretchTarget::Pv(pv, sector) => {
            sector.checked_add(Sectors(by)).map_or(StretchTarget::Error, |sector| StretchTarget::Pv(pv, sector))
        }
        other => other,
    }
}

fn mappable(kind: &str) -> bool {
    matches!(kind, "striped" | "linear" | "zero" | "error")
}

struct Segment<'a> {
    start: u64,
    count: u64,
    text: &'a Section,
}

/// The segments of a volume in order; they must follow each other without hole or overlap.
fn tile(text: &Section) -> Result<Vec<Segment<'_>>, Refusal> {
    let mut segments = Vec::new();
    for (name, section) in text.sections().filter(|(name, _)| name.starts_with("segment")).take(MAX_SEGMENTS) {
        let (start, count) = (section.number("start_extent"), section.number("extent_count"));
        let (Some(start), Some(count)) = (start, count) else {
            return Err(format!("{name} has no start or length"));
        };
        segments.push(Segment { start, count, text: section });
    }
    segments.sort_by_key(|segment| segment.start);
    let mut expected = 0;
    for segment in &segments {
        if segment.start != expected {
            return Err(format!("its segments leave a hole or overlap at extent {expected}"));
        }
        expected = segment.start.checked_add(segment.count).ok_or("its segments are longer than any disk")?;
    }
    Ok(segments)
}

/// Names and first extents of a striped segment's areas.
fn areas(segment: &Section) -> Result<Vec<(&str, u64)>, Refusal> {
    let list = segment.value("stripes").map(Value::as_list).unwrap_or_default();
    let mut areas = Vec::new();
    for pair in list.chunks(2) {
        let name = pair.first().and_then(Value::as_text);
        let extent = pair.get(1).and_then(Value::as_integer).and_then(|extent| u64::try_from(extent).ok());
        match (name, extent) {
            (Some(name), Some(extent)) => areas.push((name, extent)),
            _ => return Err("the list of its areas cannot be read".into()),
        }
    }
    Ok(areas)
}
