//! md superblocks of version 0.90 ("docs/disk-layout", section 2.4): legacy firmware, mostly its system mirrors.
//!
//! Words of the machine that wrote them, little-endian on every QNAP but the first (PowerPC) ones. The structure knows no
//! name and no identity of a member, and ends 64 KiB before the end of the member, rounded down.

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::md::{MAGIC, Role, SUPERBLOCK_BYTES, Superblock};
use crate::units::Sectors;
use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// Members the table has room for.
const MAX_DISKS: u32 = 27;
const DISKS_AT: usize = 128 * 4;
const DISK_BYTES: usize = 32 * 4;
const THIS_DISK_AT: usize = 992 * 4;
const CHECKSUM_AT: usize = 38 * 4;

/// Bits of a member's state.
const FAULTY: u32 = 1;
const ACTIVE: u32 = 2;
const IN_SYNC: u32 = 4;
/// Bit of the array's state: shut down in order.
const CLEAN: u32 = 1;

/// What the table says of one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegacyDisk {
    /// Its place in the table.
    pub number: u32,
    /// Device number on the machine that wrote it; of no use elsewhere.
    pub major: u32,
    /// The other half of the device number.
    pub minor: u32,
    /// Its role.
    pub raid_disk: u32,
    /// Bits: 1 faulty, 2 active, 4 in sync, 8 removed.
    pub state: u32,
}

/// A version 0.90 superblock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Legacy {
    /// Written by a machine of the other byte order.
    pub swapped: bool,
    /// Minor version: 90, or 91 while a reshape is under way.
    pub version: u32,
    /// Identity of the array, its four words as mdadm prints them.
    pub array_uuid: [u8; 16],
    /// Creation time, seconds since 1970.
    pub created: u32,
    /// Level, as in [`Superblock::level`].
    pub level: i32,
    /// KiB used of each member.
    pub size: u32,
    /// Members in the table.
    pub nr_disks: u32,
    /// Members the array should have.
    pub raid_disks: u32,
    /// Number of the md device: "md0".
    pub minor: u32,
    /// Time of the last update, seconds since 1970.
    pub updated: u32,
    /// Bits; bit 0: shut down in order.
    pub state: u32,
    /// Event counter.
    pub events: u64,
    /// First sector not known to be in sync, unless clean.
    pub recovery: u32,
    /// Array KiB already reshaped (version 91).
    pub reshape_position: u64,
    /// Layout of the level.
    pub layout: u32,
    /// Chunk size in bytes.
    pub chunk: u32,
    /// The table of members.
    pub disks: Vec<LegacyDisk>,
    /// This member, as the table has it.
    pub this_disk: LegacyDisk,
    /// Whether the checksum is right.
    pub checksum_ok: bool,
}

/// First sector of a version 0.90 superblock on a member of exactly this size.
pub fn place_0_90(member: Sectors) -> Option<Sectors> {
    (member.0 & !127).checked_sub(128).map(Sectors)
}

