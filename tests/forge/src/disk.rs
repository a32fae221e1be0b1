//! Whole disks: partition table, md members, DRBD tail, physical volumes ("docs/disk-layout").

use crate::group::{Content, Group, pv_id};
use crate::identity::uuid;
use crate::{Fixture, ForgeOptions, Mirror, Raid};
use anyhow::Context;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::lvm_area::{AreaHeader, HEADER_BYTES, Location, next_offset, ring_stretches};
use tierlift_ondisk::lvm_label::{Area, Label};
use tierlift_ondisk::md::{Role, Superblock, place_1_0};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::{drbd, gpt, lvm_crc, mbr};

const SECTOR: u64 = 512;
/// Sectors in front of the superblock that data may not use: bitmap and bad-block log.
const MD_RESERVED: u64 = 264;
/// Sequence number of the committed text.
const SEQNO: u64 = 278;
const AREA_START: u64 = 4096;

/// What was made.
#[derive(Debug, Clone)]
pub struct Forged {
    /// The disk images. With two disks per array, both of the first array come first.
    pub disks: Vec<PathBuf>,
    /// Name of the volume group.
    pub volume_group: String,
    /// Name of the pool.
    pub pool: String,
    /// The thin volumes.
    pub volumes: Vec<Volume>,
    /// Where each volume with extents lies: the answer a reader must find by itself. Empty where data are striped.
    pub placed: Vec<PlacedVolume>,
    /// The data arrays.
    pub arrays: Vec<ForgedArray>,
}

/// A data array.
#[derive(Debug, Clone)]
pub struct ForgedArray {
    /// All its data, as md would show them: the truth.
    pub image: PathBuf,
    /// Sectors of data.
    pub sectors: u64,
    /// The disk (index into [`Forged::disks`]) in each role.
    pub disks: Vec<usize>,
    /// First sector of partition 3, where the member lies, and its length.
    pub partition: (u64, u64),
}

/// A thin volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name of the logical volume.
    pub name: String,
    /// Device id in the pool.
    pub device: u64,
    /// Size.
    pub sectors: u64,
}

/// Where a volume lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedVolume {
    /// Name of the logical volume.
    pub name: String,
    /// Its pieces in order.
    pub pieces: Vec<PlacedPiece>,
}

/// A piece of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedPiece {
    /// Index of the array (and physical volume).
    pub array: usize,
    /// First sector on partition 3 of each disk of the array.
    pub partition_sector: u64,
    /// First sector on each disk of the array.
    pub disk_sector: u64,
    /// Length.
    pub sectors: u64,
}

/// One partition of a layout: first sector and length.
type Part = (u64, u64);

/// Builds the disks of a NAS around the pool of `fixture` as sparse files `array<N>-disk<M>.img` in `out_dir`.
///
/// # Errors
/// When a volume is no whole number of extents, or a file cannot be written.
pub fn forge_disks(fixture: &Fixture, options: &ForgeOptions, out_dir: &Path) -> anyhow::Result<Forged> {
    fs::create_dir_all(out_dir)?;
    let group = Group::plan(fixture, options)?;
    let arrays: Vec<Array> = group.pe_counts.iter().map(|count| Array::new(*count, options)).collect();
    let pv_sectors: Vec<u64> = arrays.iter().map(|array| array.pv_sectors).collect();
    let mut forged = Forged {
        disks: Vec::new(),
        volume_group: options.volume_group.clone(),
        pool: options.pool.clone(),
        volumes: fixture
            .truth
            .iter()
            .map(|(device, truth)| Volume { name: format!("lv{device}"), device: *device, sectors: truth.sectors })
            .collect(),
        placed: if shape(options).level == 1 { place(&group, &arrays, options) } else { Vec::new() },
        arrays: Vec::new(),
    };
    for (index, array) in arrays.iter().enumerate() {
        let image = out_dir.join(format!("array{}.md", index + 1));
        array.write_image(&image, fixture, &group, options, index, &pv_sectors)?;
        array.write_disks(index, arrays.len(), options, out_dir, &mut forged)?;
    }
    Ok(forged)
}

