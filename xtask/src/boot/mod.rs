//! `cargo xtask boot`: the appliance in QEMU, its console in this terminal or on a socket.

mod disks;
mod identity;

use crate::{deps, image, paths, process};
use anyhow::{Context, bail, ensure};
use disks::Use;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_tests::{Image, Settings};

/// The least memory the appliance starts with, in MiB.
const LEAST_MEMORY: u32 = 256;
/// Names of Unix sockets are at most so long on Linux.
const SOCKET_NAME: usize = 107;

#[derive(clap::Args)]
pub struct Args {
    /// A disk or image to recover from (raw, qcow2, VHDX, VHD, VMDK); attached read-only; may be given several times
    #[arg(long, value_name = "IMG")]
    disk: Vec<PathBuf>,
    /// Scratch space for overlays: an image file, or a size as 4G for a new one in target/
    #[arg(long, value_name = "SIZE|IMG")]
    scratch: Option<String>,
    /// The disk the files are copied to: an image file or a disk with a file system
    #[arg(long, value_name = "IMG")]
    target: Option<PathBuf>,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u32,
    /// Run it on the processor itself, through /dev/kvm: many times faster than the emulation that is used without
    #[arg(long)]
    kvm: bool,
    /// Where its console is: this terminal (stdio), or a socket (unix:PATH)
    #[arg(long, value_name = "stdio|unix:PATH", default_value = "stdio")]
    serial: Serial,
}

/// Where the console for people is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Serial {
    Terminal,
    Socket(PathBuf),
}

impl std::str::FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing behind unix:".into()),
            Some(path) if path.len() > SOCKET_NAME => {
                Err(format!("the name of a socket has at most {SOCKET_NAME} bytes"))
            }
            Some(path) => Ok(Self::Socket(path.into())),
            None if text == "stdio" => Ok(Self::Terminal),
            None => Err("neither stdio nor unix:PATH".into()),
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    check_memory(args.memory, available(&fs::read_to_string("/proc/meminfo").unwrap_or_default()))?;
    let kvm = check_kvm(args.kvm, Path::new("/dev/kvm"))?;
    deps::ensure()?;
    // Before the image is built: what is named wrong is said at once.
    let disks = Disks::look(args)?;
    let image = image::build()?;
    let settings = Settings::new(&Image { kernel: image.kernel, initramfs: image.initramfs }).memory(args.memory);
    let settings = if kvm { settings.kvm() } else { settings }.lasting_writes();
    let mut qemu = disks.attach(settings).command();
    consoles(&mut qemu, &args.serial)?;
    process::run(&mut qemu)
}

fn check_memory(wanted: u32, available: Option<u64>) -> anyhow::Result<()> {
    ensure!(wanted >= LEAST_MEMORY, "--memory {wanted}: the appliance needs at least {LEAST_MEMORY} MiB");
    if let Some(available) = available.filter(|available| *available < u64::from(wanted)) {
        bail!("--memory {wanted}: this machine has only {available} MiB left; close something or ask for less");
    }
    Ok(())
}

/// Whether the machine runs on the processor itself: when it is asked for and can be had. It is not taken unasked, as on a
/// machine that is itself a virtual one `/dev/kvm` can be there and boot nothing.
fn check_kvm(wanted: bool, device: &Path) -> anyhow::Result<bool> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(device);
    match (wanted, opened) {
        (true, Err(error)) => bail!(
            "--kvm: {} cannot be opened: {error}. Turn virtualization on in the firmware, load kvm_intel or kvm_amd, and be \
             in the group kvm; or leave --kvm out",
            device.display()
        ),
        (false, Ok(_)) => {
            println!("boot: this machine is emulated, which is slow; {} is here: try --kvm", device.display())
        }
        _ => {}
    }
    Ok(wanted)
}

/// MiB of memory that programs can still have.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// Everything that is attached, each with its format.
#[derive(Default)]
struct Disks {
    sources: Vec<(PathBuf, String)>,
    written: Vec<(PathBuf, String)>,
}

impl Disks {
    fn look(args: &Args) -> anyhow::Result<Self> {
        let mut disks = Self::default();
        for disk in &args.disk {
            disks.sources.push((disk.clone(), disks::format(disk, Use::Source)?));
        }
        let scratch = args.scratch.as_deref().map(|text| scratch_file(text, args)).transpose()?;
        for disk in scratch.iter().chain(&args.target) {
            disks.written.push((disk.clone(), disks::format(disk, Use::Written)?));
            args.disk.iter().try_for_each(|source| identity::ensure_apart(disk, source, "the source"))?;
        }
        if let (Some(scratch), Some(target)) = (&scratch, &args.target) {
            identity::ensure_apart(scratch, target, "the target")?;
            identity::ensure_apart(target, scratch, "the scratch disk")?;
        }
        Ok(disks)
    }

