//! What was found on the disks: the small model that `discover` and `volume` fill and that `scan`, `activate` and `report`
//! read. Plain values only; nothing here reads or writes a device.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use tierlift_ondisk::raid::{Geometry, GeometryError};
use tierlift_ondisk::units::{Bytes, Chunk, DeviceId, Extent, Sectors};

/// Everything found on a set of disks or image files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The disks or image files looked at, in the order given.
    pub disks: Vec<Disk>,
    /// md arrays, one per array UUID.
    pub arrays: Vec<Array>,
    /// Volume groups, one per VG id.
    pub volume_groups: Vec<VolumeGroup>,
    /// What the system partitions of the NAS tell.
    #[serde(default)]
    pub harvest: Vec<Harvest>,
    /// Good to know; nothing of this is wrong.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// What is wrong, each a sentence that says what it means and what to do.
    pub notes: Vec<String>,
}

/// What was found on a system partition of the NAS: evidence, and what unlocks volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harvest {
    /// Which partition, for people.
    pub place: String,
    /// The model of the NAS.
    pub model: Option<String>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// Backups of LVM's texts, by path.
    pub lvm_texts: Vec<String>,
    /// Files of settings that are there.
    pub settings: Vec<String>,
    /// Saved keys of encrypted volumes, by path; their content is not read.
    pub keys: Vec<String>,
    /// What the settings say of volumes.
    pub volumes: Vec<VolumeSettings>,
    /// What could not be read of it.
    pub notes: Vec<String>,
}

impl Harvest {
    /// Nothing was found on it.
    pub fn is_silent(&self) -> bool {
        Self { place: String::new(), ..self.clone() } == Self::default()
    }
}

/// What QNAP's settings say of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSettings {
    /// The section of the file.
    pub section: String,
    /// Number of the volume.
    pub number: Option<String>,
    /// The device QTS maps it to.
    pub mapping: Option<String>,
    /// The array it lies on.
    pub raid: Option<String>,
    /// Encrypted with LUKS.
    pub encrypted: Option<bool>,
    /// Behind an SSD cache.
    pub ssd_cache: Option<bool>,
}

/// One disk or image file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is: `/dev/vda` or an image file.
    pub path: PathBuf,
    /// Its size.
    pub size: Bytes,
    /// "gpt", "gpt (backup)", "mbr", "lost" (the partitions were found without it) or "none".
    pub table: String,
    /// Its partitions; empty when the whole disk is one piece of content.
    pub partitions: Vec<Partition>,
    /// What the whole disk holds when it has no partitions, or why it could not be read.
    pub content: Option<String>,
    /// What a map of ddrescue says was never read from the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue_map: Option<RescueMap>,
}

/// Parts of an image that ddrescue could not read, or has not read yet: they give I/O errors, never zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueMap {
    /// The map file.
    pub path: PathBuf,
    /// Bytes in all unread parts.
    pub unread_bytes: Bytes,
    /// Number of unread parts.
    pub unread_parts: usize,
    /// The unread parts in bytes: whole sectors, in order, apart from each other. There may be very many.
    #[serde(skip)]
    pub unread: Vec<Range<u64>>,
}

impl RescueMap {
    /// Counts `unread` (whole sectors, in order, apart).
    pub fn new(path: PathBuf, unread: Vec<Range<u64>>) -> Self {
        let bytes = unread.iter().map(|part| part.end.saturating_sub(part.start)).fold(0, u64::saturating_add);
        Self { path, unread_bytes: Bytes(bytes), unread_parts: unread.len(), unread }
    }
}

/// One partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    /// Number in the table, from 1.
    pub number: u32,
    /// First sector on the disk.
    pub start: Sectors,
    /// Length.
    pub length: Sectors,
    /// What it holds, for people: "md member of array 1 (raid1, role 0)".
    pub content: String,
}

/// A stretch of a disk: the base that overlays and linear mappings are built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extents {
    /// Index into [`Inventory::disks`].
    pub disk: usize,
    /// First sector on that disk.
    pub start: Sectors,
    /// Length.
    pub length: Sectors,
}

/// An md array.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Array {
    /// Array UUID, as mdadm prints it.
    pub uuid: String,
    /// The name in the superblock; QNAP's is a number ("1").
    pub name: String,
    /// "raid1", "linear", "raid5" …
    pub level: String,
    /// Members the array should have.
    pub raid_disks: u32,
    /// Size of the array's data.
    pub size: Sectors,
    /// One of QNAP's system mirrors (md9, md13, swap), of no interest for the data.
    pub system: bool,
    /// The members found.
    pub members: Vec<Member>,
    /// The member (index into `members`) that alone carries all the data, when the array can be used through one: a mirror
    /// half or a single disk. `None` when the array cannot be used; `notes` says why.
    pub usable_member: Option<usize>,
    /// How it is put together from several members; `None` when that cannot be done or is not needed (`usable_member`).
    #[serde(default)]
    pub assembly: Option<Assembly>,
    /// Level, layout and chunk size by its newest superblock, whether it can be put together or not.
    #[serde(skip)]
    pub shape: Option<(i32, u32, Sectors)>,
    /// What it carries and what else is good to know; nothing of this is wrong.
    #[serde(default)]
    pub carries: Vec<String>,
    /// What is wrong with it.
    pub notes: Vec<String>,
}

