//! What the patched kernel must refuse, each with a reason in its log, and what it must not do: write.
//!
//! Here the pool is attached as loose parts and the tables are written by hand, so that the kernel is tested without the
//! agent, which would not ask for most of this.

mod common;

use common::{Loose, SUPERBLOCK_VERSION, edit_superblock};
use tierlift_tests::{Image, Machine, Settings};

/// F1: bypass. Attached as vda (tmeta), vdb, vdc, vdd (tiers); the variants of its metadata follow.
const TIERS: &str = "TIER:3 /dev/vdb /dev/vdc /dev/vdd";
const LENGTH: u64 = 262_144;

/// Tries a table; answers with what is wrong with the refusal, if anything.
fn refused(machine: &mut Machine, table: &str, reason: &str) -> Option<String> {
    machine.shell("dmesg -c >/dev/null").unwrap().success().unwrap();
    let output =
        machine.shell(&format!("dmsetup create --noudevrules --noudevsync refused --table '{table}'")).unwrap();
    let log = machine.shell("dmesg").unwrap().success().unwrap();
    assert!(tierlift_tests::complaints(&log).is_empty(), "{log}");
    if output.code == 0 {
        machine.shell("dmsetup remove refused").unwrap().success().unwrap();
        return Some(format!("accepted: {table}"));
    }
    (!log.contains(reason)).then(|| format!("refused {table}, but without the reason {reason:?}:\n{log}"))
}

#[test]
fn tables_that_do_not_fit_the_pool() {
    let image = Image::from_environment().unwrap();
    let bypass = Loose::unpack("F1-plain-ext4");
    let tiers = Loose::unpack("F3-3tiers");
    let old = Loose::unpack("F5-v2-4k");
    let newer = Loose::unpack("F1-plain-ext4");
    edit_superblock(&newer.tmeta, 8192, |block| block[SUPERBLOCK_VERSION] = 5);
    let empty = Loose::unpack("F1-plain-ext4");
    common::zero_start(&empty.tmeta, 8192);
    let mut machine = bypass
        .attach(Settings::new(&image))
        .source(&tiers.tmeta) // vde
        .source(&newer.tmeta) // vdf
        .source(&empty.tmeta) // vdg
        .source(&old.tmeta) // vdh
        .source(&old.tiers[0]) // vdi
        .boot()
        .unwrap();
    let mut wrong = Vec::new();
    let mut pool = |meta: &str, length: u64, features: &str, reason: &str| {
        let count = features.split_whitespace().count();
        let table = format!("0 {length} thin-pool /dev/{meta} /dev/vdd 1024 0 {count} {features}");
        wrong.extend(refused(&mut machine, &table, reason));
    };
    // Without the word, no QNAP pool is opened: neither with 8 KiB nor with 4 KiB metadata blocks.
    pool("vda", LENGTH, "read_only", "qnap_format");
    let length = LENGTH;
    pool("vda", length, "qnap_format", "read_only");
    pool("vda", length, &format!("{TIERS} enable_map:4"), "read_only");
    pool("vdf", length, "qnap_format read_only", "version");
    pool("vdg", length, "qnap_format read_only", "format");
    // Bypass asked for a pool that uses its tier tree, and the tree asked for a pool in bypass.
    pool("vde", 491_520, &format!("{TIERS} enable_map:4 qnap_format read_only"), "bypass");
    pool("vda", length, &format!("{TIERS} enable_map:4 bypass_off qnap_format read_only"), "bypass");
    pool("vda", length, "TIER:2 /dev/vdb /dev/vdd enable_map:2 qnap_format read_only", "tier");
    pool("vda", length + 8192, &format!("{TIERS} enable_map:4 qnap_format read_only"), "pool");
    pool("vda", length - 8192, &format!("{TIERS} enable_map:4 qnap_format read_only"), "pool");
    // The same 4 KiB pool that stock Linux would open and spoil.
    refused(&mut machine, &format!("0 {LENGTH} thin-pool /dev/vdh /dev/vdi 128 0 1 read_only"), "qnap_format");
    machine.finish().unwrap();
}

#[test]
fn writes_of_every_kind() {
    let image = Image::from_environment().unwrap();
    let loose = Loose::unpack("F1-plain-ext4");
    let mut machine = loose.attach(Settings::new(&image)).boot().unwrap();
    let pool = format!("0 {LENGTH} thin-pool /dev/vda TIER 1024 0 7 {TIERS} enable_map:4 qnap_format read_only");
    let mut shell = |line: &str| machine.shell(line).unwrap();
    shell(&format!("dmsetup create --noudevrules --noudevsync pool --table '{pool}' && dmsetup mknodes"))
        .success()
        .unwrap();
    shell(
        "dmsetup create --noudevrules --noudevsync thin --table '0 196608 thin /dev/mapper/pool 1' && dmsetup mknodes",
    )
    .success()
    .unwrap();
    let before = shell("sha256sum < /dev/mapper/thin").success().unwrap();
    assert!(before.starts_with(&loose.fixture.truth[&1].sha256), "{before}");
    let attempts = [
        "dd if=/dev/urandom of=/dev/mapper/thin bs=4096 count=1 conv=fsync",
        "dd if=/dev/urandom of=/dev/mapper/thin bs=4096 seek=24000 count=1 conv=fsync",
        "dd if=/dev/urandom of=/dev/mapper/pool bs=4096 count=1 conv=fsync",
        "blkdiscard /dev/mapper/thin",
        "blkdiscard /dev/mapper/pool",
        "dmsetup message pool 0 create_thin 77",
        "dmsetup message pool 0 delete 1",
        "dmsetup message pool 0 set_transaction_id 1 2",
    ];
    for attempt in attempts {
        assert_ne!(shell(attempt).code, 0, "accepted: {attempt}");
    }
    let after = shell("echo 3 > /proc/sys/vm/drop_caches; sha256sum < /dev/mapper/thin").success().unwrap();
    assert_eq!(before, after);
    shell("dmsetup remove thin && dmsetup remove pool").success().unwrap();
    machine.finish().unwrap();
}
