//! The tools there already are: thin_repair of some version, run as a process of its own.

use super::sample::Sample;
use super::score::Score;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tierlift_pool::Pool;

/// Seconds a repair may take.
const PATIENCE: &str = "60";

/// One version of the tools.
#[derive(Debug, Clone)]
pub struct Peer {
    /// As it says itself.
    pub version: String,
    program: PathBuf,
}

impl Peer {
    /// `VERSION=FOLDER`: where its thin_repair lies.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, folder) = text.split_once('=')?;
        Some(Self { version: version.into(), program: Path::new(folder).join("thin_repair") })
    }

    /// Repairs the damaged pool with the same hints that we have and scores what comes out.
    pub fn score(&self, sample: &Sample, image: &[u8]) -> Score {
        match self.repair(sample, image).and_then(|output| Pool::open(Arc::new(output)).ok()) {
            Some(pool) => Score::of(&pool, &sample.truth),
            None => Score::nothing(&sample.truth),
        }
    }

    fn repair(&self, sample: &Sample, image: &[u8]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let [input, output]: [PathBuf; 2] = ["damaged", "repaired"].map(|name| folder.path().join(name));
        fs::write(&input, image).unwrap();
        File::create(&output).unwrap().set_len(image.len() as u64).unwrap();
        let superblock = &sample.layout.superblock;
        let done = Command::new("timeout")
            .arg(PATIENCE)
            .arg(&self.program)
            .args(["--transaction-id", &superblock.transaction.to_string()])
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
