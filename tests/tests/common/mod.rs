//! What several scenarios need: genuine pools as loose parts, and ways to change their metadata.
#![allow(dead_code, reason = "each scenario file uses a part")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tierlift_forge::Fixture;
use tierlift_tests::Settings;

/// Offset of the version in a superblock.
pub const SUPERBLOCK_VERSION: usize = 40;

/// A genuine pool as its metadata and tier devices, each an image file.
pub struct Loose {
    pub fixture: Fixture,
    pub tmeta: PathBuf,
    pub tiers: Vec<PathBuf>,
    _folder: TempDir,
}

impl Loose {
    pub fn unpack(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let fixture = Fixture::load(&tierlift_forge::fixtures_dir().join(name)).unwrap();
        let parts = fixture.unpack(folder.path()).unwrap();
        Self { fixture, tmeta: parts.tmeta, tiers: parts.tiers, _folder: folder }
    }

    /// Attaches all parts as sources: tmeta first, then the tiers in order.
    pub fn attach(&self, settings: Settings) -> Settings {
        self.tiers.iter().fold(settings.source(&self.tmeta), |settings, tier| settings.source(tier))
    }
}

/// Changes block 0 and makes its checksum right again.
pub fn edit_superblock(tmeta: &Path, block_size: usize, edit: impl FnOnce(&mut [u8])) {
    const SUPERBLOCK_XOR: u32 = 160_774;
    let file = OpenOptions::new().read(true).write(true).open(tmeta).unwrap();
    let mut block = vec![0; block_size];
    file.read_exact_at(&mut block, 0).unwrap();
    edit(&mut block);
    let checksum = crc32c::crc32c(&block[4..]) ^ u32::MAX ^ SUPERBLOCK_XOR;
    block[..4].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&block, 0).unwrap();
}

/// Overwrites the first bytes with zeros.
pub fn zero_start(path: &Path, length: usize) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; length], 0).unwrap();
}

/// A new sparse file.
pub fn sparse(path: &Path, length: u64) -> PathBuf {
    fs::File::create(path).unwrap().set_len(length).unwrap();
    path.to_path_buf()
}
