//! blkid against what the inventory says each piece holds.

use super::{Said, forge, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift::discover::inventory;
use tierlift_forge::{Fixture, ForgeOptions, Raid, add_system, forge_disks, mishaps};

fn probe(file: &Path, (start, length): (u64, u64)) -> Said {
    let (offset, size) = (format!("{}", start * 512), format!("{}", length * 512));
    run("blkid", &["-p", "-o", "export", "--offset", &offset, "--size", &size], file)
}

#[test]
fn blkid_agrees_on_members_and_tables() {
    let raid = Some(Raid::new(5, 3));
    let (_dir, forged) = forge("F6a-data-full", &ForgeOptions { raid, compact: true, ..ForgeOptions::default() });
    let found = inventory(&forged.disks).unwrap();
    for (number, disk) in forged.disks.iter().enumerate() {
        assert_eq!(run("blkid", &["-p", "-o", "export"], disk).value("PTTYPE", "="), Some("gpt"));
        assert_eq!(found.disks[number].table, "gpt");
        for partition in &found.disks[number].partitions {
            let said = probe(disk, (partition.start.0, partition.length.0));
            assert_eq!(said.value("TYPE", "="), Some("linux_raid_member"), "{}", said.text);
            assert_eq!(said.value("VERSION", "="), Some("1.0"), "{}", said.text);
            let of = found.arrays.iter().find(|array| {
                array.members.iter().any(|one| one.place.disk == number && one.place.start == partition.start)
            });
            let plain = |uuid: &str| uuid.replace([':', '-'], "");
            assert_eq!(said.value("UUID", "=").map(plain), of.map(|array| plain(&array.uuid)), "{}", said.text);
            assert_eq!(said.value("LABEL", "="), of.map(|array| array.name.as_str()), "{}", said.text);
        }
    }
}

#[test]
fn blkid_sees_drbd_where_we_see_its_tail_and_lvm() {
    for (drbd, kind) in [(false, "LVM2_member"), (true, "drbd")] {
        let (_dir, forged) = forge("F6a-data-full", &ForgeOptions { drbd, compact: true, ..ForgeOptions::default() });
        let image = &forged.arrays[0].image;
        let said = run("blkid", &["-p", "-o", "export"], image);
        // With both signatures there, newer versions name neither: `ambivalent result`.
        let ambivalent = said.text.contains("ambivalent");
        assert!(said.value("TYPE", "=") == Some(kind) || drbd && ambivalent, "{}", said.text);
        let found = inventory(&forged.disks).unwrap();
        let carries = found.arrays[0].carries.join("; ");
        assert_eq!(carries.contains("DRBD tail"), drbd, "{carries}");
        let volume = &found.volume_groups[0].physical_volumes[0];
        if !drbd {
            assert_eq!(said.value("UUID", "="), Some(volume.id.as_str()), "{}", said.text);
        }
        assert!(volume.place.is_some());
    }
}

#[test]
fn blkid_agrees_on_legacy_members_and_the_system_partition() {
    let dir = tempfile::tempdir().unwrap();
    let options = ForgeOptions { raid: Some(Raid::new(1, 2)), ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named("F6a-data-full").unwrap(), &options, dir.path()).unwrap();
    add_system(&forged).unwrap();
    mishaps::rewrite_0_90(&forged, 0).unwrap();
    let said = probe(&forged.disks[0], forged.arrays[0].partition);
    assert_eq!((said.value("TYPE", "="), said.value("VERSION", "=")), (Some("linux_raid_member"), Some("0.90.0")));
    let found = inventory(&forged.disks).unwrap();
    let plain = |uuid: &str| uuid.replace([':', '-'], "");
    let data = found.arrays.iter().find(|array| !array.system).unwrap();
    assert_eq!(said.value("UUID", "=").map(plain), Some(plain(&data.uuid)));
    // Behind the superblock of md9 lies the file system from which the settings were read.
    assert!(!found.harvest.is_empty());
    let first = &found.disks[0].partitions[0];
    let system = probe(&forged.disks[0], (first.start.0, first.length.0 - 512));
    assert_eq!(system.value("TYPE", "="), Some("ext3"), "{}", system.text);
}

/// File systems and the like directly on a partition, made by their own tools.
#[test]
fn blkid_agrees_on_what_begins_here() {
    let dir = tempfile::tempdir().unwrap();
    let image = |name: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
        path
    };
    let ext = image("ext4.img");
    assert!(Command::new("/sbin/mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&ext).status().unwrap().success());
    let swap = image("swap.img");
    assert!(run("mkswap", &["-q"], &swap).success);
    let luks = image("luks.img");
    super::encrypted::format(&luks, "luks1", "secret");
    for (path, kind, words) in
        [(&ext, "ext4", "ext file system"), (&swap, "swap", "swap"), (&luks, "crypto_LUKS", "LUKS encrypted volume")]
    {
        let said = run("blkid", &["-p", "-o", "export"], path);
        assert_eq!(said.value("TYPE", "="), Some(kind), "{}", said.text);
        let disk = inventory(std::slice::from_ref(path)).unwrap().disks.remove(0);
        assert_eq!(disk.content.as_deref(), Some(words));
    }
    let empty = image("empty.img");
    assert!(run("blkid", &["-p", "-o", "export"], &empty).value("TYPE", "=").is_none());
    assert!(inventory(&[empty]).unwrap().disks[0].content.as_deref().unwrap().starts_with("zeros"));
}
