//! What several scenarios need: genuine pools as loose parts, and ways to change their metadata.
#![allow(dead_code, reason = "each scenario file uses a part")]

pub mod files;
pub mod made;
pub mod recovery;
pub mod tree;

use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tierlift_forge::{Fixture, ForgeOptions, Forged, forge_disks};
use tierlift_ondisk::field::hex;
use tierlift_tests::{Machine, Settings};

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
        let fixture = Fixture::named(name).unwrap();
        let mut parts = fixture.unpack(folder.path()).unwrap();
        let tmeta = parts.remove("tmeta.img").unwrap();
        Self { fixture, tmeta, tiers: parts.into_values().collect(), _folder: folder }
    }

    /// Attaches all parts as sources: tmeta first, then the tiers in order.
    pub fn attach(&self, settings: Settings) -> Settings {
        self.tiers.iter().fold(settings.source(&self.tmeta), |settings, tier| settings.source(tier))
    }
}

/// A genuine pool on whole forged disks, as somebody with a dead NAS would have it.
pub struct Whole {
    pub fixture: Fixture,
    pub forged: Forged,
    folder: TempDir,
}

impl Whole {
    pub fn forge(name: &str, options: &ForgeOptions) -> Self {
        Self::forge_fixture(Fixture::named(name).unwrap(), options)
    }

    pub fn forge_fixture(fixture: Fixture, options: &ForgeOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let forged = forge_disks(&fixture, options, folder.path()).unwrap();
        Self { fixture, forged, folder }
    }

    /// Attaches all disks as sources, in order.
    pub fn attach(&self, settings: Settings) -> Settings {
        self.forged.disks.iter().fold(settings, |settings, disk| settings.source(disk))
    }

    /// Where further disks of the scenario may lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Activates every volume and compares each with what QNAP's kernel read.
    pub fn assert_every_active_volume(&self, machine: &mut Machine) {
        machine.run(&["activate", "--all"]).unwrap().success().unwrap();
        let name = &self.fixture.name;
        for volume in &self.forged.volumes {
            let truth = &self.fixture.truth[&volume.device];
            let path = format!("/dev/mapper/{}-{}", self.forged.volume_group, volume.name);
            let bytes = machine.shell(&format!("blockdev --getsz {path}")).unwrap().success().unwrap();
            assert_eq!(bytes.trim(), truth.sectors.to_string(), "size of {name} device {}", volume.device);
            let hash = machine.shell(&format!("sha256sum < {path}")).unwrap().success().unwrap();
            assert!(
                hash.starts_with(&truth.sha256),
                "{name} device {}: {hash}, expected {}",
                volume.device,
                truth.sha256
            );
            println!("kernel route: {name} device {} {}", volume.device, truth.sha256);
        }
    }

    /// The same, and then takes all away again.
    pub fn assert_every_volume(&self, machine: &mut Machine) {
        self.assert_every_active_volume(machine);
        machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
        let left = machine.shell("dmsetup ls").unwrap().success().unwrap();
        assert!(left.contains("No devices found"), "left after deactivate: {left}");
    }

    /// The name of the volume with this device id, with its group: `vg1/lv1`.
    pub fn volume(&self, device: u64) -> String {
        let volume = self.forged.volumes.iter().find(|volume| volume.device == device).unwrap();
        format!("{}/{}", self.forged.volume_group, volume.name)
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

/// SHA-256 in hexadecimal, as sha256sum prints it.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A new sparse file.
pub fn sparse(path: &Path, length: u64) -> PathBuf {
    fs::File::create(path).unwrap().set_len(length).unwrap();
    path.to_path_buf()
}

/// Waits until a line says `text`.
pub fn wait_for(line: &mut UnixStream, text: &str) -> String {
    line.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.contains(text) {
        let count =
            line.read(&mut buffer).unwrap_or_else(|error| panic!("{error}, waiting for {text:?} after {said:?}"));
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    said
}

/// A line for QEMU's own monitor.
pub fn monitor(path: &Path, line: &str) {
    let mut monitor = UnixStream::connect(path).unwrap();
    wait_for(&mut monitor, "(qemu) ");
    writeln!(monitor, "{line}").unwrap();
    wait_for(&mut monitor, "(qemu) ");
}
