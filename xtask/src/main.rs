//! `cargo xtask`: builds the kernel and the appliance image, boots it, shows it, tests everything.
//!
//! Every verb names what it does, says where its output lies, and does again only what changed.

// A build tool works on its own numbers; the lints that guard the reading of disks are for the agent.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod agent;
mod bench;
mod boot;
mod debian;
mod demo;
mod deps;
mod disk_image;
mod fuzz;
mod image;
mod kernel;
mod matrix;
mod paths;
mod peers;
mod process;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, boots, shows and tests the Tierlift appliance")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check the Debian packages the build needs; install what is missing (as root or with sudo)
    Deps(deps::Args),
    /// Build the patched kernel, or take it from the cache
    Kernel(kernel::Args),
    /// Build the appliance: kernel and initramfs in target/image/, with --all every bootable image in target/image/all/
    Image(image::Args),
    /// Boot the appliance in QEMU with your disk images attached read-only
    Boot(boot::Args),
    /// Recover a sample pool from a whole disk image, from nothing to files, and show the report
    Demo,
    /// Measure check, repair and scan on large pools against thin-provisioning-tools, and print one table
    #[command(after_help = peers::HELP)]
    Bench(bench::Args),
    /// Run one program and print what it used up: for bench, which must not measure itself
    #[command(hide = true)]
    Measure(bench::measure::Args),
    /// Damage pools in every way there is, salvage them, and print what comes back and what does not
    #[command(after_help = peers::HELP)]
    Matrix(matrix::Args),
    /// Run every fuzz target for some minutes; needs a nightly compiler
    Fuzz(fuzz::Args),
    /// Run every check and test: format, lints, unit and golden tests, virtual-machine scenarios
    Test(test::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Deps(args) => deps::run(&args),
        Verb::Kernel(args) => kernel::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Boot(args) => boot::run(&args),
        Verb::Demo => demo::run(),
        Verb::Bench(args) => bench::run(&args),
        Verb::Measure(args) => bench::measure::run(&args),
        Verb::Matrix(args) => matrix::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Test(args) => test::run(&args),
    }
}
