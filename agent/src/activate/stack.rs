//! The plan of a whole stack: a pure function of what was found, what the pool says and what the user chose.

use super::array;
use super::names;
use super::overlay::{self, Member};
use super::plan::{Backing, Choice, Mode, Plan, PlanError, PlannedDevice, PoolFacts, Table, Wish, device_path, line};
use super::wire::TargetLine;
use super::{pool_table, repaired};
use crate::block::FileView;
use crate::inventory::{Array, Inventory, LogicalVolume, LogicalVolumeKind, PoolVolume, StretchTarget, VolumeGroup};
use crate::repair::Repaired;
use crate::volume::{DiskPlace, DiskTarget, stretches_on_disks};
use tierlift_ondisk::units::{DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;

/// Plans the devices for `wish` in the group with index `group`. `facts` are those of the pool the wish needs ([`pool_of`]).
///
/// # Errors
/// When the wish names nothing in the group, or a part without which nothing can be read is missing.
pub fn plan(
    inventory: &Inventory,
    group: usize,
    wish: &Wish,
    facts: Option<&PoolFacts>,
    choice: &Choice,
) -> Result<Plan, PlanError> {
    let mut builder = Builder::new(inventory, group, wish, choice)?;
    let pool = pool_of(builder.group, wish)?.zip(facts);
    let device = match (wish, pool) {
        (_, None) => builder.plain_volume(wish)?,
        (_, Some((pool, facts))) => builder.in_pool(pool, facts, wish)?,
    };
    builder.plan.device = device;
    Ok(builder.plan)
}

/// The pool a wish needs, `None` for a volume that is in no pool.
///
/// # Errors
/// When the wish names nothing, or a thin device of a group with several pools.
pub fn pool_of<'a>(group: &'a VolumeGroup, wish: &Wish) -> Result<Option<&'a LogicalVolume>, PlanError> {
    match wish {
        Wish::Thin(Some(pool), _) => find(group, pool).map(Some),
        Wish::Thin(None, _) => only_pool(group).map(Some),
        Wish::Volume(name) => match &find(group, name)?.kind {
            LogicalVolumeKind::Pool(_) => find(group, name).map(Some),
            LogicalVolumeKind::Thin { pool, .. } => find(group, pool).map(Some),
            LogicalVolumeKind::Mapped(_) => Ok(None),
            LogicalVolumeKind::Opaque(text) => {
                Err(PlanError(format!("{}/{name} cannot be activated: {text}", group.name)))
            }
        },
    }
}

/// All pools of a group.
pub fn pools(group: &VolumeGroup) -> impl Iterator<Item = &LogicalVolume> {
    group.logical_volumes.iter().filter(|volume| matches!(volume.kind, LogicalVolumeKind::Pool(_)))
}

/// What the pool `name` of a group is made of.
///
/// # Errors
/// When there is no pool of this name.
pub fn parts<'a>(group: &'a VolumeGroup, name: &str) -> Result<&'a PoolVolume, PlanError> {
    match &find(group, name)?.kind {
        LogicalVolumeKind::Pool(parts) => Ok(parts),
        _ => Err(PlanError(format!("{}/{name} is no pool", group.name))),
    }
}

fn only_pool(group: &VolumeGroup) -> Result<&LogicalVolume, PlanError> {
    let mut found = pools(group);
    match (found.next(), found.next()) {
        (Some(pool), None) => Ok(pool),
        (None, _) => Err(PlanError(format!("volume group {} has no pool", group.name))),
        (Some(_), Some(_)) => Err(PlanError(format!(
            "volume group {} has several pools: say which, as {}/POOL/thin:NUMBER",
            group.name, group.name
        ))),
    }
}

fn find<'a>(group: &'a VolumeGroup, name: &str) -> Result<&'a LogicalVolume, PlanError> {
    group.logical_volumes.iter().find(|volume| volume.name == name).ok_or_else(|| {
        PlanError(format!(
            "volume group {} has no volume '{name}'; `tierlift activate` without a name lists what there is",
            group.name
        ))
    })
}