/// How an array is put together: decided by superblocks and sampling, executed by the own reader, or by mdadm over overlays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// -1 linear, 0, 1, 4, 5, 6, 10.
    pub level: i32,
    /// md's number for the layout of the level (5 and 6: 2 is left-symmetric; 10: 0x102 is near 2; else 0).
    pub layout: u32,
    /// Chunk size; 0 where the level has none.
    pub chunk: Sectors,
    /// Sectors of data on each member; of a linear or unequal RAID 0 array the smallest.
    pub component: Sectors,
    /// The member (index into [`Array::members`]) in each role, `None` where it is missing or must not be used.
    pub roles: Vec<Option<usize>>,
    /// Not shut down in order: what was being written may be torn.
    #[serde(default)]
    pub dirty: bool,
    /// What proves that these members in these roles belong together.
    pub evidence: Vec<String>,
}

/// Sectors of a member, counted from where its data begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRange {
    /// First sector.
    pub start: Sectors,
    /// Length.
    pub length: Sectors,
}

/// One member of an md array.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// The partition (or whole disk) the member lies on. Of a member that lies on another array, the stretch of that array,
    /// and `disk` names none.
    pub place: Extents,
    /// The array (index into [`Inventory::arrays`]) the member lies on: RAID 50, RAID 60.
    #[serde(default)]
    pub on_array: Option<usize>,
    /// First sector of the data inside `place`.
    pub data_offset: Sectors,
    /// Role in the array, `None` for a spare or failed member.
    pub role: Option<u32>,
    /// Event counter.
    pub events: u64,
    /// Time of the last superblock update, seconds since 1970.
    pub update_time: u64,
    /// Its data are as new as any in the array.
    #[serde(default)]
    pub current: bool,
    /// Sectors of data on this member; 0 when not known.
    #[serde(default)]
    pub data_size: Sectors,
    /// Where its data end when it was not rebuilt to the end.
    #[serde(default)]
    pub rebuilt_to: Option<Sectors>,
    /// Its bad-block log: here it holds no valid data.
    #[serde(default)]
    pub bad_blocks: Vec<MemberRange>,
    /// Judgement for people: "current", "stale: 12 events behind".
    pub verdict: String,
}

impl Array {
    /// md's number of the level: -1 linear, else the level itself.
    pub fn level_number(&self) -> i32 {
        self.assembly.as_ref().map_or(1, |assembly| assembly.level)
    }

    /// How the array is laid out over its members, as its assembly says.
    ///
    /// # Errors
    /// When the assembly's numbers make no array; without an assembly, as a mirror without members.
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let Some(assembly) = &self.assembly else { return Err(GeometryError::Members { level: 1, found: 0 }) };
        let component = |member: &Option<usize>| {
            let member = member.and_then(|member| self.members.get(member));
            let own = member.map(|member| self.data_end(member).saturating_sub(member.data_offset.0));
            own.map_or(assembly.component, Sectors)
        };
        let components: Vec<Sectors> = assembly.roles.iter().map(component).collect();
        Geometry::new(assembly.level, assembly.layout, assembly.chunk, &components)
    }

    /// The members that are used, with their roles.
    pub fn present(&self) -> impl Iterator<Item = (u32, &Member)> {
        let roles = self.assembly.iter().flat_map(|assembly| &assembly.roles);
        (0..).zip(roles).filter_map(|(role, member)| Some((role, self.members.get((*member)?)?)))
    }

    /// Whether reading it takes more than one member: always, but for a mirror of which one half is here, or a single disk.
    pub fn needs_assembly(&self) -> bool {
        match &self.assembly {
            Some(assembly) if assembly.level == 1 || self.raid_disks == 1 => self.present().count() > 1,
            Some(_) => true,
            None => false,
        }
    }

    /// First sector behind a member's data, from the start of the member.
    pub fn data_end(&self, member: &Member) -> u64 {
        let component = self.assembly.as_ref().map_or(self.size, |assembly| assembly.component);
        // Members of linear and RAID 0 arrays may differ in length.
        let own = matches!(self.level_number(), -1 | 0) && member.data_size.0 > 0;
        let length = if own { member.data_size } else { component };
        member.data_offset.0.saturating_add(length.0)
    }
}

