//! Build tool of Tierlift.
fn main() {}
