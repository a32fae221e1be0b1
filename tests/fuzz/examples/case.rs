//! Tells what an input means and runs it: `cargo run -p tierlift-fuzz --example case -- TARGET FILE`.
#![allow(clippy::unwrap_used)]

use tierlift_fuzz::{Case, Target};

fn main() {
    let mut words = std::env::args().skip(1);
    let target = Target::named(&words.next().unwrap());
    let input = std::fs::read(words.next().unwrap()).unwrap();
    if target.is_engine {
        let case = Case::decode(&input);
        println!("{}, {} bytes, {:?}", case.base.name, case.device.length(), case.salvage_options());
        for edit in &case.edits {
            println!("{edit:?} (blocks {} and {})", case.base.block(edit.block), case.base.block(edit.other));
        }
    }
    (target.run)(&input);
}
