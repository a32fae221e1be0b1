//! Damaged pools, repaired and read through a kernel again: what history repairs is what it was, and what is lost reads as
//! errors in stock Linux's form.

mod common;

use common::{Loose, Whole, sparse};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tierlift_forge::ForgeOptions;
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::rebuild::{RebuildOptions, rebuild};
use tierlift_pool::{Pool, SalvageOptions, salvage};
use tierlift_tests::{Image, Machine, Settings};

const SECTOR: u64 = 512;

/// Overwrites metadata blocks with zeros.
fn lose(tmeta: &Path, block_size: usize, blocks: &[MetaBlock]) {
    let file = OpenOptions::new().write(true).open(tmeta).unwrap();
    for block in blocks {
        file.write_all_at(&vec![0; block_size], block.0 * block_size as u64).unwrap();
    }
}

/// Superblock, list of device roots and list of records: what history gives back.
fn lose_all_roots(tmeta: &Path) {
    let pool = Pool::open(Arc::new(fs::read(tmeta).unwrap())).unwrap();
    let superblock = pool.superblock();
    let lost = [MetaBlock(0), superblock.mapping_root, superblock.details_root];
    lose(tmeta, pool.blocks().size().bytes(), &lost);
}

/// Metadata written anew, in their own form.
fn repaired(tmeta: &Path) -> Vec<u8> {
    let salvaged = salvage(Arc::new(fs::read(tmeta).unwrap()), &SalvageOptions::default(), &mut |_| {}).unwrap();
    let mut bytes = Vec::new();
    let report = rebuild(&salvaged.pool, &RebuildOptions::default(), &mut bytes).unwrap();
    assert!(report.is_whole(), "{report:?}");
    bytes.resize(usize::try_from(report.blocks).unwrap() * report.block_size.bytes(), 0);
    bytes
}

/// On whole disks the agent cannot tell a repaired pool from one that never was damaged.
#[test]
fn a_repaired_pool_is_activated_like_any_other() {
    let name = "F2-snaps";
    let loose = Loose::unpack(name);
    let before = fs::read(&loose.tmeta).unwrap();
    lose_all_roots(&loose.tmeta);
    let bytes = repaired(&loose.tmeta);
    assert!(bytes != before);
    let whole = Whole::forge(name, &ForgeOptions::default());
    let place = whole.forged.placed.iter().find(|volume| volume.name.ends_with("_tmeta")).unwrap();
    let [piece] = place.pieces[..] else { panic!("{place:?}") };
    let disk = OpenOptions::new().write(true).open(&whole.forged.disks[piece.array]).unwrap();
    disk.write_all_at(&bytes, piece.disk_sector * SECTOR).unwrap();
    let mut machine = whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap();
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}

/// A machine with the parts of a pool as vda (tmeta), vdb (tier 0) …, and two empty disks for new metadata.
struct Workshop {
    loose: Loose,
    machine: Machine,
    chunk: u64,
    /// The new metadata in the pool's own form, and in stock Linux's.
    own: String,
    stock: String,
}

impl Workshop {
    fn open(loose: Loose, image: &Image) -> Self {
        let folder = loose.tmeta.parent().unwrap();
        let outputs = ["own.img", "stock.img"].map(|name| sparse(&folder.join(name), 16 << 20));
        let settings =
            outputs.iter().fold(loose.attach(Settings::new(image)), |settings, path| settings.writable(path));
        let mut machine = settings.boot().unwrap();
        let first = b'b' + u8::try_from(loose.tiers.len()).unwrap();
        let [own, stock] = [first, first + 1].map(|letter| format!("/dev/vd{}", char::from(letter)));
        let chunk = loose.fixture.pool_table().unwrap().chunk_size;
        // The appliance makes every disk read-only.
        machine.shell(&format!("blockdev --setrw {own}; blockdev --setrw {stock}")).unwrap().success().unwrap();
        Self { loose, machine, chunk, own, stock }
    }

    fn shell(&mut self, line: &str) -> String {
        let prelude = "dm() { dmsetup --noudevrules --noudevsync \"$@\" && dmsetup mknodes; }\n";
        self.machine.shell(&format!("set -e\n{prelude}{line}")).unwrap().success().unwrap()
    }

    /// Repairs to the pool's own form and opens that; answers with the exit code of the repair.
    fn open_own(&mut self) -> i32 {
        let own = self.own.clone();
        let words = ["pool", "repair", "--meta", "/dev/vda", "--output", &own, "--force"];
        let output = self.machine.run(&words).unwrap();
        println!("repaired: {}{}", output.stdout, output.stderr);
        let table = self.loose.fixture.pool_table().unwrap();
        assert_eq!(table.tiers, 3);
        let mode = if table.bypass_off { "bypass_off " } else { "" };
        let words = format!(
            "TIER:3 /dev/vdb /dev/vdc /dev/vdd enable_map:{} {mode}qnap_format read_only skip_block_zeroing",
            table.enable_map
        );
        let count = words.split_whitespace().count();
        let (sectors, chunk) = (table.sectors, self.chunk);
        self.shell(&format!("dm create pool --table '0 {sectors} thin-pool {own} TIER {chunk} 0 {count} {words}'"));
        output.code
    }

