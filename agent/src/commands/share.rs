//! `tierlift share`: shows mounted volumes to other machines by SFTP, read-only.

use super::{Failure, Outcome};
use crate::case;
use crate::commands::text::{print_object, say};
use crate::network::adapters;
use crate::network::share::{self, Access, USER};
use serde_json::json;

/// Lets another machine fetch files by SFTP (FileZilla, WinSCP, sftp): what is mounted, and only to read. Nothing listens before
/// `share start`; the password is made up anew each time.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Start the server; says address, user and password
    Start {
        /// Let this key in and no password: one line of a public key file, as 'ssh-ed25519 AAAA... name'
        #[arg(long)]
        key: Option<String>,
        /// TCP port
        #[arg(long, default_value_t = 22)]
        port: u16,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop the server; open connections end
    Stop,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    super::only_in_appliance("`tierlift share` shows the volumes of the appliance, and this is not the appliance")?;
    match args.verb {
        Verb::Start { key, port, json } => start(key.as_deref(), port, json),
        Verb::Stop => {
            share::stop()?;
            case::keep(|case| case.note("sharing by SFTP ended"))?;
            say!("Nothing is shared any more.");
            Ok(Outcome::CLEAN)
        }
    }
}

fn start(key: Option<&str>, port: u16, json: bool) -> anyhow::Result<Outcome> {
    let addresses: Vec<String> = adapters::all()?.into_iter().flat_map(|adapter| adapter.addresses).collect();
    if addresses.is_empty() {
        let message = "no network adapter has an address yet; first: network up".to_owned();
        return Err(Failure { outcome: Outcome::FAILED, message }.into());
    }
    let access = share::start(port, key)?;
    case::keep(|case| case.note(format!("sharing by SFTP began on port {port}")))?;
    if json {
        let Access { port, password, fingerprint } = access;
        print_object(&json!({
            "schema": "tierlift.share/1", "addresses": addresses, "port": port, "user": USER, "password": password,
            "fingerprint": fingerprint
        }))?;
        return Ok(Outcome::CLEAN);
    }
    say!("Files can be fetched by SFTP, read-only, until `share stop`:");
    for address in &addresses {
        say!("  address      {}", address.split('/').next().unwrap_or(address));
    }
    say!("  port         {port}\n  user         {USER}");
    match &access.password {
        Some(password) => say!("  password     {password}"),
        None => say!("  password     none: only your key is let in"),
    }
    say!("  server key   {}", access.fingerprint);
    say!("The volumes are where they are mounted, below /mnt. To mount one: mount VG/LV");
    say!("Whoever is let in can read everything this machine can, its disks too, and write nothing.");
    Ok(Outcome::CLEAN)
}
