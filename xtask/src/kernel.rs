//! The kernel: Debian's source, our fragment of options, our patch series; built once for each set of inputs.
//!
//! The source tree is unpacked into the cache and kept, so that a changed patch rebuilds only the files it touches. What a
//! build gives is kept under the hash of everything that went in: source version, options, patches, compiler.

use crate::{deps, paths, process};
use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Debian's package with the source, and the folder inside its archive.
const SOURCE: &str = "linux-source-6.12";

/// Objects that one build from nothing compiles, roughly: only for the progress line.
const OBJECTS: usize = 2600;

#[derive(clap::Args)]
pub struct Args {
    /// The same kernel without our patches: what stock Linux does, for comparison
    #[arg(long)]
    stock: bool,
}

/// Which kernel: the product, or the same without our series.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Patched,
    Stock,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    deps::ensure()?;
    let image = build(if args.stock { Variant::Stock } else { Variant::Patched })?;
    println!("kernel: {}", image.display());
    Ok(())
}

/// Gives the path of the kernel image, building it when the cache does not hold it.
pub fn build(variant: Variant) -> anyhow::Result<PathBuf> {
    let inputs = Inputs::collect(variant)?;
    let folder = paths::cache()?.join("kernel");
    let image = folder.join(inputs.key()).join("bzImage");
    if image.exists() {
        println!("kernel: cached {}", image.display());
        return Ok(image);
    }
    fs::create_dir_all(&folder)?;
    let _lock = lock(&folder)?;
    if !image.exists() {
        Tree::open(&folder, &inputs)?.build(&inputs, &image)?;
    }
    Ok(image)
}

/// What a manifest says about the kernel.
#[derive(serde::Serialize)]
pub struct Provenance {
    /// Debian's package with the source, and its version.
    pub source: &'static str,
    pub version: String,
    pub compiler: String,
    /// The patches of ours, in their order.
    pub patches: Vec<String>,
}

/// Where the kernel of the appliance comes from.
pub fn provenance() -> anyhow::Result<Provenance> {
    let inputs = Inputs::collect(Variant::Patched)?;
    let patches = inputs.patches.into_iter().map(|(name, _)| name).collect();
    Ok(Provenance { source: SOURCE, version: inputs.version, compiler: inputs.compiler, patches })
}

/// Two builds at once in one tree would spoil it: the second waits.
fn lock(folder: &Path) -> anyhow::Result<Flock<fs::File>> {
    let path = folder.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| anyhow::Error::from(error).context("kernel lock"))
}

/// Everything the kernel is made from.
struct Inputs {
    version: String,
    archive: PathBuf,
    options: String,
    patches: Vec<(String, String)>,
    compiler: String,
}

impl Inputs {
    fn collect(variant: Variant) -> anyhow::Result<Self> {
        let root = paths::root();
        let options = fs::read_to_string(root.join("image/kernel.config")).context("image/kernel.config")?;
        let (options, patches) = match variant {
            Variant::Patched => (options, series(&root.join("kernel-patches"))?),
            Variant::Stock => (options.replace("CONFIG_DM_THIN_QNAP=y\n", ""), Vec::new()),
        };
        Ok(Self {
            version: process::output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", SOURCE]))?,
            archive: PathBuf::from(format!("/usr/src/{SOURCE}.tar.xz")),
            options,
            patches,
            compiler: process::output(
                Command::new("sh").args(["-c", "gcc --version | head -n1; ld --version | head -n1"]),
            )?,
        })
    }

