//! Jobs: verbs that go on when the one who started them is gone, and can be followed again.
//!
//! Each has a folder with what it was asked for, what it says, and how it ended. A keeper process of its own waits for the end.

use crate::commands::{Failure, Outcome};
use crate::console::child::this_program;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

const FOLDER: &str = "/run/tierlift/jobs";
const PAUSE: Duration = Duration::from_millis(200);
/// Milliseconds in which it is asked again whether a job has ended.
const WAIT: u8 = 200;
/// Pieces taken of a job's output before that is asked again.
const TURNS: u32 = 32;
/// What is read of the output at once.
const PIECE: usize = 64 << 10;
/// Bytes of output kept of one job: it lies in memory. The job goes on when there is more.
const MOST_OUTPUT: u64 = 32 << 20;
const FULL: &str = "\n(the output is too long: nothing after this is kept; the job goes on)\n";
/// Jobs kept; there are never so many.
const MOST: u32 = 10_000;

/// A job and how it is going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its number, from 1.
    pub number: u32,
    /// The verb and its words.
    pub words: Vec<String>,
    /// Exit code; `None` while it runs.
    pub exit: Option<u8>,
    /// Bytes of output so far.
    pub output: u64,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    words: Vec<String>,
}

fn folder(number: u32) -> PathBuf {
    PathBuf::from(FOLDER).join(number.to_string())
}

/// Starts a verb as a job and answers its number.
///
/// # Errors
/// No folder or process can be made for it.
pub fn start(words: &[String]) -> anyhow::Result<u32> {
    fs::create_dir_all(FOLDER).with_context(|| format!("{FOLDER} cannot be made"))?;
    // Making the folder is what takes a number: two starts at once get two.
    let number = (1..MOST).find(|number| fs::create_dir(folder(*number)).is_ok());
    let number = number.with_context(|| format!("no further job can be made in {FOLDER}"))?;
    let folder = folder(number);
    fs::write(folder.join("asked"), serde_json::to_vec(&Asked { words: words.to_vec() })?)?;
    File::create(folder.join("output"))?;
    let mut keeper = this_program(&["job", "keep", &number.to_string()]);
    keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    keeper.spawn().context("the job cannot be started")?;
    Ok(number)
}

/// Runs a job to its end: what its keeper does. One that cannot be run ends, too, and its output says why.
///
/// # Errors
/// How it ended cannot be written.
pub fn keep(number: u32) -> anyhow::Result<()> {
    let folder = folder(number);
    let code = run(&folder).unwrap_or_else(|error| {
        let output = File::options().append(true).open(folder.join("output"));
        // Without its output there is nobody to tell.
        let _ = output.and_then(|mut output| writeln!(output, "tierlift: the job cannot be run: {error:#}"));
        Outcome::FAILED.0
    });
    let fresh = folder.join("exit.new");
    fs::write(&fresh, code.to_string())?;
    Ok(fs::rename(fresh, folder.join("exit"))?)
}

fn run(folder: &Path) -> anyhow::Result<u8> {
    let asked: Asked = serde_json::from_slice(&fs::read(folder.join("asked"))?)?;
    let output = Output::new(File::options().append(true).open(folder.join("output"))?, MOST_OUTPUT);
    let mut verb = this_program(&asked.words);
    verb.process_group(0);
    let started = |id: u32| fs::write(folder.join("process"), id.to_string());
    let status = attend(verb, output, started)?;
    // As shells do: a program that was killed ends with 128 and the signal's number.
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Runs a program and keeps what it says, up to a bound.
fn attend(mut program: Command, mut output: Output, started: impl Fn(u32) -> io::Result<()>) -> io::Result<ExitStatus> {
    let (said, end) = pipe2(OFlag::O_CLOEXEC)?;
    let mut child = program.stdin(Stdio::null()).stdout(end.try_clone()?).stderr(end).spawn()?;
    // It holds the ends for writing, too.
    drop(program);
    started(child.id())?;
    let mut said = File::from(said);
    loop {
        // Asked before reading: what was said before the end is then read in any case.
        let ended = child.try_wait()?;
        let is_over = !read_what_is_there(&mut said, &mut output)?;
        match ended {
            Some(status) => return Ok(status),
            // It says nothing more, but works on.
            None if is_over => return child.wait(),
            None => {}
        }
    }
}

/// Takes what a pipe holds, waiting a little for it; `false` when nobody can write to it any more. Programs that a job left behind may
/// keep it open and write on, so no more is taken at once than a pipe can hold.
fn read_what_is_there(said: &mut File, output: &mut Output) -> io::Result<bool> {
    let mut piece = vec![0; PIECE];
    for turn in 0..TURNS {
        let pause = if turn == 0 { PollTimeout::from(WAIT) } else { PollTimeout::ZERO };
        match poll(&mut [PollFd::new(said.as_fd(), PollFlags::POLLIN)], pause) {
            Ok(0) | Err(Errno::EINTR) => return Ok(true),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let count = said.read(&mut piece)?;
        if count == 0 {
            return Ok(false);
        }
        output.keep(piece.get(..count).unwrap_or_default());
    }
    Ok(true)
}

/// The file with what a job says.
struct Output {
    file: File,
    room: u64,
    full: bool,
}

impl Output {
    fn new(file: File, room: u64) -> Self {
        Self { file, room, full: false }
    }

    /// Nothing of the job depends on this: what cannot be kept is dropped.
    fn keep(&mut self, bytes: &[u8]) {
        let count = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let _ = self.file.write_all(bytes.get(..count).unwrap_or_default());
        self.room = self.room.saturating_sub(count as u64);
        if count < bytes.len() && !self.full {
            self.full = true;
            let _ = self.file.write_all(FULL.as_bytes());
        }
    }
}

/// One job.
///
/// # Errors
/// There is none of this number.
pub fn look(number: u32) -> anyhow::Result<Job> {
    let folder = folder(number);
    let asked = fs::read(folder.join("asked")).map_err(|_| Failure {
        outcome: Outcome::FAILED,
        message: format!("there is no job {number}; `job list` shows all since the machine was started"),
    })?;
    let asked: Asked = serde_json::from_slice(&asked)?;
    let exit = fs::read_to_string(folder.join("exit")).ok().and_then(|text| text.trim().parse().ok());
    let output = fs::metadata(folder.join("output")).map_or(0, |found| found.len());
    Ok(Job { number, words: asked.words, exit, output })
}

/// All jobs, in the order they were started.
pub fn all() -> Vec<Job> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_string_lossy().parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|number| look(number).ok()).collect()
}

