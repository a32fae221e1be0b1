//! Every block of small pools unreadable once, and once garbage whose checksum is right; and files that end early: the whole
//! way of a repair ends, says what is lost, and makes nothing up.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, content};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tierlift_forge::Dice;
use tierlift_forge::damage::Layout;
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::thin::{BlockKind, DeviceDetails, MappingValue, identify, seal};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::check::{Verdict, check};
use tierlift_pool::dump::{Format as DumpFormat, dump};
use tierlift_pool::rebuild::{Format, RebuildError, RebuildOptions, Rebuilt, Segment, Target, rebuild};
use tierlift_pool::{KeyRange, Origin, Pool, PoolError, Salvage, SalvageOptions, SalvageReport, generations, salvage};

/// A metadata device that ends early, or of which one block is not what it was.
struct Hurt {
    whole: Arc<Vec<u8>>,
    length: usize,
    place: Range<usize>,
    /// What is there instead; nothing is an I/O error.
    instead: Option<Vec<u8>>,
}

impl ReadAt for Hurt {
    fn size(&self) -> Bytes {
        Bytes(self.length as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let (start, end) = (offset.0 as usize, offset.0 as usize + buffer.len());
        buffer.copy_from_slice(self.whole[..self.length].get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        let common = self.place.start.max(start)..self.place.end.min(end);
        if !common.is_empty() {
            let Some(instead) = &self.instead else { return Err(io::Error::from_raw_os_error(5)) };
            let from = &instead[common.start - self.place.start..common.end - self.place.start];
            buffer[common.start - start..common.end - start].copy_from_slice(from);
        }
        Ok(())
    }
}

/// A pool that is whole, and all that is true of it.
struct Whole {
    pool: Pool,
    bytes: Arc<Vec<u8>>,
    size: usize,
    layout: Layout,
    truth: Content,
    records: BTreeMap<DeviceId, DeviceDetails>,
    options: RebuildOptions,
    /// Where its chunks lie on the tiers.
    places: BTreeMap<u64, Target>,
}

impl Whole {
    fn new(bytes: Vec<u8>) -> Self {
        let pool = Pool::open(Arc::new(bytes.clone())).unwrap();
        let truth = content(&pool);
        assert!(truth.holes.is_empty() && truth.tier_holes.is_empty() && truth.mappings.len() > 50);
        let records: BTreeMap<_, _> =
            pool.devices().devices.into_iter().map(|(id, device)| (id, device.details.unwrap())).collect();
        let ends = truth.mappings.keys().map(|(id, chunk)| (DeviceId(*id), Sectors((chunk + 9) * pool.chunk_size().0)));
        let options = RebuildOptions {
            format: Format::Mainline,
            device_sizes: records.keys().map(|id| (*id, Sectors(9))).chain(ends).collect(),
            mode: None,
        };
        let report = rebuild(&pool, &options, &mut io::sink()).unwrap();
        let places = places(&report.layout.unwrap(), &truth, pool.chunk_size());
        let layout = Layout::read(&bytes).unwrap();
        Self { size: layout.block_size.bytes(), pool, bytes: Arc::new(bytes), layout, truth, records, options, places }
    }

    fn genuine(name: &str) -> Self {
        Self::new(common::metadata(name))
    }

    fn block(&self, block: MetaBlock) -> &[u8] {
        &self.bytes[block.0 as usize * self.size..][..self.size]
    }

    /// Block 0, everything in use but most of the ring, and some of what older commits left.
    fn blocks(&self) -> Vec<MetaBlock> {
        let mut all: BTreeSet<_> = self.layout.working().into_iter().chain([MetaBlock(0)]).collect();
        let newest = self.pool.ring().newest().map(|(block, _)| *block);
        all.extend(newest.into_iter().flat_map(|newest| newest.0 - 1..=newest.0 + 1).map(MetaBlock));
        all.extend(self.layout.ring.iter().step_by(16));
        let sound = (0..(self.bytes.len() / self.size) as u64).map(MetaBlock);
        all.extend(sound.filter(|block| identify(self.block(*block)).is_some()).step_by(9));
        all.into_iter().filter(|block| (block.0 as usize) < self.bytes.len() / self.size).collect()
    }

    fn with(&self, block: MetaBlock, instead: Option<Vec<u8>>) -> Arc<Hurt> {
        let start = block.0 as usize * self.size;
        Arc::new(Hurt { whole: self.bytes.clone(), length: self.bytes.len(), place: start..start + self.size, instead })
    }

    fn cut(&self, length: usize) -> Arc<Hurt> {
        Arc::new(Hurt { whole: self.bytes.clone(), length, place: 0..0, instead: None })
    }
}

/// What lies behind the beginning of each chunk in use.
fn places(layout: &[Segment], content: &Content, chunk_size: Sectors) -> BTreeMap<u64, Target> {
    let place = |chunk: u64| {
        let sector = chunk * chunk_size.0;
        let at = layout.partition_point(|segment| segment.start.0 + segment.length.0 <= sector);
        let target = match layout.get(at)?.target {
            Target::Linear { tier, offset } => {
                Target::Linear { tier, offset: Sectors(offset.0 + sector - layout[at].start.0) }
            }
            other => other,
        };
        Some((chunk, target))
    };
    content.mappings.values().filter_map(|value| place(value.chunk.0)).collect()
}

/// Something done to a pool.
struct Trial {
    name: String,
    view: Arc<Hurt>,
    /// The superblock is hit.
    superblock: bool,
    /// A block is a bitmap now.
    is_bitmap: bool,
}

impl Trial {
    fn block(whole: &Whole, block: MetaBlock, how: &str, instead: Option<Vec<u8>>) -> Self {
        let view = whole.with(block, instead);
        let is_bitmap = view.instead.as_deref().and_then(identify) == Some(BlockKind::Bitmap);
        Self { name: format!("block {block} {how}"), view, superblock: block.0 == 0, is_bitmap }
    }
}

fn unreadable(whole: &Whole) -> Vec<Trial> {
    whole.blocks().into_iter().map(|block| Trial::block(whole, block, "unreadable", None)).collect()
}

/// With its own number and the checksum of this kind.
fn sealed(block: MetaBlock, kind: BlockKind, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes[8..16].copy_from_slice(&block.0.to_le_bytes());
    seal(kind, &mut bytes);
    Some(bytes)
}

/// Noise with a right number and checksum, of the kind that was there and of another one.
fn noise(whole: &Whole) -> Vec<Trial> {
    let mut dice = Dice::new(7);
    let mut trials = Vec::new();
    for (turn, block) in whole.blocks().into_iter().enumerate() {
        let noise: Vec<u8> = (0..whole.size).map(|_| dice.below(256) as u8).collect();
        let own = identify(whole.block(block));
        let kinds: Vec<_> = BlockKind::ALL.into_iter().filter(|kind| Some(*kind) != own).collect();
        for kind in own.into_iter().chain([kinds[turn % kinds.len()]]) {
            let how = format!("noise as {}", kind.name());
            trials.push(Trial::block(whole, block, &how, sealed(block, kind, noise.clone())));
        }
    }
    trials
}

/// Garbage that looks at home: another sound block of the kind, or noise behind the header that was there.
fn disguised(whole: &Whole) -> Vec<Trial> {
    let mut dice = Dice::new(9);
    let mut by_kind: BTreeMap<&str, Vec<MetaBlock>> = BTreeMap::new();
    for block in whole.blocks() {
        let kind = identify(whole.block(block)).map(BlockKind::name);
        kind.into_iter().for_each(|kind| by_kind.entry(kind).or_default().push(block));
    }
    let mut trials = Vec::new();
    for block in whole.blocks() {
        let old = whole.block(block);
        let Some(kind) = identify(old) else { continue };
        let noise: Vec<u8> = (32..whole.size).map(|_| dice.below(256) as u8).collect();
        let behind = sealed(block, kind, [&old[..32], &noise].concat());
        trials.push(Trial::block(whole, block, "noise behind its header", behind));
        let same = &by_kind[kind.name()];
        let at = same.iter().position(|other| *other == block).unwrap();
        let donor = same[(at + 1) % same.len()];
        let copy = sealed(block, kind, whole.block(donor).to_vec());
        trials.push(Trial::block(whole, block, &format!("a copy of block {donor}"), copy));
    }
    trials
}

/// Files that end before and behind each block in use, and in the middle of some.
fn cut(whole: &Whole) -> Vec<Trial> {
    let mut lengths = BTreeSet::new();
    for (turn, block) in whole.blocks().into_iter().enumerate() {
        let start = block.0 as usize * whole.size;
        lengths.extend([start, start + whole.size]);
        lengths.insert(start + [1, whole.size / 2, whole.size - 1][turn % 3]);
    }
    let trial = |length| Trial {
        name: format!("cut to {length} bytes"),
        view: whole.cut(length),
        superblock: length < whole.size,
        is_bitmap: false,
    };
    lengths.into_iter().map(trial).collect()
}

/// What was done, for when a panic ends it.
struct Named<'a>(&'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the trial: {}", self.0);
        }
    }
}

