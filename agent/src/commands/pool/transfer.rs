//! Moving a thin device to where it is wanted: large reads, holes kept, read errors narrowed down to the bytes they cost.

use super::progress::Progress;
use anyhow::Context;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{LossReason, Source, ThinReader};

/// How much is read at once.
const PIECE: usize = 4 << 20;
/// A piece that cannot be read is halved down to this: the sector of most disks.
const SMALLEST: usize = 4096;
/// Zeros are left out of the output in units of this.
const HOLE: usize = 64 << 10;

/// A stretch of the device that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    /// First byte.
    pub offset: Bytes,
    /// Length.
    pub length: Bytes,
    /// Why.
    pub reason: LossReason,
}

impl Loss {
    /// The byte after the last.
    pub(super) fn end(&self) -> Bytes {
        Bytes(self.offset.0.saturating_add(self.length.0))
    }

    /// Whether a loss that follows at once is the same one: reasons that name their place differ from byte to byte.
    fn continues(&self, reason: &LossReason) -> bool {
        self.reason == *reason
            || std::mem::discriminant(&self.reason) == std::mem::discriminant(reason)
                && matches!(reason, LossReason::Unreadable(_) | LossReason::BeyondPool { .. })
    }
}

/// Sums of a transfer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Moved {
    /// Bytes read from data devices.
    pub data: u64,
    /// Bytes that are zeros by right.
    pub zeros: u64,
    /// Bytes lost.
    pub lost_bytes: u64,
    /// The stretches lost.
    pub lost: Vec<Loss>,
    /// SHA-256 of the whole device; none when not asked for or when something is lost.
    pub sha256: Option<String>,
}

/// Where the device goes: a file of holes to be filled, a hash, or both.
#[derive(Default)]
pub(super) struct Sink<'a> {
    pub file: Option<&'a File>,
    pub hash: bool,
}

struct Transfer<'a> {
    reader: &'a ThinReader,
    file: Option<&'a File>,
    hasher: Option<Sha256>,
    moved: Moved,
    progress: Progress,
}

/// Moves the whole device.
///
/// # Errors
/// When the output cannot be written. What cannot be read is no error here but a loss.
pub(super) fn transfer(reader: &ThinReader, sink: &Sink<'_>, what: &str) -> anyhow::Result<Moved> {
    if let Some(file) = sink.file {
        file.set_len(reader.size().0).context("the output cannot be made as long as the device")?;
    }
    let hasher = sink.hash.then(Sha256::new);
    let progress = Progress::new(what, reader.size());
    let mut transfer = Transfer { reader, file: sink.file, hasher, moved: Moved::default(), progress };
    let mut buffer = vec![0; PIECE];
    for segment in reader.segments() {
        let (mut offset, end) = (segment.offset, segment.end());
        if let Source::Lost(reason) = segment.source {
            transfer.lose(offset, segment.length.0, reason);
            continue;
        }
        while offset < end {
            let left = usize::try_from(end.0.saturating_sub(offset.0)).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(PIECE)).unwrap_or_default();
            match segment.source {
                Source::Zeros => transfer.zeros(piece),
                _ => transfer.data(offset, piece)?,
            }
            offset = Bytes(offset.0.saturating_add(piece.len() as u64));
            transfer.progress.update(offset);
        }
    }
    transfer.moved.sha256 = transfer.hasher.map(|hasher| tierlift_ondisk::field::hex(&hasher.finalize()));
    Ok(transfer.moved)
}

