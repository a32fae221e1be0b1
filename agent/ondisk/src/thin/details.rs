//! The record of a thin device. Its length says who wrote it: 24 bytes stock Linux, 32 QNAP versions 1 to 3, 44 version 4.

use super::bytes::{put_u32, put_u64};
use crate::error::DecodeError;
use crate::field::Fields;
use crate::units::{Chunk, DeviceId};

/// What stands for "no origin" in a QNAP record.
pub const NO_ORIGIN: u64 = u64::MAX;

/// Length of the device records of one pool; the header of the tree's leaves says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DetailsSize {
    /// 24 bytes: stock Linux.
    Mainline,
    /// 32 bytes: QNAP, with the origin of a snapshot.
    Qnap,
    /// 44 bytes: QNAP version 4, with clone time too.
    QnapClone,
}

impl DetailsSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mainline, Self::Qnap, Self::QnapClone];

    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Mainline => 24,
            Self::Qnap => 32,
            Self::QnapClone => 44,
        }
    }

    /// The size of this many bytes.
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() == bytes)
    }
}

/// The two fields that only version 4 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloneRecord {
    /// Pool time of the last clone made of or as this device.
    pub time: u32,
    /// Once an index of a scan; kernels write all ones.
    pub reserved: u64,
}

/// The record of one thin device (key: its id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceDetails {
    /// Number of chunks mapped; must equal the number of keys in the device's mapping tree.
    pub mapped: Chunk,
    /// The pool's transaction id when the device was made.
    pub transaction: u64,
    /// Pool time when it was made.
    pub creation_time: u32,
    /// Pool time of the last snapshot made of it, or of its own making as a snapshot.
    pub snapshot_time: u32,
    /// Version 4 only.
    pub clone: Option<CloneRecord>,
    /// Id of the device it is a snapshot of, [`NO_ORIGIN`] for none; `None` in mainline records. The origin may be gone.
    pub origin: Option<u64>,
}

impl DeviceDetails {
    /// Decodes a record of the given length.
    ///
    /// # Errors
    /// When `bytes` is shorter than the record.
    pub fn decode(bytes: &[u8], size: DetailsSize) -> Result<Self, DecodeError> {
        let fields = Fields::new("device record", bytes);
        let (clone, origin) = match size {
            DetailsSize::Mainline => (None, None),
            DetailsSize::Qnap => (None, Some(fields.u64("snap_origin", 24)?)),
            DetailsSize::QnapClone => {
                let clone = CloneRecord { time: fields.u32("cloned_time", 24)?, reserved: fields.u64("reserved", 28)? };
                (Some(clone), Some(fields.u64("snap_origin", 36)?))
            }
        };
        Ok(Self {
            mapped: Chunk(fields.u64("mapped_blocks", 0)?),
            transaction: fields.u64("transaction_id", 8)?,
            creation_time: fields.u32("creation_time", 16)?,
            snapshot_time: fields.u32("snapshotted_time", 20)?,
            clone,
            origin,
        })
    }

    /// The length this record has on disk.
    pub const fn size(&self) -> DetailsSize {
        match (self.clone, self.origin) {
            (Some(_), _) => DetailsSize::QnapClone,
            (None, Some(_)) => DetailsSize::Qnap,
            (None, None) => DetailsSize::Mainline,
        }
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; self.size().bytes()];
        put_u64(&mut out, 0, self.mapped.0);
        put_u64(&mut out, 8, self.transaction);
        put_u32(&mut out, 16, self.creation_time);
        put_u32(&mut out, 20, self.snapshot_time);
        let origin = self.origin.unwrap_or(NO_ORIGIN);
        match (self.clone, self.origin) {
            (Some(clone), _) => {
                put_u32(&mut out, 24, clone.time);
                put_u64(&mut out, 28, clone.reserved);
                put_u64(&mut out, 36, origin);
            }
            (None, Some(origin)) => put_u64(&mut out, 24, origin),
            (None, None) => {}
        }
        out
    }

    /// The device this one is a snapshot of.
    pub fn snapshot_of(&self) -> Option<DeviceId> {
        self.origin.filter(|origin| *origin != NO_ORIGIN).map(DeviceId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_record_comes_back(bytes in proptest::collection::vec(any::<u8>(), 44)) {
            for size in DetailsSize::ALL {
                let bytes = &bytes[..size.bytes()];
                let record = DeviceDetails::decode(bytes, size).unwrap();
                prop_assert_eq!(record.size(), size);
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_record_cut_short_is_refused_by_field() {
        let error = DeviceDetails::decode(&[0; 43], DetailsSize::QnapClone).unwrap_err();
        assert_eq!((error.field, error.offset), ("snap_origin", 36));
        assert!(DeviceDetails::decode(&[0; 23], DetailsSize::Mainline).is_err());
    }

    #[test]
    fn all_ones_is_no_origin() {
        let record = |origin| DeviceDetails {
            mapped: Chunk(1),
            transaction: 2,
            creation_time: 3,
            snapshot_time: 4,
            clone: None,
            origin,
        };
        assert_eq!(record(Some(NO_ORIGIN)).snapshot_of(), None);
        assert_eq!(record(Some(7)).snapshot_of(), Some(DeviceId(7)));
        assert_eq!(record(None).snapshot_of(), None);
    }
}
