//! md superblocks ("docs/disk-layout").
//!
//! QNAP writes version 1.0: the superblock lies at the END of the member, so the data begin at its very start and a short
//! copy loses the superblock first. Versions 1.1 and 1.2 are the same structure at the start of the member; 0.90 is another
//! one, met on legacy firmware. QNAP stores a private role, "rescue": failed, yet used read-only.

pub use crate::md_legacy::{Legacy, place_0_90};

use crate::DecodeError;
use crate::field::{Fields, hex, put};
use crate::units::Sectors;
use byteorder::{ByteOrder, LittleEndian};

/// Bytes to read for a superblock, whatever its version.
pub const SUPERBLOCK_BYTES: usize = 4096;
/// Magic number of every version.
pub const MAGIC: u32 = 0xa92b_4efc;
/// Feature bit: the member has a write-intent bitmap.
pub const FEATURE_BITMAP: u32 = 1;
/// Feature bit: `recovery_offset` is valid, the member is not fully rebuilt.
pub const FEATURE_RECOVERING: u32 = 2;
/// Feature bit: a reshape is under way.
pub const FEATURE_RESHAPE: u32 = 4;
/// Feature bit: the bad-block log has entries.
pub const FEATURE_BAD_BLOCKS: u32 = 8;
/// Feature bit: the reshape runs from the end to the start.
pub const FEATURE_RESHAPE_BACKWARDS: u32 = 0x20;
/// Feature bit: the layout of a RAID 0 array of unequal members is told.
pub const FEATURE_RAID0_LAYOUT: u32 = 0x1000;
/// Feature bit: the reshape moves the data on each member.
pub const FEATURE_NEW_OFFSET: u32 = 0x40;

const FIXED_BYTES: usize = 256;
const MAX_DEVICES: u32 = 1920;
const CHECKSUM_AT: usize = 216;
const RESCUE_FIRST: u16 = 0xff01;
const RESCUE_LAST: u16 = 0xfffc;
const JOURNAL: u16 = 0xfffd;
const FAULTY: u16 = 0xfffe;
const SPARE: u16 = 0xffff;

/// What a member is in its array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In use, in this role.
    Active(u16),
    /// QNAP: failed with no redundancy left, kept read-only in this role.
    Rescue(u16),
    /// Journal device.
    Journal,
    /// Failed or gone.
    Faulty,
    /// Spare or never there.
    Spare,
}

impl From<u16> for Role {
    fn from(value: u16) -> Self {
        match value {
            SPARE => Self::Spare,
            FAULTY => Self::Faulty,
            JOURNAL => Self::Journal,
            RESCUE_FIRST..=RESCUE_LAST => Self::Rescue(value.wrapping_sub(RESCUE_FIRST)),
            role => Self::Active(role),
        }
    }
}

impl From<Role> for u16 {
    fn from(role: Role) -> Self {
        match role {
            Role::Active(role) => role,
            Role::Rescue(role) => RESCUE_FIRST.saturating_add(role).min(RESCUE_LAST),
            Role::Journal => JOURNAL,
            Role::Faulty => FAULTY,
            Role::Spare => SPARE,
        }
    }
}

/// What an array is being turned into (valid with [`FEATURE_RESHAPE`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reshape {
    /// The level it will have.
    pub level: i32,
    /// Members it gains, negative for those it loses.
    pub delta_disks: i32,
    /// The layout it will have.
    pub layout: i32,
    /// The chunk size it will have, in sectors.
    pub chunk: u32,
    /// Sectors the data move on each member (with [`FEATURE_NEW_OFFSET`]).
    pub offset: i32,
}

