//! One change to a metadata device, in sixteen bytes: whatever a fuzzer does to them, they mean something.

use crate::base::Base;
use crate::device::Device;
use tierlift_forge::Dice;
use tierlift_ondisk::thin::{BlockKind, identify, seal};
use tierlift_ondisk::units::MetaBlock;

/// Length of an edit as bytes.
pub const EDIT: usize = 16;
/// Longest device an edit makes: what sparse files are used for in earnest.
const LONGEST: u64 = 64 << 30;
/// Bytes of a node before its keys.
const NODE_HEADER: usize = 32;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A number is written somewhere, and the checksum repaired.
    Put,
    /// The same in the first bytes: a node's header or the superblock's fields.
    PutField,
    /// The same to a key of a node.
    PutKey,
    /// The same to a value of a node.
    PutValue,
    /// A value of a node is made to point at another block worth pointing at.
    Point,
    /// The block gets the content of another one, under its own number and with a right checksum.
    Forge,
    /// The block becomes noise of its kind, under its own number and with a right checksum.
    Noise,
    /// The block gets the content of another one just as it is: a misdirected write.
    Misplace,
    /// Two blocks change places.
    Swap,
    /// The block is zeros.
    Zero,
    /// The block is noise.
    Garbage,
    /// One bit is flipped.
    Flip,
    /// The block gives an I/O error.
    Fail,
    /// The device ends early.
    Truncate,
    /// The device is longer than it was.
    Extend,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Put,
        Self::PutField,
        Self::PutKey,
        Self::PutValue,
        Self::Point,
        Self::Forge,
        Self::Noise,
        Self::Misplace,
        Self::Swap,
        Self::Zero,
        Self::Garbage,
        Self::Flip,
        Self::Fail,
        Self::Truncate,
        Self::Extend,
    ];

    /// Whether this happens to disks by itself: no checksum is repaired by accident.
    pub fn is_accident(self) -> bool {
        let forged = [Self::Put, Self::PutField, Self::PutKey, Self::PutValue, Self::Point, Self::Forge, Self::Noise];
        !forged.contains(&self)
    }
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// What is done.
    pub action: Action,
    /// Length of the number written, as a power of two.
    pub width: u8,
    /// The block; see [`Base::block`].
    pub block: u16,
    /// Another block.
    pub other: u16,
    /// Where in the block; for keys and values, which one.
    pub offset: u16,
    /// The number.
    pub value: u64,
}

impl Edit {
    /// Reads an edit; any bytes are one.
    pub fn decode(bytes: &[u8; EDIT]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut value = [0; 8];
        value.copy_from_slice(&bytes[8..]);
        let action = Action::ALL[bytes[0] as usize % Action::ALL.len()];
        let value = u64::from_le_bytes(value);
        Self { action, width: bytes[1] % 4, block: half(2), other: half(4), offset: half(6), value }
    }