/// Name of the device of a wish.
fn device_name(group: &VolumeGroup, pool: Option<&str>, wish: &Wish) -> String {
    match (wish, pool) {
        (Wish::Volume(name), Some(pool)) if name == pool => names::layer(&group.name, pool, "tpool"),
        (Wish::Volume(name), _) => names::volume(&group.name, name),
        (Wish::Thin(_, id), pool) => names::unnamed_thin(&group.name, pool.unwrap_or_default(), id.0),
    }
}

/// Puts a plan together from the ground up.
struct Builder<'a> {
    inventory: &'a Inventory,
    index: usize,
    group: &'a VolumeGroup,
    choice: &'a Choice,
    members: Vec<Member>,
    plan: Plan,
}

impl<'a> Builder<'a> {
    fn new(inventory: &'a Inventory, index: usize, wish: &Wish, choice: &'a Choice) -> Result<Self, PlanError> {
        let group = inventory.volume_groups.get(index);
        let group = group.ok_or_else(|| PlanError(format!("there is no volume group number {index}")))?;
        let places = overlay::places(inventory, std::iter::once(group));
        let members = overlay::plan(inventory, &places, choice)?;
        let devices = members.iter().flat_map(|member| member.devices.clone()).collect();
        let mut arrays = Vec::new();
        for index in overlay::arrays(inventory, group) {
            let taken: Vec<u32> = arrays.iter().map(|array: &array::PlannedArray| array.number).collect();
            arrays.push(array::plan(inventory, index, &members, choice, &taken)?);
        }
        let target = match wish {
            Wish::Volume(name) => format!("{}/{name}", group.name),
            Wish::Thin(Some(pool), id) => format!("{}/{pool}/thin:{id}", group.name),
            Wish::Thin(None, id) => format!("{}/thin:{id}", group.name),
        };
        let plan = Plan {
            target,
            device: String::new(),
            devices,
            arrays,
            mode: None,
            evidence: overlay::arrays(inventory, group).iter().flat_map(|index| evidence(inventory, *index)).collect(),
            warnings: Vec::new(),
            incomplete: false,
        };
        Ok(Self { inventory, index, group, choice, members, plan })
    }

    /// A volume that is just stretches of physical volumes.
    fn plain_volume(&mut self, wish: &Wish) -> Result<String, PlanError> {
        let Wish::Volume(name) = wish else { return Err(PlanError("a thin device needs its pool's metadata".into())) };
        let volume = find(self.group, name)?;
        self.linear(volume, "volume")?
            .ok_or_else(|| PlanError(format!("{}/{name} has no length: there is nothing to read", self.group.name)))
    }

    fn in_pool(&mut self, pool: &LogicalVolume, facts: &PoolFacts, wish: &Wish) -> Result<String, PlanError> {
        let parts = parts(self.group, &pool.name)?;
        let pool_device = match &facts.repaired {
            Some(repaired) => self.repaired_pool(pool, parts, repaired)?,
            None => self.pool(pool, parts, facts)?,
        };
        match self.thin(parts, facts, wish)? {
            None => Ok(pool_device),
            Some((id, size)) => {
                Ok(self.thin_device(device_name(self.group, Some(&pool.name), wish), &pool_device, id, size))
            }
        }
    }

    fn pool(&mut self, pool: &LogicalVolume, parts: &PoolVolume, facts: &PoolFacts) -> Result<String, PlanError> {
        let mode = pool_table::mode(facts, self.choice)?;
        self.note_pool(parts, facts, mode);
        let metadata = find(self.group, &parts.metadata)?;
        let metadata = self.linear(metadata, "pool metadata")?;
        let metadata =
            metadata.ok_or_else(|| PlanError(format!("the pool's metadata volume {} is empty", parts.metadata)))?;
        let mut tiers = Vec::new();
        for (number, tier) in parts.tiers.iter().enumerate() {
            tiers.push(self.tier(number, tier.as_deref())?);
        }
        let table = pool_table::table(facts, mode, &device_path(&metadata), &tiers, self.choice)?;
        let name = names::layer(&self.group.name, &pool.name, "tpool");
        self.plan.devices.push(PlannedDevice {
            name: name.clone(),
            purpose: format!("pool, read-only inside (device-mapper wants the device itself writable); mode: {mode}"),
            read_only: false,
            backing: None,
            table: vec![table],
        });
        Ok(name)
    }