/// An LVM volume group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeGroup {
    /// Name; not unique when disks of several machines are attached.
    pub name: String,
    /// LVM's id with dashes.
    pub id: String,
    /// Sequence number of the text used.
    pub seqno: u64,
    /// Which text of the group this is, and why it is used.
    #[serde(default)]
    pub text: TextUsed,
    /// There is no LVM: the one volume is all of an array.
    #[serde(default)]
    pub without_lvm: bool,
    /// Extent size.
    pub extent_size: Sectors,
    /// Physical volumes the text names.
    pub physical_volumes: Vec<PhysicalVolume>,
    /// Logical volumes, hidden ones too.
    pub logical_volumes: Vec<LogicalVolume>,
    /// What is wrong; guesses about a pool are with the pool.
    pub notes: Vec<String>,
}

/// The text a volume group was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextUsed {
    /// The generation, as one types it: "vg1@278".
    pub generation: String,
    /// What it is, for people: "the committed text, checksum right, written 2024-05-01 10:00:00 UTC by NAS".
    pub what: String,
    /// The user chose it.
    pub chosen: bool,
}

/// A physical volume named in the text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhysicalVolume {
    /// Name inside the text: "pv0".
    pub name: String,
    /// LVM's id with dashes.
    pub id: String,
    /// Where extent 0 begins, from the start of the physical volume.
    pub pe_start: Sectors,
    /// Number of extents.
    pub pe_count: Extent,
    /// Where it was found; `None` when it is missing.
    pub place: Option<PvPlace>,
}

/// Where a physical volume lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PvPlace {
    /// On an md array: index into [`Inventory::arrays`].
    Array(usize),
    /// Directly on a partition or disk (or a flattened image of an array).
    Direct(Extents),
}

/// A logical volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogicalVolume {
    /// Name.
    pub name: String,
    /// Shown to users by LVM (not a hidden part of another volume).
    pub visible: bool,
    /// Size.
    pub size: Sectors,
    /// What it is.
    pub kind: LogicalVolumeKind,
}

/// What a logical volume is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LogicalVolumeKind {
    /// Stretches in order; together they are exactly the volume's size.
    Mapped(Vec<Stretch>),
    /// A thin pool of either family.
    Pool(PoolVolume),
    /// A thin or thick volume in a pool.
    Thin {
        /// Name of the pool's logical volume.
        pool: String,
        /// Device id in the pool.
        device: DeviceId,
        /// Name of the volume it is a snapshot of, when the text says.
        origin: Option<String>,
    },
    /// A segment type that is kept but cannot be mapped; the text says which.
    Opaque(String),
}

/// A contiguous piece of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Length.
    pub length: Sectors,
    /// Where its data are.
    pub target: StretchTarget,
}

/// What lies behind a piece of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StretchTarget {
    /// On a physical volume (index into [`VolumeGroup::physical_volumes`]), from this sector of it on.
    Pv(usize, Sectors),
    /// Reads as zeros by definition (an absent tier).
    Zero,
    /// Cannot be read: the segment is an error target, or its physical volume or extents are missing.
    Error,
}

/// A pool's logical volume: what the text says of it and what was guessed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolVolume {
    /// Segment type as written: "tier-thin-pool", "thin-pool".
    pub segment_type: String,
    /// Logical volume with the metadata.
    pub metadata: String,
    /// Tier devices by number (a plain pool has one, number 0): names of logical volumes, `None` for a tier the text names
    /// but no volume exists for.
    pub tiers: Vec<Option<String>>,
    /// Usable tiers, bit i for tier i, when the text says or it could be guessed.
    pub enable_map: Option<u8>,
    /// Whether pool sectors go straight to one tier (`true`) or through the tier tree (`false`), when the text says or it could
    /// be guessed.
    pub bypass: Option<bool>,
    /// Chunk size, when the text says.
    pub chunk_size: Option<Sectors>,
    /// Transaction id, when the text says.
    pub transaction_id: Option<u64>,
    /// Length of the pool in chunks by the text; the superblock decides.
    pub chunks: Option<Chunk>,
    /// Each guess with its evidence.
    pub guesses: Vec<String>,
}

/// Where the data of a physical volume's place begin and how far they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The array, when it is one.
    pub array: Option<usize>,
    /// The member partition, or the direct place.
    pub partition: Extents,
    /// First data sector inside the partition.
    pub offset: Sectors,
    /// Data sectors that are really there: less than the array's size when the image is cut short.
    pub length: Sectors,
}

impl Inventory {
    /// Follows a place down to the partition that carries it; `None` when the array cannot be used through one member.
    pub fn base_of(&self, place: &PvPlace) -> Option<Base> {
        let (array, partition, offset, wanted) = match place {
            PvPlace::Direct(extents) => (None, extents.clone(), Sectors(0), extents.length),
            PvPlace::Array(index) => {
                let array = self.arrays.get(*index)?;
                let member = array.members.get(array.usable_member?)?;
                (Some(*index), member.place.clone(), member.data_offset, array.size)
            }
        };
        let disk = self.disks.get(partition.disk)?.size.to_sectors();
        let there = partition.length.0.min(disk.0.saturating_sub(partition.start.0)).saturating_sub(offset.0);
        Some(Base { array, partition, offset, length: Sectors(wanted.0.min(there)) })
    }
}