/// What must not be.
#[derive(Default)]
struct Faults {
    /// Something untrue is said of the pool, or something true is not.
    lies: Vec<String>,
    /// Said to be whole, and is not.
    falsely_whole: Vec<String>,
    /// The steps of a repair do not agree with each other.
    broken: Vec<String>,
}

fn none_of(count: usize, lies: &mut Vec<String>, what: &str) {
    if count > 0 {
        lies.push(format!("{count} {what}"));
    }
}

fn inside(holes: &[KeyRange], key: u64) -> bool {
    holes.iter().any(|hole| hole.contains(key))
}

/// What the salvaged pool says, devices without a tree counted as lost.
fn said(pool: &Pool) -> Content {
    let mut said = content(pool);
    for (id, device) in pool.devices().devices {
        if device.root.is_none() {
            said.holes.entry(id.0).or_default().push(KeyRange::ALL);
        }
    }
    said
}

/// As the verbs tell it.
fn tells_loss(report: &SalvageReport) -> bool {
    report.lost_mappings > 0
        || report.rival.is_some()
        || report.lost_blocks > 0
        || report.devices.iter().any(|device| device.root == Origin::Lost)
}

/// The whole way of a repair, and what must not be of it.
fn repair(whole: &Whole, view: &Arc<Hurt>) -> Result<(SalvageReport, Faults), PoolError> {
    let salvaged = salvage(view.clone(), &SalvageOptions::default(), &mut |_| {})?;
    let Salvage { pool, report } = &salvaged;
    let mut faults = Faults::default();
    let views = generations(view.clone(), &SalvageOptions::default(), &mut |_| {})?;
    let chosen: Vec<_> = views.iter().filter(|view| view.chosen).map(|view| view.generation).collect();
    if chosen != [report.generation] {
        faults.broken.push(format!("generations would choose {chosen:?}"));
    }
    let said = said(pool);
    if said == whole.truth && pool.superblock() == whole.pool.superblock() && report.is_untouched() {
        // As the whole pool is; what is made of that, others test.
        return Ok((salvaged.report, faults));
    }
    judge_content(whole, &said, pool, report, &mut faults.lies);
    judge_dump(whole, &said, pool, report, &mut faults);
    judge_own(whole, &said, pool, report, &mut faults);
    judge_mainline(whole, &said, pool, report, &mut faults);
    Ok((salvaged.report, faults))
}

