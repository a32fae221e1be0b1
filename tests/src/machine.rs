//! One virtual machine with the appliance in it.

use crate::{Medium, complaints, fingerprint, processor_time};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tierlift_protocol::{Client, Exit, Secret};

/// What the console says when the appliance is up.
const READY: &str = "TIERLIFT READY";
/// How long a boot may take, on a busy machine that emulates.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

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

/// What a machine is made of. Disks appear in the guest in this order as `/dev/vda`, `/dev/vdb` …
#[derive(Debug, Clone)]
pub struct Settings {
    image: Image,
    medium: Option<Medium>,
    memory_mib: u32,
    processor: &'static str,
    disks: Vec<Disk>,
    further: Vec<String>,
}

#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    format: String,
    source: bool,
    read_only: bool,
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
            disks: Vec::new(),
            further: Vec::new(),
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

    /// The QEMU command without consoles.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        let machine = self.medium.as_ref().map_or("q35", Medium::machine);
        qemu.args(["-machine", machine, "-accel", "tcg", "-cpu", self.processor, "-smp", "1", "-nodefaults"]).args([
            "-no-reboot",
            "-display",
            "none",
            "-m",
            &self.memory_mib.to_string(),
        ]);
        if self.medium.is_none() {
            qemu.arg("-kernel")
                .arg(&self.image.kernel)
                .arg("-initrd")
                .arg(&self.image.initramfs)
                .args(["-append", "console=ttyS0,115200 quiet panic=-1 no_timer_check"]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let path = disk.path.display().to_string().replace(',', ",,");
            let read_only = if disk.read_only { "on" } else { "off" };
            qemu.arg("-drive")
                .arg(format!(
                    "file={path},if=none,id=disk{number},format={},cache=unsafe,readonly={read_only}",
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
            Err(error) if error.downcast_ref::<NotReady>().is_some() => {
                eprintln!("machine: {error}\nmachine: booting once more");
                Machine::start(self)
            }
            other => other,
        }
    }
}

/// The appliance did not come up.
#[derive(Debug)]
struct NotReady(String);

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no ready marker within {} s; the console said:\n{}", BOOT_LIMIT.as_secs(), self.0)
    }
}

impl std::error::Error for NotReady {}

/// A running appliance. Dropping it switches it off; [`Machine::finish`] also proves that nothing bad happened.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    folder: TempDir,
    client: Client<UnixStream>,
    sources: BTreeMap<PathBuf, String>,
    boot_time: Duration,
}

/// What a command in the guest said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; -1 when it was killed by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must have ended well.
    ///
    /// # Errors
    /// It ended with another code than 0.
    pub fn success(self) -> anyhow::Result<String> {
        if self.code != 0 {
            bail!("exit code {}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

impl Machine {
    fn start(settings: &Settings) -> anyhow::Result<Self> {
        let sources = settings
            .disks
            .iter()
            .filter(|disk| disk.source)
            .map(|disk| Ok((disk.path.clone(), fingerprint(&disk.path)?)))
            .collect::<anyhow::Result<_>>()?;
        let folder = tempfile::Builder::new().prefix("tierlift-vm-").tempdir()?;
        let start = Instant::now();
        let mut qemu = consoles(settings.command(), folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("qemu.log"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64; run: cargo xtask deps")?;
        let connected = wait_ready(&mut qemu, folder.path()).and_then(|()| connect(folder.path()));
        match connected {
            Ok(client) => Ok(Self { qemu, folder, client, sources, boot_time: start.elapsed() }),
            Err(error) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                Err(error)
            }
        }
    }

    /// From the start of QEMU to the ready marker and the first answer on the program console.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Seconds of processor time QEMU has used since its start.
    #[must_use]
    pub fn processor_time(&self) -> Option<f64> {
        processor_time(self.qemu.id())
    }

    /// Runs a verb of the agent.
    ///
    /// # Errors
    /// The line failed, or the command took longer than any test may.
    pub fn run<S: AsRef<str>>(&mut self, words: &[S]) -> anyhow::Result<Output> {
        let output = self.client.output(words, COMMAND_LIMIT).map_err(|error| {
            let said: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
            anyhow::anyhow!("{}: {error}; the console said:\n{}", said.join(" "), self.console())
        })?;
        let code = match output.exit {
            Exit::Code(code) => code,
            Exit::Signal(_) => -1,
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { code, stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// Standard output of a verb as bytes.
    ///
    /// # Errors
    /// As [`Self::run`], or the verb ended with another code than 0.
    pub fn bytes<S: AsRef<str>>(&mut self, words: &[S]) -> anyhow::Result<Vec<u8>> {
        let output = self.client.output(words, COMMAND_LIMIT)?;
        anyhow::ensure!(output.exit == Exit::Code(0), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// As [`Self::run`], with a standard input: a password.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with_input<S: AsRef<str>>(&mut self, words: &[S], input: &str) -> anyhow::Result<Output> {
        self.client.set_input(Secret(input.to_owned()));
        self.run(words)
    }

    /// Runs a line of shell in the guest.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn shell(&mut self, line: &str) -> anyhow::Result<Output> {
        self.run(&["shell", "--", "/bin/sh", "-c", line])
    }

    /// Everything the human console has shown.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("console.log")).unwrap_or_default()).into_owned()
    }

    /// The Unix socket of the human console.
    #[must_use]
    pub fn console_socket(&self) -> PathBuf {
        self.folder.path().join("console.sock")
    }

    /// Switches the machine off after reading its kernel log, and proves the two laws: the kernel has no complaint, no
    /// source has changed by a byte.
    ///
    /// # Errors
    /// One of the two does not hold.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let log = self.shell("dmesg")?.success()?;
        let found = complaints(&log);
        if !found.is_empty() {
            bail!("the guest's kernel complained:\n{}\nin:\n{log}", found.join("\n"));
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        for (path, before) in &self.sources {
            if fingerprint(path)? != *before {
                bail!("the source {} was changed", path.display());
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Adds both consoles as sockets in `folder`; what the human console says is also kept in a file from the first byte.
fn consoles(mut qemu: Command, folder: &Path) -> Command {
    for (name, log) in [("console", true), ("program", false)] {
        let socket = folder.join(format!("{name}.sock"));
        let log = if log { format!(",logfile={}", folder.join("console.log").display()) } else { String::new() };
        qemu.arg("-chardev")
            .arg(format!("socket,id={name},path={},server=on,wait=off{log}", socket.display()))
            .arg("-serial")
            .arg(format!("chardev:{name}"));
    }
    qemu
}

fn wait_ready(qemu: &mut Child, folder: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let console = String::from_utf8_lossy(&fs::read(folder.join("console.log")).unwrap_or_default()).into_owned();
        if console.contains(READY) {
            return Ok(());
        }
        if let Some(status) = qemu.try_wait()? {
            let log = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
            if console.is_empty() {
                bail!("QEMU ended with {status}:\n{log}");
            }
            return Err(NotReady(format!("{console}\nQEMU ended with {status}: {log}")).into());
        }
        if start.elapsed() > BOOT_LIMIT {
            return Err(NotReady(console).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn connect(folder: &Path) -> anyhow::Result<Client<UnixStream>> {
    let socket = folder.join("program.sock");
    let stream = UnixStream::connect(&socket).with_context(|| socket.display().to_string())?;
    Client::connect(stream, Duration::from_secs(60)).context("the appliance does not answer on its program console")
}