    /// A pool through its new metadata: these, the data device put together from the tiers, and a pool of stock Linux's form.
    /// The original metadata are there too, as `POOL_meta0`.
    fn repaired_pool(
        &mut self,
        pool: &LogicalVolume,
        parts: &PoolVolume,
        repaired: &Repaired,
    ) -> Result<String, PlanError> {
        self.note_repaired(repaired);
        let mut tiers = Vec::new();
        for (number, tier) in parts.tiers.iter().enumerate() {
            let word = if repaired.uses(number) {
                self.tier(number, tier.as_deref())?
            } else {
                pool_table::MISSING.to_owned()
            };
            tiers.push(word);
        }
        if let Ok(original) = find(self.group, &parts.metadata) {
            let shown_as = format!("{}_meta0", pool.name);
            self.linear_over(&original.name, &shown_as, "original pool metadata, as they were found")?;
        }
        let metadata = self.new_metadata(&parts.metadata, repaired)?;
        let data = names::layer(&self.group.name, &pool.name, "tdata");
        let table = repaired::data_table(repaired, &tiers, |tier| self.length_of(tier));
        let length = table.iter().map(|line| line.length).fold(0, u64::saturating_add);
        let purpose = "data of the pool, put together from its tiers; what is lost gives errors".to_owned();
        self.plan.devices.push(PlannedDevice { name: data.clone(), purpose, read_only: true, backing: None, table });
        let name = names::layer(&self.group.name, &pool.name, "tpool");
        self.plan.devices.push(PlannedDevice {
            name: name.clone(),
            purpose: "repaired pool, read-only inside (device-mapper wants the device itself writable)".into(),
            read_only: false,
            backing: None,
            table: vec![pool_table::stock(length, repaired.chunk, &device_path(&metadata), &device_path(&data))],
        });
        Ok(name)
    }

    fn note_repaired(&mut self, repaired: &Repaired) {
        self.plan.mode = Some(repaired.mode.clone());
        self.plan.evidence.push(format!(
            "the pool was repaired (from generation {}): its new metadata are used; `tierlift repair --undo` goes back",
            repaired.generation
        ));
        for loss in repaired.losses.iter().filter(|loss| loss.lost_ranges > 0 || loss.left_out) {
            self.lost(loss.describe(repaired.chunk));
        }
        self.plan.incomplete |= !repaired.whole;
    }

    fn new_metadata(&mut self, volume: &str, repaired: &Repaired) -> Result<String, PlanError> {
        let wrong = |why: &dyn std::fmt::Display| {
            PlanError(format!(
                "the new metadata {} cannot be used ({why}): repair the pool again",
                repaired.metadata.display()
            ))
        };
        let sectors = FileView::open(&repaired.metadata).map_err(|error| wrong(&error))?.size().to_sectors();
        if sectors.0 == 0 {
            return Err(wrong(&"the file is empty"));
        }
        let name = names::volume(&self.group.name, volume);
        self.plan.devices.push(PlannedDevice {
            name: name.clone(),
            purpose: "new pool metadata, read-only".into(),
            read_only: true,
            backing: Some(Backing::Source(repaired.metadata.clone())),
            table: vec![line(0, sectors.0, "linear", format!("{} 0", repaired.metadata.display()))],
        });
        Ok(name)
    }

    /// Length of a planned device by its path.
    fn length_of(&self, path: &str) -> Sectors {
        let device = self.plan.devices.iter().find(|device| device_path(&device.name) == path);
        let lines = device.into_iter().flat_map(|device| &device.table);
        Sectors(lines.map(|line| line.length).fold(0, u64::saturating_add))
    }

    /// Notes that a part of the data cannot be read.
    fn lost(&mut self, warning: String) {
        self.plan.incomplete = true;
        self.plan.warnings.push(warning);
    }