    /// The edit as bytes.
    pub fn encode(&self) -> [u8; EDIT] {
        let action = Action::ALL.iter().position(|action| *action == self.action).unwrap_or(0) as u8;
        let mut out = [action, self.width, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out[2..4].copy_from_slice(&self.block.to_le_bytes());
        out[4..6].copy_from_slice(&self.other.to_le_bytes());
        out[6..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..].copy_from_slice(&self.value.to_le_bytes());
        out
    }

    /// Makes the change.
    pub fn apply(&self, base: &Base, device: &mut Device) {
        let size = base.block_size.bytes();
        let (block, other) = (base.block(self.block), base.block(self.other));
        let read = |device: &Device, block: MetaBlock| device.bytes(block.0 * size as u64, size);
        match self.action {
            Action::Truncate => return device.set_length(self.value % (device.length() + 1)),
            Action::Extend => return device.set_length(device.length().max(self.value % LONGEST)),
            Action::Fail => return device.make_unreadable(block.0 * size as u64, size),
            Action::Swap => {
                let (one, two) = (read(device, block), read(device, other));
                write(device, other, &one);
                return write(device, block, &two);
            }
            _ => {}
        }
        let mut bytes = read(device, block);
        let kind = identify(&bytes).unwrap_or(BlockKind::Node);
        match self.action {
            Action::Misplace => bytes = read(device, other),
            Action::Zero => bytes.fill(0),
            Action::Garbage => noise(self.value, &mut bytes),
            Action::Flip => bytes[self.offset as usize % size] ^= 1 << (self.value % 8),
            Action::Forge => {
                bytes = read(device, other);
                let kind = identify(&bytes).unwrap_or(kind);
                renumber(&mut bytes, block, kind);
            }
            Action::Noise => {
                noise(self.value, &mut bytes);
                renumber(&mut bytes, block, kind);
            }
            _ => {
                self.put(base, &mut bytes);
                seal(kind, &mut bytes);
            }
        }
        write(device, block, &bytes);
    }

    /// Writes the number into a block.
    fn put(&self, base: &Base, bytes: &mut [u8]) {
        let (number, value) = (self.value.to_le_bytes(), usize::from(self.offset));
        let width = 1 << self.width;
        let (at, source) = match self.action {
            Action::PutField => (4 + value % 600 / width * width, &number[..width]),
            Action::PutKey => (NODE_HEADER + 8 * (value % most_entries(bytes)), &number[..]),
            Action::PutValue => (value_at(bytes, value), &number[..]),
            Action::Point => (value_at(bytes, value), &base.block(self.other).0.to_le_bytes()[..]),
            _ => (value, &number[..width]),
        };
        let at = at.min(bytes.len() - source.len());
        bytes[at..at + source.len()].copy_from_slice(source);
    }
}

fn write(device: &mut Device, block: MetaBlock, bytes: &[u8]) {
    // A shortened device stays short.
    let length = device.length();
    device.write_at(block.0 * bytes.len() as u64, bytes);
    device.set_length(length);
}

fn renumber(bytes: &mut [u8], block: MetaBlock, kind: BlockKind) {
    bytes[8..16].copy_from_slice(&block.0.to_le_bytes());
    seal(kind, bytes);
}

fn noise(seed: u64, bytes: &mut [u8]) {
    let mut dice = Dice::new(seed);
    for place in bytes.chunks_exact_mut(8) {
        place.copy_from_slice(&dice.roll().to_le_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

/// Entries that a node has room for by its own word; at least 1.
fn most_entries(bytes: &[u8]) -> usize {
    word(bytes, 20).clamp(1, 1024)
}

fn value_at(bytes: &[u8], index: usize) -> usize {
    let entries = word(bytes, 16).clamp(1, 1024);
    NODE_HEADER + 8 * most_entries(bytes) + word(bytes, 24).clamp(1, 64) * (index % entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_ondisk::thin::own_number;

    #[test]
    fn edits_are_bytes_and_back() {
        for (number, action) in Action::ALL.into_iter().enumerate() {
            let edit = Edit { action, width: 3, block: 0x8123, other: 77, offset: 4000, value: u64::MAX - 9 };
            assert_eq!(Edit::decode(&edit.encode()), edit);
            assert_eq!(edit.encode()[0] as usize, number);
        }
    }

    #[test]
    fn forgeries_carry_right_checksums_and_accidents_repair_none() {
        for action in Action::ALL {
            for base in (0..crate::base::COUNT).map(|number| Base::pick(number as u8)) {
                let edit = Edit { action, width: 3, block: 1, other: 2, offset: 40, value: 0x1_0000_0003 };
                let mut device = base.device.clone();
                edit.apply(base, &mut device);
                let (block, size) = (base.block(1), base.block_size.bytes());
                let bytes = device.bytes(block.0 * size as u64, size);
                let was = base.device.bytes(block.0 * size as u64, size);
                match action {
                    Action::Fail => assert!(bytes == was),
                    Action::Truncate | Action::Extend => assert_ne!(device.length(), base.device.length()),
                    _ => {
                        let sound = identify(&bytes).is_some() && own_number(&bytes) == Some(block);
                        assert!(bytes != was && sound != action.is_accident(), "{action:?} of {}", base.name);
                    }
                }
            }
        }
    }
}