/// Writes the output of a job from a place on, as it comes, until the job has ended; answers its exit code.
///
/// # Errors
/// There is no such job, or nothing can be written.
pub fn follow(number: u32, from: u64, out: &mut dyn Write) -> anyhow::Result<u8> {
    look(number)?;
    let mut output = File::open(folder(number).join("output"))?;
    output.seek(SeekFrom::Start(from))?;
    let mut piece = vec![0; PIECE];
    loop {
        // Asked before reading: what was said before the end is then read in any case.
        let exit = look(number)?.exit;
        loop {
            let count = output.read(&mut piece)?;
            if count == 0 {
                break;
            }
            out.write_all(piece.get(..count).unwrap_or_default())?;
        }
        out.flush()?;
        if let Some(exit) = exit {
            return Ok(exit);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Asks a job to stop, as Ctrl-C does.
///
/// # Errors
/// There is no such job, or it has ended.
pub fn cancel(number: u32) -> anyhow::Result<()> {
    if look(number)?.exit.is_some() {
        let message = format!("job {number} has ended already");
        return Err(Failure { outcome: Outcome::FAILED, message }.into());
    }
    let process: i32 = fs::read_to_string(folder(number).join("process"))?.trim().parse()?;
    killpg(Pid::from_raw(process), Signal::SIGINT).context("the job cannot be reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attended(script: &str, room: u64) -> (ExitStatus, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        let output = Output::new(File::options().append(true).create(true).open(&path).unwrap(), room);
        let mut program = Command::new("sh");
        program.args(["-c", script]).current_dir(folder.path());
        let status = attend(program, output, |_| Ok(())).unwrap();
        (status, fs::read(path).unwrap())
    }

    #[test]
    fn what_a_job_says_is_kept_up_to_a_bound() {
        let (status, said) = attended("echo one; echo two >&2; exit 3", 1000);
        assert_eq!((status.code(), said.as_slice()), (Some(3), b"one\ntwo\n".as_slice()));
        let (status, said) = attended("yes | head -c 1000000; echo end; exit 4", 100_000);
        assert_eq!(status.code(), Some(4));
        assert_eq!(said.len(), 100_000 + FULL.len());
        assert!(said.ends_with(FULL.as_bytes()));
    }

    #[test]
    fn a_job_ends_though_what_it_left_behind_goes_on() {
        // The one left behind waits for a line that comes only after the job has ended.
        let folder = tempfile::tempdir().unwrap();
        let wait = folder.path().join("wait");
        nix::unistd::mkfifo(&wait, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (status, said) = attended(&format!("cat {} & echo begun", wait.display()), 1000);
        assert_eq!((status.code(), said.as_slice()), (Some(0), b"begun\n".as_slice()));
        fs::write(wait, "end").unwrap();
    }

    #[test]
    fn a_job_that_says_nothing_more_is_waited_for() {
        let (status, said) =
            attended("echo begun; exec >/dev/null 2>&1; for n in 1 2 3; do sleep 0.1; done; exit 5", 1000);
        assert_eq!((status.code(), said.as_slice()), (Some(5), b"begun\n".as_slice()));
    }
}