impl Legacy {
    /// Reads a version 0.90 superblock of either byte order. A wrong checksum is told, not refused.
    ///
    /// # Errors
    /// When the bytes are too few, the magic or version is another, or there are more members than the table holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("md superblock 0.90", bytes);
        let whole = fields.bytes("superblock", 0, SUPERBLOCK_BYTES)?;
        let swapped = fields.u32_be("magic", 0)? == MAGIC;
        let native: Vec<u8> = match swapped {
            true => whole.chunks_exact(4).flat_map(|word| BigEndian::read_u32(word).to_le_bytes()).collect(),
            false => whole.to_vec(),
        };
        let fields = Fields::new("md superblock 0.90", &native);
        fields.magic("magic", 0, &MAGIC.to_le_bytes())?;
        let major = fields.u32("version", 4)?;
        if major != 0 {
            return Err(fields.error("version", 4, 0, major));
        }
        let raid_disks = fields.u32("number of members", 40)?;
        if raid_disks > MAX_DISKS {
            return Err(fields.error("number of members", 40, format!("at most {MAX_DISKS}"), raid_disks));
        }
        Self::decode_fields(&fields, swapped, checksum(&native))
    }

    fn decode_fields(fields: &Fields<'_>, swapped: bool, checksum: u32) -> Result<Self, DecodeError> {
        let word = |name, number: usize| fields.u32(name, number.saturating_mul(4));
        // Of two words the higher comes first on a big-endian machine.
        let pair = |name, number: usize| -> Result<u64, DecodeError> {
            let (one, two) = (word(name, number)?, word(name, number.saturating_add(1))?);
            let (low, high) = if swapped { (two, one) } else { (one, two) };
            Ok(u64::from(high) << 32 | u64::from(low))
        };
        // Words of the machine's byte order, which all tools print as numbers.
        let uuid = [word("uuid", 5)?, word("uuid", 13)?, word("uuid", 14)?, word("uuid", 15)?].map(u32::to_be_bytes);
        let places = (0..MAX_DISKS as usize).map(|index| DISKS_AT.saturating_add(index.saturating_mul(DISK_BYTES)));
        Ok(Self {
            swapped,
            version: word("version", 2)?,
            array_uuid: Fields::new("md superblock 0.90", &uuid.concat()).array("uuid", 0)?,
            created: word("creation time", 6)?,
            level: fields.i32("level", 28)?,
            size: word("size", 8)?,
            nr_disks: word("members", 9)?,
            raid_disks: word("number of members", 10)?,
            minor: word("minor", 11)?,
            updated: word("update time", 32)?,
            state: word("state", 33)?,
            events: pair("events", 39)?,
            recovery: word("recovery", 43)?,
            reshape_position: pair("reshape position", 44)?,
            layout: word("layout", 64)?,
            chunk: word("chunk size", 65)?,
            disks: places.map(|at| disk(fields, at)).collect::<Result<_, _>>()?,
            this_disk: disk(fields, THIS_DISK_AT)?,
            checksum_ok: fields.u32("checksum", CHECKSUM_AT)? == checksum,
        })
    }

    /// Writes the superblock, little-endian or swapped, with a right checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SUPERBLOCK_BYTES];
        let mut word = |number: usize, value: u32| put(&mut out, number.saturating_mul(4), &value.to_le_bytes());
        let (low, high) = (self.events as u32, (self.events >> 32) as u32);
        let events = if self.swapped { [high, low] } else { [low, high] };
        let (low, high) = (self.reshape_position as u32, (self.reshape_position >> 32) as u32);
        let reshape = if self.swapped { [high, low] } else { [low, high] };
        let fixed = [(0, MAGIC), (2, self.version), (6, self.created), (7, self.level as u32), (8, self.size)];
        let counts =
            [(9, self.nr_disks), (10, self.raid_disks), (11, self.minor), (32, self.updated), (33, self.state)];
        let rest = [(39, events[0]), (40, events[1]), (43, self.recovery), (44, reshape[0]), (45, reshape[1])];
        let shape = [(64, self.layout), (65, self.chunk)];
        fixed.iter().chain(&counts).chain(&rest).chain(&shape).for_each(|(number, value)| word(*number, *value));
        let this = [(THIS_DISK_AT, &self.this_disk)].into_iter();
        let table = self.disks.iter().take(MAX_DISKS as usize).enumerate();
        let table = table.map(|(index, disk)| (DISKS_AT.saturating_add(index.saturating_mul(DISK_BYTES)), disk));
        for (at, disk) in table.chain(this) {
            let words = [disk.number, disk.major, disk.minor, disk.raid_disk, disk.state];
            put(&mut out, at, &words.map(u32::to_le_bytes).concat());
        }
        for (number, bytes) in [5, 13, 14, 15].into_iter().zip(self.array_uuid.chunks(4)) {
            let value = u32::from_be_bytes(bytes.try_into().unwrap_or_default());
            put(&mut out, usize::saturating_mul(number, 4), &value.to_le_bytes());
        }
        let sum = checksum(&out);
        put(&mut out, CHECKSUM_AT, &sum.to_le_bytes());
        match self.swapped {
            true => out.chunks_exact(4).flat_map(|word| LittleEndian::read_u32(word).to_be_bytes()).collect(),
            false => out,
        }
    }

    /// The same facts as a version 1 superblock has them, for a member of exactly this size.
    ///
    /// There is no name, so the number of the md device stands for it, and no identity of the member, so its place in the
    /// table does.
    pub fn to_superblock(&self, member: Sectors) -> Superblock {
        let place = place_0_90(member).unwrap_or_default();
        let mut device_uuid = [0; 16];
        for (to, from) in device_uuid.iter_mut().zip(self.this_disk.number.to_le_bytes()) {
            *to = from;
        }
        let reshaping = self.version > 90;
        let size = Sectors(u64::from(self.size).saturating_mul(2));
        Superblock {
            features: if reshaping { crate::md::FEATURE_RESHAPE } else { 0 },
            array_uuid: self.array_uuid,
            name: self.minor.to_string(),
            created: self.created.into(),
            level: self.level,
            layout: self.layout as i32,
            // Levels without redundancy use all of every member.
            size: if self.level > 0 { size } else { place },
            chunk: self.chunk / 512,
            raid_disks: self.raid_disks,
            reshape_position: if reshaping { self.reshape_position } else { 0 },
            data_size: place,
            super_offset: place,
            device_number: self.this_disk.number,
            device_uuid,
            updated: self.updated.into(),
            events: self.events,
            resync_offset: if self.state & CLEAN != 0 { u64::MAX } else { self.recovery.into() },
            checksum_ok: self.checksum_ok,
            roles: self.roles(),
            ..Superblock::default()
        }
    }

    /// Role of each place of the table.
    fn roles(&self) -> Vec<Role> {
        let role = |disk: &LegacyDisk| match disk.state {
            state if state & FAULTY != 0 => Role::Faulty,
            state if state & (ACTIVE | IN_SYNC) == ACTIVE | IN_SYNC => {
                u16::try_from(disk.raid_disk).map_or(Role::Spare, Role::Active)
            }
            _ => Role::Spare,
        };
        self.disks.iter().map(role).collect()
    }
}

