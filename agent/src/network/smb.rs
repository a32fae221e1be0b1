//! A shared folder of a Windows machine or another NAS, mounted as a place to copy to.

use super::{failure, output};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_protocol::Secret;

/// Where it is mounted.
pub const MOUNT_POINT: &str = "/mnt/network";

/// Mounts `//HOST/SHARE` for writing.
///
/// # Errors
/// The name is no share, something is mounted already, or the server cannot be reached or refuses: with what that means.
pub fn mount(share: &str, user: Option<&str>, password: &Secret) -> anyhow::Result<PathBuf> {
    check_name(share)?;
    if mounted()?.is_some() {
        return Err(failure(format!("a share is mounted on {MOUNT_POINT} already; first: network unmount")));
    }
    std::fs::create_dir_all(MOUNT_POINT).with_context(|| format!("{MOUNT_POINT} cannot be made"))?;
    let who = user.map_or("guest".to_owned(), |user| format!("username={user}"));
    let mut command = Command::new("mount.cifs");
    command.arg(share).arg(MOUNT_POINT).args(["-o", &format!("{who},nosuid,nodev,noexec,mapposix,iocharset=utf8")]);
    // Not on the command line, which every process could read.
    command.env("PASSWD", &password.0);
    let said = output(&mut command)?;
    if said.status.success() {
        return Ok(MOUNT_POINT.into());
    }
    Err(failure(format!("{share} cannot be mounted: {}", meaning(&String::from_utf8_lossy(&said.stderr)))))
}

/// Writes everything out and unmounts the share.
///
/// # Errors
/// Nothing is mounted, or it is in use.
pub fn unmount() -> anyhow::Result<()> {
    if mounted()?.is_none() {
        return Err(failure("no share is mounted".to_owned()));
    }
    nix::mount::umount(MOUNT_POINT).with_context(|| format!("{MOUNT_POINT} cannot be unmounted"))
}

/// The share that is mounted, if one is.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn mounted() -> anyhow::Result<Option<String>> {
    let table = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    Ok(in_table(&table))
}

fn in_table(table: &str) -> Option<String> {
    let mut words = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words
        .find(|words| words.get(1) == Some(&MOUNT_POINT))
        .and_then(|words| words.first().map(|text| (*text).to_owned()))
}

/// Two slashes, a host, a share; a folder in the share may follow.
fn check_name(share: &str) -> anyhow::Result<()> {
    let parts: Vec<&str> = share.strip_prefix("//").map(|rest| rest.split('/').collect()).unwrap_or_default();
    if parts.len() >= 2 && parts.iter().take(2).all(|part| !part.is_empty()) && Path::new(share).is_absolute() {
        return Ok(());
    }
    Err(failure(format!("{share} is no share; write it as //192.168.1.10/backup (slashes, not backslashes)")))
}

/// What the errors of a mount mean, by the kernel's number in `mount error(13): Permission denied`.
fn meaning(said: &str) -> String {
    let number = said.split("mount error(").nth(1).and_then(|rest| rest.split(')').next());
    let hint = match number {
        Some("13") => "user name or password is wrong, or this user may not use the share",
        Some("2") => "the server has no share or folder of this name",
        Some("111") => "the machine is there, but shares no folders (SMB is off, or a firewall is in the way)",
        Some("113" | "110" | "115" | "101") => "the machine does not answer: check the address and `network`",
        Some("95" | "112") => "the server speaks a version of SMB that is not supported (2.1 or later is needed)",
        _ if said.contains("could not resolve") => "its name is not known: give its IP address instead",
        _ => return said.trim().to_owned(),
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_from_other_names() {
        for good in ["//10.0.2.4/qemu", "//nas/backup/old"] {
            check_name(good).unwrap();
        }
        for bad in ["", "/dev/sda", "//host", "//host/", "///share", "\\\\host\\share"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_put_in_words() {
        assert!(meaning("mount error(13): Permission denied\nRefer to").contains("password is wrong"));
        assert!(meaning("mount error(113): no route").contains("does not answer"));
        assert_eq!(meaning("something else\n"), "something else");
    }

    #[test]
    fn the_mounted_share_is_found() {
        let table = "proc /proc proc rw 0 0\n//10.0.2.4/qemu /mnt/network cifs rw 0 0\n";
        assert_eq!(in_table(table).as_deref(), Some("//10.0.2.4/qemu"));
        assert_eq!(in_table("proc /proc proc rw 0 0\n"), None);
    }
}