    /// The word for one tier device: its path, or a dash when the tier is missing or empty.
    fn tier(&mut self, number: usize, volume: Option<&str>) -> Result<String, PlanError> {
        let given_up = self.choice.missing_tiers.iter().any(|tier| *tier as usize == number);
        let volume = volume.filter(|_| !given_up).and_then(|name| find(self.group, name).ok());
        let Some(volume) = volume.filter(|volume| !is_lost(volume)) else {
            self.lost(format!("tier {number} is missing: data on it cannot be read (I/O errors, never zeros)"));
            return Ok(pool_table::MISSING.to_owned());
        };
        let device = self.linear(volume, &format!("data of tier {number}"))?;
        Ok(device.map_or_else(|| pool_table::MISSING.to_owned(), |name| device_path(&name)))
    }

    /// What the text and the superblock say differently, and why this mode.
    fn note_pool(&mut self, parts: &PoolVolume, facts: &PoolFacts, mode: Mode) {
        self.plan.mode = Some(mode.to_string());
        self.plan.evidence.extend(facts.evidence.iter().cloned());
        self.plan.evidence.extend(parts.guesses.iter().cloned());
        if mode != facts.mode {
            let forced = format!("mode {mode} was asked for; the pool itself looks like {}", facts.mode);
            self.plan.warnings.push(forced);
        }
        if let Some(said) = parts.chunk_size.filter(|said| *said != facts.chunk) {
            self.differs("chunk size", said, facts.chunk);
        }
        if let Some(said) = parts.chunks.filter(|said| *said != facts.chunks) {
            self.differs("length in chunks", said, facts.chunks);
        }
        if let Some(said) = parts.transaction_id.filter(|said| *said != facts.transaction_id) {
            self.differs("transaction id", said, facts.transaction_id);
        }
    }

    fn differs(&mut self, what: &str, text: impl std::fmt::Display, superblock: impl std::fmt::Display) {
        self.plan.warnings.push(format!(
            "pool {what}: the volume group's text says {text}, the pool's superblock {superblock}; the superblock is used"
        ));
    }

    /// Device id and size of the thin device of a wish; `None` when the pool itself is wanted.
    fn thin(
        &mut self,
        parts: &PoolVolume,
        facts: &PoolFacts,
        wish: &Wish,
    ) -> Result<Option<(DeviceId, Sectors)>, PlanError> {
        let (id, size) = match wish {
            Wish::Thin(_, id) => (*id, None),
            Wish::Volume(name) => match find(self.group, name)? {
                LogicalVolume { kind: LogicalVolumeKind::Thin { device, .. }, size, .. } => (*device, Some(*size)),
                _ => return Ok(None),
            },
        };
        let device = facts.devices.iter().find(|device| device.id == id);
        let device = device.ok_or_else(|| no_such_device(parts, facts, id))?;
        let size = match size {
            Some(size) => size,
            None => self.size_by_mappings(facts, device.extent.0, id)?,
        };
        Ok(Some((id, size)))
    }

    /// For a device no text names: up to its highest mapped chunk.
    fn size_by_mappings(&mut self, facts: &PoolFacts, chunks: u64, id: DeviceId) -> Result<Sectors, PlanError> {
        let size = chunks.checked_mul(facts.chunk.0).filter(|&size| size > 0);
        let size =
            size.ok_or_else(|| PlanError(format!("thin device {id} has nothing mapped: there is nothing to read")))?;
        self.plan.evidence.push(format!(
            "size of thin device {id}: no text names it, so it ends with its highest mapped chunk ({size} sectors)"
        ));
        Ok(Sectors(size))
    }

    fn thin_device(&mut self, name: String, pool: &str, id: DeviceId, size: Sectors) -> String {
        self.plan.devices.push(PlannedDevice {
            name: name.clone(),
            purpose: format!("thin device {id}, read-only"),
            read_only: true,
            backing: None,
            table: vec![line(0, size.0, "thin", format!("{} {id}", device_path(pool)))],
        });
        name
    }