    fn attach(&self, mut settings: Settings) -> Settings {
        let sources = self.sources.iter().map(|disk| (disk, "source, read-only"));
        let written = self.written.iter().map(|disk| (disk, "scratch or target, written"));
        for (letter, ((path, format), purpose)) in ('a'..='z').zip(sources.chain(written)) {
            println!("boot: /dev/vd{letter} is {} ({format}; {purpose})", path.display());
        }
        for (path, format) in &self.sources {
            settings = settings.protected_source(path, format);
        }
        self.written.iter().fold(settings, |settings, (path, format)| settings.writable_in(path, format))
    }
}

fn consoles(qemu: &mut Command, serial: &Serial) -> anyhow::Result<()> {
    match serial {
        Serial::Terminal => {
            println!("boot: leave QEMU with Ctrl-A X");
            qemu.args(["-serial", "mon:stdio"]);
        }
        Serial::Socket(path) => {
            socket(qemu, "console", path)?;
            println!("boot: console: socat -,raw,echo=0 UNIX-CONNECT:{}; end QEMU with Ctrl-C here", path.display());
        }
    }
    let program = paths::target().join("program-console.sock");
    socket(qemu, "program", &program)?;
    println!("boot: program console: tierlift remote --port unix:{} scan", program.display());
    Ok(())
}

/// A serial port on a new socket; one that an earlier machine left there is taken away, any other file is not.
fn socket(qemu: &mut Command, name: &str, path: &Path) -> anyhow::Result<()> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type());
        ensure!(is_socket, "{} is there already and no socket; name another path", path.display());
        fs::remove_file(path).with_context(|| format!("cannot take the old socket {} away", path.display()))?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "{} is no folder, so no socket can be made in it", folder.display());
    let text = path.display().to_string().replace(',', ",,");
    qemu.arg("-chardev").arg(format!("socket,id={name},path={text},server=on,wait=off"));
    qemu.arg("-serial").arg(format!("chardev:{name}"));
    Ok(())
}

/// The scratch image named, or a new sparse one of the size given.
fn scratch_file(text: &str, args: &Args) -> anyhow::Result<PathBuf> {
    let Some(size) = size(text) else {
        let path = PathBuf::from(text);
        ensure!(path.exists(), "--scratch takes a size as 4G, or an existing image file; there is no {text}");
        return Ok(path);
    };
    let path = paths::target().join("scratch.img");
    if path.exists() {
        // It is emptied: not when it is one of the disks.
        args.disk.iter().try_for_each(|source| identity::ensure_apart(&path, source, "the source"))?;
        args.target.iter().try_for_each(|target| identity::ensure_apart(&path, target, "the target"))?;
    }
    fs::create_dir_all(paths::target())?;
    fs::File::create(&path)?.set_len(size)?;
    Ok(path)
}

/// Bytes of a size as `512M`, `4G`, `1T`.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit: u64 = match unit {
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::{Serial, available, check_kvm, check_memory, size};
    use std::path::{Path, PathBuf};

    #[test]
    fn kvm_is_refused_where_it_cannot_be_opened_and_never_taken_unasked() {
        let missing = Path::new("/nonexistent/kvm");
        let error = check_kvm(true, missing).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/kvm") && error.contains("leave --kvm out"), "{error}");
        assert!(!check_kvm(false, missing).unwrap());
        let device = tempfile::NamedTempFile::new().unwrap();
        assert!(check_kvm(true, device.path()).unwrap());
        assert!(!check_kvm(false, device.path()).unwrap());
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert!(check_memory(128, None).is_err());
        assert!(check_memory(4096, Some(1000)).is_err());
        assert!(check_memory(256, Some(1000)).is_ok());
        assert_eq!(available("MemTotal: 1 kB\nMemAvailable:    2048 kB\n"), Some(2));
    }

    #[test]
    fn the_console_is_a_terminal_or_a_socket() {
        assert_eq!("stdio".parse(), Ok(Serial::Terminal));
        assert_eq!("unix:/run/a".parse(), Ok(Serial::Socket(PathBuf::from("/run/a"))));
        assert!("unix:".parse::<Serial>().is_err() && "tcp:1".parse::<Serial>().is_err());
    }

    #[test]
    fn sizes_and_names_are_told_apart() {
        assert_eq!(size("4G"), Some(4 << 30));
        assert_eq!(size("disk.img"), None);
        assert_eq!(size("G"), None);
        assert_eq!(size(""), None);
    }
}
