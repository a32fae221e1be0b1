//! The volume group around a pool: which extents each volume gets, and the text that says so ("docs/lvm").

use crate::identity::lvm_id;
use crate::{AbsentTier, Fixture, ForgeOptions, PoolTable, TierKeys};
use anyhow::{Context, ensure};
use std::fmt::Write;

/// Extents in a row on one physical volume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) pv: usize,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// What a logical volume is made of.
pub(crate) enum Content {
    /// Extents, one segment a run, with the image that goes there.
    Extents(Vec<Run>, Option<String>),
    /// One segment of another type: its length in extents, its type and the further lines of it.
    Other(u64, String, Vec<String>),
}

pub(crate) struct LogicalVolume {
    pub(crate) name: String,
    pub(crate) visible: bool,
    pub(crate) flags: &'static str,
    pub(crate) content: Content,
}

/// Allocation of a whole group.
pub(crate) struct Group<'a> {
    options: &'a ForgeOptions,
    /// Extents of each physical volume.
    pub(crate) pe_counts: Vec<u64>,
    pub(crate) volumes: Vec<LogicalVolume>,
}

impl<'a> Group<'a> {
    /// Lays out the volumes of `fixture`: the reserve volume, metadata, tiers, the pool, its thin volumes.
    pub(crate) fn plan(fixture: &Fixture, options: &'a ForgeOptions) -> anyhow::Result<Self> {
        let table = fixture.pool_table()?;
        let mut group = Self { options, pe_counts: vec![0], volumes: Vec::new() };
        let reserve = group.take(0, 1);
        group.add("lv544", true, Content::Extents(vec![reserve], None));
        let mut hidden = vec![group.data(fixture, &format!("{}_tmeta", options.pool), "tmeta.img", 0)?];
        for tier in 0..table.tiers.max(1) {
            hidden.push(group.tier(fixture, &table, tier)?);
        }
        group.pool(&table, fixture.transaction())?;
        group.thin_volumes(fixture)?;
        group.volumes.append(&mut hidden);
        // Free extents at the end, as after a volume was deleted.
        group.pe_counts.iter_mut().for_each(|count| *count += 3);
        Ok(group)
    }

    /// A group of one static volume `name` of at least `sectors`, and its reserve ("docs/lvm, section 3.2"); with it the first
    /// extent of the volume.
    pub(crate) fn plan_static(name: &str, sectors: u64, options: &'a ForgeOptions) -> (Self, u64) {
        let count = sectors.div_ceil(options.extent_sectors).next_multiple_of(32);
        let total = count + count / 90 + 4;
        let head = (total / 100).max(1);
        let mut group = Self { options, pe_counts: vec![0], volumes: Vec::new() };
        let reserve = group.take(0, head);
        let volume = group.take(0, count);
        let rest = group.take(0, total - head - count);
        group.add("lv544", true, Content::Extents(vec![reserve, rest], None));
        group.add(name, true, Content::Extents(vec![volume], None));
        (group, volume.first)
    }

    fn extents(&self, sectors: u64, what: &str) -> anyhow::Result<u64> {
        let size = self.options.extent_sectors;
        ensure!(
            sectors % size == 0,
            "{what} ({sectors} sectors) is no whole number of extents; choose smaller extents"
        );
        Ok(sectors / size)
    }

    fn take(&mut self, pv: usize, count: u64) -> Run {
        if self.pe_counts.len() <= pv {
            self.pe_counts.resize(pv + 1, 0);
        }
        let first = self.pe_counts[pv];
        self.pe_counts[pv] += count;
        Run { pv, first, count }
    }

    fn add(&mut self, name: &str, visible: bool, content: Content) {
        self.volumes.push(LogicalVolume { name: name.into(), visible, flags: "", content });
    }

    /// A hidden volume that holds an image.
    fn data(&mut self, fixture: &Fixture, name: &str, image: &str, pv: usize) -> anyhow::Result<LogicalVolume> {
        let bytes = fixture.images.get(image).with_context(|| format!("{} has no {image}", fixture.name))?.bytes;
        let count = self.extents(bytes / 512, image)?;
        let runs = if self.options.split && count > 1 {
            let later = self.take(pv, count - count / 2);
            vec![self.take(pv, count / 2), later]
        } else {
            vec![self.take(pv, count)]
        };
        let content = Content::Extents(runs, Some(image.into()));
        Ok(LogicalVolume { name: name.into(), visible: false, flags: "", content })
    }

