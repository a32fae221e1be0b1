use super::*;
use sha2::{Digest, Sha256};
use std::os::unix::fs::{FileExt, MetadataExt};
use tierlift_ondisk::field::hex;

/// Small, so that an image has several.
const SMALL: u64 = 64 << 10;
/// Bytes of the volume: eight segments and a part of one.
const SIZE: usize = 8 * SMALL as usize + 1234;

struct Disks {
    folder: tempfile::TempDir,
}

impl Disks {
    fn new() -> Self {
        let disks = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(disks.path("device"), content()).unwrap();
        disks
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn device(&self) -> File {
        File::options().read(true).write(true).open(self.path("device")).unwrap()
    }

    /// A copy of a volume of this size, of which nothing behind the end of the device can be read.
    fn copy(&self, size: usize) -> anyhow::Result<Imaged> {
        let (device, target) = (self.path("device"), self.path("lun.img"));
        let image = Image { device: &device, volume: "vg1/lv1", target: &target, expected: None };
        copy_from(&image, &self.device(), size as u64, SMALL)
    }

    /// A copy that was cut after so many segments, and half of the next one.
    fn cut(&self, size: usize, segments: u64) {
        let mut part = Part::open(&self.path("lun.img"), "vg1/lv1", size as u64, SMALL).unwrap();
        (0..segments).for_each(|number| part.copy_segment(&self.device(), number * SMALL).unwrap());
        let written = File::options().write(true).open(self.path("lun.img.tierlift-part")).unwrap();
        written.write_all_at(&[0xcc; 1000], segments * SMALL).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// No two pieces are the same; the second segment and the one before the last are zeros.
fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..SIZE.div_ceil(4) as u32).flat_map(|number| (number + 1).to_le_bytes()).collect();
    bytes.truncate(SIZE);
    bytes[SMALL as usize..2 * SMALL as usize].fill(0);
    bytes[7 * SMALL as usize..8 * SMALL as usize].fill(0);
    bytes
}

#[test]
fn a_volume_becomes_a_file_once() {
    let disks = Disks::new();
    let first = disks.copy(SIZE).unwrap();
    assert_eq!((first.counts.copied, first.counts.bytes, first.was_there), (1, SIZE as u64, false));
    assert_eq!(disks.read("lun.img"), content());
    let json: serde_json::Value = serde_json::from_slice(&disks.read("lun.img.json")).unwrap();
    let sha256 = hex(&Sha256::digest(content()));
    let expected = serde_json::json!({"schema": "tierlift.image/1", "size": SIZE, "sha256": sha256, "lost": []});
    assert_eq!((json, disks.names()), (expected, vec!["device".into(), "lun.img".into(), "lun.img.json".into()]));
    let blocks = std::fs::metadata(disks.path("lun.img")).unwrap().blocks() * 512;
    assert!(blocks < SIZE as u64 - SMALL, "{blocks} bytes for an image with holes");
    let again = disks.copy(SIZE).unwrap();
    assert_eq!((again.counts.identical, again.counts.bytes, again.was_there), (1, SIZE as u64, true));
}

#[test]
fn what_is_no_image_of_the_volume_is_left_alone() {
    let disks = Disks::new();
    disks.copy(SIZE).unwrap();
    let sound = disks.read("lun.img");
    // One byte between the places that are compared with the source.
    let mut rotten = sound.clone();
    rotten[3 * SMALL as usize + 4097 + 4096] ^= 1;
    let others = [(rotten, "not hold any more"), (vec![1; SIZE], "something else"), (vec![1; 7], "something else")];
    for (other, why) in others {
        std::fs::write(disks.path("lun.img"), &other).unwrap();
        let error = disks.copy(SIZE).unwrap_err();
        assert!(error.is::<Refused>() && error.to_string().contains(why), "{error}");
        assert_eq!(disks.read("lun.img"), other);
    }
    std::fs::write(disks.path("lun.img"), &sound).unwrap();
    // The image is right, but the volume of this name is another one now.
    disks.device().write_all_at(&[9; 512], 0).unwrap();
    assert!(disks.copy(SIZE).unwrap_err().to_string().contains("something else"));
    std::fs::remove_file(disks.path("lun.img.json")).unwrap();
    assert!(disks.copy(SIZE).unwrap_err().is::<Refused>(), "an image that says nothing of itself");
}

#[test]
fn a_copy_that_was_cut_goes_on_without_reading_the_source_again() {
    let disks = Disks::new();
    disks.cut(SIZE, 4);
    // Only who reads the segment again sees it.
    disks.device().write_all_at(b"changed", 3 * SMALL + 50_000).unwrap();
    assert_eq!(disks.copy(SIZE).unwrap().counts.copied, 1);
    assert!(disks.read("lun.img") == content(), "the segments of the first run, and the rest");
    assert_eq!(disks.names(), ["device", "lun.img", "lun.img.json"]);
}

#[test]
fn a_segment_that_is_not_as_it_was_written_is_copied_again() {
    let disks = Disks::new();
    disks.cut(SIZE, 9);
    let part = File::options().write(true).open(disks.path("lun.img.tierlift-part")).unwrap();
    // A segment of data, and one of zeros, which nothing writes over.
    part.write_all_at(b"rot", 5 * SMALL + 100).unwrap();
    part.write_all_at(b"rot", SMALL + 100).unwrap();
    disks.copy(SIZE).unwrap();
    assert!(disks.read("lun.img") == content());
}

#[test]
fn a_part_of_something_else_is_begun_anew() {
    // In the last case name and size are the same, and only the content tells.
    for (volume, size) in [("vg1/lv2", SIZE), ("vg1/lv1", SIZE + 1), ("vg1/lv1", SIZE)] {
        let disks = Disks::new();
        let other: Vec<u8> = content().iter().map(|byte| byte ^ 0x55).collect();
        std::fs::write(disks.path("device"), other).unwrap();
        let mut part = Part::open(&disks.path("lun.img"), volume, size as u64, SMALL).unwrap();
        (0..3).for_each(|number| part.copy_segment(&disks.device(), number * SMALL).unwrap());
        drop(part);
        std::fs::write(disks.path("device"), content()).unwrap();
        disks.copy(SIZE).unwrap();
        assert!(disks.read("lun.img") == content(), "{volume} {size}");
    }
}

#[test]
fn a_damaged_image_is_counted_whole_and_known_again() {
    let disks = Disks::new();
    let lost = 3 * SIZE / 2;
    let size = SIZE + lost;
    disks.cut(size, 3);
    for was_there in [false, true] {
        let done = disks.copy(size).unwrap();
        assert_eq!((done.counts.damaged, done.counts.copied, done.counts.identical), (1, 0, 0));
        assert_eq!((done.counts.bytes, done.counts.lost_bytes), (size as u64, lost as u64));
        assert_eq!((done.was_there, done.path.clone()), (was_there, disks.path("lun.img.damaged")));
        assert!(done.losses[0].starts_with(&format!("the image: {lost} of {size} bytes cannot be read")));
        assert_eq!(disks.names(), ["device", "lun.img.damaged", "lun.img.damaged.json"]);
    }
    assert!(disks.read("lun.img.damaged") == [content(), vec![0; lost]].concat());
    let json: serde_json::Value = serde_json::from_slice(&disks.read("lun.img.damaged.json")).unwrap();
    assert_eq!(json["lost"], serde_json::json!([{"offset": SIZE, "length": lost}]));
    // Another disk was attached: what was lost can be read, and the old image is not passed off for all there is.
    disks.device().set_len(size as u64).unwrap();
    let error = disks.copy(size).unwrap_err();
    assert!(error.is::<Refused>() && error.to_string().contains("less of the volume could be read"), "{error}");
}

#[test]
fn what_was_lost_in_a_copy_that_was_cut_is_tried_again() {
    let disks = Disks::new();
    let device = disks.device();
    device.set_len(2 * SMALL + 4096).unwrap();
    disks.cut(SIZE, 5);
    std::fs::write(disks.path("device"), content()).unwrap();
    assert_eq!(disks.copy(SIZE).unwrap().counts.damaged, 0);
    assert!(disks.read("lun.img") == content());
}

#[test]
fn a_cut_behind_the_last_name_costs_nothing() {
    let disks = Disks::new();
    disks.cut(SIZE, 2);
    let lines = disks.read("lun.img.tierlift-part.progress");
    disks.copy(SIZE).unwrap();
    std::fs::write(disks.path("lun.img.tierlift-part.progress"), lines).unwrap();
    assert_eq!(disks.copy(SIZE).unwrap().counts.identical, 1);
    assert_eq!(disks.names(), ["device", "lun.img", "lun.img.json"]);
}

#[test]
fn a_target_without_room_is_refused_before_anything_is_written() {
    let gib = |count: u64| Bytes(count << 30);
    let told =
        |kind, size: Bytes, expected, room| refused(kind, size.0, expected, room).map_err(|error| error.to_string());
    assert!(told(Kind::Fat, gib(4), None, gib(99)).unwrap_err().contains("FAT holds no files of 4 GiB"));
    told(Kind::Fat, gib(1), None, gib(1)).unwrap();
    let exfat = told(Kind::Exfat, gib(10), Some(gib(1)), gib(9)).unwrap_err();
    assert!(exfat.contains("10.0 GiB is the size of the volume") && exfat.contains("9.0 GiB are free"), "{exfat}");
    let ext4 = told(Kind::Unix, gib(10), Some(gib(3)), gib(2)).unwrap_err();
    assert!(ext4.contains("3.0 GiB are in use on the volume, 2.0 GiB are free"), "{ext4}");
    told(Kind::Unix, gib(10), Some(gib(3)), gib(3)).unwrap();
    told(Kind::Unix, gib(10), None, gib(2)).unwrap();
    // Chunks reach beyond the end of the volume.
    told(Kind::Ntfs, gib(2), Some(gib(3)), gib(2)).unwrap();

    let disks = Disks::new();
    let (device, target) = (disks.path("device"), disks.path("lun.img"));
    let image = Image { device: &device, volume: "vg1/lv1", target: &target, expected: Some(Bytes(u64::MAX)) };
    let error = copy_from(&image, &disks.device(), u64::MAX / 4, SMALL).unwrap_err();
    assert!(error.is::<Refused>() && error.to_string().contains("too small"), "{error}");
    assert_eq!(disks.names(), ["device"]);
}

#[test]
fn a_folder_leads_nowhere_else() {
    assert_eq!(file_name("vg1/lv1"), "vg1-lv1");
    assert_eq!(file_name("../../etc/x"), "-..-etc-x");
}
