//! Device-mapper devices, safely: make, remove, look at. Every device carries a unique id with our mark and a fingerprint
//! of its table, so that a second run knows what it made, and nothing foreign is ever touched.

use super::ioctl::{self, DmCommand};
use super::kernel_log::KernelLog;
use super::wire::{self, Message, TargetLine};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folder of the control node and of the names.
const FOLDER: &str = "/dev/mapper";
/// Mark at the start of the unique id of every device the agent makes.
const MARK: &str = "TIERLIFT-";
/// Room for an answer at first, and the most it may grow to.
const ROOM: usize = 16 << 10;
const MAX_ROOM: usize = 16 << 20;
/// A device that was just closed may still look busy for a moment.
const REMOVE_TRIES: u32 = 10;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// What went wrong with device-mapper.
#[derive(Debug, thiserror::Error)]
pub enum DmError {
    /// The kernel's device-mapper cannot be reached.
    #[error("device-mapper cannot be used ({path}: {source}); activation needs root and a kernel with device-mapper")]
    Control {
        /// The file that could not be opened, read or made.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("device {name}: the kernel refused to {step} it ({errno}){}", said(.log))]
    Refused {
        /// Name of the device.
        name: String,
        /// What was tried: "load the table of".
        step: &'static str,
        /// The error code.
        errno: Errno,
        /// What device-mapper wrote into the kernel's log meanwhile.
        log: Vec<String>,
    },
    /// Somebody uses the device.
    #[error(
        "device {name} is in use and cannot be taken away: it is mounted or something is built on it; unmount it first \
         (`tierlift deactivate --unmount` does)"
    )]
    Busy {
        /// Name of the device.
        name: String,
    },
    /// A device of this name exists with another table.
    #[error(
        "device {name} exists already, but was made differently; take it away first with `tierlift deactivate`, then \
         activate again"
    )]
    Different {
        /// Name of the device.
        name: String,
    },
    /// A name the kernel would not take, or would cut.
    #[error("'{0}' cannot be a device name: 1 to {max} bytes and no slash", max = wire::MAX_NAME)]
    Name(String),
    /// The answer grew without end.
    #[error("device {0}: the kernel's answer is longer than {MAX_ROOM} bytes")]
    AnswerTooLong(String),
    /// The name in `/dev/mapper` could not be made.
    #[error("{path}: the name of the device cannot be made: {source}")]
    Node {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn said(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("; it says: {}", log.join(" / ")) }
}

/// Whether [`DeviceMapper::create`] had to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The device is new.
    New,
    /// It was there already, with the same table.
    Already,
}

/// What the kernel says of a device.
#[derive(Debug, Clone)]
pub struct DeviceState {
    /// Unique id; empty for devices others made without one.
    pub uuid: String,
    /// How often it is open (mounts, devices on top).
    pub open_count: u32,
    /// Minor number.
    pub minor: u64,
}

impl DeviceState {
    /// Whether the agent made it.
    pub fn is_ours(&self) -> bool {
        self.uuid.starts_with(MARK)
    }
}

/// The kernel's device-mapper.
#[derive(Debug)]
pub struct DeviceMapper {
    control: File,
}

impl DeviceMapper {
    /// Opens the control node, making it first where no udev does.
    ///
    /// # Errors
    /// Without root, or when the kernel has no device-mapper.
    pub fn open() -> Result<Self, DmError> {
        let path = Path::new(FOLDER).join("control");
        if !path.exists() {
            make_control_node(&path).map_err(|source| DmError::Control { path: path.clone(), source })?;
        }
        let control = File::options().read(true).write(true).open(&path);
        let control = control.map_err(|source| DmError::Control { path: path.clone(), source })?;
        let mut hello = Message::new("", "", 0, 0);
        ioctl::device_mapper(&control, DmCommand::Version, hello.bytes_mut())
            .map_err(|errno| DmError::Control { path, source: errno.into() })?;
        Ok(Self { control })
    }

