//! `tierlift job`: verbs that go on without the one who started them.

use super::serve::plain_verbs;
use super::{Failure, Outcome};
use crate::commands::text::{print_object, say};
use crate::job;
use serde_json::json;

/// Starts a verb that goes on when the line is cut, and follows it again: `job start auto --yes --target /dev/sdb`, and from
/// anywhere later `job follow 1`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Start a verb as a job; says its number
    Start {
        /// The verb and its words. It can ask nothing: add --yes where the verb has it
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Show all jobs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a job says until it ends; ends with the job's exit code. Leaving it does not stop the job
    Follow {
        /// The job
        number: u32,
        /// Leave out this many bytes of its output, which were seen before
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Stop a job, as Ctrl-C would
    Cancel {
        /// The job
        number: u32,
    },
    /// Run a job to its end
    #[command(hide = true)]
    Keep {
        /// The job
        number: u32,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    super::only_in_appliance("`tierlift job` is for the appliance; here, your own shell keeps programs running")?;
    match args.verb {
        Verb::Start { words } => {
            let known = plain_verbs();
            match words.first() {
                Some(verb) if known.contains(verb) && verb != "job" => say!("job {}", job::start(&words)?),
                other => {
                    let verb = other.map(String::as_str).unwrap_or_default();
                    return Err(Failure::usage(format!("'{verb}' is no verb that can be a job")).into());
                }
            }
        }
        Verb::List { json: true } => print_object(&json!({"schema": "tierlift.job/1", "jobs": job::all()}))?,
        Verb::List { json: false } => {
            for job in job::all() {
                let state = job.exit.map_or("runs".to_owned(), |code| format!("ended with {code}"));
                say!("{}  {}  {state}, {} bytes of output", job.number, job.words.join(" "), job.output);
            }
        }
        Verb::Follow { number, from } => return Ok(Outcome(job::follow(number, from, &mut std::io::stdout())?)),
        Verb::Cancel { number } => job::cancel(number)?,
        Verb::Keep { number } => job::keep(number)?,
    }
    Ok(Outcome::CLEAN)
}