/// A version 1 superblock: the fields a read-only recovery needs, in the order they lie on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Superblock {
    /// Feature bits.
    pub features: u32,
    /// Identity of the array; the only thing to group members by.
    pub array_uuid: [u8; 16],
    /// Name; QNAP's is a plain number.
    pub name: String,
    /// Creation time, seconds since 1970.
    pub created: u64,
    /// -1 linear, 0, 1, 4, 5, 6, 10.
    pub level: i32,
    /// Layout of the level.
    pub layout: i32,
    /// Sectors used of each member.
    pub size: Sectors,
    /// Chunk size in sectors.
    pub chunk: u32,
    /// Members the array should have.
    pub raid_disks: u32,
    /// Place of the write-intent bitmap, in sectors from the superblock (with [`FEATURE_BITMAP`]).
    pub bitmap_offset: i32,
    /// Array sectors already reshaped (with [`FEATURE_RESHAPE`]).
    pub reshape_position: u64,
    /// What a reshape leads to.
    pub reshape: Reshape,
    /// First data sector of the member.
    pub data_offset: Sectors,
    /// Sectors available for data.
    pub data_size: Sectors,
    /// Where the superblock says it lies.
    pub super_offset: Sectors,
    /// Sectors rebuilt (with [`FEATURE_RECOVERING`]).
    pub recovery_offset: u64,
    /// This member's place in `roles`.
    pub device_number: u32,
    /// Identity of this member.
    pub device_uuid: [u8; 16],
    /// Left shift of the numbers in the bad-block log.
    pub bad_blocks_shift: u8,
    /// Size of the bad-block log in sectors.
    pub bad_blocks_size: u16,
    /// Place of the bad-block log, in sectors from the superblock; 0 for none.
    pub bad_blocks_offset: i32,
    /// Time of the last update, seconds since 1970.
    pub updated: u64,
    /// Event counter; QNAP's md freezes it in some states, so it alone proves nothing.
    pub events: u64,
    /// First sector not known to be in sync; all ones when clean.
    pub resync_offset: u64,
    /// Whether the checksum is right.
    pub checksum_ok: bool,
    /// QNAP's private word; not 0 makes stock kernels refuse the member.
    pub qnap_feature: u32,
    /// Role of each device number.
    pub roles: Vec<Role>,
}

/// First sector of a version 1.0 superblock on a member of exactly this size; `None` when the member is too small.
pub fn place_1_0(member: Sectors) -> Option<Sectors> {
    member.0.checked_sub(16).map(|sector| Sectors(sector & !7))
}

