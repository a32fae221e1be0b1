//! A hash of a disk image that costs only what the image really holds.

use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use tierlift_ondisk::field::hex;

/// SHA-256 over the length of the file and over each 4096-byte block that is not zero, with its place. Two files have the
/// same fingerprint exactly when they hold the same bytes, whether or not zeros are stored as holes.
pub fn fingerprint(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut place = 0;
    while let Some((start, end)) = next_data(&file, place, length) {
        // Blocks are counted from the start of the file, so that where a hole begins does not matter.
        let start = start / BLOCK * BLOCK;
        file.seek(SeekFrom::Start(start))?;
        hash_blocks(&mut file, start, end, &mut hash)?;
        place = end.next_multiple_of(BLOCK);
    }
    Ok(hex(&hash.finalize()))
}

const BLOCK: u64 = 4096;

fn hash_blocks(file: &mut File, start: u64, end: u64, hash: &mut Sha256) -> anyhow::Result<()> {
    let mut place = start;
    while place < end {
        let mut block = Vec::with_capacity(BLOCK as usize);
        file.take(BLOCK).read_to_end(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            hash.update(place.to_le_bytes());
            hash.update(&block);
        }
        place += BLOCK;
    }
    Ok(())
}

/// The next stretch of the file that is not a hole.
fn next_data(file: &File, from: u64, length: u64) -> Option<(u64, u64)> {
    use nix::unistd::{Whence, lseek};
    if from >= length {
        return None;
    }
    let start = lseek(file, from as i64, Whence::SeekData).ok()?;
    let end = lseek(file, start, Whence::SeekHole).ok()?;
    Some((start as u64, end as u64))
}

#[cfg(test)]
mod tests {
    use super::fingerprint;
    use std::io::{Seek, SeekFrom, Write};

    fn file_with(pieces: &[(u64, &[u8])], length: u64) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        for (place, bytes) in pieces {
            file.seek(SeekFrom::Start(*place)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn holes_and_zeros_are_the_same_and_one_byte_is_not() {
        let sparse = file_with(&[(70_000, b"data")], 1 << 20);
        let full = file_with(&[(0, &vec![0; 1 << 20]), (70_000, b"data")], 1 << 20);
        let other = file_with(&[(70_001, b"data")], 1 << 20);
        let longer = file_with(&[(70_000, b"data")], (1 << 20) + 1);
        let of = |file: &tempfile::NamedTempFile| fingerprint(file.path()).unwrap();
        assert_eq!(of(&sparse), of(&full));
        assert_ne!(of(&sparse), of(&other));
        assert_ne!(of(&sparse), of(&longer));
    }
}
