//! sfdisk against the partitions of the inventory.

use super::{forge, run};
use std::path::Path;
use tierlift::discover::inventory;
use tierlift_forge::{ForgeOptions, Mirror, Raid, mishaps};

fn options() -> ForgeOptions {
    ForgeOptions { mirror: Mirror::Both, ..ForgeOptions::default() }
}

/// Number, first sector, length, by sfdisk.
fn by_sfdisk(disk: &Path) -> (String, Vec<(u32, u64, u64)>) {
    let said = run("sfdisk", &["--dump"], disk);
    assert!(said.success, "{}", said.text);
    let name = disk.display().to_string();
    let number = |word: &str, line: &str| -> u64 {
        let rest = line.split_once(word).unwrap().1.trim_start();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let lines = said.text.lines().filter_map(|line| Some((line.strip_prefix(&name)?, line)));
    let partitions = lines.map(|(rest, line)| {
        (rest.split(' ').next().unwrap().parse().unwrap(), number("start=", line), number("size=", line))
    });
    (said.value("label", ":").unwrap().to_owned(), partitions.collect())
}

/// The same by us, after what we call the table.
fn by_us(disk: &Path) -> (String, Vec<(u32, u64, u64)>) {
    let disk = inventory(&[disk.to_owned()]).unwrap().disks.remove(0);
    let partitions = disk.partitions.iter();
    (disk.table, partitions.map(|partition| (partition.number, partition.start.0, partition.length.0)).collect())
}

#[test]
fn sfdisk_agrees_on_both_copies_of_the_gpt() {
    for compact in [false, true] {
        let (_dir, forged) = forge("F6a-data-full", &ForgeOptions { compact, ..options() });
        let disk = &forged.disks[0];
        let whole = by_sfdisk(disk);
        assert_eq!((whole.0.as_str(), by_us(disk).0.as_str(), whole.1.len()), ("gpt", "gpt", 5));
        assert_eq!(whole.1, by_us(disk).1);
        let verified = run("sfdisk", &["--verify"], disk);
        assert!(verified.success && verified.text.contains("No errors detected"), "{}", verified.text);
        mishaps::wipe(disk, 512, 33 * 512).unwrap();
        let backup = by_sfdisk(disk);
        assert_eq!((backup, by_us(disk).0.as_str()), (whole, "gpt (backup)"));
        assert_eq!(by_us(disk).1, by_sfdisk(disk).1);
    }
}

#[test]
fn sfdisk_reads_the_first_copy_when_the_second_is_gone() {
    let (_dir, forged) = forge("F6a-data-full", &options());
    let disk = &forged.disks[1];
    mishaps::wipe_backup_gpt(disk).unwrap();
    assert_eq!(by_sfdisk(disk).1, by_us(disk).1);
    assert_eq!(by_us(disk).0, "gpt");
}

#[test]
fn sfdisk_agrees_on_the_mbr() {
    let raid = Some(Raid::new(5, 3));
    let (_dir, forged) = forge("F6a-data-full", &ForgeOptions { raid, compact: true, ..ForgeOptions::default() });
    for disk in &forged.disks {
        mishaps::as_mbr(disk).unwrap();
        let (label, partitions) = by_sfdisk(disk);
        assert_eq!((label.as_str(), by_us(disk).0.as_str(), partitions.len()), ("dos", "mbr", 4));
        assert_eq!(partitions, by_us(disk).1);
        let verified = run("sfdisk", &["--verify"], disk);
        assert!(verified.success, "{}", verified.text);
    }
}
