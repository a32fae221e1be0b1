//! A verb that says more than any line, pipe or terminal holds.

use std::fs;
use std::path::Path;

/// Words that dump a genuine pool, unpacked into `folder`: over 300,000 bytes, more than all buffers on the way together.
pub fn dump_words(folder: &Path) -> [String; 6] {
    let packed = fs::File::open("../tests/fixtures/F7-crash-1/tmeta.img.zst").unwrap();
    let meta = folder.join("tmeta.img");
    zstd::stream::copy_decode(packed, fs::File::create(&meta).unwrap()).unwrap();
    ["pool", "dump", "--format", "xml", "--meta", meta.to_str().unwrap()].map(str::to_owned)
}
