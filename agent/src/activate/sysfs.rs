//! Block devices as the kernel lists them: which disk a partition belongs to, what uses a device, where it is mounted.

use std::fs::{File, read_dir};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mount points looked at, most that a table may have.
const MAX_MOUNTS: usize = 100_000;

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Driver.
    pub major: u64,
    /// Device of that driver.
    pub minor: u64,
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl From<u64> for DeviceNumber {
    fn from(number: u64) -> Self {
        Self { major: nix::sys::stat::major(number), minor: nix::sys::stat::minor(number) }
    }
}

/// Number of a block device; `None` when `path` is something else.
///
/// # Errors
/// When it does not exist.
pub fn number_of(path: &Path) -> io::Result<Option<DeviceNumber>> {
    let found = std::fs::metadata(path)?;
    Ok(found.file_type().is_block_device().then(|| found.rdev().into()))
}

/// Number of the device that carries the file system with `path` on it.
///
/// # Errors
/// When the path does not exist.
pub fn carrier_of(path: &Path) -> io::Result<DeviceNumber> {
    Ok(std::fs::metadata(path)?.dev().into())
}

/// Number of the device that a folder's file system lies on. Btrfs has a number of its own, which tells nothing of a disk: there the
/// kernel's list of mounts names the device (one of them, where it has several).
///
/// # Errors
/// When the path does not exist, or the kernel's list cannot be read.
pub fn device_under(path: &Path) -> io::Result<DeviceNumber> {
    let number = carrier_of(path)?;
    if number.major != 0 {
        return Ok(number);
    }
    let id = mount_id(path)?;
    let named = mount_table()?.find_map(|line| Numberless::read(&line).filter(|mount| mount.id == id)?.device());
    Ok(named.unwrap_or(number))
}

/// What the kernel calls the file system that a path lies on ("ext4", "tmpfs", "cifs"); `None` when its list does not have it.
///
/// # Errors
/// When the path does not exist, or the kernel's list cannot be read.
pub fn file_system_of(path: &Path) -> io::Result<Option<String>> {
    let id = mount_id(path)?;
    Ok(mount_table()?.find_map(|line| kind_of_mount(&line, id)))
}

fn mount_id(path: &Path) -> io::Result<u64> {
    let flags = (rustix::fs::AtFlags::empty(), rustix::fs::StatxFlags::MNT_ID);
    Ok(rustix::fs::statx(rustix::fs::CWD, path, flags.0, flags.1)?.stx_mnt_id)
}

/// The kind in a line "36 35 253:2 / /mnt rw ... - ext4 /dev/dm-2 ro", if it is of that mount.
fn kind_of_mount(line: &str, id: u64) -> Option<String> {
    let (front, back) = line.split_once(" - ")?;
    (front.split(' ').next()?.parse() == Ok(id)).then_some(())?;
    Some(back.split(' ').next()?.to_owned())
}

/// Kernel names of the disks under a device: of a partition its disk, of a stacked device all disks below.
pub fn disks_under(number: DeviceNumber) -> Vec<String> {
    let mut disks = Vec::new();
    let mut waiting: Vec<PathBuf> = folder(number).into_iter().collect();
    // Devices cannot be stacked in circles; the bound only keeps a broken /sys from being followed for ever.
    for _ in 0..1000 {
        let Some(device) = waiting.pop() else { break };
        let below: Vec<PathBuf> = read_dir(device.join("slaves")).map(entries).unwrap_or_default();
        if below.is_empty() {
            disks.extend(whole_disk(&device));
        }
        waiting.extend(below.into_iter().filter_map(|link| link.canonicalize().ok()));
    }
    disks.sort();
    disks.dedup();
    disks
}

/// Device paths of a disk's partitions.
pub fn partitions(disk: &str) -> Vec<PathBuf> {
    let children = read_dir(Path::new("/sys/class/block").join(disk)).map(entries).unwrap_or_default();
    let partitions = children.into_iter().filter(|child| child.join("partition").exists());
    let mut paths: Vec<PathBuf> =
        partitions.filter_map(|child| Some(Path::new("/dev").join(child.file_name()?))).collect();
    paths.sort();
    paths
}

/// Whether the device is a partition.
pub fn is_partition(number: DeviceNumber) -> bool {
    folder(number).is_some_and(|folder| folder.join("partition").exists())
}

/// The path in /dev of a device.
pub fn path_of(number: DeviceNumber) -> Option<PathBuf> {
    Some(Path::new("/dev").join(folder(number)?.file_name()?))
}

/// What the disk under a device calls itself; `None` for disks that have no name, as virtual ones.
pub fn model(number: DeviceNumber) -> Option<String> {
    let disk = disks_under(number).into_iter().next()?;
    let text = std::fs::read_to_string(Path::new("/sys/class/block").join(disk).join("device/model")).ok()?;
    let model = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!model.is_empty()).then_some(model)
}

fn folder(number: DeviceNumber) -> Option<PathBuf> {
    Path::new("/sys/dev/block").join(number.to_string()).canonicalize().ok()
}

fn whole_disk(device: &Path) -> Option<String> {
    let disk = if device.join("partition").exists() { device.parent()? } else { device };
    Some(disk.file_name()?.to_string_lossy().into_owned())
}

