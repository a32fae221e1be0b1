//! One virtual machine with the appliance in it.

use crate::{Ports, Settings, complaints, fingerprint, processor_time};
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
    /// Whether the appliance did not come up.
    pub(crate) fn was_not_ready(error: &anyhow::Error) -> bool {
        error.downcast_ref::<NotReady>().is_some()
    }

    pub(crate) fn start(settings: &Settings) -> anyhow::Result<Self> {
        let sources = settings.sources().map(|path| Ok((path.to_owned(), fingerprint(path)?)));
        let sources = sources.collect::<anyhow::Result<_>>()?;
        let folder = tempfile::Builder::new().prefix("tierlift-vm-").tempdir()?;
        let start = Instant::now();
        let mut qemu = consoles(settings.command(), settings.ports, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("qemu.log"))?)
            .spawn()
            .context("cannot start qemu-system-x86_64; run: cargo xtask deps")?;
        let connected = wait_ready(&mut qemu, folder.path()).and_then(|()| connect(settings.ports, folder.path()));
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
        self.sources_unchanged()
    }

    /// Waits until the machine has switched itself off, and proves that no source has changed.
    ///
    /// # Errors
    /// It stays on, or a source has changed.
    pub fn off(mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.qemu.try_wait()?.is_none() {
            if start.elapsed() > BOOT_LIMIT {
                bail!("the machine did not switch off; the console said:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.sources_unchanged()
    }

    fn sources_unchanged(&self) -> anyhow::Result<()> {
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

/// Adds the lines as sockets in `folder`; what people see is also kept in a file from the first byte.
fn consoles(mut qemu: Command, ports: Ports, folder: &Path) -> Command {
    let mut line = |name: &str, device: &[&str]| {
        let socket = folder.join(format!("{name}.sock"));
        let log = format!(",logfile={}", folder.join(format!("{name}.log")).display());
        qemu.arg("-chardev").arg(format!("socket,id={name},path={},server=on,wait=off{log}", socket.display()));
        qemu.args(device);
    };
    let (people, programs) = (["-serial", "chardev:console"], ["-serial", "chardev:program"]);
    match ports {
        Ports::Two => {
            line("console", &people);
            line("program", &programs);
        }
        Ports::Swapped => {
            line("program", &programs);
            line("console", &people);
        }
        Ports::One => line("console", &people),
        Ports::Virtio => {
            line("console", &people);
            line("program", &["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=program"]);
        }
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

fn connect(ports: Ports, folder: &Path) -> anyhow::Result<Client<UnixStream>> {
    let socket = folder.join(if ports == Ports::One { "console.sock" } else { "program.sock" });
    let stream = UnixStream::connect(&socket).with_context(|| socket.display().to_string())?;
    Client::connect(stream, Duration::from_secs(60)).context("the appliance does not answer on its program console")
}
