//! What the prompt says first: what this machine is, which disks it sees, what it will not do to them.

use std::fs;
use std::path::Path;

/// Disks named in the welcome; more are only counted.
const NAMED: usize = 8;
/// Kernel names of block devices that are no attached disks.
const NOT_DISKS: [&str; 9] = ["loop", "ram", "dm-", "md", "zram", "sr", "fd", "nbd", "mtd"];

/// A disk the kernel sees.
#[derive(Debug, PartialEq, Eq)]
struct Disk {
    name: String,
    sectors: u64,
}

/// The text shown before the first prompt; `sys_block` is `/sys/block`. The disks themselves are not read.
#[must_use]
pub fn text(sys_block: &Path) -> String {
    format!(
        "\n\
         Tierlift {}: recovers data from the disks of QNAP storage systems.\n\
         \n\
         {}\n\
         Nothing is written to the disks you attach: every change goes to an overlay.\n\
         Only a disk that you name as the target of a copy, or as scratch, is written.\n\
         \n\
         Type scan to see what is on the disks, help for all commands.\n\
         \n",
        env!("CARGO_PKG_VERSION"),
        attached(&disks(sys_block))
    )
}

fn disks(sys_block: &Path) -> Vec<Disk> {
    let entries = fs::read_dir(sys_block).into_iter().flatten().flatten();
    let disk = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let sectors = fs::read_to_string(entry.path().join("size")).ok()?.trim().parse().ok()?;
        (!is_boot_disk(&entry.path())).then_some(Disk { name, sectors })
    };
    let is_disk = |disk: &Disk| disk.sectors > 0 && !NOT_DISKS.iter().any(|prefix| disk.name.starts_with(prefix));
    let mut disks: Vec<_> = entries.filter_map(disk).filter(is_disk).collect();
    // sdz comes before sdaa.
    disks.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    disks
}

/// Whether a partition of the disk has the name that only the appliance's boot disk has: the kernel knows the names.
fn is_boot_disk(disk: &Path) -> bool {
    let named = |part: fs::DirEntry| fs::read_to_string(part.path().join("uevent")).unwrap_or_default();
    fs::read_dir(disk)
        .into_iter()
        .flatten()
        .flatten()
        .any(|part| named(part).lines().any(|line| line == "PARTNAME=Tierlift boot"))
}

fn attached(disks: &[Disk]) -> String {
    let count = match disks.len() {
        0 => return "No disk is attached. Attach the disks or images and start again.".into(),
        1 => "1 disk is attached:".to_owned(),
        count => format!("{count} disks are attached:"),
    };
    let mut lines = vec![count];
    lines.extend(disks.iter().take(NAMED).map(|disk| format!("  /dev/{:<10} {:>10}", disk.name, size(disk.sectors))));
    if let Some(more) = disks.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

/// A size for people.
fn size(sectors: u64) -> String {
    let units = [(1_u64 << 31, "TiB"), (1 << 21, "GiB"), (1 << 11, "MiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| sectors >= *unit).unwrap_or((2, "KiB"));
    format!("{:.1} {name}", sectors as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_counted_and_sorted_and_others_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("sdaa", "4096"), ("sdb", "2"), ("loop0", "8"), ("sr0", "8"), ("dm-0", "8"), ("sdc", "0")]
        {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("size"), format!("{size}\n")).unwrap();
        }
        fs::create_dir_all(folder.path().join("sda/sda2")).unwrap();
        fs::write(folder.path().join("sda/size"), "75776\n").unwrap();
        fs::write(folder.path().join("sda/sda2/uevent"), "PARTN=2\nPARTNAME=Tierlift boot\n").unwrap();
        let names: Vec<_> = disks(folder.path()).into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["sdb", "sdaa"]);
        let text = text(folder.path());
        assert!(
            text.contains("2 disks are attached:\n  /dev/sdb           1.0 KiB\n  /dev/sdaa          2.0 MiB\n"),
            "{text}"
        );
    }

    #[test]
    fn many_disks_fit_the_screen() {
        let disks: Vec<_> = (0..30).map(|i| Disk { name: format!("sd{i}"), sectors: u64::MAX }).collect();
        let text = attached(&disks);
        assert!(text.lines().count() == 10 && text.ends_with("and 22 more"));
        assert!(text.lines().all(|line| line.len() < 80));
    }

    #[test]
    fn no_disks_are_told() {
        assert!(attached(&[]).starts_with("No disk is attached"));
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [size(1), size(3000), size(1 << 21), size(7_814_037_168)],
            ["0.5 KiB", "1.5 MiB", "1.0 GiB", "3.6 TiB"]
        );
    }
}