fn judge_content(whole: &Whole, said: &Content, pool: &Pool, report: &SalvageReport, lies: &mut Vec<String>) {
    let truth = &whole.truth;
    let wrong = said.mappings.iter().filter(|(key, value)| truth.mappings.get(key) != Some(value)).count();
    none_of(wrong, lies, "mappings made up");
    let gone = |(device, chunk): &&(u64, u64)| {
        !said.mappings.contains_key(&(*device, *chunk))
            && !said.holes.get(device).is_some_and(|holes| inside(holes, *chunk))
            && !inside(&said.lost_roots, *device)
    };
    none_of(truth.mappings.keys().filter(gone).count(), lies, "mappings gone without a word");
    let wrong = said.tiers.iter().filter(|(key, value)| truth.tiers.get(key) != Some(value)).count();
    none_of(wrong, lies, "tier entries made up");
    let gone = |key: &&u64| !said.tiers.contains_key(key) && !inside(&said.tier_holes, **key);
    if pool.superblock().tier_num > 0 || report.lost_blocks == 0 {
        none_of(truth.tiers.keys().filter(gone).count(), lies, "tier entries gone without a word");
    }
    let table = pool.devices();
    let extra = table.devices.keys().filter(|id| !whole.records.contains_key(id)).count();
    none_of(extra, lies, "devices made up");
    let in_hole = |id: u64| {
        [&table.lost_details, &table.lost_roots].iter().any(|lost| lost.iter().any(|lost| lost.keys.contains(id)))
    };
    let gone = whole.records.keys().filter(|id| !table.devices.contains_key(id) && !in_hole(id.0)).count();
    none_of(gone, lies, "devices gone without a word");
    let committed = report.devices.iter().filter(|device| device.record == Origin::Committed);
    let record = |id: &DeviceId| table.devices.get(id).and_then(|device| device.details);
    let wrong = committed.filter(|device| record(&device.id) != whole.records.get(&device.id).copied()).count();
    none_of(wrong, lies, "records made up");
}

