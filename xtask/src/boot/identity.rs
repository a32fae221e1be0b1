//! Which disk or file a name means: a source must not be written to under another name.

use anyhow::{Context, ensure};
use nix::sys::stat::{major, minor};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Devices followed downwards; there are never so many.
const MOST_DEVICES: usize = 1000;

/// What is behind a name, whatever links lead there.
#[derive(Debug, Default)]
pub struct Identity {
    /// Files, as device and inode: the image, or what a loop device shows.
    files: BTreeSet<(u64, u64)>,
    /// Whole disks, as the kernel's folders of them.
    disks: BTreeSet<PathBuf>,
    /// The disks that an image file lies on.
    carriers: BTreeSet<PathBuf>,
}

impl Identity {
    /// What `path` means.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let found = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        let mut identity = Self::default();
        if found.file_type().is_block_device() {
            identity.disks = whole_disks(Path::new("/sys"), found.rdev());
            let shown: Vec<PathBuf> = identity.disks.iter().filter_map(|disk| shown_by_loop(disk)).collect();
            shown.iter().for_each(|file| identity.add_file(file));
        } else {
            identity.add_file(path);
        }
        Ok(identity)
    }

    fn add_file(&mut self, path: &Path) {
        if let Ok(found) = fs::metadata(path) {
            self.files.insert((found.dev(), found.ino()));
            self.carriers.extend(whole_disks(Path::new("/sys"), found.dev()));
        }
    }

    /// Whether writing to `self` would write to `other`, too.
    fn is_part_of(&self, other: &Self) -> bool {
        let meet = |one: &BTreeSet<PathBuf>| !one.is_disjoint(&other.disks);
        !self.files.is_disjoint(&other.files) || meet(&self.disks) || meet(&self.carriers)
    }
}

/// Refuses to write to `written` when that is `other`, or a part of it.
pub fn ensure_apart(written: &Path, other: &Path, what_other: &str) -> anyhow::Result<()> {
    let same = Identity::of(written)?.is_part_of(&Identity::of(other)?);
    ensure!(
        !same,
        "{} would be written on, but it is, or lies on, {what_other} {}: name another disk or file",
        written.display(),
        other.display()
    );
    Ok(())
}

/// The kernel's folders of the disks under a device: of a partition its disk, of a stacked device all disks below and itself.
fn whole_disks(sys: &Path, number: u64) -> BTreeSet<PathBuf> {
    let folder = sys.join("dev/block").join(format!("{}:{}", major(number), minor(number)));
    let mut waiting: Vec<PathBuf> = folder.canonicalize().into_iter().collect();
    let mut disks = BTreeSet::new();
    for _ in 0..MOST_DEVICES {
        let Some(device) = waiting.pop() else { break };
        let below = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        waiting.extend(below.filter_map(|link| link.path().canonicalize().ok()));
        let is_partition = device.join("partition").exists();
        let disk = if is_partition { device.parent().map(Path::to_path_buf) } else { Some(device) };
        disks.extend(disk);
    }
    disks
}

/// The file behind a loop device.
fn shown_by_loop(disk: &Path) -> Option<PathBuf> {
    let path = fs::read_to_string(disk.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(path.trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;
    use std::os::unix::fs::symlink;

    #[test]
    fn one_file_is_known_under_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("disk.img"), "a").unwrap();
        fs::write(at("other.img"), "a").unwrap();
        fs::hard_link(at("disk.img"), at("hard.img")).unwrap();
        symlink("disk.img", at("soft.img")).unwrap();
        for same in ["disk.img", "hard.img", "soft.img", "../x/disk.img"] {
            let same =
                at(&same.replace("../x", &format!("../{}", folder.path().file_name().unwrap().to_string_lossy())));
            let error = ensure_apart(&same, &at("disk.img"), "source").unwrap_err().to_string();
            assert!(error.contains("source") && error.contains("disk.img"), "{error}");
        }
        ensure_apart(&at("other.img"), &at("disk.img"), "source").unwrap();
    }

    /// A disk sdb with two partitions, and a stacked device over the second.
    fn kernel() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let at = |name: &str| sys.path().join(name);
        for folder in ["dev/block", "devices/sda", "devices/sdb/sdb1", "devices/sdb/sdb2", "devices/dm-0/slaves"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for partition in ["sdb1", "sdb2"] {
            fs::write(at(&format!("devices/sdb/{partition}/partition")), "1").unwrap();
        }
        let numbers = [("8:0", "sda"), ("8:16", "sdb"), ("8:17", "sdb/sdb1"), ("8:18", "sdb/sdb2"), ("253:0", "dm-0")];
        for (number, device) in numbers {
            symlink(format!("../../devices/{device}"), at("dev/block").join(number)).unwrap();
        }
        symlink("../../sdb/sdb2", at("devices/dm-0/slaves/sdb2")).unwrap();
        sys
    }

    #[test]
    fn partitions_and_stacked_devices_are_their_disk() {
        let sys = kernel();
        let disk =
            |major, minor| Identity { disks: whole_disks(sys.path(), makedev(major, minor)), ..Identity::default() };
        let source = disk(8, 16);
        for (major, minor) in [(8, 16), (8, 17), (8, 18), (253, 0)] {
            assert!(disk(major, minor).is_part_of(&source), "{major}:{minor}");
        }
        assert!(disk(8, 17).is_part_of(&disk(8, 18)));
        assert!(!disk(8, 0).is_part_of(&source));
    }

    #[test]
    fn a_file_on_a_source_disk_is_part_of_it() {
        let sys = kernel();
        let whole = |minor| whole_disks(sys.path(), makedev(8, minor));
        let image = Identity { files: [(1, 2)].into(), carriers: whole(17), ..Identity::default() };
        assert!(image.is_part_of(&Identity { disks: whole(16), ..Identity::default() }));
        assert!(!image.is_part_of(&Identity { disks: whole(0), ..Identity::default() }));
        // Two images side by side on one disk are two disks.
        let other = Identity { files: [(1, 3)].into(), carriers: whole(17), ..Identity::default() };
        assert!(!image.is_part_of(&other));
    }
}
