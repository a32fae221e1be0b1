//! Every program that was run for a case, with what it said: a plain text beside the case.
//!
//! For whoever has to understand afterwards what happened, and for help from afar. Only what was on command lines is kept, never
//! what went in by standard input or the environment: passwords go that way.

use super::store::location;
use crate::activate::is_appliance;
use jiff::Timestamp;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

/// The file beside the case.
const NAME: &str = "commands.log";
/// What one program said is kept up to this length, half of it from the beginning and half from the end.
const MAX_SAID: usize = 128 << 10;
/// The file never grows longer; what comes later is left out, and that is said once.
const MAX_LOG: u64 = 16 << 20;
/// First words of the file; a number of the machine's start follows.
const HEAD: &str = "# Programs run since the start ";
/// Names tried on a target, one for each start of the machine.
const MAX_STARTS: u32 = 10_000;

/// The log of this start of the machine; `None` where no case is kept.
pub fn log_location() -> Option<PathBuf> {
    location().map(|case| case.with_file_name(NAME))
}

/// Runs a program to its end and keeps what it said.
///
/// # Errors
/// It cannot be started.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let result = command.output();
    match &result {
        Ok(done) => ran(command, done.status, &[done.stdout.as_slice(), &done.stderr].concat()),
        Err(error) => append(&line_of(command), &format!("cannot be started: {error}"), b""),
    }
    result
}

/// Keeps what a program said that was run in another way.
pub fn ran(command: &Command, status: ExitStatus, said: &[u8]) {
    append(&line_of(command), &status.to_string(), said);
}

/// Keeps that a verb of this program, the one this process was started for, began, or how it ended.
pub fn verb(state: &str) {
    append(&format!("tierlift {}", shown(std::env::args_os().skip(1).collect())), state, b"");
}

/// The words of a verb. What is typed into a shell may be a password: of that only the program is kept.
fn shown(words: Vec<OsString>) -> String {
    let is_shell = words.first().is_some_and(|verb| verb == "shell");
    let kept = if is_shell { 1 } else { usize::MAX };
    let is_program = |word: &&OsString| *word != "--";
    let mut text: Vec<String> = words.iter().take(kept).map(quoted).collect();
    if is_shell {
        text.extend(words.iter().skip(1).find(is_program).map(quoted));
        text.push("...".to_owned());
    }
    text.join(" ")
}

fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |sign: char| sign.is_alphanumeric() || "-_./:=,@+%".contains(sign);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("{word:?}") }
}

/// Nothing of a recovery depends on this: when it cannot be kept, the work goes on.
fn append(command: &str, ended: &str, said: &[u8]) {
    let Some(path) = log_location() else { return };
    if let Err(error) = append_to(&path, &entry(command, ended, said)) {
        log::warn!("{} cannot be written: {error}", path.display());
    }
}

fn entry(command: &str, ended: &str, said: &[u8]) -> String {
    let mut text = format!("\n{} $ {command}\n", Timestamp::now().strftime("%Y-%m-%d %H:%M:%S"));
    let said = shortened(said);
    said.lines().for_each(|line| text += &format!("    {}\n", line.trim_end()));
    text + &format!("    ({ended})\n")
}

/// Signs that are no text are replaced: this is read on terminals.
fn shortened(said: &[u8]) -> String {
    let part = MAX_SAID / 2;
    let text = match said.len().checked_sub(MAX_SAID) {
        None | Some(0) => String::from_utf8_lossy(said).into_owned(),
        Some(left_out) => {
            let (head, tail) = (said.get(..part), said.get(said.len().saturating_sub(part)..));
            format!(
                "{}\n... {left_out} bytes left out ...\n{}",
                String::from_utf8_lossy(head.unwrap_or_default()),
                String::from_utf8_lossy(tail.unwrap_or_default())
            )
        }
    };
    text.chars().map(|sign| if sign.is_control() && sign != '\n' { ' ' } else { sign }).collect()
}

fn append_to(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = File::options().append(true).create(true).open(path)?;
    let length = file.metadata()?.len();
    let head = if length == 0 { format!("{HEAD}{}\n", start_of_machine()) } else { String::new() };
    let text = match length.saturating_add(text.len() as u64) {
        0..=MAX_LOG => text,
        _ if length <= MAX_LOG => "\n(the log is full: nothing after this is kept)\n",
        _ => return Ok(()),
    };
    // At once, so that programs that run side by side do not mix their lines.
    file.write_all(format!("{head}{text}").as_bytes())
}

/// A word that is another one after each start of the machine.
fn start_of_machine() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Puts the log of this start of the machine beside a case elsewhere: `commands-1.log` there for the first start, and so on.
///
/// # Errors
/// When it cannot be written.
pub fn save_log(folder: &Path) -> io::Result<()> {
    match log_location() {
        Some(log) if log.exists() && is_appliance() => save(&log, folder),
        _ => Ok(()),
    }
}

fn save(log: &Path, folder: &Path) -> io::Result<()> {
    let first = first_line(log)?;
    for number in 1..MAX_STARTS {
        let path = folder.join(format!("commands-{number}.log"));
        if path.exists() && first_line(&path)? != first {
            continue;
        }
        let part = path.with_extension("log.part");
        std::fs::copy(log, &part)?;
        File::open(&part)?.sync_all()?;
        return std::fs::rename(&part, &path);
    }
    Ok(())
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(200).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_said_is_kept_in_order_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/commands.log");
        append_to(&path, &entry("mdadm --stop /dev/md100", "exit status: 0", b"mdadm: stopped\x1b[1m /dev/md100\n"))
            .unwrap();
        append_to(&path, &entry("e2fsck", "exit status: 1", &vec![b'x'; MAX_SAID + 7])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.matches(HEAD).count() == 1, "{text}");
        assert!(text.contains(" $ mdadm --stop /dev/md100\n    mdadm: stopped [1m /dev/md100\n    (exit status: 0)\n"));
        assert!(text.contains("... 7 bytes left out ..."));
        assert!(text.len() < MAX_SAID + 1000);
    }

    #[test]
    fn a_full_log_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commands.log");
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_LOG).unwrap()]).unwrap();
        append_to(&path, "one").unwrap();
        append_to(&path, "two").unwrap();
        let text = std::fs::read(&path).unwrap();
        assert!(
            text.ends_with(b"nothing after this is kept)\n") && text.len() < usize::try_from(MAX_LOG).unwrap() + 100
        );
    }

    #[test]
    fn what_is_typed_into_a_shell_is_not_kept() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(shown(words("shell -- sh -c secret")), "shell sh ...");
        assert_eq!(shown(words("shell")), "shell ...");
        assert_eq!(shown(words("copy vg1/lv1 /dev/sdb")), "copy vg1/lv1 /dev/sdb");
    }

    #[test]
    fn words_with_blanks_stay_one_word() {
        let mut command = Command::new("debugfs");
        command.args(["-R", "ls /a b", "", "/dev/sda1"]);
        assert_eq!(line_of(&command), "debugfs -R \"ls /a b\" \"\" /dev/sda1");
    }

    #[test]
    fn each_start_of_the_machine_has_its_own_log_on_the_target() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = here.path().join(NAME);
        for (start, expected) in [("one", 1), ("one, more", 1), ("two", 2), ("one, more", 1)] {
            let name = start.split(',').next().unwrap();
            std::fs::write(&log, format!("{HEAD}{name}\n{start}")).unwrap();
            save(&log, there.path()).unwrap();
            let saved = std::fs::read_to_string(there.path().join(format!("commands-{expected}.log"))).unwrap();
            assert!(saved.ends_with(start), "{saved}");
        }
        assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 2);
    }
}
