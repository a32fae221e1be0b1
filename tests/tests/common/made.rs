//! A pool of our own making around a file system of our own making: long enough that its mapping trees have several leaves, and
//! without a history that could give a lost one back. Genuine pools are too small for that.

use super::{sha256, sparse};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tierlift_forge::simulator::{Shape, Simulator};
use tierlift_forge::{Dice, Fixture, Image, Truth};
use tierlift_ondisk::units::{DeviceId, MetaBlock, Sectors};

/// The one volume.
pub const DEVICE: u64 = 1;
/// 64 KiB: a leaf of 8 KiB holds the mappings of 31 MiB.
const CHUNK: Sectors = Sectors(128);
const CHUNK_BYTES: usize = 64 << 10;
/// Tier blocks have 4 MiB.
const CHUNKS: u64 = 4096;

/// A pool in bypass mode with one volume, and the image of that.
pub struct Made {
    pub fixture: Fixture,
    pub volume: Vec<u8>,
    /// Leaves of the volume's mapping tree, from its beginning to its end.
    pub leaves: Vec<MetaBlock>,
}

/// Files of several sizes in several directories, from a seed.
fn content(folder: &Path) {
    let mut dice = Dice::new(2026);
    for (directory, files, most) in
        [("Photos/2019", 40, 1 << 20), ("Photos/2020", 24, 4 << 20), ("Letters", 40, 30_000)]
    {
        let directory = folder.join(directory);
        fs::create_dir_all(&directory).unwrap();
        for number in 0..files {
            let length = 1 + dice.below(most);
            let bytes: Vec<u8> =
                (0..length.div_ceil(4)).flat_map(|_| (dice.below(1 << 32) as u32).to_le_bytes()).collect();
            fs::write(directory.join(format!("{number}.bin")), &bytes[..length as usize]).unwrap();
        }
    }
}

impl Made {
    /// Makes the pool with a volume of so many MiB; its images lie in `folder`. `options` are those of mke2fs.
    pub fn new(folder: &Path, mib: u64, options: &[&str]) -> Self {
        let (tree, image) = (folder.join("tree"), sparse(&folder.join("made-volume.img"), mib << 20));
        content(&tree);
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4"]).args(options).arg("-d").arg(&tree).arg(&image);
        assert!(mke2fs.status().unwrap().success());
        let volume = fs::read(&image).unwrap();
        let (tmeta, mapped) = pool_of(&volume);
        let leaves = leaves_of(&tmeta);
        let mut data = vec![0; CHUNKS as usize * CHUNK_BYTES];
        for (virtual_chunk, chunk) in mapped {
            let from = &volume[virtual_chunk as usize * CHUNK_BYTES..][..CHUNK_BYTES];
            data[chunk as usize * CHUNK_BYTES..][..CHUNK_BYTES].copy_from_slice(from);
        }
        Self { fixture: fixture(folder, &tmeta, &data, &volume), volume, leaves }
    }

    /// Loses blocks of the metadata.
    pub fn lose(&mut self, folder: &Path, blocks: &[MetaBlock]) {
        let path = self.fixture.images["tmeta.img"].path.clone();
        let mut tmeta = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
        for block in blocks {
            tmeta[block.0 as usize * 8192..][..8192].fill(0);
        }
        self.fixture.images.insert("tmeta.img".into(), packed(folder, "damaged-tmeta.img", &tmeta));
    }
}

/// Everything that is not zeros, written in one transaction.
fn pool_of(volume: &[u8]) -> (Vec<u8>, Vec<(u64, u64)>) {
    let shape = Shape { chunks: CHUNKS, chunk_size: CHUNK, metadata_blocks: 1024, ..Shape::QNAP_BYPASS };
    let mut pool = Simulator::format(shape).unwrap();
    pool.create(DeviceId(DEVICE)).unwrap();
    let written = (0..).zip(volume.chunks(CHUNK_BYTES)).filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0));
    let written: Vec<u64> = written.map(|(number, _)| number).collect();
    for chunk in &written {
        pool.write(DeviceId(DEVICE), *chunk).unwrap();
    }
    let pool = pool.finish().unwrap();
    let mappings = &pool.truth.mappings[&DeviceId(DEVICE)];
    (pool.image, mappings.iter().map(|(virtual_chunk, value)| (*virtual_chunk, value.chunk.0)).collect())
}

/// The leaves below the root of the volume's tree: entries of a node lie behind its header of 32 bytes, keys before values.
fn leaves_of(tmeta: &[u8]) -> Vec<MetaBlock> {
    let pool = tierlift_pool::Pool::open(std::sync::Arc::new(tmeta.to_vec())).unwrap();
    let (_, root) = pool.roots().found[0];
    let node = &tmeta[root.0 as usize * 8192..][..8192];
    let number = |at: usize| u32::from_le_bytes(node[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(number(4) & 1, 1, "the volume needs more than one leaf");
    let (count, most) = (number(16), number(20));
    let values = (0..count).map(|entry| 32 + most * 8 + entry * 8);
    values.map(|at| MetaBlock(u64::from_le_bytes(node[at..at + 8].try_into().unwrap()))).collect()
}

fn packed(folder: &Path, name: &str, bytes: &[u8]) -> Image {
    let path = folder.join(format!("{name}.zst"));
    fs::write(&path, zstd::encode_all(bytes, 1).unwrap()).unwrap();
    Image { bytes: bytes.len() as u64, sha256: sha256(bytes), path }
}

fn fixture(folder: &Path, tmeta: &[u8], data: &[u8], volume: &[u8]) -> Fixture {
    let absent = vec![0; 4 << 20];
    let images =
        [("tmeta.img", tmeta), ("tierdata_0.img", &absent), ("tierdata_1.img", &absent), ("tierdata_2.img", data)];
    let sectors = CHUNKS * CHUNK.0;
    let truth = Truth { sectors: volume.len() as u64 / 512, sha256: sha256(volume) };
    Fixture {
        dir: folder.to_owned(),
        name: "made".into(),
        description: "a volume with files, made by the simulator".into(),
        base: None,
        truth: BTreeMap::from([(DEVICE, truth)]),
        files: BTreeMap::new(),
        images: images.into_iter().map(|(name, bytes)| (name.to_owned(), packed(folder, name, bytes))).collect(),
        verify_tables: vec![format!(
            "tp 0 {sectors} thin-pool /dev/vda /dev/vdd {} 0 5 TIER:3 - - /dev/vdd enable_map:4",
            CHUNK.0
        )],
        superblock: None,
        superblock_hex: None,
        origins: BTreeMap::new(),
    }
}