/// Writes the disks of a NAS with one data array, whose content `fill` writes to the (empty) image at the path it is given.
pub(crate) fn write_disks(
    array: &Array,
    options: &ForgeOptions,
    out_dir: &Path,
    volume: Volume,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<Forged> {
    fs::create_dir_all(out_dir)?;
    let mut forged = Forged {
        disks: Vec::new(),
        volume_group: options.volume_group.clone(),
        pool: String::new(),
        volumes: vec![volume],
        placed: Vec::new(),
        arrays: Vec::new(),
    };
    let image = out_dir.join("array1.md");
    let file = File::create(&image).with_context(|| format!("{} cannot be written", image.display()))?;
    file.set_len(array.md_sectors * SECTOR)?;
    fill(&image)?;
    array.write_disks(0, 1, options, out_dir, &mut forged)?;
    Ok(forged)
}

/// Writes label, texts and DRBD tail of the one physical volume of `group` to an array image.
pub(crate) fn write_volume_group(
    array: &Array,
    path: &Path,
    group: &Group<'_>,
    options: &ForgeOptions,
) -> anyhow::Result<()> {
    let image = ArrayImage { file: File::options().write(true).open(path)?, array, options, index: 0 };
    if options.drbd {
        image.drbd_tail()?;
    }
    image.physical_volume(group, &[array.pv_sectors])
}

fn shape(options: &ForgeOptions) -> Raid {
    let disks = if options.mirror == Mirror::Single { 1 } else { 2 };
    options.raid.unwrap_or_else(|| Raid::new(1, disks))
}

fn place(group: &Group<'_>, arrays: &[Array], options: &ForgeOptions) -> Vec<PlacedVolume> {
    let mut placed = Vec::new();
    for volume in &group.volumes {
        let Content::Extents(runs, _) = &volume.content else { continue };
        let pieces = runs.iter().map(|run| {
            let partition_sector = options.pe_start + run.first * options.extent_sectors;
            PlacedPiece {
                array: run.pv,
                partition_sector,
                disk_sector: arrays[run.pv].partitions[2].0 + partition_sector,
                sectors: run.count * options.extent_sectors,
            }
        });
        placed.push(PlacedVolume { name: volume.name.clone(), pieces: pieces.collect() });
    }
    placed
}

/// Sizes of one array and of the disks it lies on.
pub(crate) struct Array {
    partitions: [Part; 5],
    disk_sectors: u64,
    md_sectors: u64,
    /// Sectors of data on each member.
    component: u64,
    pv_sectors: u64,
}

impl Array {
    pub(crate) fn new(pe_count: u64, options: &ForgeOptions) -> Self {
        Self::of_sectors(options.pe_start + pe_count * options.extent_sectors, options)
    }

    pub(crate) fn md_sectors(&self) -> u64 {
        self.md_sectors
    }

    /// An array with room for `needed` sectors.
    pub(crate) fn of_sectors(needed: u64, options: &ForgeOptions) -> Self {
        let md_sectors =
            (if options.drbd { needed + drbd::tail_size(Sectors(needed)).0 } else { needed }).next_multiple_of(8);
        let shape = shape(options);
        let component = shape.component(md_sectors);
        let md_sectors = shape.sectors(component);
        let pv_sectors = md_sectors - if options.drbd { drbd::tail_size(Sectors(md_sectors)).0 } else { 0 };
        let data = component + MD_RESERVED + 16;
        let lengths = if options.compact {
            [8192, 8192, data, 8192, 8192]
        } else {
            [1_060_250, 1_060_284, data, 1_060_288, 16_707_592]
        };
        let mut partitions = [(0, 0); 5];
        let mut start: u64 = 40;
        for (partition, length) in partitions.iter_mut().zip(lengths) {
            *partition = (start, length);
            start = (start + length).next_multiple_of(8);
        }
        if !options.compact {
            // The fourth and fifth begin where the third ends; the first three where every NAS has them.
            debug_assert_eq!((partitions[1].0, partitions[2].0), (1_060_296, 2_120_584));
        }
        Self { partitions, disk_sectors: (start + 34).next_multiple_of(2048), md_sectors, component, pv_sectors }
    }
}

/// One disk while it is written.
struct Disk<'a> {
    file: File,
    array: &'a Array,
    shape: Raid,
    options: &'a ForgeOptions,
    /// Of the array, from 0.
    index: usize,
    /// Of the disk in its array, from 0.
    slot: usize,
    /// Of the disk in the NAS, from 0.
    number: usize,
    /// Disks in the NAS.
    disks: usize,
}