impl Superblock {
    /// Reads a superblock of version 1.x. A wrong checksum is told, not refused.
    ///
    /// # Errors
    /// When the bytes are too few, the magic or version is another, or the table of roles cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("md superblock", bytes);
        fields.magic("magic", 0, &MAGIC.to_le_bytes())?;
        let major = fields.u32("version", 4)?;
        if major != 1 {
            return Err(fields.error("version", 4, 1, major));
        }
        let devices = fields.u32("number of roles", 220)?;
        if devices > MAX_DEVICES {
            return Err(fields.error("number of roles", 220, format!("at most {MAX_DEVICES}"), devices));
        }
        let table = fields.bytes("roles", FIXED_BYTES, (devices as usize).saturating_mul(2))?;
        let covered = fields.bytes("superblock", 0, FIXED_BYTES.saturating_add(table.len()))?;
        let roles = table.chunks_exact(2).map(|role| Role::from(LittleEndian::read_u16(role))).collect();
        let checksum_ok = fields.u32("checksum", CHECKSUM_AT)? == checksum(covered);
        Self::decode_fields(&fields, roles, checksum_ok)
    }

    fn decode_fields(fields: &Fields<'_>, roles: Vec<Role>, checksum_ok: bool) -> Result<Self, DecodeError> {
        let name = fields.bytes("name", 32, 32)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self {
            features: fields.u32("features", 8)?,
            array_uuid: fields.array("array uuid", 16)?,
            name: String::from_utf8_lossy(name).into_owned(),
            created: seconds(fields.u64("creation time", 64)?),
            level: fields.i32("level", 72)?,
            layout: fields.i32("layout", 76)?,
            size: Sectors(fields.u64("size", 80)?),
            chunk: fields.u32("chunk size", 88)?,
            raid_disks: fields.u32("number of members", 92)?,
            bitmap_offset: fields.i32("bitmap", 96)?,
            reshape_position: fields.u64("reshape position", 104)?,
            reshape: Reshape {
                level: fields.i32("new level", 100)?,
                delta_disks: fields.i32("members added", 112)?,
                layout: fields.i32("new layout", 116)?,
                chunk: fields.u32("new chunk size", 120)?,
                offset: fields.i32("new offset", 124)?,
            },
            data_offset: Sectors(fields.u64("data offset", 128)?),
            data_size: Sectors(fields.u64("data size", 136)?),
            super_offset: Sectors(fields.u64("own place", 144)?),
            recovery_offset: fields.u64("recovery offset", 152)?,
            device_number: fields.u32("device number", 160)?,
            device_uuid: fields.array("device uuid", 168)?,
            bad_blocks_shift: fields.array::<1>("bad-block log shift", 185)?[0],
            bad_blocks_size: fields.u16("bad-block log size", 186)?,
            bad_blocks_offset: fields.i32("bad-block log", 188)?,
            updated: seconds(fields.u64("update time", 192)?),
            events: fields.u64("events", 200)?,
            resync_offset: fields.u64("resync offset", 208)?,
            checksum_ok,
            qnap_feature: fields.u32("QNAP feature word", 224)?,
            roles,
        })
    }

    /// Writes the superblock with a right checksum; without counters of corrected reads, device flags and journal.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SUPERBLOCK_BYTES];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 4, &1u32.to_le_bytes());
        put(&mut out, 8, &self.features.to_le_bytes());
        put(&mut out, 16, &self.array_uuid);
        put(&mut out, 32, self.name.as_bytes().get(..32).unwrap_or(self.name.as_bytes()));
        put(&mut out, 64, &self.created.to_le_bytes());
        put(&mut out, 72, &self.level.to_le_bytes());
        put(&mut out, 76, &self.layout.to_le_bytes());
        put(&mut out, 80, &self.size.0.to_le_bytes());
        put(&mut out, 88, &self.chunk.to_le_bytes());
        put(&mut out, 92, &self.raid_disks.to_le_bytes());
        put(&mut out, 96, &self.bitmap_offset.to_le_bytes());
        put(&mut out, 100, &self.reshape.level.to_le_bytes());
        put(&mut out, 104, &self.reshape_position.to_le_bytes());
        put(&mut out, 112, &self.reshape.delta_disks.to_le_bytes());
        put(&mut out, 116, &self.reshape.layout.to_le_bytes());
        put(&mut out, 120, &self.reshape.chunk.to_le_bytes());
        put(&mut out, 124, &self.reshape.offset.to_le_bytes());
        put(&mut out, 128, &self.data_offset.0.to_le_bytes());
        put(&mut out, 136, &self.data_size.0.to_le_bytes());
        put(&mut out, 144, &self.super_offset.0.to_le_bytes());
        put(&mut out, 152, &self.recovery_offset.to_le_bytes());
        put(&mut out, 160, &self.device_number.to_le_bytes());
        put(&mut out, 168, &self.device_uuid);
        put(&mut out, 185, &[self.bad_blocks_shift]);
        put(&mut out, 186, &self.bad_blocks_size.to_le_bytes());
        put(&mut out, 188, &self.bad_blocks_offset.to_le_bytes());
        put(&mut out, 192, &self.updated.to_le_bytes());
        put(&mut out, 200, &self.events.to_le_bytes());
        put(&mut out, 208, &self.resync_offset.to_le_bytes());
        put(&mut out, 220, &(self.roles.len() as u32).to_le_bytes());
        put(&mut out, 224, &self.qnap_feature.to_le_bytes());
        let table: Vec<u8> = self.roles.iter().flat_map(|role| u16::from(*role).to_le_bytes()).collect();
        put(&mut out, FIXED_BYTES, &table);
        let sum = checksum(out.get(..FIXED_BYTES.saturating_add(table.len())).unwrap_or_default());
        put(&mut out, CHECKSUM_AT, &sum.to_le_bytes());
        out
    }

    /// This member's own role.
    pub fn role(&self) -> Role {
        self.roles.get(self.device_number as usize).copied().unwrap_or(Role::Spare)
    }

    /// The array's identity as mdadm prints it.
    pub fn array_id(&self) -> String {
        colons(&self.array_uuid)
    }
}

/// Identity as mdadm prints it: four groups of eight digits.
pub fn colons(uuid: &[u8; 16]) -> String {
    uuid.chunks(4).map(hex).collect::<Vec<_>>().join(":")
}

