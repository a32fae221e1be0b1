//! The SFTP server: what is mounted can be fetched with FileZilla, WinSCP or `sftp`, and nothing can be written.
//!
//! One user, for this session only: with a password that is made up anew at every start, or with the user's own key and
//! without a password. Whatever a client asks for, it gets the read-only SFTP server: no shell, no forwarding. It is not confined to
//! the volumes: who is let in can read all that the appliance can read, its disks too.

use super::{failure, run};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name to log in with.
pub const USER: &str = "recovery";
const FOLDER: &str = "/run/tierlift/share";
const SERVER: &str = "/usr/lib/openssh/sftp-server";
/// Where the volumes are mounted.
const SHOWN: &str = "/mnt";
const PASSWORD_LENGTH: usize = 14;
/// Signs that nobody takes for another.
const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// How somebody may log in.
#[derive(Debug, Clone)]
pub struct Access {
    /// TCP port.
    pub port: u16,
    /// The password; `None` when a key was given.
    pub password: Option<String>,
    /// Fingerprint of the server's own key, which the client shows at the first contact.
    pub fingerprint: String,
}

/// Starts the server.
///
/// # Errors
/// It runs already, the key is none, or a program cannot be started.
pub fn start(port: u16, key: Option<&str>) -> anyhow::Result<Access> {
    if running().is_some() {
        return Err(failure("files are shared already; first: share stop".to_owned()));
    }
    if let Some(key) = key {
        check_key(key)?;
    }
    let home = Path::new(FOLDER);
    let _ = fs::remove_dir_all(home);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home.join(".ssh"))?;
    let host_key = home.join("host-key");
    let told = run(Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&host_key))?;
    let password = if key.is_some() { None } else { Some(new_password()?) };
    if let Some(key) = key {
        write_private(&home.join(".ssh/authorized_keys"), &format!("{}\n", key.trim()))?;
    }
    let hash = password.as_deref().map_or(Ok("*".to_owned()), hash_of)?;
    add_user(&hash)?;
    let mut server = Command::new("dropbear");
    server.arg("-r").arg(&host_key).arg("-P").arg(pid_file()).args(["-p", &port.to_string(), "-j", "-k"]);
    if password.is_none() {
        server.arg("-s");
    }
    server.args(["-c", &format!("{SERVER} -R -d {SHOWN}")]);
    run(&mut server)?;
    Ok(Access { port, password, fingerprint: fingerprint(&told) })
}

/// Stops the server; nobody can log in any more, and open connections end.
///
/// # Errors
/// It does not run.
pub fn stop() -> anyhow::Result<()> {
    let server = running().ok_or_else(|| failure("no files are shared".to_owned()))?;
    // Its connections are its children, in its group or of their own: all go by the name of the server.
    for child in children_of(server) {
        let _ = kill(Pid::from_raw(child), Signal::SIGTERM);
    }
    kill(Pid::from_raw(server), Signal::SIGTERM).context("the server cannot be stopped")?;
    remove_user()?;
    let _ = fs::remove_dir_all(FOLDER);
    Ok(())
}

/// Process id of the server, if it runs.
pub fn running() -> Option<i32> {
    let id: i32 = fs::read_to_string(pid_file()).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    (name.trim() == "dropbear").then_some(id)
}

fn pid_file() -> PathBuf {
    Path::new(FOLDER).join("pid")
}

fn children_of(server: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A public key in one line, as `ssh-ed25519 AAAA… name`.
fn check_key(key: &str) -> anyhow::Result<()> {
    let mut words = key.split_whitespace();
    let kind = words.next().is_some_and(|kind| kind.starts_with("ssh-") || kind.starts_with("ecdsa-"));
    let body = words.next().is_some_and(|body| body.starts_with("AAAA"));
    if kind && body && !key.trim().contains('\n') {
        return Ok(());
    }
    Err(failure("the key must be one line of a public key file, as: ssh-ed25519 AAAA... name".to_owned()))
}

fn new_password() -> anyhow::Result<String> {
    let mut bytes = [0; PASSWORD_LENGTH];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(bytes.iter().filter_map(|byte| SIGNS.get(usize::from(byte & 31))).map(|sign| char::from(*sign)).collect())
}

/// The password as the system keeps it.
fn hash_of(password: &str) -> anyhow::Result<String> {
    let mut command = Command::new("mkpasswd");
    command.args(["-m", "sha512"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().context("mkpasswd cannot be started")?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(password.as_bytes())?;
    }
    let said = process.wait_with_output()?;
    let hash = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    if said.status.success() && hash.starts_with("$6$") { Ok(hash) } else { Err(failure("mkpasswd failed".to_owned())) }
}

/// Puts the user in; it may read everything that is mounted, so it has the number of root.
fn add_user(hash: &str) -> anyhow::Result<()> {
    remove_user()?;
    append(Path::new("/etc/passwd"), &format!("{USER}:x:0:0:{USER}:{FOLDER}:/bin/sh\n"))?;
    append(Path::new("/etc/shadow"), &format!("{USER}:{hash}:19000:0:99999:7:::\n"))
}

fn remove_user() -> anyhow::Result<()> {
    for path in ["/etc/passwd", "/etc/shadow"].map(Path::new) {
        let text = fs::read_to_string(path).unwrap_or_default();
        write_private(path, &without_user(&text))?;
    }
    fs::set_permissions("/etc/passwd", std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(())
}

fn without_user(text: &str) -> String {
    let others = text.lines().filter(|line| line.split(':').next() != Some(USER));
    others.map(|line| format!("{line}\n")).collect()
}

fn append(path: &Path, line: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, text + line).with_context(|| format!("{} cannot be written", path.display()))
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// `Fingerprint: SHA256:…` of what dropbearkey says.
fn fingerprint(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("Fingerprint: "));
    line.unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_other_text() {
        check_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@home\n").unwrap();
        for bad in ["", "ssh-ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-rsa AAAA x\nssh-rsa AAAA y"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_long_and_new() {
        let (one, two) = (new_password().unwrap(), new_password().unwrap());
        assert!(one.len() == PASSWORD_LENGTH && one != two, "{one} {two}");
        assert!(one.bytes().all(|sign| SIGNS.contains(&sign)));
    }

    #[test]
    fn the_user_is_taken_out_and_others_stay() {
        let text = "root:x:0:0::/root:/bin/sh\nrecovery:x:0:0::/x:/bin/sh\nrecovery2:x:1:1::/:/bin/sh\n";
        assert_eq!(without_user(text), "root:x:0:0::/root:/bin/sh\nrecovery2:x:1:1::/:/bin/sh\n");
    }

    #[test]
    fn the_fingerprint_is_found() {
        assert_eq!(fingerprint("Public key portion is:\nssh-ed25519 AAAA\nFingerprint: SHA256:abc\n"), "SHA256:abc");
    }
}