impl Disk<'_> {
    fn write(&self, image: &File) -> anyhow::Result<()> {
        self.file.set_len(self.array.disk_sectors * SECTOR)?;
        self.partition_table()?;
        for (partition, (name, slots)) in [(0, ("9", 24)), (1, ("256", 2)), (3, ("13", 24)), (4, ("322", 2))] {
            self.system_member(self.array.partitions[partition], name, slots)?;
        }
        self.data_member()?;
        self.shape.write_member(image, self.array.component, self.slot, &self.file, self.array.partitions[2].0)
    }

    fn put(&self, sector: u64, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(bytes, sector * SECTOR)?)
    }

    fn partition_table(&self) -> anyhow::Result<()> {
        let seed = format!("{}/{}", self.options.seed, self.number);
        let entries: Vec<gpt::Entry> = (1u32..)
            .zip(self.array.partitions)
            .map(|(number, (first, length))| gpt::Entry {
                number,
                type_guid: gpt::BASIC_DATA,
                guid: uuid(&seed, &format!("partition {number}")),
                first,
                last: first + length - 1,
                name: "primary".into(),
            })
            .collect();
        let array = gpt::encode_entries(&entries);
        let last = self.array.disk_sectors - 1;
        let primary = gpt::Header {
            own_lba: 1,
            other_lba: last,
            first_usable: 34,
            last_usable: last - 33,
            disk_guid: uuid(&seed, "disk"),
            entries_lba: 2,
            entry_count: gpt::ENTRY_COUNT as u32,
            entry_bytes: gpt::ENTRY_BYTES as u32,
            entries_crc: gpt::checksum(&array),
        };
        let backup = gpt::Header { own_lba: last, other_lba: 1, entries_lba: last - 32, ..primary.clone() };
        self.put(0, &mbr::protective(Sectors(self.array.disk_sectors)))?;
        for header in [primary, backup] {
            self.put(header.own_lba, &header.encode())?;
            self.put(header.entries_lba, &array)?;
        }
        Ok(())
    }

    /// A member of a mirror over all disks of the NAS; like QNAP's, most of its slots were never filled.
    fn system_member(&self, part: Part, name: &str, slots: u32) -> anyhow::Result<()> {
        let active = |number: usize| if number < slots as usize { Role::Active(number as u16) } else { Role::Spare };
        let roles = (0..self.disks).map(active).collect();
        let mirror = Superblock {
            level: 1,
            raid_disks: slots,
            device_number: self.number as u32,
            roles,
            ..Superblock::default()
        };
        self.member(part, name, part.1 - MD_RESERVED - 16, mirror)
    }

    fn data_member(&self) -> anyhow::Result<()> {
        let half = self.options.raid.is_none() && self.options.mirror == Mirror::Half;
        let role = |role: usize| if half && role > 0 { Role::Faulty } else { Role::Active(role as u16) };
        let data = Superblock {
            level: self.shape.level,
            layout: self.shape.layout as i32,
            chunk: self.shape.chunk as u32,
            raid_disks: self.shape.disks as u32,
            device_number: self.slot as u32,
            roles: (0..self.shape.disks).map(role).collect(),
            ..Superblock::default()
        };
        self.member(self.array.partitions[2], &(self.index + 1).to_string(), self.array.component, data)
    }

    /// Writes a superblock: what all have in common is filled in.
    fn member(&self, part: Part, name: &str, size: u64, own: Superblock) -> anyhow::Result<()> {
        let place = place_1_0(Sectors(part.1)).context("partition too small for md")?;
        // Striped levels without redundancy use all they are given.
        let data_size = if matches!(own.level, -1 | 0) { size } else { place.0 - MD_RESERVED };
        let block = Superblock {
            array_uuid: uuid(&self.options.seed, &format!("md{name}")),
            name: name.into(),
            created: 1_600_000_000,
            size: Sectors(size),
            data_size: Sectors(data_size),
            super_offset: place,
            device_uuid: uuid(&self.options.seed, &format!("md{name} member {}", own.device_number)),
            bad_blocks_size: 8,
            bad_blocks_offset: -8,
            updated: 1_650_000_000,
            events: 4711,
            resync_offset: u64::MAX,
            checksum_ok: true,
            ..own
        };
        // An empty bad-block log is all ones.
        self.put(part.0 + place.0 - 8, &[0xff; 4096])?;
        self.put(part.0 + place.0, &block.encode())
    }
}

/// An array's data while they are written.
struct ArrayImage<'a> {
    file: File,
    array: &'a Array,
    options: &'a ForgeOptions,
    /// Of the array, from 0.
    index: usize,
}

impl Array {
    /// Writes the disks of array number `index` of `count` from its image, and adds them to `forged`.
    fn write_disks(
        &self,
        index: usize,
        count: usize,
        options: &ForgeOptions,
        out_dir: &Path,
        forged: &mut Forged,
    ) -> anyhow::Result<()> {
        let shape = shape(options);
        let per_array = if options.raid.is_none() && options.mirror == Mirror::Half { 1 } else { shape.disks };
        let image = out_dir.join(format!("array{}.md", index + 1));
        let first = forged.disks.len();
        for slot in 0..per_array {
            let path = out_dir.join(format!("array{}-disk{}.img", index + 1, slot + 1));
            let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
            let number = index * per_array + slot;
            let disk = Disk { file, array: self, shape, options, index, slot, number, disks: count * per_array };
            disk.write(&File::open(&image)?)?;
            forged.disks.push(path);
        }
        forged.arrays.push(ForgedArray {
            image,
            sectors: self.md_sectors,
            disks: (first..forged.disks.len()).collect(),
            partition: self.partitions[2],
        });
        Ok(())
    }

