//! A genuine pool with its manifest of truth.

use crate::PoolTable;
use anyhow::{Context, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::field::hex;

/// Bytes handled at once when an image is unpacked; whole blocks of zeros are left as holes.
const BLOCK: usize = 64 << 10;

/// Where the repository keeps its genuine pools.
pub fn fixtures_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// A thin device as QNAP's kernel read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Truth {
    /// Size.
    pub sectors: u64,
    /// SHA-256 of the whole device.
    pub sha256: String,
}

/// A file inside a volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KnownFile {
    /// Path from the root of the volume, with a leading `./`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// A device image of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the whole image.
    pub sha256: String,
    /// The compressed file; a damaged pool's data images are those of its base.
    #[serde(skip)]
    pub path: PathBuf,
}

/// A genuine pool.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Its folder.
    pub dir: PathBuf,
    /// Its name: "F3-3tiers".
    pub name: String,
    /// What it is.
    pub description: String,
    /// The pool a damaged one was made from.
    pub base: Option<String>,
    /// The thin devices by id; of a damaged pool, what a full recovery would give.
    pub truth: BTreeMap<u64, Truth>,
    /// Files in the volumes, by generation ("final", or the name of a snapshot).
    pub files: BTreeMap<String, Vec<KnownFile>>,
    /// Device images by name: "tmeta.img", "tierdata_0.img" …
    pub images: BTreeMap<String, Image>,
    /// Device-mapper tables by which the truth was read.
    pub verify_tables: Vec<String>,
    /// The superblock as decoded by other means; absent where only its bytes are known.
    pub superblock: Option<serde_json::Value>,
    /// The superblock's bytes, where the manifest has them instead.
    pub superblock_hex: Option<String>,
    /// Origin of each snapshot.
    pub origins: BTreeMap<u64, u64>,
}

#[derive(Deserialize)]
struct Manifest {
    name: String,
    description: String,
    base: Option<String>,
    #[serde(alias = "truth_if_fully_recovered")]
    truth: BTreeMap<u64, Truth>,
    #[serde(default)]
    files_by_generation: BTreeMap<String, Vec<KnownFile>>,
    #[serde(default)]
    images: BTreeMap<String, Image>,
    verify_tables: Vec<String>,
    #[serde(alias = "superblock_after_damage")]
    superblock: Option<serde_json::Value>,
    superblock_hex: Option<String>,
    #[serde(default)]
    creation_messages: Vec<String>,
}

impl Fixture {
    /// The pools that are whole.
    pub const HEALTHY: [&'static str; 9] = [
        "F1-plain-ext4",
        "F2-snaps",
        "F3-3tiers",
        "F4-thick-clone",
        "F4c-zeroflag",
        "F5-v2-4k",
        "F6a-data-full",
        "F7-crash-1",
        "F7-tier-crash-1",
    ];

