//! Pools of stock Linux: without the dialect word the patched kernel reads, behaves and writes exactly as the unpatched one.

mod common;

use common::sparse;
use std::fs;
use std::path::Path;
use tierlift_tests::{Image, Settings, fingerprint};

/// Makes a pool and works with it: creates, writes, snapshots, overwrites, deletes, discards. Each write is followed by its
/// flush at once, so that commits come where they are asked for and not by the clock: two kernels that behave alike leave the
/// same bytes.
const WORK: &str = r#"
set -e
dm() { dmsetup --noudevrules --noudevsync "$@"; dmsetup mknodes; }
fill() {
	yes $2 | head -c 65536 > /tmp/block
	n=$3
	while [ $n -lt $4 ]; do
		dd if=/tmp/block of=/dev/mapper/$1 bs=65536 seek=$n count=1 oflag=direct conv=fsync,notrunc 2>/dev/null
		n=$((n + 1))
	done
}
blockdev --setrw /dev/vda; blockdev --setrw /dev/vdb
dm create pool --table '0 131072 thin-pool /dev/vda /dev/vdb 128 0 1 skip_block_zeroing'
dm message pool 0 create_thin 1
dm create one --table '0 65536 thin /dev/mapper/pool 1'
fill one first 0 12; fill one second 100 108
dm suspend one; dm message pool 0 create_snap 2 1; dm resume one
dm create two --table '0 65536 thin /dev/mapper/pool 2'
fill one third 4 10; fill two fourth 104 112
dm message pool 0 create_thin 3
dm create three --table '0 65536 thin /dev/mapper/pool 3'
fill three fifth 7 20
dm remove three; dm message pool 0 delete 3
dm suspend one; dm message pool 0 create_snap 4 1; dm resume one
blkdiscard -o 524288 -l 131072 /dev/mapper/one; blockdev --flushbufs /dev/mapper/one
dm message pool 0 set_transaction_id 0 7
dm status pool | cut -d' ' -f4-
sha256sum < /dev/mapper/one; sha256sum < /dev/mapper/two
dm remove two; dm remove one; dm remove pool
"#;

struct Result {
    said: String,
    metadata: Vec<u8>,
    data: String,
}

/// The metadata without what is chance on any kernel: behind the 32 bytes of each space map root in the superblock, stock
/// Linux writes 96 bytes of memory it never set (measured: they differ from run to run), and the checksum covers them.
fn without_chance(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes[0..4].fill(0);
    bytes[96..192].fill(0);
    bytes[224..320].fill(0);
    bytes
}

fn work_on(image: &Image) -> Result {
    let folder = tempfile::tempdir().unwrap();
    let metadata = sparse(&folder.path().join("tmeta.img"), 4 << 20);
    let data = sparse(&folder.path().join("tdata.img"), 64 << 20);
    let mut machine = Settings::new(image).writable(&metadata).writable(&data).boot().unwrap();
    let said = machine.shell(WORK).unwrap().success().unwrap();
    machine.shell("sync").unwrap().success().unwrap();
    machine.finish().unwrap();
    Result { said, metadata: without_chance(&metadata), data: fingerprint(&data).unwrap() }
}

#[test]
fn patched_and_unpatched_kernel_leave_the_same_bytes() {
    let patched = work_on(&Image::from_environment().unwrap());
    let stock = work_on(&Image::stock_from_environment().unwrap());
    assert!(patched.said.contains(" rw "), "{}", patched.said);
    assert_eq!(patched.said, stock.said);
    assert!(patched.metadata.iter().any(|byte| *byte != 0));
    assert!(patched.metadata == stock.metadata, "the metadata differs");
    assert_eq!(patched.data, stock.data);
}

#[test]
fn the_unpatched_kernel_does_not_know_the_word() {
    let image = Image::stock_from_environment().unwrap();
    let loose = common::Loose::unpack("F1-plain-ext4");
    let mut machine = loose.attach(Settings::new(&image)).boot().unwrap();
    let table = "0 262144 thin-pool /dev/vda /dev/vdd 1024 0 2 qnap_format read_only";
    let output = machine.shell(&format!("dmsetup create pool --table '{table}'")).unwrap();
    assert_ne!(output.code, 0, "this is not the unpatched kernel");
    machine.finish().unwrap();
}