    fn write_image(
        &self,
        path: &Path,
        fixture: &Fixture,
        group: &Group<'_>,
        options: &ForgeOptions,
        index: usize,
        pv_sectors: &[u64],
    ) -> anyhow::Result<()> {
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_len(self.md_sectors * SECTOR)?;
        let image = ArrayImage { file, array: self, options, index };
        if options.drbd {
            image.drbd_tail()?;
        }
        image.physical_volume(group, pv_sectors)?;
        image.copy_images(fixture, group)
    }
}

impl ArrayImage<'_> {
    fn put(&self, sector: u64, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(bytes, sector * SECTOR)?)
    }

    fn drbd_tail(&self) -> anyhow::Result<()> {
        let (md, pv) = (self.array.md_sectors, self.array.pv_sectors);
        let place = drbd::place(Sectors(md)).context("array too small for DRBD")?;
        let tail = drbd::Tail { data_size: Sectors(pv), tail_size: (md - pv) as u32, unclean: false };
        self.put(place.0, &tail.encode())
    }

    fn physical_volume(&self, group: &Group<'_>, pv_sectors: &[u64]) -> anyhow::Result<()> {
        let options = self.options;
        let area = options.pe_start * SECTOR - AREA_START;
        let label = Label {
            sector: 1,
            checksum_ok: true,
            id: pv_id(options, self.index),
            device_size: Bytes(self.array.pv_sectors * SECTOR),
            data_areas: vec![Area { offset: Bytes(options.pe_start * SECTOR), size: Bytes(0) }],
            metadata_areas: vec![Area { offset: Bytes(AREA_START), size: Bytes(area) }],
            extension: 1,
        };
        self.put(1, &label.encode())?;
        let last = group.volumes.iter().rfind(|volume| volume.visible).map(|volume| volume.name.as_str());
        let older = group.text(SEQNO - 1, last, pv_sectors);
        let text = group.text(SEQNO, None, pv_sectors);
        let first = if options.wrap { wrapping_start(area, &older) } else { HEADER_BYTES };
        self.ring(area, first, &older)?;
        let offset = next_offset(Bytes(area), Bytes(first), Bytes(older.len() as u64)).context("no ring")?;
        self.ring(area, offset.0, &text)?;
        let (size, checksum) = (Bytes(text.len() as u64), lvm_crc::lvm_crc(&text));
        let header = AreaHeader {
            checksum_ok: true,
            start: Bytes(AREA_START),
            size: Bytes(area),
            committed: Some(Location { offset, size, checksum, flags: 0 }),
            precommitted: None,
        };
        self.put(AREA_START / SECTOR, &header.encode())
    }

    fn ring(&self, area: u64, offset: u64, text: &[u8]) -> anyhow::Result<()> {
        let stretches =
            ring_stretches(Bytes(area), Bytes(offset), Bytes(text.len() as u64)).context("text too long")?;
        let mut rest = text;
        for (at, length) in stretches {
            let (now, later) = rest.split_at(length.0 as usize);
            self.file.write_all_at(now, AREA_START + at.0)?;
            rest = later;
        }
        Ok(())
    }

    fn copy_images(&self, fixture: &Fixture, group: &Group<'_>) -> anyhow::Result<()> {
        for volume in &group.volumes {
            let Content::Extents(runs, Some(image)) = &volume.content else { continue };
            if runs.iter().all(|run| run.pv != self.index) {
                continue;
            }
            let extent = self.options.extent_sectors * SECTOR;
            let base = self.options.pe_start * SECTOR;
            let mut from = 0;
            let mut places = Vec::new();
            for run in runs {
                places.push((from, from + run.count * extent, base + run.first * extent));
                from += run.count * extent;
            }
            fixture.stream(image, |offset, block| write_split(&self.file, &places, offset, block))?;
        }
        Ok(())
    }
}

/// Where the older text must begin so that the one after it runs over the end of the ring.
fn wrapping_start(area: u64, older: &[u8]) -> u64 {
    (area - 1024) / SECTOR * SECTOR - (older.len() as u64 + SECTOR) / SECTOR * SECTOR
}

/// Writes a block of an image to the places (first byte, end, place on disk) it belongs to.
fn write_split(file: &File, places: &[(u64, u64, u64)], offset: u64, block: &[u8]) -> anyhow::Result<()> {
    let block_end = offset + block.len() as u64;
    for (from, to, disk) in places {
        let (start, end) = (offset.max(*from), block_end.min(*to));
        if start < end {
            let part = &block[(start - offset) as usize..(end - offset) as usize];
            file.write_all_at(part, disk + start - from)?;
        }
    }
    Ok(())
}
