//! Packed metadata come back byte for byte; packed files from strangers do no harm.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use proptest::prelude::*;
use std::io;
use std::sync::LazyLock;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::pack::{MAGIC, PackError, PackSummary, pack, unpack};

fn packed(device: &dyn ReadAt) -> (Vec<u8>, PackSummary) {
    let mut out = Vec::new();
    let summary = pack(device, &mut out).unwrap();
    (out, summary)
}

fn unpacked(packed: &[u8]) -> Result<(Vec<u8>, PackSummary), PackError> {
    let mut out = Vec::new();
    let summary = unpack(packed, |offset, bytes| {
        out.resize(offset.0 as usize, 0);
        out.extend_from_slice(bytes);
        Ok(())
    })?;
    out.resize(summary.device.0 as usize, 0);
    Ok((out, summary))
}

#[test]
fn every_genuine_pool_comes_back() {
    for name in common::HEALTHY.into_iter().chain(["F8-F2-rand20", "F8-F3-sbzero"]) {
        let device = common::metadata(name);
        let (file, summary) = packed(&device);
        assert!(file.len() < 100_000, "{name}: {}", file.len());
        assert_eq!(summary.device.0, device.len() as u64);
        assert_eq!((summary.foreign, summary.unreadable), (Bytes(0), Bytes(0)), "{name}");
        let (back, again) = unpacked(&file).unwrap();
        assert!(back == device, "{name}");
        assert_eq!((again.packed, again.device), (summary.packed, summary.device));
    }
}

/// A disk with one unreadable sector, and a length that is no multiple of anything.
struct Failing(Vec<u8>, u64);

impl ReadAt for Failing {
    fn size(&self) -> Bytes {
        self.0.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        if (offset.0..offset.0 + buffer.len() as u64).contains(&self.1) {
            return Err(io::Error::other("bad sector"));
        }
        self.0.read_at(offset, buffer)
    }
}

#[test]
fn what_cannot_be_read_is_told_on_both_sides() {
    let mut device = common::metadata("F2-snaps");
    device.truncate(5_000_123);
    *device.last_mut().unwrap() = 1;
    let (file, summary) = packed(&Failing(device.clone(), 8192 + 100));
    assert_eq!(summary.unreadable, Bytes(4096));
    let (back, again) = unpacked(&file).unwrap();
    assert_eq!(again.unreadable, Bytes(4096));
    assert!(back[8192..][..4096].iter().all(|byte| *byte == 0));
    device[8192..][..4096].fill(0);
    assert!(back == device);
}

#[test]
fn a_data_device_is_not_given_away() {
    let noise: Vec<u8> = (0..20_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(matches!(pack(&noise, io::sink()), Err(PackError::NotMetadata { metadata: 0, .. })));
    assert!(matches!(pack(&vec![0; 1 << 20], io::sink()), Err(PackError::NotMetadata { .. })));
    assert!(matches!(pack(&b"some text".repeat(1000), io::sink()), Err(PackError::NotMetadata { .. })));
}

static TRUTH: LazyLock<Vec<u8>> = LazyLock::new(|| common::metadata("F2-snaps"));
static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| packed(&*TRUTH).0);

/// Records in a file with a right header.
fn forged(device: u64, records: &[(u32, u32, u64)], payload: &[u8]) -> Vec<u8> {
    let sealed = |mut bytes: Vec<u8>| {
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    let mut header = MAGIC.to_vec();
    header.extend([1_u32, 4096].iter().flat_map(|word| word.to_le_bytes()));
    header.extend(device.to_le_bytes());
    header.extend([0; 4]);
    let mut stream = Vec::new();
    for (kind, count, first) in records {
        let bytes = if *kind == 1 { payload } else { &[] };
        let mut record = [kind.to_le_bytes(), count.to_le_bytes()].concat();
        record.extend(first.to_le_bytes());
        record.extend(crc32c::crc32c(bytes).to_le_bytes());
        stream.extend(sealed(record));
        stream.extend(bytes);
    }
    [sealed(header), zstd::encode_all(&*stream, 1).unwrap()].concat()
}

#[test]
fn hostile_files_are_refused_in_words() {
    let unit = [7; 4096];
    assert_eq!(unpacked(&forged(1 << 20, &[(1, 1, 0), (1, 1, 255), (3, 0, 2)], &unit)).unwrap().1.packed, Bytes(8192));
    type Records = &'static [(u32, u32, u64)];
    let hostile: [(&str, u64, Records); 9] = [
        ("outside", 1 << 20, &[(1, 1, 256), (3, 0, 1)]),
        ("outside", 1 << 20, &[(1, 1, u64::MAX), (3, 0, 1)]),
        ("out of order", 1 << 20, &[(1, 1, 5), (1, 1, 5), (3, 0, 2)]),
        ("outside", u64::MAX >> 30, &[(1, u32::MAX, 0), (3, 0, 1)]),
        ("outside", 1 << 20, &[(1, 0, 0), (3, 0, 0)]),
        ("unknown kind", 1 << 20, &[(4, 1, 0), (3, 0, 0)]),
        ("should hold", 1 << 20, &[(1, 1, 0), (3, 0, 7)]),
        ("follows", 1 << 20, &[(1, 1, 0), (3, 0, 1), (3, 0, 1)]),
        ("cannot be", u64::MAX, &[(3, 0, 0)]),
    ];
    for (words, device, records) in hostile {
        let error = unpacked(&forged(device, records, &unit)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(matches!(unpacked(b"not a pack file, and long enough").unwrap_err(), PackError::NotPacked));
    assert!(matches!(unpacked(b"").unwrap_err(), PackError::NotPacked));
    // Compressed with a window that would need 128 MiB to unpack.
    let mut wide = zstd::Encoder::new(PACKED[..32].to_vec(), 1).unwrap();
    wide.window_log(27).unwrap();
    io::copy(&mut &vec![1; 1 << 20][..], &mut wide).unwrap();
    assert!(matches!(unpacked(&wide.finish().unwrap()).unwrap_err(), PackError::Damaged(_)));
}

#[test]
fn a_file_cut_short_is_never_taken_for_whole() {
    for length in (0..PACKED.len()).step_by(97).chain([PACKED.len() - 1]) {
        let error = unpacked(&PACKED[..length]).unwrap_err();
        assert!(matches!(error, PackError::CutShort | PackError::NotPacked | PackError::Damaged(_)), "{error:?}");
    }
}

proptest! {
    #[test]
    fn damage_never_passes_for_the_truth(at in 0..PACKED.len(), bit in 0..8_u32) {
        let mut damaged = PACKED.clone();
        damaged[at] ^= 1 << bit;
        // Some bits of the compression mean nothing.
        if let Ok((back, _)) = unpacked(&damaged) {
            prop_assert!(back == *TRUTH);
        }
    }

    #[test]
    fn arbitrary_records_do_no_harm(device in 0..1_u64 << 24, records in prop::collection::vec((0..5_u32, 0..4_u32, 0..5000_u64), 0..6),
                                    payload in prop::collection::vec(any::<u8>(), 0..9000)) {
        let _ = unpacked(&forged(device, &records, &payload));
    }
}
