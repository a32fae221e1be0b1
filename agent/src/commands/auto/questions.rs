//! The questions, and their answers when nobody is to be asked.

use crate::commands::Failure;
use crate::interrupt::Open;
use crate::say;
use crate::unlock::prompt;
use std::io::{BufRead, IsTerminal};
use tierlift_protocol::Secret;

/// The answer to "help" or "?" at any question.
const HELP: &str = "The source disks are never written, whatever you answer. Enter alone takes the\n\
                    answer in capital letters, or all. Ctrl-C stops here; the same command goes on\n\
                    later.\n";

/// Who answers.
#[derive(Debug)]
pub(super) struct Questions {
    yes: bool,
    password: Option<Secret>,
    /// Whether repairs are wanted, once that was asked.
    repairs: Option<bool>,
}

impl Questions {
    /// With `yes` nothing is asked; with `password` it is the first line of standard input.
    pub(super) fn new(yes: bool, password: bool) -> anyhow::Result<Self> {
        if !yes && !std::io::stdin().is_terminal() {
            let message = "nobody can be asked here (standard input is no terminal): add --yes and --target";
            return Err(Failure::usage(message).into());
        }
        let password = password.then(|| prompt::password("Password of encrypted volumes: ")).transpose()?;
        Ok(Self { yes, password, repairs: None })
    }

    /// Nobody is to be asked.
    pub(super) fn is_silent(&self) -> bool {
        self.yes
    }

    /// A line, without its end; `silent` is the answer when nobody is asked.
    pub(super) fn line(&self, question: &str, silent: &str) -> anyhow::Result<String> {
        if self.yes {
            return Ok(silent.to_owned());
        }
        let _open = Open::now();
        loop {
            say::ask(question);
            let mut answer = String::new();
            if std::io::stdin().lock().read_line(&mut answer)? == 0 {
                return Err(Failure::usage("no answer came: nothing more is done").into());
            }
            match answer.trim() {
                "help" | "?" => say::say!("{HELP}"),
                answer => return Ok(answer.to_owned()),
            }
        }
    }

    /// Whether what is damaged shall be repaired (never on the disks): asked once, with the first damage met, and true of pools and
    /// file systems alike. So no recovery asks more than five questions: where to, whether to format, which volumes, this, and a
    /// password.
    pub(super) fn repairs(&mut self) -> anyhow::Result<bool> {
        if let Some(wanted) = self.repairs {
            return Ok(wanted);
        }
        let answer = self.line("Repair before copying? [Y/n] ", "y")?;
        let wanted = !answer.to_ascii_lowercase().starts_with('n');
        self.repairs = Some(wanted);
        Ok(wanted)
    }

    /// Forgets a password that opened nothing; `false` when nobody is there to be asked for another one.
    pub(super) fn another_password(&mut self) -> bool {
        if self.yes {
            return false;
        }
        self.password = None;
        true
    }

    /// The password for encrypted volumes, asked once; `None` when there is none.
    pub(super) fn password(&mut self, volume: &str) -> anyhow::Result<Option<&Secret>> {
        if self.password.is_none() && !self.yes {
            self.password =
                Some(prompt::password(&format!("{volume} is encrypted. Its password (empty: leave it out): "))?);
        }
        Ok(self.password.as_ref().filter(|password| !password.0.is_empty()))
    }
}
