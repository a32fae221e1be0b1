//! A pool of three tiers with the disks of one tier gone: what lay on the others is right, the rest is an I/O error.

mod common;

use common::Whole;
use std::collections::BTreeMap;
use std::sync::Arc;
use tierlift::block::FileView;
use tierlift_forge::ForgeOptions;
use tierlift_ondisk::units::{Bytes, DeviceId};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Mode, Pool, ThinReader, View};
use tierlift_tests::{Image, Settings};

const CHUNK: u64 = 512 << 10;

/// What the userland reader makes of each chunk of device 1, with these tiers.
fn userland(loose: &common::Loose, tiers: &[u8]) -> Vec<Option<Vec<u8>>> {
    let open = |path| Arc::new(FileView::open(path).unwrap()) as View;
    let pool = Pool::open(open(&loose.tmeta)).unwrap();
    let tiers: BTreeMap<u8, View> = tiers.iter().map(|tier| (*tier, open(&loose.tiers[usize::from(*tier)]))).collect();
    let size = loose.fixture.truth[&1].sectors * 512;
    let reader = ThinReader::new(&pool, tiers, DeviceId(1), Mode::TierMap, Some(Bytes(size))).unwrap();
    (0..size / CHUNK)
        .map(|chunk| {
            let mut bytes = vec![0; CHUNK as usize];
            reader.read_at(Bytes(chunk * CHUNK), &mut bytes).ok().map(|()| bytes)
        })
        .collect()
}

#[test]
fn the_other_tiers_are_read_and_the_missing_one_is_an_error() {
    let loose = common::Loose::unpack("F3-3tiers");
    let truth = userland(&loose, &[0, 1, 2]);
    let partial = userland(&loose, &[0, 2]);
    let lost = partial.iter().filter(|chunk| chunk.is_none()).count();
    assert!(lost > 0 && lost < truth.len() / 2, "{lost} of {} chunks are lost", truth.len());

    let whole = Whole::forge("F3-3tiers", &ForgeOptions { array_per_tier: true, ..ForgeOptions::default() });
    let tier_1 = whole.forged.placed.iter().find(|volume| volume.name.ends_with("tierdata_1")).unwrap().pieces[0].array;
    let present = whole.forged.disks.iter().enumerate().filter(|(array, _)| *array != tier_1);
    let settings = Settings::new(&Image::from_environment().unwrap());
    let mut machine = present.fold(settings, |settings, (_, disk)| settings.source(disk)).boot().unwrap();
    let volume = whole.volume(1);
    let output = machine.run(&["activate", &volume]).unwrap();
    assert_eq!(output.code, 2, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("tier 1 is missing"), "{}", output.stdout);
    let path = format!("/dev/mapper/{}", volume.replace('/', "-"));
    let script = format!(
        "n=0; while [ $n -lt {} ]; do dd if={path} of=/tmp/chunk bs=512k skip=$n count=1 2>/dev/null \
         && sha256sum < /tmp/chunk || echo lost; n=$((n + 1)); done",
        truth.len()
    );
    let said = machine.shell(&script).unwrap().success().unwrap();
    let kernel: Vec<&str> = said.lines().collect();
    assert_eq!(kernel.len(), truth.len());
    for (number, line) in kernel.iter().enumerate() {
        match &partial[number] {
            None => assert_eq!(*line, "lost", "chunk {number} lies on the missing tier"),
            Some(bytes) => {
                assert!(truth[number].as_ref() == Some(bytes), "the userland reader is wrong about chunk {number}");
                assert!(line.starts_with(&common::sha256(bytes)), "chunk {number}: the kernel read {line}");
            }
        }
    }
    machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
    machine.finish().unwrap();
}