fn entries(folder: std::fs::ReadDir) -> Vec<PathBuf> {
    folder.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// Real disks of this machine, leaving out what is made of others (loop, dm, md, memory) and optical drives.
pub fn disks() -> Vec<PathBuf> {
    const VIRTUAL: [&str; 7] = ["loop", "ram", "dm-", "md", "zram", "sr", "nbd"];
    let all = read_dir("/sys/block").map(entries).unwrap_or_default();
    let names = all.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let real = names.filter(|name| !VIRTUAL.iter().any(|prefix| name.starts_with(prefix)));
    let mut paths: Vec<PathBuf> = real.map(|name| Path::new("/dev").join(name)).collect();
    paths.sort();
    paths
}

/// Places where a device is mounted.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn mounts_of(number: DeviceNumber) -> io::Result<Vec<PathBuf>> {
    let behind = |line: &str| {
        let mount = Numberless::read(line)?;
        (mount.device() == Some(number)).then_some(mount.place)
    };
    Ok(mount_table()?.filter_map(|line| mount_point(&line, number).or_else(|| behind(&line))).collect())
}

/// Whether something is mounted on `place`.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn is_mount_point(place: &Path) -> io::Result<bool> {
    let is_it = |line: String| line.split(' ').nth(4).map(unescape).is_some_and(|point| point == place);
    Ok(mount_table()?.any(is_it))
}

/// Whether a device, or any partition of it, is mounted or part of something. The kernel lets nobody open such a device exclusively.
///
/// # Errors
/// When it cannot be opened for another reason.
pub fn is_in_use(device: &Path) -> io::Result<bool> {
    match File::options().read(true).custom_flags(nix::libc::O_EXCL).open(device) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => Ok(true),
        Err(error) => Err(error),
    }
}

fn mount_table() -> io::Result<impl Iterator<Item = String>> {
    let table = BufReader::new(File::open("/proc/self/mountinfo")?);
    Ok(table.lines().take(MAX_MOUNTS).map_while(Result::ok))
}

/// A mount that does not have the number of its device: Btrfs, or one that has none.
struct Numberless {
    id: u64,
    place: PathBuf,
    source: PathBuf,
}

impl Numberless {
    /// From a line "36 35 0:42 / /mnt rw … - btrfs /dev/sdb1 rw".
    fn read(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut words = front.split(' ');
        let id = words.next()?.parse().ok()?;
        words.nth(1)?.starts_with("0:").then_some(())?;
        Some(Self { id, place: unescape(words.nth(1)?), source: unescape(back.split(' ').nth(1)?) })
    }

    fn device(&self) -> Option<DeviceNumber> {
        self.source.is_absolute().then(|| number_of(&self.source).ok().flatten())?
    }
}

/// The mount point in a line "36 35 253:2 / /mnt rw … - ext4 /dev/dm-2 ro", if it is of that device.
fn mount_point(line: &str, number: DeviceNumber) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(2);
    (words.next()? == number.to_string()).then_some(())?;
    Some(unescape(words.nth(1)?))
}

/// The kernel writes blanks and such as \040.
fn unescape(word: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_is_read() {
        let line = r"36 35 253:2 / /mnt/my\040disk\134x ro,relatime - ext4 /dev/dm-2 ro";
        let number = DeviceNumber { major: 253, minor: 2 };
        assert_eq!(mount_point(line, number), Some(PathBuf::from(r"/mnt/my disk\x")));
        assert_eq!(mount_point(line, DeviceNumber { major: 253, minor: 20 }), None);
        assert_eq!(mount_point("garbage", number), None);
    }

    #[test]
    fn a_mount_without_the_number_of_its_device_names_it() {
        let line = r"36 35 0:42 /sub /mnt/my\040disk rw,relatime shared:1 - btrfs /dev/sdb1 rw,subvol=/sub";
        let mount = Numberless::read(line).unwrap();
        assert_eq!((mount.id, mount.place, mount.source), (36, "/mnt/my disk".into(), "/dev/sdb1".into()));
        assert!(Numberless::read("36 35 253:2 / /mnt rw - ext4 /dev/dm-2 rw").is_none());
        assert!(Numberless::read("garbage").is_none() && Numberless::read("1 2 0:3 - x").is_none());
        let memory = Numberless::read("36 35 0:42 / /run rw - tmpfs tmpfs rw").unwrap();
        assert_eq!(memory.device(), None);
    }

    #[test]
    fn the_kind_of_a_mount_is_read() {
        let line = "36 35 253:2 / /mnt rw,relatime shared:1 - ext4 /dev/dm-2 ro";
        assert_eq!(kind_of_mount(line, 36), Some("ext4".into()));
        assert_eq!((kind_of_mount(line, 3), kind_of_mount("garbage", 36)), (None, None));
        assert_eq!(file_system_of(Path::new("/proc/self/status")).unwrap().as_deref(), Some("proc"));
        assert!(file_system_of(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn mount_points_are_told_from_folders() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
    }

    #[test]
    fn files_are_no_block_devices() {
        assert_eq!(number_of(Path::new("/dev/null")).unwrap(), None);
        assert!(number_of(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn where_proc_is_mounted_is_known() {
        let number = carrier_of(Path::new("/proc")).unwrap();
        assert!(mounts_of(number).unwrap().contains(&PathBuf::from("/proc")));
        assert_eq!(device_under(Path::new("/proc")).unwrap(), number);
    }
}