    fn tier(&mut self, fixture: &Fixture, table: &PoolTable, tier: usize) -> anyhow::Result<LogicalVolume> {
        let image = format!("tierdata_{tier}.img");
        let name = if table.tiers == 0 {
            format!("{}_tdata", self.options.pool)
        } else {
            format!("{}_tierdata_{tier}", self.options.pool)
        };
        if !table.enabled(tier) && self.options.absent_tier == AbsentTier::Zero {
            let content = Content::Other(1, "zero".into(), Vec::new());
            return Ok(LogicalVolume { name, visible: false, flags: "", content });
        }
        // The disks of the slow tier come first, as the first ones of a NAS do.
        let pv = if self.options.array_per_tier && table.tiers > 0 { (tier + 1) % table.tiers } else { 0 };
        self.data(fixture, &name, &image, if table.enabled(tier) { pv } else { 0 })
    }

    fn pool(&mut self, table: &PoolTable, transaction: u64) -> anyhow::Result<()> {
        let pool = self.options.pool.clone();
        let mut lines = vec![format!("metadata = \"{pool}_tmeta\"")];
        let kind = if table.tiers == 0 {
            lines.push(format!("pool = \"{pool}_tdata\""));
            "thin-pool"
        } else {
            lines.extend(self.tier_lines(table));
            "tier-thin-pool"
        };
        lines.push(format!("transaction_id = {transaction}"));
        lines.push(format!("chunk_size = {}", table.chunk_size));
        lines.push("discards = \"passdown\"".into());
        if !table.skip_block_zeroing {
            lines.push("zero_new_blocks = 1".into());
        }
        let count = self.extents(table.sectors, "the pool")?;
        let content = Content::Other(count, kind.into(), lines);
        let flags = if table.tiers == 0 { "" } else { "\"ERROR_WHEN_FULL\"" };
        self.volumes.push(LogicalVolume { name: pool, visible: true, flags, content });
        Ok(())
    }

    fn tier_lines(&self, table: &PoolTable) -> Vec<String> {
        let names: Vec<String> =
            (0..table.tiers).map(|tier| format!("{}_tierdata_{tier}", self.options.pool)).collect();
        let numbered = || names.iter().enumerate();
        let mut lines = match self.options.tier_keys {
            TierKeys::Pool => numbered()
                .map(|(i, name)| if i == 0 { format!("pool = \"{name}\"") } else { format!("pool{i} = \"{name}\"") })
                .collect(),
            TierKeys::List => {
                let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                vec![format!("tier_num = {}", names.len()), format!("tiers = [{}]", quoted.join(", "))]
            }
            TierKeys::Numbered => numbered().map(|(i, name)| format!("tier{i} = \"{name}\"")).collect(),
            TierKeys::Section => numbered()
                .flat_map(|(i, name)| {
                    [format!("tier{i} {{"), format!("pool = \"{name}\""), "tier_block_size = 8192".into(), "}".into()]
                })
                .collect(),
            TierKeys::None => Vec::new(),
        };
        if self.options.mode_keys {
            lines.push(format!("enable_map = {}", table.enable_map));
            if table.bypass_off {
                lines.push("bypass_off = 1".into());
            }
        }
        lines
    }

    fn thin_volumes(&mut self, fixture: &Fixture) -> anyhow::Result<()> {
        for (device, truth) in &fixture.truth {
            let mut lines = vec![
                format!("thin_pool = \"{}\"", self.options.pool),
                "transaction_id = 0".into(),
                format!("device_id = {device}"),
            ];
            if let Some(origin) = fixture.origins.get(device).filter(|origin| fixture.truth.contains_key(origin)) {
                lines.push(format!("origin = \"lv{origin}\""));
            }
            let count = self.extents(truth.sectors, &format!("device {device}"))?;
            self.add(&format!("lv{device}"), true, Content::Other(count, fixture.kind_of(*device).into(), lines));
        }
        Ok(())
    }

