//! Programs of Debian packages for the image: downloaded and unpacked, never installed on this machine.

use crate::disk_image::sums;
use crate::{paths, process};
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder into which packages, and the library packages they depend on, were unpacked.
pub struct Unpacked {
    root: PathBuf,
    packages: Vec<Package>,
}

/// A package file that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// SHA-256 of the package file.
    pub sha256: String,
    /// The source package and its version, as `apt-get source` takes them.
    pub source: String,
}

impl Unpacked {
    /// Downloads (once) and unpacks the packages into `root`.
    pub fn new(packages: &[String], root: &Path) -> anyhow::Result<Self> {
        let all = with_libraries(packages)?;
        Self::unpack(&download(&all)?, root)
    }

    /// The same without the packages these depend on: for those whose files are only read.
    pub fn alone(packages: &[&str], root: &Path) -> anyhow::Result<Self> {
        Self::unpack(&download(&packages.iter().map(|name| (*name).to_owned()).collect())?, root)
    }

    fn unpack(files: &[PathBuf], root: &Path) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(root);
        fs::create_dir_all(root)?;
        let (mut packages, mut files) = (Vec::new(), files.to_vec());
        while !files.is_empty() {
            for file in files {
                process::output(Command::new("dpkg-deb").arg("-x").arg(&file).arg(root))?;
                packages.push(Package::of(&file)?);
            }
            files = download(&licences_elsewhere(root)?)?;
        }
        packages.sort();
        Ok(Self { root: root.to_path_buf(), packages })
    }

    /// What was unpacked, by name.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The licence of a package, as Debian collected it.
    pub fn licence(&self, package: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.root.join("usr/share/doc").join(package).join("copyright");
        fs::read(&path).with_context(|| format!("the package {package} has no licence: {}", path.display()))
    }

    /// Copies a program (as `sbin/mdadm`) below `image/usr`, with every library it needs. The image is merged-usr, as Debian
    /// is: `/sbin` and `/lib` are links there, so it does not matter which of the two places a package still uses.
    pub fn copy_program(&self, program: &str, image: &Path) -> anyhow::Result<()> {
        let mut wanted = vec![self.find(program)?];
        let mut done = BTreeSet::new();
        while let Some(path) = wanted.pop() {
            if !done.insert(path.clone()) {
                continue;
            }
            self.copy(&path, image)?;
            for library in needed(&self.root.join(&path))? {
                wanted.push(self.find_library(&library)?);
            }
        }
        Ok(())
    }

    fn copy(&self, path: &Path, image: &Path) -> anyhow::Result<()> {
        let to = image.join("usr").join(path.strip_prefix("usr").unwrap_or(path));
        fs::create_dir_all(to.parent().context("path without folder")?)?;
        // Follows links: the image holds each file under the name it is asked by.
        fs::copy(self.root.join(path), &to).with_context(|| format!("cannot copy {}", path.display()))?;
        Ok(())
    }

    /// A program, whether its package installs to `/sbin` or (merged) to `/usr/sbin`.
    fn find(&self, program: &str) -> anyhow::Result<PathBuf> {
        [PathBuf::from(program), Path::new("usr").join(program)]
            .into_iter()
            .find(|path| self.root.join(path).exists())
            .with_context(|| format!("{program} is in none of the packages of image/packages.list"))
    }

    fn find_library(&self, name: &str) -> anyhow::Result<PathBuf> {
        const FOLDERS: [&str; 4] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"];
        FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| self.root.join(path).exists())
            .with_context(|| format!("library {name} is in none of the packages"))
    }
}

impl Package {
    fn of(file: &Path) -> anyhow::Result<Self> {
        let field = |name: &str| process::output(Command::new("dpkg-deb").arg("-f").arg(file).arg(name));
        let (name, version) = (field("Package")?.trim().to_owned(), field("Version")?.trim().to_owned());
        let source = source(field("Source")?.trim(), &name, &version);
        Ok(Self { name, version, sha256: sums::of(file)?, source })
    }
}

