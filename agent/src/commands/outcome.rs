//! Exit codes: the contract of the command line with scripts. They add up like e2fsck's.

use crate::say::tell;
use std::process::ExitCode;

/// How a verb ended. The number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome(pub u8);

impl Outcome {
    /// Clean, or done.
    pub const CLEAN: Self = Self(0);
    /// Done; something was repaired or reported.
    pub const REPORTED: Self = Self(1);
    /// Damage found; a usable result is possible.
    pub const DAMAGE: Self = Self(2);
    /// Damage left, or nothing usable.
    pub const UNUSABLE: Self = Self(4);
    /// The operation failed: I/O, a missing part, a refused write.
    pub const FAILED: Self = Self(8);
    /// Wrong usage.
    pub const USAGE: Self = Self(16);

    /// Both at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An error that carries its exit code. Attach it with [`anyhow::Error::from`] or `.context(...)`; an error without one in
/// its chain ends with [`Outcome::FAILED`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub outcome: Outcome,
    /// What was found, what it means, what to do next.
    pub message: String,
}

impl Failure {
    /// Nothing usable: damage, or the wrong kind of file (exit code 4).
    pub fn unusable(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::UNUSABLE, message: message.into() }
    }

    /// The command line cannot mean anything (exit code 16).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::USAGE, message: message.into() }
    }
}

/// Prints clap's message; help and version are no errors.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Outcome::USAGE.0) } else { ExitCode::SUCCESS }
}

/// How a verb ended, telling errors on stderr.
pub(super) fn of(result: anyhow::Result<Outcome>) -> Outcome {
    result.unwrap_or_else(|error| {
        tell!("tierlift: {error:#}");
        let outcome = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map(|failure| failure.outcome);
        outcome.unwrap_or(Outcome::FAILED)
    })
}
