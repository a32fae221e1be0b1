#![no_main]
tierlift_libfuzzer::fuzz!("generations");
