//! `tierlift network`: adapters, addresses and shares of other machines.

use super::Outcome;
use crate::case;
use crate::commands::text::{print_object, say};
use crate::network::adapters::{self, Adapter, Fixed};
use crate::network::{share, smb};
use crate::unlock::prompt;
use serde_json::json;
use std::net::IpAddr;

/// Shows the network adapters and their addresses, switches one on, or mounts a shared folder of another machine to copy to.
/// The network is off until it is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Switch an adapter on: by DHCP, or with an address of your own
    Up {
        /// The adapter, when there are several: eth0
        #[arg(long)]
        adapter: Option<String>,
        /// An address with its prefix, as 192.168.1.50/24, where there is no DHCP
        #[arg(long, value_name = "IP/PREFIX")]
        address: Option<String>,
        /// The router, as 192.168.1.1
        #[arg(long, value_name = "IP", requires = "address")]
        gateway: Option<IpAddr>,
        /// The name server
        #[arg(long, value_name = "IP", requires = "address")]
        dns: Option<IpAddr>,
    },
    /// Switch an adapter off
    Down {
        /// The adapter, when there are several: eth0
        #[arg(long)]
        adapter: Option<String>,
    },
    /// Mount a shared folder (SMB) on /mnt/network; then: copy VG/LV /mnt/network/FOLDER, or auto --target /mnt/network
    Mount {
        /// As //192.168.1.10/backup
        share: String,
        /// User name; without it the share is opened as a guest. The password is asked, or is the first line of standard input
        #[arg(long)]
        user: Option<String>,
    },
    /// Unmount the shared folder
    Unmount,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    super::only_in_appliance("`tierlift network` sets up the network of the appliance, and this is not the appliance")?;
    match args.verb {
        None => {}
        Some(Verb::Up { adapter, address, gateway, dns }) => {
            let adapter = adapters::chosen(adapter.as_deref())?;
            match address {
                Some(address) => adapters::by_hand(&adapter, &Fixed { address, gateway, dns })?,
                None => adapters::by_dhcp(&adapter)?,
            }
            case::keep(|case| case.note(format!("network: {} switched on", adapter.name)))?;
        }
        Some(Verb::Down { adapter }) => adapters::off(&adapters::chosen(adapter.as_deref())?)?,
        Some(Verb::Mount { share, user }) => mount(&share, user.as_deref())?,
        Some(Verb::Unmount) => smb::unmount()?,
    }
    show(args.json)?;
    Ok(Outcome::CLEAN)
}

fn mount(share: &str, user: Option<&str>) -> anyhow::Result<()> {
    let password = match user {
        Some(user) => prompt::password(&format!("Password of {user} on {share}: "))?,
        None => tierlift_protocol::Secret(String::new()),
    };
    smb::mount(share, user, &password)?;
    case::keep(|case| case.note(format!("network: mounted {share} on {}", smb::MOUNT_POINT)))
}

fn show(json: bool) -> anyhow::Result<()> {
    let (adapters, mounted) = (adapters::all()?, smb::mounted()?);
    if json {
        let shared = share::running().is_some();
        return print_object(
            &json!({"schema": "tierlift.network/1", "adapters": adapters, "mounted": mounted, "shared": shared}),
        );
    }
    adapters.iter().for_each(|adapter| say!("{}", line(adapter)));
    if adapters.is_empty() {
        say!("No network adapter was found.");
    }
    if let Some(share) = mounted {
        say!("{share} is mounted on {}: copy VG/LV {}/FOLDER", smb::MOUNT_POINT, smb::MOUNT_POINT);
    }
    if share::running().is_some() {
        say!("Files are shared by SFTP; to end it: share stop");
    }
    Ok(())
}

fn line(adapter: &Adapter) -> String {
    let state = match (adapter.addresses.is_empty(), adapter.link) {
        (false, _) => adapter.addresses.join(" "),
        (true, Some(true)) => "on, no address; try: network up".to_owned(),
        (true, Some(false)) => "on, no cable".to_owned(),
        (true, None) => "off; to switch it on: network up".to_owned(),
    };
    format!("{}  {}  ({}, {})", adapter.name, state, adapter.mac, adapter.driver)
}