    /// Makes a device, loads its table and starts it. A device that exists with the same table is left as it is.
    ///
    /// # Errors
    /// [`DmError::Different`] when the name is taken; [`DmError::Refused`] with the kernel's own words when it does not
    /// want the table. After an error nothing of the new device is left.
    pub fn create(&self, name: &str, read_only: bool, id: &str, lines: &[TargetLine]) -> Result<Made, DmError> {
        if name.is_empty() || name.len() > wire::MAX_NAME || name.contains('/') {
            return Err(DmError::Name(name.to_owned()));
        }
        if let Some(state) = self.state(name)? {
            return if state.uuid == id {
                Ok(Made::Already)
            } else {
                Err(DmError::Different { name: name.to_owned() })
            };
        }
        let mut log = KernelLog::from_now();
        self.tell(DmCommand::Create, "create", &mut log, Message::new(name, id, 0, ROOM), name)?;
        let started = self.start(name, read_only, lines, &mut log);
        if started.is_err() {
            // Best effort: the error that matters is the first one.
            let _ = self.remove(name);
        }
        started.map(|()| Made::New)
    }

    fn start(&self, name: &str, read_only: bool, lines: &[TargetLine], log: &mut KernelLog) -> Result<(), DmError> {
        let flags = if read_only { wire::READ_ONLY } else { 0 };
        self.tell(DmCommand::Load, "load the table of", log, Message::with_table(name, flags, lines), name)?;
        self.tell(DmCommand::Suspend, "start", log, Message::new(name, "", flags, ROOM), name)?;
        let state = self.state(name)?.unwrap_or(DeviceState { uuid: String::new(), open_count: 0, minor: 0 });
        make_name(name, state.minor).map_err(|source| DmError::Node { path: path_of(name), source })
    }

