#![no_main]
tierlift_libfuzzer::fuzz!("dump");