    /// A read-only device over the stretches of a volume; `None` when it has no length.
    fn linear(&mut self, volume: &LogicalVolume, purpose: &str) -> Result<Option<String>, PlanError> {
        self.linear_over(&volume.name, &volume.name, purpose)
    }

    /// The same under another name.
    fn linear_over(&mut self, volume: &str, shown_as: &str, purpose: &str) -> Result<Option<String>, PlanError> {
        let pieces = stretches_on_disks(self.inventory, self.index, volume);
        let table = self.table(pieces.map_err(|error| PlanError(format!("{error:#}")))?);
        if table.is_empty() {
            return Ok(None);
        }
        let lost: u64 =
            table.iter().filter(|line| line.target == "error").map(|line| line.length).fold(0, u64::saturating_add);
        if lost > 0 {
            self.lost(format!(
                "{}: {lost} sectors lie on disks that are missing and give I/O errors, never zeros",
                volume
            ));
        }
        let name = names::volume(&self.group.name, shown_as);
        let device = PlannedDevice {
            name: name.clone(),
            purpose: format!("{purpose}, read-only"),
            read_only: true,
            backing: None,
            table,
        };
        self.plan.devices.push(device);
        Ok(Some(name))
    }

    fn table(&self, pieces: Vec<(Sectors, DiskTarget)>) -> Vec<TargetLine> {
        let mut table = Table::default();
        for (length, target) in pieces {
            match target {
                DiskTarget::Zero => table.add(length.0, "zero", ""),
                DiskTarget::Error => table.add(length.0, "error", ""),
                DiskTarget::Array { array, sector } => match self.array(array) {
                    Some(path) => table.add(length.0, "linear", format!("{path} {sector}")),
                    None => table.add(length.0, "error", ""),
                },
                DiskTarget::Place(place) => match self.ground(&place) {
                    Some(ground) => table.add(length.0, "linear", ground),
                    None => table.add(length.0, "error", ""),
                },
            }
        }
        table.into_lines()
    }

    /// The md device of an array, when it is one of several members.
    fn array(&self, array: usize) -> Option<&str> {
        self.plan.arrays.iter().find(|planned| planned.array == array).map(|planned| planned.path.as_str())
    }

    /// What a line on a place rests on: the md device of a mirror with several members, else the overlay.
    fn ground(&self, place: &DiskPlace) -> Option<String> {
        let member = |array: &Array| array.members.iter().find(|member| member.place == place.partition).cloned();
        let array = place.array.and_then(|index| Some((self.array(index)?, self.inventory.arrays.get(index)?)));
        if let Some((path, member)) = array.and_then(|(path, array)| Some((path, member(array)?))) {
            return Some(format!("{path} {}", place.sector.0.checked_sub(member.data_offset.0)?));
        }
        Some(format!("{} {}", self.member(place)?, place.sector))
    }

    /// The overlay over a place.
    fn member(&self, place: &DiskPlace) -> Option<String> {
        let member = self.members.iter().find(|member| member.place == place.partition)?;
        Some(device_path(&names::member(member.number)))
    }
}

/// Why an array is put together as it is.
fn evidence(inventory: &Inventory, array: usize) -> Vec<String> {
    let Some(array) = inventory.arrays.get(array) else { return Vec::new() };
    let assembly = array.assembly.iter().flat_map(|assembly| &assembly.evidence);
    assembly.map(|evidence| format!("array {}: {evidence}", array.name)).collect()
}

fn is_lost(volume: &LogicalVolume) -> bool {
    match &volume.kind {
        LogicalVolumeKind::Mapped(stretches) => {
            !stretches.is_empty() && stretches.iter().all(|stretch| stretch.target == StretchTarget::Error)
        }
        _ => true,
    }
}

fn no_such_device(parts: &PoolVolume, facts: &PoolFacts, id: DeviceId) -> PlanError {
    let known: Vec<String> = facts.devices.iter().map(|device| device.id.to_string()).collect();
    PlanError(format!(
        "the pool's metadata ({}) know no thin device {id}: the volume was deleted, or this copy of the metadata is older than \
         it; there are: {}",
        parts.metadata,
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    ))
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
