//! The tree for Buildroot says the same as the build here: programs, kernel, patches, layouts. Needs no Buildroot.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tierlift_ondisk::gpt::APPLIANCE_DISK;

/// Debian's packages of `image/packages.list`, and the options that give the same programs in Buildroot.
const PROGRAMS: [(&str, &[&str]); 11] = [
    // Always there; a fragment of options adds applets to it.
    ("busybox-static", &["BUSYBOX_CONFIG_FRAGMENT_FILES"]),
    ("mdadm", &["MDADM"]),
    ("e2fsprogs", &["E2FSPROGS", "E2FSPROGS_DEBUGFS"]),
    // CRYPTSETUP brings LVM2 along, whose standard install is off: that leaves dmsetup.
    ("dmsetup", &[]),
    ("cryptsetup-bin", &["CRYPTSETUP"]),
    ("ntfs-3g", &["NTFS_3G", "NTFS_3G_NTFSPROGS"]),
    ("exfatprogs", &["EXFATPROGS"]),
    ("rsync", &["RSYNC"]),
    ("dropbear-bin", &["DROPBEAR"]),
    ("openssh-sftp-server", &["OPENSSH"]),
    ("cifs-utils", &["CIFS_UTILS"]),
];
/// Ours, and one that is a choice of headers.
const OTHERS: [&str; 2] = ["TIERLIFT", "HOST_LINUX_HEADERS_CUSTOM_6_12"];
/// Applets that Debian's busybox has, and Buildroot's only when it is told so.
const APPLETS: [&str; 22] = [
    "acpid",
    "blkdiscard",
    "blockdev",
    "bzip2",
    "cttyhack",
    "findfs",
    "ftpget",
    "httpd",
    "ionice",
    "ipcalc",
    "modinfo",
    "nc",
    "nsenter",
    "shuf",
    "stat",
    "sysctl",
    "tac",
    "taskset",
    "telnetd",
    "timeout",
    "traceroute6",
    "unshare",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tree(path: &str) -> PathBuf {
    root().join("buildroot-config").join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn defconfig() -> String {
        read(&tree("configs/tierlift_x86_64_defconfig"))
    }

    /// The value of `name=` in the defconfig.
    fn value(name: &str) -> String {
        let text = defconfig();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not in the defconfig")).trim_matches('"').to_owned()
    }

    fn sum(path: &Path) -> String {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn both_builds_take_the_same_programs() {
        let list = read(&root().join("image/packages.list"));
        let lines = list.lines().map(|line| line.split('#').next().unwrap());
        let debian: BTreeSet<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(debian, PROGRAMS.iter().map(|(package, _)| *package).collect());

        let text = defconfig();
        let wanted = PROGRAMS.iter().flat_map(|(_, options)| *options).chain(&OTHERS).copied();
        let asked = text.lines().filter_map(|line| line.strip_prefix("BR2_PACKAGE_")?.split('=').next());
        // Tools for the machine that builds are no part of the image.
        let asked = asked.filter(|name| OTHERS.contains(name) || !name.starts_with("HOST_"));
        assert_eq!(asked.collect::<BTreeSet<_>>(), wanted.collect());
        assert!(text.contains("# BR2_PACKAGE_LVM2_STANDARD_INSTALL is not set\n"));
    }

    #[test]
    fn every_file_the_defconfig_names_is_there() {
        let text = defconfig();
        let named: Vec<&str> =
            text.split('"').filter_map(|part| part.strip_prefix("$(BR2_EXTERNAL_TIERLIFT_PATH)/")).collect();
        assert_eq!(named.len(), 8);
        for path in named {
            assert!(tree(path).exists(), "{path}");
        }
        let outside = |name| value(name).trim_start_matches("$(BR2_EXTERNAL_TIERLIFT_PATH)").to_owned();
        assert_eq!(outside("BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES"), "/../image/kernel.config");
        assert_eq!(outside("BR2_LINUX_KERNEL_PATCH"), "/../kernel-patches");
        assert_eq!(outside("BR2_ROOTFS_OVERLAY"), "/../image/rootfs");
    }

    #[test]
    fn buildroot_applies_the_whole_series() {
        let folder = root().join("kernel-patches");
        let series = read(&folder.join("series"));
        let listed: BTreeSet<&str> = series.lines().filter(|line| !line.trim().is_empty()).collect();
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let patches: BTreeSet<String> = files.filter(|name| name.ends_with(".patch")).collect();
        assert_eq!(patches.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
        // Buildroot reads the name up to the first space.
        assert!(listed.iter().all(|name| !name.contains(char::is_whitespace)));
    }

    /// The code of every script and table below a folder, without its comments.
    fn code(folder: &Path) -> String {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let text = paths.map(|path| if path.is_dir() { code(&path) } else { read(&path) });
        text.collect::<Vec<_>>()
            .join("\n")
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn busybox_can_do_what_the_scripts_want() {
        let options = read(&tree("board/tierlift/busybox.config"));
        let code = code(&root().join("image/rootfs"));
        let words: BTreeSet<&str> = code.split(|sign: char| !sign.is_ascii_alphanumeric()).collect();
        assert!(words.contains("blockdev"));
        for applet in APPLETS.iter().filter(|applet| words.contains(*applet)) {
            let option = format!("CONFIG_{}=y", applet.to_uppercase());
            assert!(options.lines().any(|line| line == option), "{option}: a script in image/rootfs calls {applet}");
        }
    }

    #[test]
    fn hashes_are_those_of_the_files() {
        let hashes = read(&tree("package/tierlift/tierlift.hash"));
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(hashes.contains(&format!("sha256  {}  {name}\n", sum(&root().join(name)))), "{name}");
        }
        let kernel = read(&tree("board/tierlift/patches/linux/linux.hash"));
        let version = value("BR2_LINUX_KERNEL_CUSTOM_VERSION_VALUE");
        assert!(kernel.contains(&format!("  linux-{version}.tar.xz\n")), "{version}");
        assert!(version.starts_with("6.12."));
        assert_eq!(kernel, read(&tree("board/tierlift/patches/linux-headers/linux-headers.hash")));
    }

    #[test]
    fn the_package_has_the_version_of_the_workspace() {
        let manifest = read(&root().join("Cargo.toml"));
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap();
        let package = read(&tree("package/tierlift/tierlift.mk"));
        assert!(package.contains(&format!("TIERLIFT_VERSION = {version}\n")), "{version}");
    }

    #[test]
    fn both_builds_lay_images_out_alike() {
        let images = root().join("xtask/src/disk_image");
        let (script, layout) = (tree("board/tierlift/post-image.sh"), tree("board/tierlift/genimage.cfg.in"));
        let both = [read(&script), read(&layout)].concat();
        let grub = read(&images.join("grub.rs"));
        let modules = grub.split('"').find(|text| text.starts_with("normal ")).unwrap();
        let volumes = [("raw.rs", "VOLUME"), ("iso.rs", "VOLUME"), ("iso.rs", "FAT")].map(|(file, name)| {
            let text = read(&images.join(file));
            let start = format!("const {name}: &str = \"");
            text.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix("\";")).unwrap().to_owned()
        });
        let guid = APPLIANCE_DISK.map(|byte| format!("{byte:02x}")).concat();
        for text in
            volumes.iter().map(String::as_str).chain([modules, &guid, &mixed(&APPLIANCE_DISK), "\"Tierlift boot\""])
        {
            assert!(both.contains(text), "{text}");
        }
    }

    /// A GUID as it is written for people: the first three groups with their last byte first.
    fn mixed(guid: &[u8; 16]) -> String {
        let group = |places: &[usize]| places.iter().map(|at| format!("{:02x}", guid[*at])).collect::<String>();
        let groups: [&[usize]; 5] = [&[3, 2, 1, 0], &[5, 4], &[7, 6], &[8, 9], &[10, 11, 12, 13, 14, 15]];
        groups.map(group).join("-")
    }
}