/// Packages that have the licence of unpacked ones and are not unpacked themselves: the folder for it is a link to theirs.
fn licences_elsewhere(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let folder = root.join("usr/share/doc");
    let mut packages = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let Ok(link) = fs::read_link(&path) else { continue };
        if !path.exists() {
            let package = link.file_name().context("a link to no package")?;
            packages.insert(package.to_string_lossy().into_owned());
        }
    }
    Ok(packages)
}

/// The field `Source` of a package: nothing when all is the same, `name`, or `name (version)`.
fn source(field: &str, package: &str, version: &str) -> String {
    let (name, other) = field.split_once(" (").unwrap_or((field, ""));
    let name = if name.is_empty() { package } else { name };
    let version = if other.is_empty() { version } else { other.trim_end_matches(')') };
    format!("{name}={version}")
}

/// The packages and, transitively, the libraries they depend on (packages named `lib…`, and zlib).
fn with_libraries(packages: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let mut next = packages.to_vec();
    while !next.is_empty() {
        let text = process::output(
            Command::new("apt-cache")
                .args(["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"])
                .arg("--no-enhances")
                .args(&next),
        )
        .context("apt does not know the packages of the image; run: apt-get update")?;
        all.extend(next.drain(..));
        next = library_dependencies(&text).into_iter().filter(|name| !all.contains(name)).collect();
    }
    Ok(all)
}

fn library_dependencies(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: ").or_else(|| line.trim().strip_prefix("PreDepends: ")))
        .filter(|name| name.starts_with("lib") || name.starts_with("zlib"))
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

/// The package files, downloading those of the wanted version that the cache lacks.
fn download(packages: &BTreeSet<String>) -> anyhow::Result<Vec<PathBuf>> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let cache = paths::cache()?.join("debs");
    fs::create_dir_all(&cache)?;
    let listed = process::output(Command::new("apt-get").args(["--print-uris", "download"]).args(packages))?;
    // Lines are: 'address' file_name size hash
    let wanted: BTreeMap<&str, &str> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let file = words.nth(1)?;
            Some((file.split('_').next()?, file))
        })
        .collect();
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, file)| !cache.join(file).exists()).map(|(package, _)| *package).collect();
    if !missing.is_empty() {
        println!("image: downloading {}", missing.join(" "));
        process::output(Command::new("apt-get").args(["-q", "download"]).args(&missing).current_dir(&cache))?;
    }
    let files: Vec<PathBuf> = wanted.values().map(|file| cache.join(file)).collect();
    if let Some(lost) = files.iter().find(|file| !file.exists()) {
        bail!("apt downloaded no {}", lost.display());
    }
    Ok(files)
}

/// Libraries an ELF file asks for, and its loader.
fn needed(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = process::output(Command::new("readelf").arg("-dl").arg(file))?;
    Ok(libraries(&text))
}

fn libraries(readelf: &str) -> Vec<String> {
    readelf
        .lines()
        .filter_map(|line| {
            if line.contains("(NEEDED)") {
                return line.split('[').nth(1)?.split(']').next().map(str::to_owned);
            }
            let loader = line.split("program interpreter: ").nth(1)?.trim_end_matches(']');
            Path::new(loader).file_name().map(|name| name.to_string_lossy().into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{libraries, library_dependencies, source};

    #[test]
    fn the_source_of_a_package() {
        assert_eq!(source("", "mdadm", "4.2-5"), "mdadm=4.2-5");
        assert_eq!(source("glibc", "libc6", "2.36-9"), "glibc=2.36-9");
        assert_eq!(source("lvm2 (2.03.16-2)", "dmsetup", "2:1.02.185-2"), "lvm2=2.03.16-2");
    }

    #[test]
    fn dependencies_that_are_libraries() {
        let text = "mdadm\n  Depends: libc6\n  PreDepends: <debconf>\n  Depends: libudev1:amd64\n  Depends: udev\n";
        assert_eq!(library_dependencies(text).into_iter().collect::<Vec<_>>(), ["libc6", "libudev1"]);
    }

    #[test]
    fn libraries_and_loader_of_an_elf_file() {
        let text = "      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n \
                    0x1 (NEEDED)             Shared library: [libc.so.6]\n";
        assert_eq!(libraries(text), ["ld-linux-x86-64.so.2", "libc.so.6"]);
    }
}