fn disk(fields: &Fields<'_>, at: usize) -> Result<LegacyDisk, DecodeError> {
    let word = |index: usize| fields.u32("member", at.saturating_add(index.saturating_mul(4)));
    Ok(LegacyDisk { number: word(0)?, major: word(1)?, minor: word(2)?, raid_disk: word(3)?, state: word(4)? })
}

/// Sum of all words without the checksum's own, folded once.
fn checksum(native: &[u8]) -> u32 {
    let words = native.chunks_exact(4).enumerate();
    let others = words.filter(|(index, _)| index.saturating_mul(4) != CHECKSUM_AT);
    let sum = others.fold(0u64, |sum, (_, word)| sum.wrapping_add(LittleEndian::read_u32(word).into()));
    ((sum & 0xffff_ffff).wrapping_add(sum >> 32) & 0xffff_ffff) as u32
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::md::colons;
    use proptest::prelude::*;

    fn sample(swapped: bool) -> Legacy {
        let disk =
            |number: u32, state| LegacyDisk { number, major: 8, minor: number * 16 + 3, raid_disk: number, state };
        let mut disks = vec![disk(0, 6), disk(1, 6), disk(2, 1), disk(3, 0)];
        disks.resize(27, LegacyDisk::default());
        Legacy {
            swapped,
            version: 90,
            array_uuid: *b"0123456789abcdef",
            created: 1_200_000_000,
            level: 5,
            size: 3_000_000_000,
            nr_disks: 3,
            raid_disks: 3,
            minor: 0,
            updated: 1_300_000_000,
            state: 1,
            events: 0x1_0000_0005,
            recovery: 0,
            reshape_position: 7,
            layout: 2,
            chunk: 65536,
            this_disk: disk(1, 6),
            disks,
            checksum_ok: true,
        }
    }

    #[test]
    fn both_byte_orders_come_back() {
        assert_eq!(place_0_90(Sectors(1000)), Some(Sectors(896 - 128)));
        assert_eq!(place_0_90(Sectors(127)), None);
        for swapped in [false, true] {
            let bytes = sample(swapped).encode();
            assert_eq!(bytes.starts_with(&MAGIC.to_be_bytes()), swapped);
            // mdadm and blkid print words, so what they print is in the bytes of a big-endian machine only.
            assert_eq!(bytes[20..24], if swapped { *b"0123" } else { *b"3210" });
            assert_eq!(bytes[52..56], if swapped { *b"4567" } else { *b"7654" });
            assert_eq!(Legacy::decode(&bytes).unwrap(), sample(swapped));
            for place in [30, 600, 4095] {
                let mut broken = bytes.clone();
                broken[place] ^= 1;
                assert!(!Legacy::decode(&broken).unwrap().checksum_ok, "byte {place}");
            }
        }
    }

    #[test]
    fn it_says_the_same_as_a_newer_superblock() {
        let block = sample(false).to_superblock(Sectors(6_000_001_000));
        assert_eq!((block.name.as_str(), block.level, block.layout, block.chunk), ("0", 5, 2, 128));
        assert_eq!(
            (block.size, block.data_offset, block.role()),
            (Sectors(6_000_000_000), Sectors(0), Role::Active(1))
        );
        assert_eq!(block.roles[..4], [Role::Active(0), Role::Active(1), Role::Faulty, Role::Spare]);
        assert_eq!((block.events, block.resync_offset), (0x1_0000_0005, u64::MAX));
        assert_eq!(colons(&block.array_uuid), "30313233:34353637:38396162:63646566");
        let striped = Legacy { level: 0, state: 0, recovery: 3, ..sample(false) }.to_superblock(Sectors(1000));
        assert_eq!((striped.size, striped.data_size, striped.resync_offset), (Sectors(768), Sectors(768), 3));
    }

    #[test]
    fn too_many_members_and_short_structures_are_refused() {
        let many = Legacy { raid_disks: 28, ..sample(false) }.encode();
        assert!(Legacy::decode(&many).unwrap_err().to_string().contains("at most 27"));
        let bytes = sample(false).encode();
        assert!((0..4096).step_by(13).all(|length| Legacy::decode(&bytes[..length]).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 4096..4100), swapped: bool, size: u64) {
            let mut bytes = bytes;
            put(&mut bytes, 0, &if swapped { MAGIC.to_be_bytes() } else { MAGIC.to_le_bytes() });
            put(&mut bytes, 4, &[0; 4]);
            put(&mut bytes, 40, &[0; 4]);
            let legacy = Legacy::decode(&bytes).unwrap();
            prop_assert_eq!(legacy.swapped, swapped);
            let _ = legacy.to_superblock(Sectors(size));
        }
    }
}