/// Times keep microseconds in the upper 24 bits.
fn seconds(time: u64) -> u64 {
    time & 0xff_ffff_ffff
}

/// Sum of 32-bit words without the checksum's own, folded once; a trailing half word counts as it is.
fn checksum(covered: &[u8]) -> u32 {
    let own = CHECKSUM_AT..CHECKSUM_AT.saturating_add(4);
    let mut sum = 0u64;
    for (index, word) in covered.chunks(4).enumerate() {
        let value = match word.len() {
            4 if !own.contains(&index.saturating_mul(4)) => u64::from(LittleEndian::read_u32(word)),
            2 => u64::from(LittleEndian::read_u16(word)),
            _ => 0,
        };
        sum = sum.wrapping_add(value);
    }
    ((sum & 0xffff_ffff).wrapping_add(sum >> 32) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(roles: Vec<Role>) -> Superblock {
        Superblock {
            features: 0,
            array_uuid: *b"0123456789abcdef",
            name: "1".into(),
            created: 1_600_000_000,
            level: 1,
            layout: 0,
            size: Sectors(2000),
            chunk: 0,
            raid_disks: 2,
            reshape_position: u64::MAX,
            bitmap_offset: 8,
            reshape: Reshape { level: 6, delta_disks: -1, layout: 2, chunk: 128, offset: -3 },
            bad_blocks_shift: 3,
            data_offset: Sectors(0),
            data_size: Sectors(2000),
            super_offset: Sectors(2264),
            recovery_offset: 0,
            device_number: 0,
            device_uuid: *b"fedcba9876543210",
            bad_blocks_size: 8,
            bad_blocks_offset: -8,
            updated: 1_700_000_000,
            events: 4711,
            resync_offset: u64::MAX,
            checksum_ok: true,
            qnap_feature: 0,
            roles,
        }
    }

    #[test]
    fn it_lies_where_a_nas_printed_it() {
        assert_eq!(place_1_0(Sectors(5_840_623_526)), Some(Sectors(5_840_623_504)));
        assert_eq!(place_1_0(Sectors(15)), None);
    }

    #[test]
    fn qnaps_rescue_role_is_understood() {
        assert_eq!(Role::from(0xff01), Role::Rescue(0));
        assert_eq!(Role::from(0xff03), Role::Rescue(2));
        assert_eq!(u16::from(Role::Rescue(2)), 0xff03);
        assert_eq!(Role::from(0xff00), Role::Active(0xff00));
        assert_eq!(Role::from(0xfffd), Role::Journal);
        let mut block = sample(vec![Role::Rescue(1), Role::Active(0)]);
        assert_eq!(block.role(), Role::Rescue(1));
        block.device_number = 9;
        assert_eq!(block.role(), Role::Spare);
    }

    #[test]
    fn a_flipped_bit_is_told() {
        let bytes = sample(vec![Role::Active(0), Role::Active(1), Role::Spare]).encode();
        for place in [16, 100, 208, 230, 256, 261] {
            let mut broken = bytes.clone();
            broken[place] ^= 1;
            assert!(!Superblock::decode(&broken).unwrap().checksum_ok, "byte {place}");
        }
    }

    #[test]
    fn every_structure_cut_short_is_an_error() {
        let bytes = sample(vec![Role::Active(0), Role::Spare]).encode();
        for length in 0..260 {
            assert!(Superblock::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(Superblock::decode(&bytes[..260]).is_ok());
    }

    proptest! {
        #[test]
        fn superblocks_come_back(roles in proptest::collection::vec(any::<u16>(), 0..1920), level: i32, events: u64) {
            let roles: Vec<Role> = roles.into_iter().map(Role::from).collect();
            let block = Superblock { level, events, ..sample(roles) };
            prop_assert_eq!(Superblock::decode(&block.encode()).unwrap(), block);
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), major in 0u32..3) {
            if bytes.len() >= 8 {
                put(&mut bytes, 0, &MAGIC.to_le_bytes());
                put(&mut bytes, 4, &major.to_le_bytes());
            }
            let _ = Superblock::decode(&bytes);
        }
    }
}
