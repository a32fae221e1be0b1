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

    let options = ForgeOptions { array_per_tier: true, ..ForgeOptions::default() };
    let whole = Whole::forge("F3-3tiers", &options);
    let present = [&whole.forged.disks[0], &whole.forged.disks[2]];
    let settings = Settings::new(&Image::from_environment().unwrap());
    let mut machine = present.iter().fold(settings, |settings, disk| settings.source(disk)).boot().unwrap();
    let volume = whole.volume(1);
    assert_ne!(machine.run(&["activate", &volume]).unwrap().code, 0, "a missing tier must be agreed to");
    let output = machine.run(&["activate", &volume, "--missing-tier", "1"]).unwrap();
    assert_eq!(output.code & !3, 0, "{}{}", output.stdout, output.stderr);
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
