//! What must hold for the pool engine, whatever was done to the metadata.

use crate::base::mappings;
use crate::case::Case;
use crate::device::Device;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::check::{Check, Finding, Kind, Verdict, check as check_pool};
use tierlift_pool::dump::{Format, dump as dump_pool};
use tierlift_pool::rebuild::{self, RebuildError, RebuildOptions, Rebuilt};
use tierlift_pool::{Generation, Mode, Pool, Salvage, SalvageOptions, ThinReader};

/// Findings are bounded.
const MOST_FINDINGS: usize = 20_000;
/// Segments looked at of one thin device.
const MOST_SEGMENTS: usize = 10_000;

/// A dump that nobody reads.
#[derive(Default)]
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn opened(case: &Case) -> Option<Pool> {
    Pool::open_as(case.view(), case.block_size(), case.family()).ok()
}

fn salvaged(case: &Case, options: &SalvageOptions) -> Option<Salvage> {
    tierlift_pool::salvage(case.view(), options, &mut |_| {}).ok()
}

fn checked(pool: &Pool) -> Check {
    let found = check_pool(pool, &mut |_| {});
    assert!(found.findings.len() < MOST_FINDINGS);
    serde_json::to_string(&found).expect("findings can be told");
    found
}

/// Check ends, with a bounded number of findings; a pool without edits is clean.
pub fn check(input: &[u8]) {
    let case = Case::decode(input);
    let Some(pool) = opened(&case) else { return };
    let found = checked(&pool);
    if case.edits.is_empty() && case.is_accident() {
        assert_eq!(found.verdict, Verdict::Clean, "{}: {:?}", case.base.name, found.findings);
    }
}

/// All generations are told, one of them chosen, and each can be salvaged by its name.
pub fn generations(input: &[u8]) {
    let case = Case::decode(input);
    let options = case.salvage_options();
    let Ok(all) = tierlift_pool::generations(case.view(), &options, &mut |_| {}) else { return };
    serde_json::to_string(&all).expect("generations can be told");
    assert_eq!(all.iter().filter(|view| view.chosen).count(), 1);
    let other = usize::from(case.flag(0)) * (all.len() - 1);
    let generation = Some(all[other].generation);
    let salvage = salvaged(&case, &SalvageOptions { generation, devices: BTreeMap::new(), ..options })
        .expect("what is told can be used");
    assert_eq!(Some(salvage.report.generation), generation);
}

/// Salvage ends; after accidents it finds nothing but the truth, and tells when something is missing.
pub fn salvage(input: &[u8]) {
    let case = Case::decode(input);
    let Some(salvage) = salvaged(&case, &case.salvage_options()) else { return };
    serde_json::to_string(&salvage.report).expect("a report can be told");
    serde_json::to_string(&salvage.pool.stat()).expect("a state can be told");
    checked(&salvage.pool);
    if case.is_accident() && salvage.report.generation == Generation::Block0 {
        nothing_but_the_truth(&case, &salvage);
    }
}

fn nothing_but_the_truth(case: &Case, salvage: &Salvage) {
    let (found, truth) = (mappings(&salvage.pool), &case.base.truth);
    for (key, value) in &found {
        assert_eq!(truth.get(key), Some(value), "{}: device {}, chunk {}: made up", case.base.name, key.0, key.1);
    }
    let told = salvage.report.lost_mappings > 0 || salvage.report.lost_blocks > 0;
    assert!(told || found.len() == truth.len(), "{}: {} mappings are gone", case.base.name, truth.len() - found.len());
}

/// What is rebuilt, of a salvaged pool or of one as it stands, in both forms, is sound and says nothing its source did not.
pub fn rebuild(input: &[u8]) {
    let case = Case::decode(input);
    let pool =
        if case.flag(0) { opened(&case) } else { salvaged(&case, &case.salvage_options()).map(|found| found.pool) };
    let Some(pool) = pool else { return };
    for format in [rebuild::Format::Own, rebuild::Format::Mainline] {
        let mode = case.flag(1).then_some(if case.flag(2) { Mode::TierMap } else { Mode::Bypass { tier: 2 } });
        let sizes = (0..8).map(|id| (DeviceId(id), Sectors(1 << 22)));
        let device_sizes = if case.flag(3) { sizes.collect() } else { BTreeMap::new() };
        rebuild_as(&pool, &RebuildOptions { format, device_sizes, mode }, case.family().is_some());
    }
}

fn rebuild_as(pool: &Pool, options: &RebuildOptions, claimed: bool) {
    let mut output = Device::default();
    let report = match rebuild::rebuild(pool, options, &mut output) {
        Ok(report) => report,
        Err(RebuildError::NoRoom { .. } | RebuildError::ModeUndecided(_) | RebuildError::TooLarge) => return,
        Err(error) => panic!("{error}"),
    };
    serde_json::to_string(&report).expect("a report can be told");
    output.set_length(report.blocks * report.block_size.bytes() as u64);
    let rebuilt = Pool::open(Arc::new(output)).expect("what was rebuilt can be opened");
    let found = checked(&rebuilt);
    // A family that is wrongly claimed to be known may be one that such a pool cannot be of.
    let worst = if claimed { Verdict::Reported } else { Verdict::Clean };
    // Flags and features that nobody knows are kept, and noted again.
    let noted = |finding: &Finding| matches!(finding.kind, Kind::UnknownFlags { .. } | Kind::ReadOnlyFeatures { .. });
    let clean = found.verdict <= worst || found.findings.iter().all(noted);
    assert!(clean, "{:?}: {:?}", options.format, found.findings);
    says_nothing_else(pool, &rebuilt, &report);
}

fn says_nothing_else(pool: &Pool, rebuilt: &Pool, report: &Rebuilt) {
    let (source, result) = (mappings(pool), mappings(rebuilt));
    for ((device, chunk), value) in &result {
        let is_error = report.error_chunk == Some(value.chunk);
        let was = source.get(&(*device, *chunk)).map(|was| was.chunk);
        assert!(is_error || was == Some(value.chunk), "device {device}, chunk {chunk}: {was:?}, then {value:?}");
    }
    let written: u64 = report.devices.iter().map(|device| device.written).sum();
    assert_eq!(written, result.len() as u64);
}

/// Dumps and readers come to an end.
pub fn dump(input: &[u8]) {
    let case = Case::decode(input);
    let pool =
        if case.flag(0) { opened(&case) } else { salvaged(&case, &case.salvage_options()).map(|found| found.pool) };
    let Some(pool) = pool else { return };
    for format in [Format::Xml, Format::Json, Format::Human] {
        dump_pool(&pool, format, &mut Counted::default(), &mut |_| {}).expect("nothing fails to be written");
    }
    for id in pool.devices().devices.keys().take(64) {
        for mode in [Mode::TierMap, Mode::Bypass { tier: 2 }] {
            read(&pool, *id, mode);
        }
    }
}

fn read(pool: &Pool, id: DeviceId, mode: Mode) {
    let Ok(reader) = ThinReader::new(pool, BTreeMap::new(), id, mode, None) else { return };
    let mut end = Bytes(0);
    for segment in reader.segments().take(MOST_SEGMENTS) {
        assert!(segment.offset == end && segment.length.0 > 0, "{segment:?} after {end:?}");
        end = segment.end();
    }
    let mut buffer = [0; 4096];
    for at in [0, reader.size().0 / 2, reader.size().0.saturating_sub(4096)] {
        // There are no tiers: only what is not mapped can be read.
        if reader.read_at(Bytes(at), &mut buffer).is_ok() {
            assert_eq!(buffer, [0; 4096]);
        }
    }
}