    fn key(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.version, &self.options, &self.compiler] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        for (name, text) in &self.patches {
            hash.update(name);
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The patches in the order of the file `series`.
fn series(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let list = fs::read_to_string(folder.join("series")).context("kernel-patches/series")?;
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|name| {
            let text = fs::read_to_string(folder.join(name)).with_context(|| format!("kernel-patches/{name}"))?;
            Ok((name.to_owned(), text))
        })
        .collect()
}

/// The unpacked source in the cache, with the untouched form of every file a patch has ever touched kept beside it.
struct Tree {
    source: PathBuf,
    pristine: PathBuf,
}

impl Tree {
    fn open(folder: &Path, inputs: &Inputs) -> anyhow::Result<Self> {
        let home = folder.join(format!("tree-{}", inputs.version.replace(['~', '+', ':'], "_")));
        let tree = Self { source: home.join(SOURCE), pristine: home.join("pristine") };
        if !home.join("unpacked").exists() {
            println!(
                "kernel: unpacking {} (about half a minute, 1.7 GB in {})",
                inputs.archive.display(),
                home.display()
            );
            let _ = fs::remove_dir_all(&home);
            fs::create_dir_all(&home)?;
            process::run(Command::new("tar").arg("-xf").arg(&inputs.archive).arg("-C").arg(&home))?;
            fs::write(home.join("unpacked"), "")?;
        }
        Ok(tree)
    }

    fn build(&self, inputs: &Inputs, image: &Path) -> anyhow::Result<()> {
        self.apply(&inputs.patches)?;
        self.configure(&inputs.options)?;
        self.compile()?;
        let folder = image.parent().context("cache folder")?;
        fs::create_dir_all(folder)?;
        fs::copy(self.source.join(".config"), folder.join("config"))?;
        // The image last and by rename: what is in the cache is whole.
        let partial = folder.join("bzImage.partial");
        fs::copy(self.source.join("arch/x86/boot/bzImage"), &partial)?;
        fs::rename(&partial, image)?;
        Ok(())
    }

    /// Brings the tree from whatever series it has to this one, touching only files that some patch names.
    fn apply(&self, patches: &[(String, String)]) -> anyhow::Result<()> {
        self.restore(&self.pristine)?;
        for (_, text) in patches {
            self.keep_pristine(&touched(text))?;
        }
        for (name, _) in patches {
            println!("kernel: patch {name}");
            let file = paths::root().join("kernel-patches").join(name);
            process::output(
                Command::new("patch")
                    .args(["-p1", "--no-backup-if-mismatch", "--fuzz=0", "--quiet", "-i"])
                    .arg(file)
                    .current_dir(&self.source),
            )?;
        }
        Ok(())
    }

    /// Keeps the pristine form of files about to be patched for the first time; a file the patch creates is kept as absent.
    fn keep_pristine(&self, files: &BTreeSet<String>) -> anyhow::Result<()> {
        for file in files {
            let (kept, absent) = (self.pristine.join(file), self.pristine.join(format!("{file}.absent")));
            if kept.exists() || absent.exists() {
                continue;
            }
            fs::create_dir_all(kept.parent().context("patched file without folder")?)?;
            if self.source.join(file).exists() {
                fs::copy(self.source.join(file), kept)?;
            } else {
                fs::write(absent, "")?;
            }
        }
        Ok(())
    }