    /// Removes a device and its name; nothing happens when it does not exist.
    ///
    /// # Errors
    /// [`DmError::Busy`] when it is in use.
    pub fn remove(&self, name: &str) -> Result<(), DmError> {
        let mut log = KernelLog::from_now();
        for _ in 0..REMOVE_TRIES {
            match self.tell(DmCommand::Remove, "remove", &mut log, Message::new(name, "", 0, ROOM), name) {
                Ok(_) | Err(DmError::Refused { errno: Errno::ENXIO, .. }) => {
                    // The name may have been taken away by an udev, or never been made.
                    let _ = std::fs::remove_file(path_of(name));
                    return Ok(());
                }
                Err(DmError::Refused { errno: Errno::EBUSY, .. }) => std::thread::sleep(REMOVE_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Err(DmError::Busy { name: name.to_owned() })
    }

    /// What the kernel says of a device; `None` when it does not exist.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn state(&self, name: &str) -> Result<Option<DeviceState>, DmError> {
        let mut log = KernelLog::from_now();
        match self.tell(DmCommand::DeviceStatus, "look at", &mut log, Message::new(name, "", 0, ROOM), name) {
            Ok(answer) => {
                Ok(Some(DeviceState { uuid: answer.uuid(), open_count: answer.open_count(), minor: answer.minor() }))
            }
            Err(DmError::Refused { errno: Errno::ENXIO, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Status lines of a device, without flushing it.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn status(&self, name: &str) -> Result<Vec<TargetLine>, DmError> {
        self.lines(name, wire::NO_FLUSH)
    }

    /// Table lines of a device, as the kernel prints them.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn table(&self, name: &str) -> Result<Vec<TargetLine>, DmError> {
        self.lines(name, wire::NO_FLUSH | wire::STATUS_TABLE)
    }

    fn lines(&self, name: &str, flags: u32) -> Result<Vec<TargetLine>, DmError> {
        self.ask(DmCommand::Status, name, flags).map(|answer| answer.lines())
    }

    /// Names of all devices, whoever made them.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list(&self) -> Result<Vec<String>, DmError> {
        self.ask(DmCommand::List, "", 0).map(|answer| answer.names())
    }

    /// Names and states of the devices the agent made.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn ours(&self) -> Result<Vec<(String, DeviceState)>, DmError> {
        let mut ours = Vec::new();
        for name in self.list()? {
            if let Some(state) = self.state(&name)?.filter(DeviceState::is_ours) {
                ours.push((name, state));
            }
        }
        Ok(ours)
    }

    /// Asks with a buffer that grows until the answer fits.
    fn ask(&self, command: DmCommand, name: &str, flags: u32) -> Result<Message, DmError> {
        let mut log = KernelLog::from_now();
        let mut room = ROOM;
        while room <= MAX_ROOM {
            let answer = self.tell(command, "look at", &mut log, Message::new(name, "", flags, room), name)?;
            if answer.flags() & wire::BUFFER_FULL == 0 {
                return Ok(answer);
            }
            room = room.saturating_mul(4);
        }
        Err(DmError::AnswerTooLong(name.to_owned()))
    }

    fn tell(
        &self,
        command: DmCommand,
        step: &'static str,
        log: &mut KernelLog,
        mut message: Message,
        name: &str,
    ) -> Result<Message, DmError> {
        match ioctl::device_mapper(&self.control, command, message.bytes_mut()) {
            Ok(()) => Ok(message),
            Err(errno) => Err(DmError::Refused { name: name.to_owned(), step, errno, log: log.device_mapper_lines() }),
        }
    }
}

/// The path under which a device is used.
pub fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Unique id of a device: our mark, the fingerprint of its table, and that of its name (two devices may have equal tables,
/// but not equal ids).
pub fn unique_id(name: &str, read_only: bool, lines: &[TargetLine]) -> String {
    format!("{}{}", table_mark(read_only, lines), fingerprint(name.as_bytes(), 8))
}

/// The part of the unique id that tells the table.
pub fn table_mark(read_only: bool, lines: &[TargetLine]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mode = if read_only { "ro" } else { "rw" };
    format!("{MARK}{}-", fingerprint(format!("{mode}\n{text}").as_bytes(), 16))
}

fn fingerprint(bytes: &[u8], length: usize) -> String {
    Sha256::digest(bytes).iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

/// The control node is a misc device: major 10, the minor is told by the kernel.
fn make_control_node(path: &Path) -> io::Result<()> {
    let misc = std::fs::read_to_string("/proc/misc")?;
    let minor = misc_minor(&misc, "device-mapper").ok_or(io::ErrorKind::Unsupported)?;
    std::fs::create_dir_all(FOLDER)?;
    mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(10, minor))?;
    Ok(())
}

fn misc_minor(misc: &str, name: &str) -> Option<u64> {
    let line = misc.lines().find(|line| line.split_whitespace().nth(1) == Some(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `/dev/mapper/NAME` → `../dm-N`, as udev would make it.
fn make_name(name: &str, minor: u64) -> io::Result<()> {
    let (path, target) = (path_of(name), format!("../dm-{minor}"));
    match std::os::unix::fs::symlink(&target, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left over from a crash, or made by an udev meanwhile: right after this either way.
            std::fs::remove_file(&path)?;
            std::os::unix::fs::symlink(&target, &path)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_nodes_number_is_found() {
        assert_eq!(misc_minor("237 loop-control\n236 device-mapper\n  1 psaux\n", "device-mapper"), Some(236));
        assert_eq!(misc_minor("237 loop-control\n", "device-mapper"), None);
    }

    #[test]
    fn ids_differ_by_table_mode_and_name() {
        let table = |arguments: &str| {
            [TargetLine { start: 0, length: 8, target: "linear".into(), arguments: arguments.into() }]
        };
        let id = unique_id("a", true, &table("/dev/vda 0"));
        assert!(id.starts_with(&table_mark(true, &table("/dev/vda 0"))) && id.len() <= wire::MAX_NAME);
        assert_ne!(id, unique_id("b", true, &table("/dev/vda 0")));
        assert_ne!(id, unique_id("a", false, &table("/dev/vda 0")));
        assert_ne!(id, unique_id("a", true, &table("/dev/vda 1")));
    }

    #[test]
    fn a_refusal_tells_the_kernels_own_words() {
        let log = vec!["table: 254:3: thin-pool: pool is longer than recorded".to_owned()];
        let error =
            DmError::Refused { name: "vg1-tp1-tpool".into(), step: "load the table of", errno: Errno::EINVAL, log };
        let text = error.to_string();
        assert!(text.contains("vg1-tp1-tpool") && text.ends_with("thin-pool: pool is longer than recorded"), "{text}");
    }
}
