//! Copying to another machine by rsync over SSH, and comparing both sides by checksums afterwards.
//!
//! A file of which parts cannot be read is not sent at all: rsync checks what arrives against what was read. It is told as lost
//! here; its readable parts can be had by a copy to a disk or a share.

use super::failure;
use crate::case::{Copied, Counts, programs};
use crate::extract::copy::MAX_LOSSES;
use crate::say::tell;
use anyhow::Context;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tierlift_protocol::Secret;

/// Time between progress lines.
const PROGRESS: Duration = Duration::from_secs(5);
/// Longer lines are cut.
const MAX_LINE: u64 = 64 << 10;
/// Seconds between signs of life of the connection; it is given up after three without an answer.
const ALIVE: u32 = 30;
/// Seconds without a byte after which rsync itself gives up, where the other machine is there but its rsync hangs. A bad disk here may
/// keep it waiting for long, and that is no reason to end. While both sides compute checksums nothing is sent at all, so it does
/// not hold for the comparison.
const SILENCE: u32 = 3600;
/// Some files could not be sent; the rest could.
const PARTIAL: i32 = 23;

/// A folder on another machine: `USER@HOST:FOLDER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// User and host.
    pub login: String,
    /// Folder there; a relative one begins at the user's home.
    pub folder: String,
}

/// How to get in.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// A private key in dropbear's form or OpenSSH's.
    pub identity: Option<PathBuf>,
    /// The password, when there is no key.
    pub password: Option<Secret>,
    /// TCP port, when it is not 22.
    pub port: Option<u16>,
}

impl Place {
    /// `USER@HOST:FOLDER`; anything else is no such place.
    pub fn parse(text: &str) -> Option<Self> {
        let (login, folder) = text.split_once(':')?;
        let (user, host) = login.split_once('@')?;
        let plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(['/', ' ']);
        (plain(user) && plain(host) && !folder.is_empty())
            .then(|| Self { login: login.to_owned(), folder: folder.to_owned() })
    }
}

