//! Whoever stops the program in the middle finds no file that could be taken for a whole one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tierlift_forge::Fixture;

/// A packed pool, to be unpacked from a pipe: the program waits for more in the middle of its output as long as the test likes.
struct Packed {
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Packed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let meta = Fixture::named("F5-v2-4k").unwrap().unpack(&inside).unwrap()["tmeta.img"].clone();
        let packed = inside.join("packed");
        let tool = Command::new(env!("CARGO_BIN_EXE_tierlift"));
        let done = with_args(tool, &["pool", "pack", "--meta"], &[&meta, Path::new("--output"), &packed]).output();
        assert!(done.unwrap().status.success());
        std::fs::create_dir(folder.path().join("out")).unwrap();
        Self { bytes: std::fs::read(packed).unwrap(), folder }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out/meta.img")
    }

    /// Names in the folder of the output.
    fn left(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.folder.path().join("out")).unwrap();
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Begins, and waits until the unfinished output is there.
    fn begin(&self, tool: Command) -> Child {
        let before = self.left();
        let mut tool = with_args(tool, &["pool", "unpack", "--input", "/dev/stdin", "--output"], &[&self.output()]);
        let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(&self.bytes[..100]).unwrap();
        while !self.left().iter().any(|name| name.contains(".partial-") && !before.contains(name)) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}

fn with_args(mut tool: Command, args: &[&str], paths: &[&Path]) -> Command {
    tool.args(args).args(paths);
    tool
}

/// The program with its signals as they are by default: a runner in the background of a shell ignores some and hands that down.
fn tierlift() -> Command {
    let mut tool = Command::new("env");
    tool.args(["--default-signal=INT,TERM,HUP", "--", env!("CARGO_BIN_EXE_tierlift")]);
    tool
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_copy_is_finished_though_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "words").unwrap();
    let (mut copy, mut wrong) = (Command::new(env!("CARGO_BIN_EXE_tierlift")), tierlift());
    copy.arg("copy").args([&source, &target]);
    wrong.args(["copy", "/dev/zero-is-no-source", "/dev/null"]);
    for (tool, code) in [(&mut copy, 0), (&mut wrong, 8)] {
        let nobody = || {
            let (end, other) = UnixStream::pair().unwrap();
            drop(other);
            Stdio::from(OwnedFd::from(end))
        };
        let status = tool.stdin(Stdio::null()).stdout(nobody()).stderr(nobody()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{tool:?}");
    }
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"words");
    assert!(target.join("tierlift-manifest.json").exists());
}

#[test]
fn nothing_is_left_of_an_interrupted_output() {
    let packed = Packed::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut child = packed.begin(tierlift());
        // Waiting would close it, and an input that ends is another story.
        let _input = child.stdin.take();
        send(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32), "it dies of the signal itself");
        assert_eq!(packed.left(), [""; 0], "{signal}");
    }
}

/// A kill cannot be noticed: the name tells that the file is not finished, and the next run takes it away.
#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next() {
    let packed = Packed::new();
    let mut child = packed.begin(tierlift());
    send(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert!(packed.left().iter().all(|name| name.starts_with("meta.img.partial-")) && packed.left().len() == 1);
    let (mut next, leftover) = (packed.begin(tierlift()), packed.left());
    assert_eq!(leftover.len(), 1, "{leftover:?}");
    next.stdin.take().unwrap().write_all(&packed.bytes[100..]).unwrap();
    assert!(next.wait().unwrap().success());
    assert_eq!(packed.left(), ["meta.img"]);
}

#[test]
fn a_run_that_shall_outlive_its_terminal_does() {
    let packed = Packed::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tierlift")]);
    let mut child = packed.begin(shell);
    send(&child, Signal::SIGHUP);
    child.stdin.take().unwrap().write_all(&packed.bytes[100..]).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(packed.left(), ["meta.img"]);
}
