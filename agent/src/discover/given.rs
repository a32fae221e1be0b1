//! Arrays the user names member by member, where superblocks are gone or are not to be believed ("docs/disk-layout, section
//! 2.10"). Nothing overrides them: what samples say against them is told, and they are read all the same.

use super::{Search, arrays};
use crate::inventory::{Disk, Extents, PvPlace};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use tierlift_ondisk::md::{FEATURE_RAID0_LAYOUT, Role, Superblock, place_1_0};
use tierlift_ondisk::raid::Geometry;
use tierlift_ondisk::units::Sectors;

/// Sectors of a chunk are taken for granted up to here: 1 GiB.
const MAX_CHUNK_KIB: u64 = 1 << 20;
/// The partition QNAP's firmware keeps data on.
const DATA_PARTITION: u32 = 3;
/// Layouts by mdadm's names, for levels 5 and 6.
const LAYOUTS: [(&str, u32); 4] =
    [("left-asymmetric", 0), ("right-asymmetric", 1), ("left-symmetric", 2), ("right-symmetric", 3)];

/// An array as the user names it: `LEVEL:CHUNK_KIB:LAYOUT:MEMBER,MEMBER,…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenArray {
    /// -1 linear, 0, 1, 4, 5, 6, 10.
    pub level: i32,
    /// Chunk size; 0 where the level has none.
    pub chunk: Sectors,
    /// md's number of the layout.
    pub layout: u32,
    /// By role: a disk (its data partition is meant), `DISKpN` for another partition of it; `None` for a missing member.
    pub members: Vec<Option<String>>,
}

impl FromStr for GivenArray {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "an array is written LEVEL:CHUNK_KIB:LAYOUT:DISK,DISK,missing,..., as in \
                    5:512:left-symmetric:/dev/vda,/dev/vdb,missing,/dev/vdd";
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().map(str::trim).ok_or(form);
        let (level, chunk, layout, members) = (next()?, next()?, next()?, next()?);
        let level = match level.strip_prefix("raid").unwrap_or(level) {
            "linear" => -1,
            number => number.parse().map_err(|_| form)?,
        };
        let kib: u64 = if chunk == "-" { 0 } else { chunk.parse().map_err(|_| form)? };
        if kib > MAX_CHUNK_KIB {
            return Err(format!("chunks of {kib} KiB are larger than any array's"));
        }
        let members: Vec<Option<String>> = members
            .split(',')
            .map(|member| (!matches!(member.trim(), "missing" | "")).then(|| member.trim().to_owned()))
            .collect();
        let given = Self { level, chunk: Sectors(kib.saturating_mul(2)), layout: read_layout(level, layout)?, members };
        let components = vec![Sectors(1 << 30); given.members.len()];
        let geometry = Geometry::new(given.level, given.layout, given.chunk, &components);
        let present: Vec<bool> = given.members.iter().map(Option::is_some).collect();
        match geometry {
            Err(error) => Err(error.to_string()),
            Ok(geometry) if !geometry.can_start(&present) => Err("too many of its members are missing".into()),
            Ok(_) => Ok(given),
        }
    }
}

fn read_layout(level: i32, text: &str) -> Result<u32, String> {
    let usual = match level {
        5 | 6 => 2,
        10 => 0x102,
        _ => 0,
    };
    let named = LAYOUTS.iter().find(|(name, _)| *name == text && matches!(level, 5 | 6));
    let number = || match text.strip_prefix("0x") {
        Some(number) => u32::from_str_radix(number, 16).ok(),
        None => text.parse().ok(),
    };
    match (text, named) {
        ("" | "-", _) => Ok(usual),
        (_, Some((_, number))) => Ok(*number),
        _ => number().ok_or_else(|| format!("'{text}' is no layout; write - for the usual one")),
    }
}

impl fmt::Display for GivenArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level < 0 { "linear".to_owned() } else { self.level.to_string() };
        let named = LAYOUTS.iter().find(|(_, number)| *number == self.layout && matches!(self.level, 5 | 6));
        let layout = match named {
            Some((name, _)) => (*name).to_owned(),
            None if self.layout == 0 => "-".into(),
            None => format!("{:#x}", self.layout),
        };
        let members = self.members.iter().map(|member| member.as_deref().unwrap_or("missing"));
        write!(f, "{level}:{}:{layout}:{}", self.chunk.0 / 2, members.collect::<Vec<_>>().join(","))
    }
}

impl GivenArray {
    fn uuid(&self) -> [u8; 16] {
        let digest = Sha256::digest(format!("tierlift given {self}"));
        digest.get(..16).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
    }

    /// Sectors of data of a member of this length: the superblock of version 1.0 at its end is no data.
    pub(super) fn component(&self, length: Sectors) -> Option<Sectors> {
        let end = place_1_0(length)?.0;
        let odd = if self.chunk.0 > 0 { end.checked_rem(self.chunk.0)? } else { 0 };
        Some(Sectors(end.saturating_sub(odd)))
    }

