//! The ground of overlays: sources set read-only, image files behind loop devices, stores in memory.

use super::ioctl;
use super::plan::{Backing, PlannedDevice, line};
use super::sysfs;
use super::volume_overlay::Fill;
use super::wire::TargetLine;
use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::{Bytes, Sectors};

/// Where stores in memory live.
const MEMORY: &str = "/run/tierlift/store";
/// Another program may take a free loop device first.
const LOOP_TRIES: u32 = 10;

/// Prepares ground for devices, and holds the loop devices open until something is built on them: they free themselves when
/// their last user closes them.
#[derive(Debug, Default)]
pub struct Ground {
    held: Vec<File>,
}

impl Ground {
    /// The table of a device with the real device under its linear lines.
    ///
    /// # Errors
    /// When a source cannot be set read-only (then nothing is built on it), or a loop device cannot be had.
    pub fn table(&mut self, device: &PlannedDevice) -> anyhow::Result<Vec<TargetLine>> {
        let Some(backing) = &device.backing else { return Ok(device.table.clone()) };
        let length = device.table.iter().map(|line| line.length).fold(0, u64::saturating_add);
        let path = self.device(backing, Sectors(length))?;
        let real = |planned: &TargetLine| match planned.target.as_str() {
            "linear" => {
                let start = planned.arguments.rsplit(' ').next().unwrap_or("0");
                line(planned.start, planned.length, "linear", format!("{} {start}", path.display()))
            }
            _ => planned.clone(),
        };
        Ok(device.table.iter().map(real).collect())
    }

    fn device(&mut self, backing: &Backing, length: Sectors) -> anyhow::Result<PathBuf> {
        match backing {
            Backing::Source(path) => self.source(path),
            Backing::Scratch(path) => Ok(path.clone()),
            Backing::Memory(cap) => self.memory(*cap, length),
        }
    }

    fn source(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let number = sysfs::number_of(path).with_context(|| format!("{} cannot be looked at", path.display()))?;
        let file = File::open(path).with_context(|| format!("{} cannot be opened for reading", path.display()))?;
        if number.is_none() {
            return self.attach(&file, path, true);
        }
        ioctl::set_read_only(&file, true)
            .with_context(|| format!("{} cannot be set read-only, so nothing is built on it", path.display()))?;
        if !ioctl::is_read_only(&file).unwrap_or(false) {
            bail!("{} did not become read-only, so nothing is built on it", path.display());
        }
        Ok(path.to_owned())
    }

    /// A sparse file on a memory file system of its own, whose size bounds all stores together. The name is removed at once:
    /// the file lives as long as its loop device.
    fn memory(&mut self, cap: Bytes, length: Sectors) -> anyhow::Result<PathBuf> {
        let folder = Path::new(MEMORY);
        mount_memory(folder, cap)?;
        let path = folder.join(format!("store-{}-{}", std::process::id(), self.held.len()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("{} cannot be made", path.display()))?;
        let size = length.to_bytes().context("a store larger than any memory")?;
        let attached = file.set_len(size.0).map_err(Into::into).and_then(|()| self.attach(&file, &path, false));
        std::fs::remove_file(&path).with_context(|| format!("{} cannot be unlinked", path.display()))?;
        attached
    }

    fn attach(&mut self, file: &File, name: &Path, read_only: bool) -> anyhow::Result<PathBuf> {
        let control = File::options().read(true).write(true).open("/dev/loop-control");
        let control = control.context("loop devices cannot be had (/dev/loop-control)")?;
        for _ in 0..LOOP_TRIES {
            let number = ioctl::free_loop_number(&control).context("no loop device is free")?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(!read_only).open(&path);
            let device = device.with_context(|| format!("{} cannot be opened", path.display()))?;
            match ioctl::bind_loop(&device, file.as_fd(), name, read_only) {
                Ok(()) => {
                    self.held.push(device);
                    return Ok(path);
                }
                Err(nix::errno::Errno::EBUSY) => {}
                Err(errno) => bail!("{} cannot be put behind {}: {errno}", name.display(), path.display()),
            }
        }
        bail!("other programs keep taking the free loop devices; try again")
    }
}

fn mount_memory(folder: &Path, cap: Bytes) -> anyhow::Result<()> {
    let parent = folder.parent().context("the store has no parent folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    if sysfs::carrier_of(folder)? != sysfs::carrier_of(parent)? {
        return Ok(());
    }
    let options = format!("mode=0700,size={}", cap.0);
    mount(Some("tierlift"), folder, Some("tmpfs"), MsFlags::MS_NODEV | MsFlags::MS_NOSUID, Some(options.as_str()))
        .with_context(|| format!("memory for stores cannot be mounted on {}", folder.display()))
}

/// Unmounts the memory of stores when nothing uses it any more.
pub fn release_memory() {
    // Busy or not mounted: both are fine, it is only memory that could be given back.
    let _ = nix::mount::umount(MEMORY);
}

/// A quarter of the machine's memory: what all stores together may take.
///
/// # Errors
/// When the kernel does not tell.
pub fn memory_cap() -> anyhow::Result<Bytes> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo cannot be read")?;
    let total = total_memory(&text).context("/proc/meminfo does not tell MemTotal")?;
    Ok(Bytes(total.0 / 4))
}

/// How full the memory of stores is; `None` when there is none.
pub fn memory_fill() -> Option<Fill> {
    let found = rustix::fs::statvfs(MEMORY).ok()?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(found.f_frsize));
    Some(Fill { used: bytes(found.f_blocks.saturating_sub(found.f_bfree)), size: bytes(found.f_blocks) })
}

fn total_memory(text: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(total_memory("MemFree: 7 kB\nMemTotal:      498688 kB\n"), Some(Bytes(510_656_512)));
        assert_eq!(total_memory("MemFree: 7 kB\n"), None);
        assert!(memory_cap().unwrap().0 > 0);
    }

    #[test]
    fn a_device_on_other_devices_keeps_its_table() {
        let table = vec![line(0, 8, "zero", "")];
        let device = PlannedDevice {
            name: "x".into(),
            purpose: String::new(),
            read_only: true,
            backing: None,
            table: table.clone(),
        };
        assert_eq!(Ground::default().table(&device).unwrap(), table);
    }

    #[test]
    fn a_source_that_is_not_there_is_told() {
        let device = PlannedDevice {
            name: "x".into(),
            purpose: String::new(),
            read_only: true,
            backing: Some(Backing::Source("/no/such/disk".into())),
            table: vec![line(0, 8, "linear", "/no/such/disk 0")],
        };
        assert!(Ground::default().table(&device).unwrap_err().to_string().contains("/no/such/disk"));
    }
}