    /// Repairs to stock Linux's form and opens that; answers with the exit code of the repair.
    fn open_stock(&mut self) -> i32 {
        let stock = self.stock.clone();
        let mut words = vec!["pool", "repair", "--meta", "/dev/vda", "--output", &stock, "--force"];
        words.extend(["--format", "mainline", "--layout", "/tmp/layout"]);
        let truth = self.loose.fixture.truth.iter();
        let sizes: Vec<_> = truth.map(|(id, truth)| format!("--device-size={id}={}", truth.sectors * SECTOR)).collect();
        words.extend(sizes.iter().map(String::as_str));
        let output = self.machine.run(&words).unwrap();
        println!("repaired: {}{}", output.stdout, output.stderr);
        let chunk = self.chunk;
        self.shell(&format!(
            "sed -i 's|tierdata_0|/dev/vdb|; s|tierdata_1|/dev/vdc|; s|tierdata_2|/dev/vdd|' /tmp/layout\n\
             dm create data --readonly /tmp/layout\n\
             sectors=$(blockdev --getsz /dev/mapper/data)\n\
             dm create pool --table \"0 $sectors thin-pool {stock} /dev/mapper/data {chunk} 0 1 read_only\""
        ));
        output.code
    }

    fn close(&mut self) {
        self.shell("dm remove pool; dmsetup remove data 2>/dev/null || true; rm -f /tmp/layout");
    }

    /// All devices but these are what QNAP's kernel read.
    fn assert_right_but(&mut self, lost: &[u64]) {
        for (id, truth) in self.loose.fixture.truth.clone() {
            if lost.contains(&id) {
                continue;
            }
            let table = format!("0 {} thin /dev/mapper/pool {id}", truth.sectors);
            let hash = self.shell(&format!(
                "dm create thin --readonly --table '{table}'\nsha256sum < /dev/mapper/thin\ndm remove thin"
            ));
            assert!(hash.starts_with(&truth.sha256), "device {id}: {hash}, expected {}", truth.sha256);
            println!("after repair: {} device {id} {}", self.loose.fixture.name, truth.sha256);
        }
    }

    /// Every chunk of this device is an error.
    fn assert_lost(&mut self, id: u64) {
        let (sectors, chunk) = (self.loose.fixture.truth[&id].sectors, self.chunk);
        let read = self.shell(&format!(
            "dm create thin --readonly --table '0 {sectors} thin /dev/mapper/pool {id}'\n\
             n=0; while [ $n -lt {} ]; do\n\
             dd if=/dev/mapper/thin of=/dev/null bs={} skip=$n count=1 iflag=direct 2>/dev/null && echo $n\n\
             n=$((n + 1)); done\ndm remove thin",
            sectors / chunk,
            chunk * SECTOR
        ));
        assert_eq!(read, "", "lost chunks of device {id} are readable");
    }
}

/// Repaired by the agent in the appliance, in both forms: by the patched kernel all is as it was.
#[test]
fn what_history_repairs_is_what_it_was_in_both_forms() {
    let loose = Loose::unpack("F2-snaps");
    lose_all_roots(&loose.tmeta);
    let mut workshop = Workshop::open(loose, &Image::from_environment().unwrap());
    assert_eq!(workshop.open_own(), 1, "repaired and whole");
    workshop.assert_right_but(&[]);
    workshop.close();
    assert_eq!(workshop.open_stock(), 1, "repaired and whole");
    workshop.assert_right_but(&[]);
    workshop.close();
    workshop.machine.finish().unwrap();
}

/// A pool spread over tiers becomes one that any Linux can read.
#[test]
fn the_unpatched_kernel_reads_a_repaired_pool_of_three_tiers() {
    let loose = Loose::unpack("F3-3tiers");
    lose_all_roots(&loose.tmeta);
    let mut workshop = Workshop::open(loose, &Image::stock_from_environment().unwrap());
    assert_eq!(workshop.open_stock(), 1, "repaired and whole");
    workshop.assert_right_but(&[]);
    workshop.close();
    workshop.machine.finish().unwrap();
}

/// The only leaf of a device is lost: it is an error from end to end, and all the others are as they were.
#[test]
fn what_is_lost_reads_as_errors() {
    let loose = Loose::unpack("F4-thick-clone");
    let pool = Pool::open(Arc::new(fs::read(&loose.tmeta).unwrap())).unwrap();
    let roots = pool.roots().found;
    let (_, lost_root) = roots[1];
    let lost: Vec<u64> = roots.iter().filter(|(_, root)| *root == lost_root).map(|(id, _)| *id).collect();
    assert!(lost.len() < roots.len());
    lose(&loose.tmeta, pool.blocks().size().bytes(), &[lost_root]);
    let mut workshop = Workshop::open(loose, &Image::from_environment().unwrap());
    assert_eq!(workshop.open_own(), 2, "damage is told");
    workshop.assert_right_but(&lost);
    workshop.close();
    assert_eq!(workshop.open_stock(), 2, "damage is told");
    workshop.assert_right_but(&lost);
    lost.iter().for_each(|id| workshop.assert_lost(*id));
    workshop.close();
    workshop.machine.finish().unwrap();
}