    /// The text as it lies in the ring, closing NUL included. `hide` leaves a volume out, as older copies do.
    pub(crate) fn text(&self, seqno: u64, hide: Option<&str>, pv_sectors: &[u64]) -> Vec<u8> {
        let mut text = Text::default();
        self.head(&mut text, seqno, pv_sectors);
        text.open("logical_volumes");
        for volume in self.volumes.iter().filter(|volume| Some(volume.name.as_str()) != hide) {
            self.volume(&mut text, volume, seqno);
        }
        text.line("}");
        text.line("}");
        text.line("# Generated by LVM2 version 2.02.138(2)-git (2015-12-14): Thu Apr 14 12:00:00 2022");
        text.line("\ncontents = \"Text Format Volume Group\"\nversion = 1\n\ndescription = \"\"\n");
        text.line("creation_host = \"NASFORGE\"\t# Linux NASFORGE 5.10.60-qnap #1 SMP x86_64");
        text.line(&format!("creation_time = {}\t# Thu Apr 14 12:00:00 2022\n", 1_650_000_000 + seqno));
        text.out.push('\0');
        text.out.into_bytes()
    }

    fn head(&self, text: &mut Text, seqno: u64, pv_sectors: &[u64]) {
        let options = self.options;
        text.open(&options.volume_group);
        text.line(&format!("id = \"{}\"", lvm_id(&options.seed, "vg")));
        text.line(&format!(
            "seqno = {seqno}\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []"
        ));
        text.line(&format!("extent_size = {}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n", options.extent_sectors));
        text.open("physical_volumes");
        for (index, (count, sectors)) in self.pe_counts.iter().zip(pv_sectors).enumerate() {
            text.open(&format!("\npv{index}"));
            text.line(&format!("id = \"{}\"", pv_id(options, index)));
            text.line(&format!("device = \"/dev/{}{}\"\n", if options.drbd { "drbd" } else { "md" }, index + 1));
            text.line("status = [\"ALLOCATABLE\"]\nflags = []");
            text.line(&format!("dev_size = {sectors}\npe_start = {}\npe_count = {count}\n}}", options.pe_start));
        }
        text.line("}\n");
    }

    fn volume(&self, text: &mut Text, volume: &LogicalVolume, seqno: u64) {
        text.open(&format!("\n{}", volume.name));
        text.line(&format!("id = \"{}\"", lvm_id(&self.options.seed, &volume.name)));
        text.line(&format!("status = [\"READ\", \"WRITE\"{}]", if volume.visible { ", \"VISIBLE\"" } else { "" }));
        text.line(&format!("flags = [{}]\ncreation_host = \"NASFORGE\"", volume.flags));
        text.line(&format!("creation_time = {}\nread_ahead = 8192", 1_650_000_000 + seqno));
        let count = if let Content::Extents(runs, _) = &volume.content { runs.len() } else { 1 };
        text.line(&format!("segment_count = {count}\n"));
        match &volume.content {
            Content::Extents(runs, _) => striped_segments(text, runs),
            Content::Other(count, kind, lines) => {
                text.segment(1, 0, *count, kind);
                lines.iter().for_each(|line| text.line(line));
                text.line("}");
            }
        }
        text.line("}");
    }
}

fn striped_segments(text: &mut Text, runs: &[Run]) {
    let mut start = 0;
    for (number, run) in (1..).zip(runs) {
        text.segment(number, start, run.count, "striped");
        text.line(&format!("stripe_count = 1\n\nstripes = [\n\"pv{}\", {}\n]\n}}", run.pv, run.first));
        start += run.count;
    }
}

/// The id of physical volume number `index`.
pub(crate) fn pv_id(options: &ForgeOptions, index: usize) -> String {
    lvm_id(&options.seed, &format!("pv{index}"))
}

#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn open(&mut self, name: &str) {
        self.line(&format!("{name} {{"));
    }

    fn segment(&mut self, number: u64, start: u64, count: u64, kind: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.out,
            "segment{number} {{\nstart_extent = {start}\nextent_count = {count}\n\ntype = \"{kind}\""
        );
    }
}
