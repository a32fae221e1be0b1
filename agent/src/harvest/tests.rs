//! What system partitions tell, sound and damaged.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

/// Two MiB of ext3 as mke2fs makes it, with two texts of LVM, settings and a key; or the same with the mark of a file system that
/// was in use when it was copied.
fn image(dirty: bool) -> Vec<u8> {
    let mut image = zstd::decode_all(&include_bytes!("sample.ext3.zst")[..]).unwrap();
    image[1024 + 0x60] |= if dirty { 4 } else { 0 };
    image
}

fn told(image: Vec<u8>) -> (Option<Told>, u64) {
    let mut left = BUDGET;
    let told = look(Arc::new(image), "md9", &mut left);
    (told, BUDGET - left)
}

#[test]
fn texts_settings_and_keys_are_found() {
    for dirty in [false, true] {
        let (told, read) = told(image(dirty));
        let told = told.unwrap();
        let harvest = &told.harvest;
        assert_eq!(told.texts.len(), 2, "{harvest:?}");
        assert_eq!(harvest.lvm_texts, ["/.config/lvm/archive/vg1_00001-12345.vg", "/.config/lvm/backup/vg1"]);
        assert_eq!(told.texts[1].finding.place, "md9: /.config/lvm/backup/vg1");
        assert_eq!(harvest.model.as_deref(), Some("TS-453Bmini"));
        assert_eq!(harvest.keys, ["/.config/.externalkey/vol1.key"]);
        assert_eq!(harvest.volumes.len(), 1);
        assert_eq!((harvest.volumes[0].encrypted, harvest.volumes[0].ssd_cache), (Some(true), Some(true)));
        assert_eq!(harvest.notes.len(), usize::from(dirty), "{:?}", harvest.notes);
        assert!(!format!("{told:?}").contains("topsecret"), "keys and passwords stay where they are");
        assert!(read < 1 << 20, "{read}");
    }
}

#[test]
fn what_is_no_file_system_tells_nothing() {
    for bytes in [vec![], vec![0; 100], vec![0; 1 << 20], vec![0xff; 5000]] {
        assert!(told(bytes).0.is_none());
    }
}

#[test]
fn every_prefix_is_survived() {
    let image = image(false);
    for length in (0..image.len()).step_by(1009).chain(1000..1200) {
        let (told, read) = told(image[..length].to_vec());
        assert!(told.is_none_or(|told| told.texts.len() <= 2) && read <= BUDGET);
    }
}

#[test]
fn reads_are_bounded() {
    let mut left = 64 << 10;
    let told = look(Arc::new(image(false)), "md9", &mut left).unwrap();
    assert!(left < 4096 && !told.harvest.notes.is_empty(), "{left} {:?}", told.harvest.notes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Any damage costs what it hits, and no more: no panic comes out, nothing is read beyond the bound.
    #[test]
    fn damage_is_survived(
        hits in proptest::collection::vec((0usize..1 << 21, any::<u8>(), any::<bool>()), 1..60),
        near in 0usize..64,
    ) {
        let mut image = image(false);
        for (at, value, at_start) in hits {
            // Half of the hits go where the structure is: superblock, descriptors, inodes, directories.
            let at = if at_start { 1024 + at % (near * 1024 + 300) } else { at % image.len() };
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
        }
        let (_, read) = told(image);
        prop_assert!(read <= BUDGET);
    }
}
