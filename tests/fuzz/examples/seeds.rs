//! Writes what each target begins with: `cargo run -p tierlift-fuzz --example seeds -- FOLDER` makes FOLDER/TARGET/NUMBER.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap());
    for target in tierlift_fuzz::TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
