//! What a virtual machine is made of.

use crate::{Machine, Medium};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kernel and initramfs.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

impl Image {
    /// The image that `cargo xtask test` names in `TIERLIFT_IMAGE`, a folder.
    ///
    /// # Errors
    /// The variable is not set: the scenarios were not started through `cargo xtask test`.
    pub fn from_environment() -> anyhow::Result<Self> {
        let folder = std::env::var_os("TIERLIFT_IMAGE")
            .map(PathBuf::from)
            .context("TIERLIFT_IMAGE is not set; virtual-machine scenarios are run by: cargo xtask test")?;
        Ok(Self { kernel: folder.join("bzImage"), initramfs: folder.join("initramfs.cpio.zst") })
    }

    /// The same appliance on the same kernel without our patches.
    ///
    /// # Errors
    /// As [`Self::from_environment`].
    pub fn stock_from_environment() -> anyhow::Result<Self> {
        let kernel = std::env::var_os("TIERLIFT_STOCK_KERNEL")
            .map(PathBuf::from)
            .context("TIERLIFT_STOCK_KERNEL is not set; virtual-machine scenarios are run by: cargo xtask test")?;
        Ok(Self { kernel, ..Self::from_environment()? })
    }
}

/// One processor, and room for a second that never comes. Where there can be only one, QEMU's emulation takes the guest's
/// locked instructions for plain ones (seen in what QEMU 10.0 makes of `lock addl`: a load and a store, no barrier), although
/// QEMU's own threads look at the same memory. A notification of a virtual disk may get lost so: what made one machine stand still
/// with its reads in flight, most probably; nobody could make it happen on purpose.
const EMULATED_PROCESSORS: &str = "1,maxcpus=2";

/// What a machine is made of. Disks appear in the guest in this order as `/dev/vda`, `/dev/vdb` …
#[derive(Debug, Clone)]
pub struct Settings {
    image: Image,
    medium: Option<Medium>,
    memory_mib: u32,
    processor: &'static str,
    accelerator: &'static str,
    processors: &'static str,
    disks: Vec<Disk>,
    further: Vec<String>,
    options: String,
    lasting: bool,
    pub(crate) ports: Ports,
}

#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    format: String,
    source: bool,
    read_only: bool,
}

/// Which line is for whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ports {
    /// The first serial port for people, the second for programs.
    #[default]
    Two,
    /// The other way round.
    Swapped,
    /// One serial port for both.
    One,
    /// The serial port for people, a virtio console for programs.
    Virtio,
}

