//! `tierlift pool stat`.

use super::open::{Meta, superblock_outcome};
use super::{print, print_json};
use crate::commands::Outcome;
use std::fmt::Write;
use tierlift_ondisk::units::Bytes;
use tierlift_pool::{DeviceStat, RingState, Stat, TierStat};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    /// Print one JSON object (tierlift.pool-stat/1)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let pool = args.meta.open()?;
    let stat = pool.stat();
    if args.json {
        print_json("tierlift.pool-stat/1", &stat)?;
    } else {
        let mut text = format!("Pool metadata {}\n", args.meta.place);
        // Writing into a string cannot fail.
        let _ = describe(&stat, &mut text);
        print(&text)?;
    }
    let damage = if stat.damage.is_empty() { Outcome::CLEAN } else { Outcome::DAMAGE };
    Ok(superblock_outcome(&pool).and(damage))
}

fn size(blocks: u64, block: Bytes) -> String {
    Bytes(blocks.saturating_mul(block.0)).human()
}

fn describe(stat: &Stat, out: &mut String) -> std::fmt::Result {
    head(stat, out)?;
    usage(stat, out)?;
    writeln!(out, "  mode           {}", stat.mode.mode)?;
    for line in &stat.mode.evidence {
        writeln!(out, "                 - {line}")?;
    }
    ring(stat, out)?;
    devices(stat, out)?;
    for line in &stat.damage {
        writeln!(out, "DAMAGE: {line}")?;
    }
    for line in &stat.warnings {
        writeln!(out, "WARNING: {line}")?;
    }
    Ok(())
}

fn head(stat: &Stat, out: &mut String) -> std::fmt::Result {
    let (family, bytes) = (stat.family.name(), stat.block_size.bytes());
    writeln!(out, "  format         {family}, version {}, {bytes}-byte blocks", stat.version)?;
    for line in &stat.format_evidence.0 {
        writeln!(out, "                 - {line}")?;
    }
    writeln!(out, "  transaction    {}, pool time {}", stat.transaction, stat.time)?;
    let named = [
        (stat.flags.needs_check, "needs check"),
        (stat.flags.fast_block_clone, "fast block clone"),
        (stat.flags.superblock_backup, "superblock copies"),
        (stat.flags.unknown != 0, "unknown bits"),
    ];
    let set: Vec<_> = named.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    let set = if set.is_empty() { "none".into() } else { set.join(", ") };
    writeln!(out, "  flags          {set} ({:#010x})", stat.flags.value)?;
    match stat.held_root {
        Some(block) => writeln!(out, "  snapshot       reserved metadata snapshot in block {block}"),
        None => Ok(()),
    }
}

fn usage(stat: &Stat, out: &mut String) -> std::fmt::Result {
    let block = Bytes(stat.block_size.bytes() as u64);
    let metadata = stat.metadata;
    writeln!(
        out,
        "  metadata       {} of {} blocks used ({})",
        metadata.used,
        metadata.total,
        size(metadata.total, block)
    )?;
    let chunk = stat.chunk_size.to_bytes().unwrap_or_default();
    let (used, total) = (size(stat.chunks.used, chunk), size(stat.chunks.total, chunk));
    writeln!(
        out,
        "  chunks         {} of {} used, {} each ({used} of {total})",
        stat.chunks.used,
        stat.chunks.total,
        chunk.human()
    )?;
    stat.tiers.iter().try_for_each(|tier| tier_line(stat, tier, out))
}

fn tier_line(stat: &Stat, tier: &TierStat, out: &mut String) -> std::fmt::Result {
    let TierStat { tier, blocks, mapped } = tier;
    if blocks.total == 0 {
        return writeln!(out, "  tier {tier}         never enabled");
    }
    let block = stat.tier_block_size.to_bytes().unwrap_or_default();
    writeln!(
        out,
        "  tier {tier}         {} of {} blocks of {} allocated, {mapped} mapped",
        blocks.used,
        blocks.total,
        block.human()
    )
}

fn ring(stat: &Stat, out: &mut String) -> std::fmt::Result {
    let state = match stat.ring {
        RingState::Off => return writeln!(out, "  copies         none kept"),
        RingState::NoCopies => "none found",
        RingState::Agrees => "agrees with block 0",
        RingState::Behind { commits: Some(1) } => "one commit newer than block 0",
        RingState::Behind { .. } => "NEWER than block 0",
        RingState::Differs => "differs from block 0",
    };
    let newest = stat.ring_newest.map(|place| format!("; the newest is {place}")).unwrap_or_default();
    writeln!(out, "  copies         {} of the superblock{newest}: {state}", stat.ring_copies)
}

fn devices(stat: &Stat, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  thin devices   {}", stat.devices.len())?;
    if stat.devices.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  device    mapped   counted  transaction  created  snapshot   clone  origin  at least")?;
    stat.devices.iter().try_for_each(|device| device_line(device, out))
}

fn device_line(device: &DeviceStat, out: &mut String) -> std::fmt::Result {
    let text = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    writeln!(
        out,
        "{:>8} {:>9} {:>9} {:>12} {:>8} {:>9} {:>7} {:>7}  {}",
        device.id.0,
        text(device.mapped),
        text(device.counted),
        text(device.transaction),
        text(device.creation_time.map(u64::from)),
        text(device.snapshot_time.map(u64::from)),
        text(device.clone_time.map(u64::from)),
        text(device.origin.map(|origin| origin.0)),
        device.minimal_size.map_or("-".to_owned(), Bytes::human)
    )
}