fn judge_dump(whole: &Whole, said: &Content, pool: &Pool, report: &SalvageReport, faults: &mut Faults) {
    let mut gaps = 0;
    for format in [DumpFormat::Xml, DumpFormat::Json, DumpFormat::Human] {
        dump(pool, format, &mut io::sink(), &mut |_| gaps += 1).unwrap();
    }
    if is_less(whole, said, pool) && !tells_loss(report) && gaps == 0 {
        faults.falsely_whole.push("the dump".into());
    }
}

fn is_less(whole: &Whole, said: &Content, pool: &Pool) -> bool {
    said.mappings != whole.truth.mappings
        || said.tiers != whole.truth.tiers
        || !whole.records.keys().eq(pool.devices().devices.keys())
}

/// Writes new metadata and reads them again.
fn rewritten(pool: &Pool, options: &RebuildOptions, faults: &mut Faults) -> Option<(Content, Rebuilt)> {
    let mut bytes = Vec::new();
    let report = match rebuild(pool, options, &mut bytes) {
        Ok(report) => report,
        // Said, and nothing was written.
        Err(RebuildError::ModeUndecided(_)) => return None,
        Err(error) => {
            faults.broken.push(format!("not written: {error}"));
            return None;
        }
    };
    bytes.resize(report.blocks as usize * report.block_size.bytes(), 0);
    let new = Pool::open(Arc::new(bytes)).unwrap();
    let found = check(&new, &mut |_| {});
    if found.verdict != Verdict::Clean {
        faults.broken.push(format!("what was written is not clean: {:?}", found.findings));
    }
    Some((content(&new), report))
}

/// Equal, but for a time from the future that was mended.
fn is_same(new: &MappingValue, said: Option<&MappingValue>, rebuilt: &Rebuilt) -> bool {
    let mended =
        |said: &MappingValue| rebuilt.left_behind.future_times > 0 && *new == MappingValue { time: 0, ..*said };
    said.is_some_and(|said| new == said || mended(said))
}

fn judge_own(whole: &Whole, said: &Content, pool: &Pool, report: &SalvageReport, faults: &mut Faults) {
    let Some((new, rebuilt)) = rewritten(pool, &RebuildOptions::default(), faults) else { return };
    let all = new.mappings.len() == said.mappings.len() && new.tiers == said.tiers;
    let part = new.mappings.iter().all(|(key, value)| is_same(value, said.mappings.get(key), &rebuilt))
        && new.tiers.iter().all(|(key, value)| said.tiers.get(key) == Some(value));
    let no_holes = new.holes.is_empty() && new.tier_holes.is_empty() && new.lost_roots.is_empty();
    if !part || !no_holes || !all && rebuilt.is_whole() {
        faults.broken.push("its own form says something else".into());
    }
    if is_less(whole, said, pool) && !tells_loss(report) && rebuilt.is_whole() {
        faults.falsely_whole.push("its own form".into());
    }
}

fn judge_mainline(whole: &Whole, said: &Content, pool: &Pool, report: &SalvageReport, faults: &mut Faults) {
    let Some((new, rebuilt)) = rewritten(pool, &whole.options, faults) else { return };
    let is_error = |chunk: u64| rebuilt.error_chunk.is_some_and(|error| error.0 == chunk);
    let wrong = new.mappings.iter().filter(|(key, value)| !is_same(value, said.mappings.get(key), &rebuilt));
    if wrong.clone().any(|(_, value)| !is_error(value.chunk.0)) {
        faults.broken.push("stock Linux's form says something else".into());
    }
    let shown = |id: u64| rebuilt.devices.iter().any(|device| device.id.0 == id && !device.left_out);
    let needed = whole.truth.mappings.iter().filter(|(key, value)| value.zeroed == 0 && shown(key.0));
    let zeros = needed.clone().filter(|(key, _)| !new.mappings.contains_key(key)).count();
    none_of(zeros, &mut faults.lies, "mappings would read as zeros");
    let there = places(rebuilt.layout.as_deref().unwrap_or_default(), &whole.truth, pool.chunk_size());
    let (mut elsewhere, mut errors) = (0, wrong.count());
    for (_, value) in needed.filter(|(key, value)| new.mappings.get(key) == Some(value)) {
        match there.get(&value.chunk.0) {
            Some(Target::Error) => errors += 1,
            place if place == whole.places.get(&value.chunk.0) => {}
            _ => elsewhere += 1,
        }
    }
    none_of(elsewhere, &mut faults.lies, "mappings would be read elsewhere");
    let is_less = errors > 0 || is_less(whole, said, pool);
    if is_less && !tells_loss(report) && rebuilt.is_whole() {
        faults.falsely_whole.push("stock Linux's form".into());
    }
}