/// Copies the tree below `source`, compares both sides, and tells progress on `tell`.
///
/// # Errors
/// The machine cannot be reached, does not let us in, has no rsync, or takes no more: with what that means.
pub fn copy(
    name: &str,
    source: &Path,
    place: &Place,
    access: &Access,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Copied> {
    let mut sending = command(source, place, access);
    sending.arg(format!("--timeout={SILENCE}"));
    sending.args(["--sparse", "--partial-dir=.tierlift-partial", "--info=progress2,stats2"]);
    let sent = follow(&mut sending, &mut |line| {
        if line.contains('%') {
            tell(line.trim());
        }
    })?;
    judge(&sent, place)?;
    tell("comparing both sides by checksums");
    let mut comparing = command(source, place, access);
    comparing.args(["--checksum", "--dry-run", "--itemize-changes"]);
    let compared = follow(&mut comparing, &mut |_| {})?;
    judge(&compared, place)?;
    Ok(result(name, place, &sent, &compared))
}

fn result(name: &str, place: &Place, sent: &Said, compared: &Said) -> Copied {
    let mut counts = Counts {
        copied: sent.figure("Number of regular files transferred: "),
        bytes: sent.figure("Total transferred file size: "),
        ..Counts::default()
    };
    let mut losses: Vec<String> = Vec::new();
    // What the sender complains of is the source's: a directory that cannot be read is missing on both sides, and only its
    // message tells. Both passes may say the same.
    let said: BTreeSet<&String> = sent.errors.iter().chain(&compared.errors).collect();
    for line in said {
        if line.starts_with("rsync: [sender]") || line.contains("Input/output error") {
            counts.damaged = counts.damaged.saturating_add(1);
            losses.push(line.clone());
        }
    }
    let differs = |line: &&String| line.starts_with("<f") || line.starts_with("cL") || line.starts_with("cd");
    let missing: Vec<&String> = compared.lines.iter().filter(differs).collect();
    counts.failed = u64::try_from(missing.len()).unwrap_or(u64::MAX).saturating_sub(counts.damaged);
    losses.extend(missing.iter().map(|line| format!("not the same on both sides: {line}")));
    let complained = !sent.status.success() || !compared.status.success();
    if complained && losses.is_empty() {
        // Never a clean end when rsync says otherwise.
        counts.failed = 1;
        losses.extend(sent.errors.iter().chain(&compared.errors).cloned());
    }
    counts.copied = counts.copied.saturating_sub(counts.damaged);
    let all = compared.figure_after("reg: ").max(sent.figure_after("reg: "));
    let missed = counts.damaged.saturating_add(counts.failed);
    counts.identical = all.saturating_sub(counts.copied).saturating_sub(missed);
    counts.directories = sent.figure_after("dir: ");
    counts.symlinks = sent.figure_after("link: ");
    losses.truncate(MAX_LOSSES);
    let target = format!("{}:{}", place.login, place.folder);
    let manifest = "none: both sides were compared by rsync's checksums after the copy".to_owned();
    Copied { source: name.to_owned(), target, counts, losses, manifest, ..Copied::default() }
}

fn command(source: &Path, place: &Place, access: &Access) -> Command {
    let mut shell = format!("dbclient -y -K {ALIVE}");
    if let Some(port) = access.port {
        shell += &format!(" -p {port}");
    }
    if let Some(identity) = &access.identity {
        shell += &format!(" -i {}", identity.display());
    }
    let mut command = Command::new("rsync");
    command.args(["-aHAX", "--numeric-ids", "--one-file-system", "--exclude=/.tierlift-partial", "-e", &shell]);
    if let Some(password) = &access.password {
        // Not on the command line, which every process could read.
        command.env("DROPBEAR_PASSWORD", &password.0);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command.arg(format!("{}/", source.display())).arg(format!("{}:{}", place.login, place.folder));
    command
}

/// What rsync said and how it ended.
struct Said {
    lines: Vec<String>,
    errors: Vec<String>,
    status: ExitStatus,
}

impl Said {
    /// The figure in a line of the statistics.
    fn figure(&self, name: &str) -> u64 {
        self.lines.iter().rev().find_map(|line| line.trim().strip_prefix(name)).map_or(0, number)
    }

    /// The figure behind a word in `Number of files: 5 (reg: 3, dir: 2)`.
    fn figure_after(&self, word: &str) -> u64 {
        let line = self.lines.iter().rev().find(|line| line.starts_with("Number of files: "));
        line.and_then(|line| line.split(word).nth(1)).map_or(0, number)
    }
}

/// `1,234 bytes` is 1234.
fn number(text: &str) -> u64 {
    let digits = text.chars().take_while(|sign| sign.is_ascii_digit() || *sign == ',').filter(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap_or(0)
}

fn follow(command: &mut Command, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Said> {
    command.arg("--stats").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().context("rsync cannot be started; is it installed?")?;
    let errors = process.stderr.take().map(|pipe| std::thread::spawn(move || all_errors(pipe)));
    let lines = process.stdout.take().map(|pipe| all_lines(pipe, progress)).unwrap_or_default();
    let status = process.wait().context("rsync")?;
    let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    programs::ran(command, status, [lines.join("\n"), errors.join("\n")].join("\n").as_bytes());
    Ok(Said { lines, errors, status })
}

/// Progress lines end in a carriage return and are told now and then; the others are kept, the first and the last of them.
fn all_lines(pipe: ChildStdout, progress: &mut dyn FnMut(&str)) -> Vec<String> {
    let (mut lines, mut told) = (Vec::new(), Instant::now());
    let mut reader = BufReader::new(pipe);
    while let Some(line) = next(&mut reader) {
        for part in line.split('\r').filter(|part| !part.is_empty()) {
            if part.contains('%') && told.elapsed() >= PROGRESS {
                told = Instant::now();
                progress(part);
            }
        }
        let last = line.rsplit('\r').next().unwrap_or_default().to_owned();
        keep(&mut lines, last);
    }
    lines
}

fn all_errors(pipe: ChildStderr) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(pipe);
    while let Some(line) = next(&mut reader) {
        log::info!("rsync: {line}");
        // Nobody was asked whether this is the right machine: at least it can be compared.
        match of_host_key(&line) {
            Some(told) => tell!("copy: {told}"),
            None => keep(&mut lines, line),
        }
    }
    lines
}

/// What dbclient says of the key of a machine that it meets for the first time; it is no error. "Host '10.0.0.2' key accepted
/// unconditionally." and "(ssh-ed25519 fingerprint SHA256:...)".
fn of_host_key(line: &str) -> Option<String> {
    if line.contains("key accepted unconditionally") {
        return Some("this machine is met for the first time; its key was not checked by anybody".to_owned());
    }
    let fingerprint = line.trim().strip_prefix('(')?.strip_suffix(')')?;
    fingerprint.contains("fingerprint ").then(|| format!("key of the other machine: {fingerprint}; compare it there"))
}

/// The statistics come last, so the middle is what is dropped when there are too many lines.
fn keep(lines: &mut Vec<String>, line: String) {
    const MOST: usize = 20_000;
    if lines.len() >= MOST {
        lines.drain(MOST / 2..MOST / 2 + MOST / 4);
    }
    lines.push(line);
}

fn next(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let count = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
}

/// Only what stopped the whole copy is an error; single files are counted.
fn judge(said: &Said, place: &Place) -> anyhow::Result<()> {
    let code = said.status.code();
    if matches!(code, Some(0 | 24 | PARTIAL)) {
        return Ok(());
    }
    let text = said.errors.join("\n");
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let why = if has(&["host key mismatch"]) {
        "its key is another than at the first contact: another machine answers at this address".to_owned()
    } else if has(&["Permission denied", "No auth methods", "Remote closed the connection", "password"])
        && !has(&["mkdir"])
    {
        "it does not let us in: user, password or key is wrong, or it closed the connection".to_owned()
    } else if has(&["not found", "127"]) {
        "rsync is not installed there".to_owned()
    } else if has(&["No space left"]) {
        "it is full; what was copied so far stays, and the same command goes on with it".to_owned()
    } else if has(&["refused", "timed out", "Timeout", "timeout", "unreachable", "No route", "resolve"]) {
        "it does not answer: check its address and `network`".to_owned()
    } else {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).take(12).collect::<Vec<_>>().join("; ")
    };
    Err(failure(format!("copying to {} failed: {why}. Run the same command again to go on", place.login)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn said(lines: &str, errors: &str, code: i32) -> Said {
        let all = |text: &str| text.lines().map(str::to_owned).collect();
        Said { lines: all(lines), errors: all(errors), status: ExitStatus::from_raw(code << 8) }
    }

    #[test]
    fn places_are_told_from_other_targets() {
        let place = Place::parse("me@10.0.0.2:/backup/nas").unwrap();
        assert_eq!((place.login.as_str(), place.folder.as_str()), ("me@10.0.0.2", "/backup/nas"));
        for other in ["/dev/sdb1:folder", "/mnt/x", "//nas/share", "me@host", "@host:x", "me@:x", "me@-oX:x", "me@h:"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }

    #[test]
    fn figures_come_from_the_statistics() {
        let sent = said(
            "Number of files: 1,205 (reg: 1,200, dir: 4, link: 1)\nNumber of regular files transferred: 1,100\n\
             Total transferred file size: 1,234,567 bytes\n",
            "",
            23,
        );
        let compared = said(
            "<fcsT...... photos/bad.jpg\nNumber of files: 1,205 (reg: 1,200)\n",
            "rsync: read errors mapping \"/mnt/photos/bad.jpg\": Input/output error (5)\n",
            23,
        );
        let place = Place::parse("me@host:x").unwrap();
        let counts = result("vg1/lv1", &place, &sent, &compared).counts;
        assert_eq!((counts.copied, counts.damaged, counts.failed, counts.identical), (1099, 1, 0, 100));
        assert_eq!((counts.bytes, counts.directories, counts.symlinks), (1_234_567, 4, 1));
    }

    #[test]
    fn what_rsync_complains_of_is_never_a_clean_end() {
        let place = Place::parse("me@host:x").unwrap();
        let lost = "rsync: [sender] readdir(\"/mnt/volume/photos\"): Structure needs cleaning (117)\n";
        let (sent, compared) = (said("", lost, 23), said("", lost, 23));
        let found = result("vg1/lv1", &place, &sent, &compared);
        assert_eq!((found.counts.damaged, found.losses.len()), (1, 1));
        let other = result("vg1/lv1", &place, &said("", "rsync: [generator] chown failed\n", 23), &said("", "", 0));
        assert_eq!((other.counts.damaged, other.counts.failed), (0, 1));
        let clean = result("vg1/lv1", &place, &said("", "", 0), &said("", "", 0));
        assert_eq!((clean.counts.damaged, clean.counts.failed), (0, 0));
    }

    #[test]
    fn what_stops_everything_is_put_in_words() {
        let place = Place::parse("me@host:x").unwrap();
        let why = |errors: &str, code| judge(&said("", errors, code), &place).unwrap_err().to_string();
        assert!(why("dbclient: Connect failed: Error connecting: Connection refused", 12).contains("does not answer"));
        assert!(why("sh: rsync: not found", 127).contains("not installed"));
        assert!(why("something", 12).contains("something"));
        assert!(why("[sender] io timeout after 3600 seconds -- exiting", 30).contains("does not answer"));
        assert!(why("ssh-ed25519 host key mismatch for host !", 12).contains("another machine"));
        judge(&said("", "one file", PARTIAL), &place).unwrap();
    }

    #[test]
    fn a_machine_that_vanishes_is_noticed() {
        let place = Place::parse("me@host:x").unwrap();
        let words: Vec<_> = command(Path::new("/mnt/x"), &place, &Access { port: Some(2222), ..Access::default() })
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert!(words.contains(&"dbclient -y -K 30 -p 2222".to_owned()), "{words:?}");
    }

    #[test]
    fn the_key_of_the_other_machine_is_told_and_no_error() {
        assert!(of_host_key("Host '10.0.0.2' key accepted unconditionally.").is_some());
        let told = of_host_key("(ssh-ed25519 fingerprint SHA256:abc)").unwrap();
        assert!(told.contains("ssh-ed25519 fingerprint SHA256:abc"), "{told}");
        for other in ["", "dbclient: ", "rsync: [sender] read errors mapping \"a (fingerprint b)\"", "(code 23)"] {
            assert_eq!(of_host_key(other), None, "{other}");
        }
    }
}
