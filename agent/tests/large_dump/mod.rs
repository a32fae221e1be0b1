//! A verb that says more than any line, pipe or terminal holds.

use std::fs;
use std::path::Path;
use tierlift_forge::simulator::{Shape, Simulator};
use tierlift_ondisk::units::DeviceId;

/// Mappings of the pool: a line each, for no two are neighbours.
const MAPPINGS: u64 = 30_000;

/// Words that dump a pool made in `folder`: some MiB, more than all buffers on the way together, and more than is read while a
/// question is asked and answered.
pub fn dump_words(folder: &Path) -> [String; 6] {
    let mut pool = Simulator::format(Shape::QNAP_BYPASS).unwrap();
    pool.create(DeviceId(1)).unwrap();
    (0..MAPPINGS).for_each(|chunk| pool.write(DeviceId(1), 2 * chunk).unwrap());
    let meta = folder.join("tmeta.img");
    fs::write(&meta, pool.finish().unwrap().image).unwrap();
    ["pool", "dump", "--format", "xml", "--meta", meta.to_str().unwrap()].map(str::to_owned)
}
