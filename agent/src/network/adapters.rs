//! Network adapters: which there are, what addresses they have, switching them on and off.

use super::{failure, output, run};
use anyhow::Context;
use serde::Serialize;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

const CLASS: &str = "/sys/class/net";
/// Written by the DHCP client's script and by [`set`].
const RESOLVER: &str = "/etc/resolv.conf";
/// What the DHCP client runs when it was given an address.
const DHCP_SCRIPT: &str = "/etc/udhcpc/default.script";
/// How often and how long (seconds) a DHCP server is asked.
const DHCP_TRIES: &str = "5";
const DHCP_PAUSE: &str = "3";

/// One adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// As the kernel calls it: "eth0".
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Its driver: "virtio_net".
    pub driver: String,
    /// A cable is plugged in; only known while the adapter is on.
    pub link: Option<bool>,
    /// Addresses with their prefix: "192.168.1.5/24".
    pub addresses: Vec<String>,
}

/// All adapters but the loopback.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn all() -> anyhow::Result<Vec<Adapter>> {
    let mut names: Vec<String> = std::fs::read_dir(CLASS)
        .with_context(|| format!("{CLASS} cannot be read"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name != "lo" && Path::new(CLASS).join(name).join("device").exists())
        .collect();
    names.sort();
    let listing = run(Command::new("ip").args(["-o", "addr", "show"]))?;
    Ok(names.into_iter().map(|name| adapter(name, &listing)).collect())
}

fn adapter(name: String, listing: &str) -> Adapter {
    let folder = Path::new(CLASS).join(&name);
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).map(|text| text.trim().to_owned()).ok();
    let driver = folder.join("device/driver").canonicalize().ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Adapter {
        mac: text("address").unwrap_or_default(),
        driver: driver.unwrap_or_else(|| "unknown driver".to_owned()),
        link: text("carrier").map(|carrier| carrier == "1"),
        addresses: addresses(listing, &name),
        name,
    }
}

/// The addresses of one adapter in `ip -o addr show`: `2: eth0    inet 10.0.2.15/24 brd …`. Link-local ones of IPv6 are left
/// out: nobody types them.
fn addresses(listing: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, adapter, "inet" | "inet6", address, ..] = words[..] {
            if adapter == name && !address.starts_with("fe80:") {
                found.push(address.to_owned());
            }
        }
    }
    found
}

/// An address by hand.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// With its prefix: "192.168.1.5/24".
    pub address: String,
    /// The router, if anything beyond the own network is to be reached.
    pub gateway: Option<IpAddr>,
    /// The name server, if names are to be used.
    pub dns: Option<IpAddr>,
}

/// The one adapter meant: the named one, or the only one there is.
///
/// # Errors
/// There is none, there are several and none was named, or the name is wrong.
pub fn chosen(name: Option<&str>) -> anyhow::Result<Adapter> {
    let all = all()?;
    let names = all.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, all.len()) {
        (_, 0) => Err(failure(
            "no network adapter was found: attach one to the machine (virtio, e1000, e1000e, Hyper-V, vmxnet3, igb, r8169) and start \
             it again. Files can also be copied to a disk"
                .to_owned(),
        )),
        (Some(name), _) => {
            let found = all.into_iter().find(|adapter| adapter.name == name);
            found.ok_or_else(|| failure(format!("there is no adapter {name}; there are: {names}")))
        }
        (None, 1) => all.into_iter().next().context("one adapter"),
        (None, _) => Err(failure(format!("several adapters: name one of {names} with --adapter"))),
    }
}

/// Switches an adapter on and gets it an address by DHCP.
///
/// # Errors
/// No cable, or no DHCP server answers.
pub fn by_dhcp(adapter: &Adapter) -> anyhow::Result<()> {
    switch(&adapter.name, "up")?;
    let mut client = Command::new("udhcpc");
    client.args(["-i", &adapter.name, "-n", "-q", "-t", DHCP_TRIES, "-T", DHCP_PAUSE, "-s", DHCP_SCRIPT]);
    if output(&mut client)?.status.success() {
        return Ok(());
    }
    let link = std::fs::read_to_string(Path::new(CLASS).join(&adapter.name).join("carrier")).unwrap_or_default();
    let why = if link.trim() == "0" {
        "no cable is plugged in, or the virtual machine's adapter is not connected"
    } else {
        "no DHCP server answered; give an address by hand: network up --address 192.168.1.50/24"
    };
    Err(failure(format!("{}: {why}", adapter.name)))
}

/// Switches an adapter on with an address of the user's.
///
/// # Errors
/// What is given is no address, or the kernel refuses it.
pub fn by_hand(adapter: &Adapter, fixed: &Fixed) -> anyhow::Result<()> {
    let name = adapter.name.as_str();
    switch(name, "up")?;
    run(Command::new("ip").args(["addr", "flush", "dev", name]))?;
    run(Command::new("ip").args(["addr", "add", &fixed.address, "dev", name]))
        .with_context(|| format!("{} is no address with its prefix, as 192.168.1.50/24", fixed.address))?;
    if let Some(gateway) = fixed.gateway {
        run(Command::new("ip").args(["route", "replace", "default", "via", &gateway.to_string(), "dev", name]))
            .with_context(|| format!("the gateway {gateway} does not lie in the network of {}", fixed.address))?;
    }
    if let Some(dns) = fixed.dns {
        std::fs::write(RESOLVER, format!("nameserver {dns}\n"))
            .with_context(|| format!("{RESOLVER} cannot be written"))?;
    }
    Ok(())
}

/// Switches an adapter off and takes its addresses away.
///
/// # Errors
/// The kernel refuses it.
pub fn off(adapter: &Adapter) -> anyhow::Result<()> {
    run(Command::new("ip").args(["addr", "flush", "dev", &adapter.name]))?;
    switch(&adapter.name, "down")
}

fn switch(name: &str, state: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(["link", "set", "dev", name, state])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_of_one_adapter_are_found() {
        let listing = "1: lo    inet 127.0.0.1/8 scope host lo\n\
                       2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\n\
                       2: eth0    inet6 fec0::5054/64 scope site \n\
                       2: eth0    inet6 fe80::5054/64 scope link \n\
                       3: eth10    inet 10.0.3.1/24 scope global eth10\ngarbage\n";
        assert_eq!(addresses(listing, "eth0"), ["10.0.2.15/24", "fec0::5054/64"]);
        assert!(addresses("", "eth0").is_empty());
    }
}
