//! The prompt for people: reads a line, runs it as a verb of this program, says how it ended.

use super::child::this_program;
use super::editor::{Editor, Key};
use super::server::Runner;
use super::shared_line::{Knock, Programs};
use super::terminal::Terminal;
use super::{help, interrupts, welcome, words};
use crate::activate::bring_up::device_mapper;
use crate::activate::fullness;
use crate::interrupt;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The line that tells programs that the appliance is up; shown once a boot.
pub const READY: &str = "TIERLIFT READY";
/// The prompt.
pub const PROMPT: &str = "tierlift> ";

/// Where the prompt lives.
#[derive(Debug)]
pub struct Settings {
    /// Verbs that may be run, and how programs on the same line run them.
    pub runner: Runner,
    /// Folder that is empty after a boot: `/run`.
    pub run_folder: PathBuf,
}

/// Talks to whoever sits at the terminal until it hangs up.
///
/// # Errors
/// Standard input is no terminal, or the terminal failed.
pub fn run(settings: &Settings) -> io::Result<()> {
    let mut prompt = Prompt {
        terminal: Terminal::new()?,
        editor: Editor::default(),
        verbs: &settings.runner.verbs,
        programs: Programs::new(&settings.runner),
        typed: VecDeque::new(),
    };
    // These keys go to everybody at the terminal; they mean the verb, not the prompt. Verbs let them through again.
    interrupts().thread_block()?;
    say(&welcome::text(Path::new("/sys/block")))?;
    if is_first_start(&settings.run_folder) {
        say(&format!("{READY}\n\n"))?;
    }
    while let Some(line) = prompt.read_line(PROMPT)? {
        prompt.obey(&line)?;
    }
    Ok(())
}

/// Whether no prompt has been started since the machine was. When that cannot be told, saying "ready" is the safer error.
fn is_first_start(run_folder: &Path) -> bool {
    let marker = fs::File::create_new(run_folder.join("tierlift.ready"));
    !matches!(marker, Err(error) if error.kind() == ErrorKind::AlreadyExists)
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

struct Prompt<'a> {
    terminal: Terminal,
    editor: Editor,
    verbs: &'a [String],
    programs: Programs<'a>,
    /// Bytes that looked like the beginning of a frame, and were none.
    typed: VecDeque<u8>,
}

impl Prompt<'_> {
    /// A line as typed; `None` when the terminal hung up. A line thrown away is an empty one.
    fn read_line(&mut self, prompt: &str) -> io::Result<Option<Vec<u8>>> {
        self.terminal.by_key()?;
        say(prompt)?;
        loop {
            let typed = self.typed.pop_front();
            let is_new = typed.is_none();
            let Some(byte) = typed.map_or_else(|| self.terminal.read_byte(), |byte| Ok(Some(byte)))? else {
                return Ok(None);
            };
            if is_new && Programs::may_begin(byte) && !self.editor.is_inside_character() {
                self.lend(prompt)?;
                continue;
            }
            let mut echo = Vec::new();
            let key = self.editor.key(byte, &mut echo);
            let mut stdout = io::stdout().lock();
            stdout.write_all(&echo)?;
            stdout.flush()?;
            match key {
                Key::More => {}
                Key::Line(line) => return Ok(Some(line)),
                Key::Thrown => return Ok(Some(Vec::new())),
                Key::End => {
                    stdout.write_all(b"\nThere is nothing to go back to; poweroff switches the machine off.\n")?;
                    return Ok(Some(Vec::new()));
                }
            }
        }
    }

    /// Lends the line to a program, if it is one that knocks.
    fn lend(&mut self, prompt: &str) -> io::Result<()> {
        let knock = self.programs.knock(&mut self.terminal)?;
        self.terminal.by_key()?;
        match knock {
            Knock::Keys(keys) => self.typed.extend(keys),
            Knock::Served => {
                say(&format!(
                    "\n(a program used this line)\n{prompt}{}",
                    String::from_utf8_lossy(self.editor.typed())
                ))?;
            }
        }
        Ok(())
    }

    fn obey(&mut self, line: &[u8]) -> io::Result<()> {
        let words = match words::split(line) {
            Ok(words) => words,
            Err(unfinished) => return say(&format!("Not understood: {unfinished}.\n")),
        };
        let Some((verb, rest)) = words.split_first() else { return Ok(()) };
        match (String::from_utf8_lossy(verb).as_ref(), rest) {
            ("help" | "?", []) => say(&help::list()),
            ("help", [topic, ..]) => self.help(&String::from_utf8_lossy(topic)),
            ("poweroff" | "halt", _) => self.ask_and_do("Switch the machine off?", "poweroff"),
            ("reboot", _) => self.ask_and_do("Start the machine again?", "reboot"),
            ("exit" | "quit" | "logout", _) => {
                say("There is nothing to go back to; poweroff switches the machine off.\n")
            }
            ("shell", []) => {
                say("A root shell, for experts: it can write to every disk. \"exit\" brings you back.\n")?;
                self.run_verb(vec![b"shell".to_vec(), b"/bin/sh".to_vec()]).map(drop)
            }
            ("shell", _) => self.run_verb(words).map(drop),
            (verb, _) if self.verbs.iter().any(|known| known == verb) => self.run_and_explain(words),
            (verb, _) => say(&format!("There is no command \"{}\". help lists all of them.\n", verb.escape_debug())),
        }
    }

    fn help(&mut self, topic: &str) -> io::Result<()> {
        if let Some(own) = help::OWN.iter().find(|own| own.verb == topic) {
            return say(&format!("{}: {}\n", own.verb, own.does));
        }
        if self.verbs.iter().any(|known| known == topic) {
            return self.run_and_explain(vec![topic.into(), b"--help".to_vec()]);
        }
        say(&format!("There is no command \"{}\". help lists all of them.\n", topic.escape_debug()))
    }

    fn run_and_explain(&mut self, words: Vec<Vec<u8>>) -> io::Result<()> {
        let ended = self.run_verb(words)?;
        if let Some(line) = device_mapper().and_then(|dm| fullness::in_short(&dm)).ok().flatten() {
            say(&format!("{line}\n"))?;
        }
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => say(&help::exit_code(code)),
                (None, signal) => say(&format!("\n(stopped before its end, signal {})\n", signal.unwrap_or(0))),
            },
            None => Ok(()),
        }
    }

    fn run_verb(&mut self, words: Vec<Vec<u8>>) -> io::Result<Option<ExitStatus>> {
        let words: Vec<_> = words.into_iter().map(OsString::from_vec).collect();
        let mut command = this_program(&words);
        // Colour codes are noise on many serial terminals.
        command.env("NO_COLOR", "1").env(interrupt::ASK, "1");
        self.run_program(command)
    }

    /// Lends the terminal to a program. `None`, after telling why, when it could not be started.
    fn run_program(&mut self, mut command: Command) -> io::Result<Option<ExitStatus>> {
        self.terminal.by_line()?;
        match command.status() {
            Ok(status) => Ok(Some(status)),
            Err(error) => {
                say(&format!("Cannot start {}: {error}\n", command.get_program().to_string_lossy()))?;
                Ok(None)
            }
        }
    }

    fn ask_and_do(&mut self, question: &str, program: &str) -> io::Result<()> {
        say("Overlays in memory are lost; the source disks are not touched.\n")?;
        match self.read_line(&format!("{question} Type yes: "))? {
            Some(answer) if answer == b"yes" => self.run_program(Command::new(program)).map(drop),
            _ => say("Not done.\n"),
        }
    }
}
