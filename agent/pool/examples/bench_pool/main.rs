//! Pools to measure with: `bench_pool KIND FILE` writes one metadata device, the same each time. `cargo xtask bench` runs it.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod formula;

use anyhow::{Context, bail};
use formula::Formula;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::rebuild::{Output, RebuildOptions, rebuild};

/// The sparse files' length.
const LONG: u64 = 64 << 30;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, path] = words.as_slice() else { bail!("usage: bench_pool KIND FILE") };
    let path = Path::new(path);
    match kind.as_str() {
        // 5 M mappings of stock Linux, with snapshots and hundreds of commits behind them.
        "aged" => simulate(Shape { metadata_blocks: 65_536, chunks: 8_000_000, ..Shape::MAINLINE }, 5_900_000, path),
        // As many, but as thin_restore leaves them.
        "fresh" => write(&Formula::stock(5_000_000, 65_536), path),
        // 425 MiB in blocks of 8 KiB, nearly all of which were in use once.
        "qnap" => simulate(Shape { metadata_blocks: 54_400, chunks: 9_000_000, ..Shape::QNAP_TIERS }, 6_000_000, path),
        // A full pool of 16 TiB in chunks of 512 KiB, over three tiers.
        "large" => write(&Formula::tiers(1 << 25, 131_072), path),
        // The ring of copies lies at the end of 64 GiB.
        "long" => write(&Formula::tiers(1 << 20, BlockSize::K8.blocks_in(LONG)), path),
        // A file made longer than the pool on it: the ring lies where the device ended.
        "grown" => {
            write(&Formula::tiers(1 << 20, 131_072), path)?;
            Ok(File::options().write(true).open(path)?.set_len(LONG)?)
        }
        _ => bail!("{kind} is not known: aged, fresh, qnap, large, long or grown"),
    }
}

fn simulate(shape: Shape, writes: u64, path: &Path) -> anyhow::Result<()> {
    let made = Population::Growing.make(shape, Size { writes, commits: 300 }, 1)?;
    let last = made.commits.last().context("no commit")?;
    println!(
        "{} mappings of {} chunks, {} of {} metadata blocks in use",
        made.truth.count(),
        last.data_map.nr_allocated,
        last.metadata_map.nr_allocated,
        shape.metadata_blocks
    );
    Ok(std::fs::write(path, made.image)?)
}

/// The library's own rebuild makes whole metadata, with space maps and ring, of trees that exist as a formula only.
fn write(formula: &Formula, path: &Path) -> anyhow::Result<()> {
    let pool = formula.pool()?;
    let mut output = BlockFile(File::create(path)?);
    let rebuilt = rebuild(&pool, &RebuildOptions::default(), &mut output)?;
    output.0.set_len(rebuilt.blocks * rebuilt.block_size.bytes() as u64)?;
    let mappings: u64 = rebuilt.devices.iter().map(|device| device.written).sum();
    println!("{mappings} mappings, {} of {} metadata blocks in use", rebuilt.blocks_used, rebuilt.blocks);
    anyhow::ensure!(rebuilt.is_whole(), "the formula is wrong: {rebuilt:?}");
    Ok(())
}

/// Every block where it belongs.
struct BlockFile(File);

impl Output for BlockFile {
    fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, block.0 * bytes.len() as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