/// The report of a fault.
fn told(name: &str, report: &SalvageReport, faults: &Faults) -> String {
    let Faults { lies, falsely_whole, broken } = faults;
    format!(
        "{name}: {lies:?}, whole? {falsely_whole:?}, {broken:?}; {}, {} contradictions, {} blocks and {} mappings lost",
        report.generation, report.contradictions, report.lost_blocks, report.lost_mappings
    )
}

/// Nothing untrue is said, whatever was done.
fn assert_true(whole: &Whole, trials: Vec<Trial>) {
    let mut all = Vec::new();
    for trial in &trials {
        let Trial { name, view, .. } = trial;
        let _named = Named(name);
        match repair(whole, view) {
            Ok((_, faults))
                if faults.lies.is_empty() && faults.falsely_whole.is_empty() && faults.broken.is_empty() => {}
            Ok((report, faults)) => all.push(told(name, &report, &faults)),
            Err(error) => all.extend(needless(whole, trial, &error)),
        }
    }
    assert!(all.is_empty(), "{} of {} trials:\n{}", all.len(), trials.len(), all.join("\n"));
}

/// A block that looks at home may say anything; only counts elsewhere can tell. So a repair may be misled, but then it or the
/// check says that the pool is not whole.
fn assert_told(whole: &Whole, trials: Vec<Trial>) {
    let mut all = Vec::new();
    for trial in &trials {
        let Trial { name, view, .. } = trial;
        let _named = Named(name);
        match repair(whole, view) {
            Ok((report, faults)) => {
                let is_told = || {
                    Pool::open(view.clone()).map_or(true, |pool| check(&pool, &mut |_| {}).verdict >= Verdict::Damaged)
                };
                let is_untrue = !faults.falsely_whole.is_empty() || !faults.lies.is_empty();
                if !faults.broken.is_empty() || is_untrue && !is_told() {
                    all.push(told(name, &report, &faults));
                }
            }
            Err(error) => all.extend(needless(whole, trial, &error)),
        }
    }
    assert!(all.is_empty(), "{} of {} trials:\n{}", all.len(), trials.len(), all.join("\n"));
}

/// Whatever is used, what is missing is not passed over.
fn assert_never_called_whole(whole: &Whole, trials: Vec<Trial>) {
    for Trial { name, view, .. } in &trials {
        let _named = Named(name);
        let (report, faults) = repair(whole, view).unwrap();
        assert!(faults.falsely_whole.is_empty() && faults.broken.is_empty(), "{}", told(name, &report, &faults));
    }
}

/// A refusal where something could be had. Without any copy of the superblock the size of a chunk is not known.
fn needless(whole: &Whole, trial: &Trial, error: &PoolError) -> Option<String> {
    let has_copy = !whole.layout.ring.is_empty() && trial.view.length > whole.bytes.len() / 2;
    (has_copy || !trial.superblock).then(|| format!("{}: nothing at all: {error}", trial.name))
}

fn simulated(population: Population, shape: Shape) -> Whole {
    let shape = Shape { metadata_blocks: 500, chunks: 40_000, ..shape };
    Whole::new(population.make(shape, Size { writes: 3_000, commits: 14 }, 3).unwrap().image)
}

macro_rules! pools {
    ($($name:ident: $whole:expr),* $(,)?) => {
        $(mod $name {
            use super::*;

            #[test]
            fn every_block_unreadable_once() {
                let whole = $whole;
                assert_true(&whole, unreadable(&whole));
            }

            #[test]
            fn every_block_noise_once() {
                let whole = $whole;
                let is_safe = |trial: &Trial| !whole.layout.ring.is_empty() || !trial.is_bitmap;
                let (safe, doubtful) = noise(&whole).into_iter().partition(is_safe);
                assert_true(&whole, safe);
                // Without copies, a bitmap that is not the one of the last commit may also mean that block 0 is stale:
                // an older commit is used then, and that block 0 may be newer is told.
                assert_never_called_whole(&whole, doubtful);
            }

            #[test]
            fn every_block_in_disguise_once() {
                let whole = $whole;
                assert_told(&whole, disguised(&whole));
            }

            #[test]
            fn every_length() {
                let whole = $whole;
                assert_true(&whole, cut(&whole));
            }
        })*
    };
}

pools! {
    snapshots: Whole::genuine("F2-snaps"),
    three_tiers: Whole::genuine("F3-3tiers"),
    old_without_copies: Whole::genuine("F5-v2-4k"),
    growing_over_tiers: simulated(Population::Growing, Shape::QNAP_TIERS),
    shrinking_stock: simulated(Population::Shrinking, Shape::MAINLINE),
}
