//! An input for the engine: a base, a few options and a list of edits.

use crate::base::Base;
use crate::device::Device;
use crate::edit::{Action, EDIT, Edit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierlift_ondisk::thin::{BlockSize, Family};
use tierlift_ondisk::units::DeviceId;
use tierlift_pool::{Generation, Hints, SalvageOptions, View};

/// Bytes before the edits.
pub const HEADER: usize = 4;
/// More edits than this are not looked at.
pub const MOST_EDITS: usize = 64;

/// A pool that was edited.
#[derive(Debug)]
pub struct Case {
    /// What it was.
    pub base: &'static Base,
    /// What it is.
    pub device: Device,
    /// The edits.
    pub edits: Vec<Edit>,
    flags: u8,
    wanted: u16,
}

impl Case {
    /// Reads a case; any bytes are one.
    pub fn decode(input: &[u8]) -> Self {
        let byte = |at: usize| input.get(at).copied().unwrap_or(0);
        let base = Base::pick(byte(0));
        let edits = input.get(HEADER..).unwrap_or_default().chunks_exact(EDIT);
        let edits: Vec<_> =
            edits.take(MOST_EDITS).filter_map(|edit| Some(Edit::decode(edit.try_into().ok()?))).collect();
        let mut device = base.device.clone();
        edits.iter().for_each(|edit| edit.apply(base, &mut device));
        Self { base, device, edits, flags: byte(1), wanted: u16::from_le_bytes([byte(2), byte(3)]) }
    }

    /// The bytes of a case without options.
    pub fn encode(base: u8, edits: &[Edit]) -> Vec<u8> {
        Self::encode_with(base, 0, 0, edits)
    }

    /// The bytes of a case.
    pub fn encode_with(base: u8, flags: u8, wanted: u16, edits: &[Edit]) -> Vec<u8> {
        let [low, high] = wanted.to_le_bytes();
        let mut out = vec![base, flags, low, high];
        edits.iter().for_each(|edit| out.extend(edit.encode()));
        out
    }

    /// The device as the engine takes it.
    pub fn view(&self) -> View {
        Arc::new(self.device.clone())
    }

    /// One of the options that a target has of its own.
    pub fn flag(&self, bit: u32) -> bool {
        self.flags >> bit & 1 != 0
    }

    /// A block size that is claimed to be known; mostly none.
    pub fn block_size(&self) -> Option<BlockSize> {
        match self.flags >> 4 {
            12 => Some(BlockSize::K4),
            13 => Some(BlockSize::K8),
            _ => None,
        }
    }

    /// A family that is claimed to be known; mostly none.
    pub fn family(&self) -> Option<Family> {
        match self.flags >> 4 {
            14 => Some(Family::Qnap),
            15 => Some(Family::Mainline),
            _ => None,
        }
    }

    /// How it is to be salvaged.
    pub fn salvage_options(&self) -> SalvageOptions {
        let block = self.base.block(self.wanted >> 2);
        let generation = match self.wanted & 3 {
            1 => Some(Generation::Copy { block }),
            2 => Some(Generation::Index { block }),
            3 => Some(Generation::Block0),
            _ => None,
        };
        // The same for one device alone.
        let device = DeviceId(block.0 % 16);
        let (generation, devices) = match generation.filter(|_| self.flag(3)) {
            Some(chosen) => (None, BTreeMap::from([(device, chosen)])),
            None => (generation, BTreeMap::new()),
        };
        SalvageOptions {
            block_size: self.block_size(),
            family: self.family(),
            hints: Hints::default(),
            generation,
            devices,
            unattributed: self.wanted & 3 == 3,
        }
    }

    /// Whether only what happens to disks happened and nothing is claimed: as long as block 0 is still believed, whatever is
    /// found must be part of the truth.
    pub fn is_accident(&self) -> bool {
        let mut flipped = BTreeSet::new();
        // Two flipped bits of one block cannot be told from one flipped bit of another content.
        let mut is_one = |edit: &Edit| edit.action != Action::Flip || flipped.insert(self.base.block(edit.block));
        let nothing_claimed = self.block_size().is_none() && self.family().is_none() && self.wanted & 3 == 0;
        nothing_claimed && self.edits.iter().all(|edit| edit.action.is_accident() && is_one(edit))
    }
}
