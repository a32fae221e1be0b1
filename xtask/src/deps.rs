//! The Debian packages the build needs: check, install, or say the one command that installs them.

use crate::process;
use anyhow::{Context, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What each package is for is said beside it; `qemu-system-x86` and its traps have [`qemu_suite`].
const PACKAGES: &[&str] = &[
    // kernel
    "linux-source-6.12",
    "build-essential",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "libssl-dev",
    "kmod",
    "cpio",
    "rsync",
    "xz-utils",
    "zstd",
    // static agent (libc6-dev comes with build-essential), serial ports
    "pkg-config",
    // image: packages are downloaded and unpacked, never installed
    "binutils",
    // disk images: GRUB's parts are put together, file systems are made; nothing is installed on a disk of this machine
    "grub-common",
    "dosfstools",
    "mtools",
    "xorriso",
    "qemu-utils",
    // demo and tests: make and read ext4 images without root
    "e2fsprogs",
    // What the forge makes is read by it.
    "mdadm",
    "lvm2",
    "fdisk",
    "cryptsetup-bin",
    // blkid, mkswap
    "util-linux",
    // tests of targets with other file systems
    "xfsprogs",
    "btrfs-progs",
    // tests of the network: a server of shared folders, an SFTP client
    "samba",
    "openssh-client",
    // running
    "qemu-system-x86",
    "seabios",
    "ovmf",
];

#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing; exit with an error when something is
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.check {
        let missing = missing(PACKAGES)?;
        if !missing.is_empty() {
            bail!("missing packages: {}", missing.join(" "));
        }
        println!("deps: nothing is missing");
        return Ok(());
    }
    ensure()
}

/// Installs what is missing; a machine that has everything is not touched.
pub fn ensure() -> anyhow::Result<()> {
    ensure_packages(PACKAGES)?;
    println!("deps: all {} packages are there", PACKAGES.len());
    Ok(())
}

/// The same for other packages than those of the build.
pub fn ensure_packages(packages: &[&'static str]) -> anyhow::Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    println!("deps: missing {}", missing.join(" "));
    let Some(root) = Root::find() else {
        bail!(
            "these Debian packages are missing and this user cannot install them; run:\n  \
             su -c 'apt-get update && apt-get install -y --no-install-recommends {}'",
            missing.join(" ")
        );
    };
    install(root, &missing)
}

/// Which of the packages dpkg does not know as installed.
fn missing(packages: &[&'static str]) -> anyhow::Result<Vec<&'static str>> {
    let installed = process::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev} ${Package}\n"]))
        .context("this needs Debian or Ubuntu (dpkg)")?;
    let has = |package: &str| installed.lines().any(|line| line.trim_end() == format!("ii  {package}"));
    Ok(packages.iter().copied().filter(|package| !has(package)).collect())
}

/// How to become root.
#[derive(Clone, Copy)]
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn find() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            return Some(Self::Already);
        }
        let sudo = Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        sudo.ok().filter(std::process::ExitStatus::success).map(|_| Self::Sudo)
    }

    fn command(self, program: &str) -> Command {
        let mut command = match self {
            Self::Already => Command::new(program),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.arg(program);
                sudo
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

fn install(root: Root, packages: &[&str]) -> anyhow::Result<()> {
    println!("deps: refreshing the package lists");
    process::run(root.command("apt-get").args(["-q", "update"])).context("cannot refresh the package lists")?;
    let (qemu, others): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| package.starts_with("qemu-"));
    if !others.is_empty() {
        println!("deps: installing {}", others.join(" "));
        process::run(root.command("apt-get").args(["-q", "install", "-y", "--no-install-recommends"]).args(&others))
            .with_context(missing_source_hint)?;
    }
    if others.contains(&"samba") {
        // The tests start a server of their own, for a moment; this machine's folders are not to be served. Where there is no
        // systemd nothing was started.
        let mut off = root.command("systemctl");
        let _ = off.args(["disable", "--now", "smbd", "nmbd"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    if !qemu.is_empty() {
        install_qemu(root, &qemu)?;
    }
    Ok(())
}

fn missing_source_hint() -> String {
    "apt could not install them. linux-source-6.12 is in Debian 12 (security updates) and Debian 13; on another \
     distribution install Debian's package by hand, then run this again"
        .to_owned()
}

/// QEMU's packages must all come from one suite: where part of QEMU is there from backports already, the stable version of
/// the rest cannot be installed beside it, and apt's own message does not say what to do.
fn install_qemu(root: Root, packages: &[&str]) -> anyhow::Result<()> {
    let Some(suite) = qemu_suite()? else {
        println!("deps: installing {}", packages.join(" "));
        return process::run(
            root.command("apt-get").args(["-q", "install", "-y", "--no-install-recommends"]).args(packages),
        );
    };
    println!("deps: QEMU is here from {suite}; installing {} from there too", packages.join(" "));
    let list = backports_list(&suite)?;
    let source = format!("Dir::Etc::SourceList={}", list.path().display());
    let options = ["-q", "-o", source.as_str(), "-o", "APT::Get::List-Cleanup=0"];
    process::run(root.command("apt-get").args(options).arg("update"))?;
    process::run(
        root.command("apt-get")
            .args(options)
            .args(["install", "-y", "--no-install-recommends", "-t", suite.as_str()])
            .args(packages),
    )
    .with_context(|| {
        format!(
            "QEMU packages from {suite} are installed here; add {suite} to apt's sources, or remove them, then retry"
        )
    })
}

/// The backports suite that installed QEMU packages came from, if any: `~bpo12` in the version means Debian 12's.
fn qemu_suite() -> anyhow::Result<Option<String>> {
    let versions = process::output(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]))?;
    let backported = versions.lines().any(|line| line.starts_with("qemu-") && line.contains("~bpo"));
    let codename = os_release("VERSION_CODENAME");
    Ok(codename.filter(|_| backported).map(|codename| format!("{codename}-backports")))
}

/// What this machine's distribution says of itself, as its `NAME`.
pub fn os_release(key: &str) -> Option<String> {
    value_of(&fs::read_to_string("/etc/os-release").ok()?, key)
}

fn value_of(os_release: &str, key: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// A sources list for the suite, at the mirror that apt uses for the main archive.
fn backports_list(suite: &str) -> anyhow::Result<tempfile::NamedTempFile> {
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let codename = suite.trim_end_matches("-backports");
    let targets =
        process::output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]))?;
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix(codename)?.strip_prefix(' '))
        .with_context(|| format!("apt has no source for {codename}, so the mirror for {suite} is unknown"))?;
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let file = tempfile::Builder::new().suffix(".list").tempfile()?;
    fs::write(file.path(), format!("deb {signed}{mirror} {suite} main\n"))?;
    // apt reads it as its own unprivileged user.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn a_distribution_says_what_it_is_with_and_without_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
        assert_eq!(value_of(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(value_of(text, "VERSION_CODENAME").as_deref(), Some("bookworm"));
        assert_eq!(value_of(text, "VERSION"), None);
    }
}