    /// Reads the manifest in `dir`, and that of the base for a damaged pool.
    ///
    /// # Errors
    /// When a manifest is missing or is none.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("manifest.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest: Manifest = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let base = manifest.base.as_ref().map(|base| Self::load(&dir.join("..").join(base))).transpose()?;
        let mut images = base.as_ref().map(|base| base.images.clone()).unwrap_or_default();
        for (name, image) in manifest.images {
            let path = dir.join(format!("{name}.zst"));
            images.insert(name, Image { path, ..image });
        }
        let (base_files, base_origins) = base.map(|base| (base.files, base.origins)).unwrap_or_default();
        let own_files = !manifest.files_by_generation.is_empty();
        let origins = snapshot_origins(&manifest.creation_messages);
        Ok(Self {
            dir: dir.to_owned(),
            name: manifest.name,
            description: manifest.description,
            base: manifest.base,
            truth: manifest.truth,
            files: if own_files { manifest.files_by_generation } else { base_files },
            images,
            verify_tables: manifest.verify_tables,
            superblock: manifest.superblock,
            superblock_hex: manifest.superblock_hex,
            origins: if origins.is_empty() { base_origins } else { origins },
        })
    }

    /// Reads one of the repository's own fixtures by name.
    ///
    /// # Errors
    /// As [`Fixture::load`].
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Self::load(&fixtures_dir().join(name))
    }

    /// The table of the pool.
    ///
    /// # Errors
    /// When the manifest has none.
    pub fn pool_table(&self) -> anyhow::Result<PoolTable> {
        PoolTable::parse(self.verify_tables.first().context("no table in the manifest")?)
    }

    /// Version in the superblock, when the manifest knows it and it was not destroyed.
    pub fn version(&self) -> Option<u64> {
        let decoded = self.superblock.as_ref().and_then(|block| block.get("version")?.as_u64());
        let raw = || u64::from_str_radix(self.superblock_hex.as_ref()?.get(80..82)?, 16).ok();
        decoded.or_else(raw).filter(|version| *version != 0)
    }

    /// Transaction id in the superblock; 0 when that was destroyed.
    pub fn transaction(&self) -> u64 {
        let decoded = self.superblock.as_ref().and_then(|block| block.get("trans_id")?.as_u64());
        // Little-endian at byte 48; no fixture's fills more than its lowest byte.
        let raw = || u64::from_str_radix(self.superblock_hex.as_ref()?.get(96..98)?, 16).ok();
        decoded.or_else(raw).unwrap_or(0)
    }

    /// The dump by QNAP's own tool, where it could make one.
    ///
    /// # Errors
    /// When it is there but cannot be unpacked.
    pub fn xml_dump(&self) -> anyhow::Result<Option<String>> {
        let path = self.dir.join("thin_dump.xml.zst");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = zstd::decode_all(File::open(&path)?).with_context(|| format!("{}", path.display()))?;
        Ok(Some(String::from_utf8(bytes)?))
    }

    /// Unpacks all device images into `dir`, sparse, and checks their hashes. Answers with the paths by name.
    ///
    /// # Errors
    /// When an image is missing, broken, or cannot be written.
    pub fn unpack(&self, dir: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        fs::create_dir_all(dir)?;
        let mut paths = BTreeMap::new();
        for (name, image) in &self.images {
            let path = dir.join(name);
            let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
            file.set_len(image.bytes)?;
            self.stream(name, |offset, block| Ok(file.write_all_at(block, offset)?))?;
            paths.insert(name.clone(), path);
        }
        Ok(paths)
    }

    /// Hands every block of an image that is not all zeros to `sink`, with its byte offset, and checks the hash of the whole.
    ///
    /// # Errors
    /// When the image is missing or broken, or `sink` fails.
    pub fn stream(&self, name: &str, mut sink: impl FnMut(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let image = self.images.get(name).with_context(|| format!("{} has no {name}", self.name))?;
        let file = File::open(&image.path).with_context(|| format!("{} cannot be opened", image.path.display()))?;
        let mut reader = zstd::Decoder::new(file)?;
        let (mut hasher, mut offset) = (Sha256::new(), 0);
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            reader.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                break;
            }
            hasher.update(&block);
            if block.iter().any(|byte| *byte != 0) {
                sink(offset, &block)?;
            }
            offset += block.len() as u64;
        }
        if hex(&hasher.finalize()) != image.sha256 {
            bail!("{}: not the image of the manifest (wrong SHA-256)", image.path.display());
        }
        Ok(())
    }

    /// The word by which QNAP's kernel opened this device: "thin" or "thick".
    pub fn kind_of(&self, device: u64) -> &'static str {
        let name = format!("v{device}");
        let thick = self.verify_tables.iter().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&name.as_str()) && words.contains(&"thick")
        });
        if thick { "thick" } else { "thin" }
    }
}

fn snapshot_origins(messages: &[String]) -> BTreeMap<u64, u64> {
    let mut origins = BTreeMap::new();
    for line in messages {
        let mut words = line.split_whitespace().skip_while(|word| *word != "create_snap").skip(1);
        if let (Some(Ok(snapshot)), Some(Ok(origin))) = (words.next().map(str::parse), words.next().map(str::parse)) {
            origins.insert(snapshot, origin);
        }
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_read() {
        let mut names: Vec<_> = fs::read_dir(fixtures_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.is_dir());
        assert!(names.len() >= 14);
        for path in names {
            let fixture = Fixture::load(&path).unwrap();
            assert!(!fixture.truth.is_empty() && fixture.images.contains_key("tmeta.img"), "{}", fixture.name);
            fixture.pool_table().unwrap();
        }
    }

    #[test]
    fn odd_manifests_tell_the_same_things() {
        let old = Fixture::named("F5-v2-4k").unwrap();
        assert_eq!((old.version(), old.transaction(), old.images.len()), (Some(2), 6, 2));
        let damaged = Fixture::named("F8-F2-rand20").unwrap();
        assert_eq!((damaged.images.len(), damaged.origins.get(&3)), (4, Some(&1)));
        assert!(damaged.images["tierdata_2.img"].path.to_str().unwrap().contains("F2-snaps"));
        assert!(damaged.files.contains_key("snap3"));
    }

    #[test]
    fn images_are_unpacked_sparse_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture::named("F1-plain-ext4").unwrap();
        let paths = fixture.unpack(dir.path()).unwrap();
        assert_eq!(fs::metadata(&paths["tierdata_2.img"]).unwrap().len(), 134_217_728);
        let mut wrong = fixture;
        wrong.images.get_mut("tmeta.img").unwrap().sha256 = "00".repeat(32);
        assert!(wrong.unpack(dir.path()).unwrap_err().to_string().contains("wrong SHA-256"));
    }
}