    fn restore(&self, folder: &Path) -> anyhow::Result<()> {
        if !folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.restore(&path)?;
                continue;
            }
            let inside = path.strip_prefix(&self.pristine)?.to_string_lossy().into_owned();
            match inside.strip_suffix(".absent") {
                Some(created) => drop(fs::remove_file(self.source.join(created))),
                None => drop(fs::copy(&path, self.source.join(inside))?),
            }
        }
        Ok(())
    }

    /// tinyconfig plus our fragment; kconfig drops unmet options without a word, so each one is checked afterwards.
    fn configure(&self, options: &str) -> anyhow::Result<()> {
        fs::write(self.source.join("tierlift.config"), options)?;
        process::output(self.make().arg("tinyconfig"))?;
        process::output(
            Command::new("scripts/kconfig/merge_config.sh")
                .args(["-m", ".config", "tierlift.config"])
                .current_dir(&self.source),
        )?;
        process::output(self.make().arg("olddefconfig"))?;
        let result = fs::read_to_string(self.source.join(".config"))?;
        let lost = lost_options(options, &result);
        if !lost.is_empty() {
            bail!(
                "kernel options lost by olddefconfig (a dependency is missing in image/kernel.config):\n  {}",
                lost.join("\n  ")
            );
        }
        Ok(())
    }

    fn compile(&self) -> anyhow::Result<()> {
        let jobs = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        println!("kernel: compiling with {jobs} jobs (about 15 minutes on two idle cores from nothing)");
        let log = self.source.join("tierlift-build.log");
        let mut child = self
            .make()
            .args([format!("-j{jobs}").as_str(), "bzImage"])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .context("cannot start make")?;
        show_progress(child.stdout.take().context("make has no output")?);
        if !child.wait()?.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            bail!(
                "the kernel did not build; end of {}:\n{}",
                log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        Ok(())
    }

    /// `make` with everything pinned that would otherwise name this machine or this hour.
    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.current_dir(&self.source)
            .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01 00:00:00 UTC")
            .env("KBUILD_BUILD_USER", "tierlift")
            .env("KBUILD_BUILD_HOST", "appliance")
            .env("KBUILD_BUILD_VERSION", "1")
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .env_remove("MAKEFLAGS")
            .env_remove("CARGO_MAKEFLAGS");
        make
    }
}

/// One line every 20 seconds: how much is compiled, and for how long already.
fn show_progress(output: impl std::io::Read) {
    let start = Instant::now();
    let (mut objects, mut last) = (0, Instant::now());
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line.trim_start().starts_with("CC ") {
            objects += 1;
        }
        if last.elapsed() > Duration::from_secs(20) {
            last = Instant::now();
            println!(
                "kernel: {objects} files compiled (about {OBJECTS} from nothing), {} s",
                start.elapsed().as_secs()
            );
        }
    }
    println!("kernel: {objects} files compiled in {} s", start.elapsed().as_secs());
}

/// The files a patch changes, without the leading `b/`.
fn touched(patch: &str) -> BTreeSet<String> {
    patch
        .lines()
        .filter_map(|line| line.strip_prefix("+++ b/"))
        .map(|path| path.split('\t').next().unwrap_or(path).to_owned())
        .collect()
}

/// Options asked for that the finished configuration does not have, as they were asked for.
fn lost_options<'a>(wanted: &'a str, result: &str) -> Vec<&'a str> {
    let has: BTreeSet<&str> = result.lines().collect();
    wanted
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CONFIG_") || (line.starts_with("# CONFIG_") && line.ends_with(" is not set")))
        .filter(|line| {
            let off = line.strip_suffix("=n").map(|name| format!("{name}=")).or_else(|| {
                line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")).map(|name| format!("{name}="))
            });
            match off {
                // Off: no line may set it, whatever the value.
                Some(prefix) => has.iter().any(|line| line.starts_with(&prefix)),
                None => !has.contains(line),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{lost_options, touched};

    #[test]
    fn options_that_kconfig_dropped_are_found() {
        let wanted = "CONFIG_A=y\nCONFIG_B=n\n# CONFIG_C is not set\nCONFIG_D=\"x\"\n# a comment\nCONFIG_E=y\n";
        let result = "CONFIG_A=y\nCONFIG_C=y\nCONFIG_D=\"x\"\n# CONFIG_E is not set\n";
        assert_eq!(lost_options(wanted, result), ["# CONFIG_C is not set", "CONFIG_E=y"]);
    }

    #[test]
    fn a_patch_names_the_files_it_touches() {
        let patch = "--- a/drivers/md/dm-thin.c\n+++ b/drivers/md/dm-thin.c\n@@\n--- /dev/null\n+++ b/new.rst\t2026\n";
        assert_eq!(touched(patch).into_iter().collect::<Vec<_>>(), ["drivers/md/dm-thin.c", "new.rst"]);
    }
}
