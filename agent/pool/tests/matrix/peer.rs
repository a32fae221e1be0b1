//! The tool there already is: thin_repair, run as a process of its own.

use super::sample::Sample;
use super::score::Score;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tierlift_pool::Pool;

/// `thin_repair` with a place for its files.
pub struct Peer {
    folder: tempfile::TempDir,
}

impl Peer {
    /// The tool, if this machine has it.
    pub fn find() -> Option<Self> {
        let version = Command::new("thin_repair").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.ok().filter(|status| status.success())?;
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    /// Repairs the damaged pool with the same hints that we have and scores what comes out.
    pub fn score(&self, sample: &Sample, image: &[u8]) -> Score {
        match self.repair(sample, image).and_then(|output| Pool::open(Arc::new(output)).ok()) {
            Some(pool) => Score::of(&pool, &sample.truth),
            None => Score::nothing(&sample.truth),
        }
    }

    fn repair(&self, sample: &Sample, image: &[u8]) -> Option<Vec<u8>> {
        let [input, output]: [PathBuf; 2] = ["damaged", "repaired"].map(|name| self.folder.path().join(name));
        fs::write(&input, image).unwrap();
        let _ = fs::remove_file(&output);
        File::create(&output).unwrap().set_len(image.len() as u64).unwrap();
        let superblock = &sample.layout.superblock;
        let done = Command::new("timeout")
            .args(["60", "thin_repair", "--transaction-id", &superblock.transaction.to_string()])
            .args(["--data-block-size", &superblock.chunk_size.to_string()])
            .args(["--nr-data-blocks", &superblock.data_map.nr_blocks.to_string()])
            .arg("-i")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        done.ok().filter(|status| status.success())?;
        fs::read(&output).ok()
    }
}