    /// A superblock that says what the user says, for each member that is there.
    fn superblocks(&self, number: usize, places: &[Option<Extents>]) -> Option<Vec<(Extents, Superblock)>> {
        let own = |place: &Extents| self.component(place.length);
        let smallest = places.iter().flatten().filter_map(own).min()?;
        let roles = places.iter().enumerate().map(|(role, place)| match (place, u16::try_from(role)) {
            (Some(_), Ok(role)) => Role::Active(role),
            _ => Role::Faulty,
        });
        let roles: Vec<Role> = roles.collect();
        let block = |(role, place): (usize, &Option<Extents>)| {
            let place = place.clone()?;
            let said = self.level == 0 && self.layout > 0;
            let block = Superblock {
                features: if said { FEATURE_RAID0_LAYOUT } else { 0 },
                array_uuid: self.uuid(),
                name: format!("given{number}"),
                level: self.level,
                layout: i32::try_from(self.layout).ok()?,
                size: smallest,
                data_size: own(&place)?,
                chunk: u32::try_from(self.chunk.0).ok()?,
                raid_disks: u32::try_from(self.members.len()).ok()?,
                super_offset: place_1_0(place.length)?,
                device_number: u32::try_from(role).ok()?,
                device_uuid: [u8::try_from(role.checked_rem(256)?).ok()?; 16],
                events: 1,
                resync_offset: u64::MAX,
                checksum_ok: true,
                roles: roles.clone(),
                ..Superblock::default()
            };
            Some((place, block))
        };
        Some(places.iter().enumerate().filter_map(block).collect())
    }
}

impl Search {
    /// Makes members of what the user names, whatever was found there.
    pub(super) fn add_given(&mut self, given: &[GivenArray]) -> anyhow::Result<()> {
        for (number, array) in (1..).zip(given) {
            let find =
                |name: &Option<String>| name.as_ref().map(|name| place_of(&self.inventory.disks, name)).transpose();
            let places = array.members.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
            if let Some(twice) = twice(&places) {
                bail!("{}: two members of the array you gave are the same", self.spoken(&twice));
            }
            let members =
                array.superblocks(number, &places).context("the members of the array you gave are too small")?;
            for (place, block) in members {
                self.take_over(place, block);
            }
            let uuid = array.uuid();
            self.given.insert(Superblock { array_uuid: uuid, ..Superblock::default() }.array_id(), array.to_string());
        }
        Ok(())
    }

    fn take_over(&mut self, place: Extents, block: Superblock) {
        let here = |other: &Extents| other.disk == place.disk && other.start == place.start;
        self.members.retain(|found| !here(&found.place));
        self.volumes.retain(|found| !matches!(&found.place, PvPlace::Direct(other) if here(other)));
        let found = arrays::Found {
            place: place.clone(),
            on_array: None,
            version: "1.0",
            block,
            shift: Sectors(0),
            swapped: false,
            bad_blocks: Vec::new(),
        };
        let text = format!("{}, as you gave it", found.describe());
        self.members.push(found);
        let Some(disk) = self.inventory.disks.get_mut(place.disk) else { return };
        match disk.partitions.iter_mut().find(|partition| partition.start == place.start) {
            Some(partition) => partition.content = text,
            None => disk.content = Some(text),
        }
    }

    fn spoken(&self, place: &Extents) -> String {
        self.inventory.disks.get(place.disk).map(|disk| disk.path.display().to_string()).unwrap_or_default()
    }
}

fn twice(places: &[Option<Extents>]) -> Option<Extents> {
    let here: Vec<&Extents> = places.iter().flatten().collect();
    let again = |(index, place): (usize, &&Extents)| here.iter().take(index).any(|other| other == place);
    here.iter().enumerate().find(|(index, place)| again((*index, place))).map(|(_, place)| (*place).clone())
}

/// The partition a member's name means.
fn place_of(disks: &[Disk], name: &str) -> anyhow::Result<Extents> {
    let whole = disks.iter().position(|disk| disk.path.as_os_str() == name);
    let part = || {
        disks.iter().enumerate().find_map(|(index, disk)| {
            let rest = name.strip_prefix(disk.path.to_str()?)?;
            Some((index, rest.strip_prefix('p').unwrap_or(rest).parse::<u32>().ok()?))
        })
    };
    let (index, number) = match whole {
        Some(index) => (index, None),
        None => {
            let (index, number) =
                part().with_context(|| format!("'{name}' is none of the disks that were looked at"))?;
            (index, Some(number))
        }
    };
    let disk = disks.get(index).context("no such disk")?;
    match number {
        None => Ok(data_place(index, disk)),
        Some(number) => {
            let partition = disk.partitions.iter().find(|partition| partition.number == number);
            let partition =
                partition.with_context(|| format!("{}: there is no partition {number}", disk.path.display()))?;
            Ok(Extents { disk: index, start: partition.start, length: partition.length })
        }
    }
}

/// Where the data of a disk are: the third partition, else the largest, else all of it.
pub(super) fn data_place(index: usize, disk: &Disk) -> Extents {
    let third = disk.partitions.iter().find(|partition| partition.number == DATA_PARTITION);
    let largest = disk.partitions.iter().max_by_key(|partition| partition.length);
    match third.or(largest) {
        Some(partition) => Extents { disk: index, start: partition.start, length: partition.length },
        None => Extents { disk: index, start: Sectors(0), length: disk.size.to_sectors() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "5:512:left-symmetric:/dev/vda,/dev/vdb,missing,/dev/vdd",
            "6:64:right-asymmetric:a.img,b.img,c.imgp2,missing,missing",
            "0:64:-:a,b",
            "10:512:0x102:a,missing,c,d",
            "1:0:-:a,missing",
            "linear:0:-:a,b",
        ] {
            assert_eq!(text.parse::<GivenArray>().unwrap().to_string(), text);
        }
        let usual: GivenArray = "raid5:64:-:a,b,c".parse().unwrap();
        assert_eq!((usual.layout, usual.chunk), (2, Sectors(128)));
    }

    #[test]
    fn what_makes_no_array_is_refused() {
        for text in
            ["", "5", "5:64:a,b,c", "7:64:-:a,b", "5:63:-:a,b,c", "5:64:sideways:a,b,c", "5:64:-:a,missing,missing"]
        {
            assert!(text.parse::<GivenArray>().is_err(), "{text}");
        }
        assert!("5:99999999999:-:a,b,c".parse::<GivenArray>().is_err());
    }
}