impl Transfer<'_> {
    fn zeros(&mut self, piece: &mut [u8]) {
        self.moved.zeros = self.moved.zeros.saturating_add(piece.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            piece.fill(0);
            hasher.update(piece);
        }
    }

    fn data(&mut self, offset: Bytes, piece: &mut [u8]) -> anyhow::Result<()> {
        let error = match self.reader.read_at(offset, piece) {
            Ok(()) => return self.keep(offset, piece),
            Err(error) => error,
        };
        if piece.len() <= SMALLEST {
            self.lose(offset, piece.len() as u64, LossReason::Unreadable(error.to_string()));
            return Ok(());
        }
        let middle = (piece.len() / 2).next_multiple_of(SMALLEST).min(piece.len());
        let (first, second) = piece.split_at_mut(middle);
        self.data(offset, first)?;
        self.data(Bytes(offset.0.saturating_add(middle as u64)), second)
    }

    fn keep(&mut self, offset: Bytes, piece: &[u8]) -> anyhow::Result<()> {
        self.moved.data = self.moved.data.saturating_add(piece.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        match self.file {
            Some(file) => write_sparse(file, offset, piece).context("the output cannot be written; is the disk full?"),
            None => Ok(()),
        }
    }

    fn lose(&mut self, offset: Bytes, length: u64, reason: LossReason) {
        // The hash of a device that is not known in full would be the hash of something else.
        self.hasher = None;
        self.moved.lost_bytes = self.moved.lost_bytes.saturating_add(length);
        match self.moved.lost.last_mut() {
            Some(last) if last.end() == offset && last.continues(&reason) => {
                last.length = Bytes(last.length.0.saturating_add(length));
            }
            _ => self.moved.lost.push(Loss { offset, length: Bytes(length), reason }),
        }
    }
}

/// Leaves blocks of zeros as holes: the file is new, so they read the same, and a thick volume may be mostly that.
fn write_sparse(file: &File, offset: Bytes, piece: &[u8]) -> io::Result<()> {
    let blocks = (offset.0..).step_by(HOLE).zip(piece.chunks(HOLE));
    blocks
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .try_for_each(|(at, block)| file.write_all_at(block, at))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tierlift_forge::Fixture;
    use tierlift_ondisk::units::DeviceId;
    use tierlift_pool::{Mode, Pool};

    /// A disk with one bad stretch.
    struct Failing {
        bytes: Vec<u8>,
        bad: std::ops::Range<u64>,
    }

    impl ReadAt for Failing {
        fn size(&self) -> Bytes {
            self.bytes.size()
        }

        fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
            if offset.0 < self.bad.end && self.bad.start < offset.0.saturating_add(buffer.len() as u64) {
                return Err(io::Error::other(format!("bad sector near byte {offset}")));
            }
            self.bytes.read_at(offset, buffer)
        }
    }

    fn image(fixture: &Fixture, name: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::read(&fixture.unpack(folder.path()).unwrap()[name]).unwrap()
    }

    /// Pool chunk 357 of this pool is the first chunk of device 1.
    #[test]
    fn a_bad_sector_costs_its_own_bytes_and_no_more() {
        let fixture = Fixture::named("F5-v2-4k").unwrap();
        let pool = Pool::open(Arc::new(image(&fixture, "tmeta.img"))).unwrap();
        let bytes = image(&fixture, "tierdata_0.img");
        let reader = |bad| {
            let device = Arc::new(Failing { bytes: bytes.clone(), bad }) as tierlift_pool::View;
            ThinReader::new(&pool, BTreeMap::from([(0, device)]), DeviceId(1), Mode::Plain, None).unwrap()
        };
        let whole = transfer(&reader(0..0), &Sink { file: None, hash: true }, "test").unwrap();
        assert!(whole.sha256.is_some() && whole.lost.is_empty());
        let start = 357 * 65_536;
        let file = tempfile::tempfile().unwrap();
        let reader = reader(start + 5000..start + 9000);
        let moved = transfer(&reader, &Sink { file: Some(&file), hash: true }, "test").unwrap();
        assert_eq!(moved.sha256, None);
        assert_eq!((moved.lost_bytes, moved.data), (8192, whole.data - 8192));
        let [loss] = moved.lost.as_slice() else { panic!("{:?}", moved.lost) };
        assert_eq!((loss.offset, loss.length), (Bytes(4096), Bytes(8192)));
        assert!(loss.reason.to_string().starts_with("bad sector near byte"), "{}", loss.reason);
        let mut around = vec![1; 65_536];
        file.read_exact_at(&mut around, 0).unwrap();
        assert_eq!(around[..4096], bytes[start as usize..][..4096]);
        assert!(around[4096..12_288].iter().all(|byte| *byte == 0), "the hole");
        assert_eq!(around[12_288..], bytes[start as usize + 12_288..][..65_536 - 12_288]);
    }
}