impl Settings {
    /// A machine with 512 MiB and no disk.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            medium: None,
            memory_mib: 512,
            processor: "max",
            accelerator: "tcg",
            processors: EMULATED_PROCESSORS,
            disks: Vec::new(),
            further: Vec::new(),
            options: String::new(),
            lasting: false,
            ports: Ports::default(),
        }
    }

    /// Boots through firmware and boot loader from this medium, in place of a kernel given to QEMU. Its disk comes after all
    /// others.
    #[must_use]
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = Some(medium);
        self
    }

    /// Gives the machine so much memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Gives the machine another processor, as QEMU's `-cpu` takes it.
    #[must_use]
    pub fn processor(mut self, processor: &'static str) -> Self {
        self.processor = processor;
        self
    }

    /// Runs the machine on the host's processor, through `/dev/kvm`, where that works. Tests do not: CI has none.
    #[must_use]
    pub fn kvm(mut self) -> Self {
        self.processor = "host";
        self.accelerator = "kvm";
        self.processors = "2";
        self
    }

    /// Attaches a source. The hypervisor would let the guest write to it: that it does not is what the tests prove.
    #[must_use]
    pub fn source(self, path: &Path) -> Self {
        self.attach(path, "raw", true, false)
    }

    /// Attaches a source, in one of QEMU's formats, that the hypervisor itself keeps from being written.
    #[must_use]
    pub fn protected_source(self, path: &Path, format: &str) -> Self {
        self.attach(path, format, true, true)
    }

    /// Attaches a disk that may be written: scratch or target.
    #[must_use]
    pub fn writable(self, path: &Path) -> Self {
        self.writable_in(path, "raw")
    }

    /// As [`Self::writable`], in one of QEMU's formats.
    #[must_use]
    pub fn writable_in(self, path: &Path, format: &str) -> Self {
        self.attach(path, format, false, false)
    }

    /// Hands what the guest wants to be safe on to the disks that it writes: where its files shall outlive this machine. Without
    /// this the guest's wishes are ignored, which is faster.
    #[must_use]
    pub fn lasting_writes(mut self) -> Self {
        self.lasting = true;
        self
    }

    fn attach(mut self, path: &Path, format: &str, source: bool, read_only: bool) -> Self {
        self.disks.push(Disk { path: path.to_path_buf(), format: format.to_owned(), source, read_only });
        self
    }

    /// Adds words to QEMU's command line: adapters, disks of a special kind.
    #[must_use]
    pub fn with<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        self.further.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Adds an option to the kernel's command line.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options = format!("{} {option}", self.options);
        self
    }

    /// Gives the machine other lines.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// The disks that must not change.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.disks.iter().filter(|disk| disk.source).map(|disk| disk.path.as_path())
    }

    /// The QEMU command without consoles.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        let machine = self.medium.as_ref().map_or("q35", Medium::machine);
        qemu.args(["-machine", machine, "-accel", self.accelerator, "-cpu", self.processor]);
        qemu.args(["-smp", self.processors, "-m", &self.memory_mib.to_string()]);
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        if self.medium.is_none() {
            qemu.arg("-kernel")
                .arg(&self.image.kernel)
                .arg("-initrd")
                .arg(&self.image.initramfs)
                .arg("-append")
                .arg(format!("console=ttyS0,115200 quiet panic=-1 no_timer_check{}", self.options));
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let path = disk.path.display().to_string().replace(',', ",,");
            let read_only = if disk.read_only { "on" } else { "off" };
            let cache = if self.lasting && !disk.source { "writeback" } else { "unsafe" };
            qemu.arg("-drive")
                .arg(format!(
                    "file={path},if=none,id=disk{number},format={},cache={cache},readonly={read_only}",
                    disk.format
                ))
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive=disk{number}"));
        }
        qemu.args(&self.further);
        if let Some(medium) = &self.medium {
            medium.attach(&mut qemu);
        }
        qemu
    }

    /// Boots and waits for the ready marker.
    ///
    /// # Errors
    /// QEMU does not start, or the appliance is not ready in time, also at a second try: an emulated machine on a starved
    /// host now and then loses an interrupt before the first program runs. The second try is told on stderr.
    pub fn boot(&self) -> anyhow::Result<Machine> {
        match Machine::start(self) {
            Err(error) if Machine::was_not_ready(&error) => {
                eprintln!("machine: {error}\nmachine: booting once more");
                Machine::start(self)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_reach_the_disks_that_are_written_when_they_shall_last() {
        let image = Image { kernel: "k".into(), initramfs: "i".into() };
        let settings = Settings::new(&image).protected_source(Path::new("s"), "raw").writable(Path::new("t"));
        let drives = |settings: &Settings| -> Vec<String> {
            let command = settings.command();
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.filter(|word| word.starts_with("file=")).collect()
        };
        assert!(drives(&settings).iter().all(|drive| drive.contains("cache=unsafe")), "{settings:?}");
        let drives = drives(&settings.lasting_writes());
        assert!(drives[0].contains("cache=unsafe") && drives[1].contains("cache=writeback"), "{drives:?}");
    }

    #[test]
    fn an_emulated_machine_could_have_a_second_processor_and_kvm_is_only_used_when_asked_for() {
        let image = Image { kernel: "k".into(), initramfs: "i".into() };
        let words = |settings: Settings| {
            let command = settings.command();
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let emulated = words(Settings::new(&image));
        assert!(emulated.contains("-accel tcg -cpu max -smp 1,maxcpus=2"), "{emulated}");
        let real = words(Settings::new(&image).kvm());
        assert!(real.contains("-accel kvm -cpu host -smp 2"), "{real}");
    }
}
