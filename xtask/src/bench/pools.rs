//! The pools that are measured: made once, kept in `target/bench/pools`.

use crate::{agent, paths, process};
use anyhow::Context;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a block that may hold a superblock.
const SUPERBLOCK: usize = 4096;

/// A metadata device in a file.
pub struct Pool {
    pub path: PathBuf,
    /// Bytes on disk: a sparse file is not as long as it looks.
    pub bytes_used: u64,
    /// What the volume group's text would say, as options of ours.
    pub our_hints: Vec<String>,
    /// And as options of the peers.
    pub peer_hints: Vec<String>,
}

/// A folder for files that are measured with.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = paths::target().join("bench/pools");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Pool {
    /// The pool of this kind (see the example bench_pool), made now if there is none yet.
    pub fn make(kind: &str, tierlift: &Path) -> anyhow::Result<Self> {
        let path = folder()?.join(kind).with_extension("img");
        if !path.exists() {
            println!("bench: making the pool {kind}");
            let part = path.with_extension("part");
            let mut cargo = agent::cargo();
            cargo.args(["run", "--release", "--quiet", "--package", "tierlift-pool", "--example", "bench_pool", "--"]);
            process::run(cargo.arg(kind).arg(&part))?;
            fs::rename(&part, &path)?;
        }
        Self::known(path, tierlift)
    }

    fn known(path: PathBuf, tierlift: &Path) -> anyhow::Result<Self> {
        let stat = process::output(Command::new(tierlift).args(["pool", "stat", "--json", "--meta"]).arg(&path))?;
        let stat: Value = serde_json::from_str(&stat).context("pool stat --json")?;
        let number = |pointer: &str| stat.pointer(pointer).and_then(Value::as_u64).unwrap_or(0).to_string();
        let facts = [number("/chunk_size"), number("/chunks/total"), number("/transaction")];
        let options = |names: [&str; 3]| {
            names.iter().zip(&facts).flat_map(|(name, fact)| [format!("--{name}"), fact.clone()]).collect()
        };
        Ok(Self {
            bytes_used: fs::metadata(&path)?.blocks() * 512,
            our_hints: options(["chunk-size", "chunks", "transaction"]),
            peer_hints: options(["data-block-size", "nr-data-blocks", "transaction-id"]),
            path,
        })
    }

    /// The same with its superblock overwritten by zeros.
    pub fn without_superblock(&self) -> anyhow::Result<Self> {
        let path = self.path.with_extension("headless");
        if !path.exists() {
            fs::copy(&self.path, &path)?;
            OpenOptions::new().write(true).open(&path)?.write_all_at(&[0; SUPERBLOCK], 0)?;
        }
        let (our_hints, peer_hints) = (self.our_hints.clone(), self.peer_hints.clone());
        Ok(Self { path, bytes_used: self.bytes_used, our_hints, peer_hints })
    }

    /// Brings the file into the page cache, if memory allows; a hole has nothing to bring.
    pub fn warm(&self) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() <= self.bytes_used.saturating_mul(4) {
            io::copy(&mut file, &mut io::sink())?;
        }
        Ok(())
    }

    /// An empty file that peers can write to, as long as this one.
    pub fn room(&self) -> anyhow::Result<PathBuf> {
        let path = self.path.with_extension("repaired");
        let _ = fs::remove_file(&path);
        File::create(&path)?.set_len(fs::metadata(&self.path)?.len())?;
        Ok(path)
    }
}
