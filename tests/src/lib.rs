//! Virtual machines for tests, the demo and `cargo xtask boot`: boots the appliance in QEMU, runs verbs in it over the
//! program console, and proves that the attached sources did not change.

mod fingerprint;
mod kernel_log;
mod machine;
mod medium;
mod processor;
mod settings;

pub use fingerprint::fingerprint;
pub use kernel_log::complaints;
pub use machine::{Machine, Output};
pub use medium::{Firmware, Medium, Port};
pub use processor::processor_time;
pub use settings::{Image, Ports, Settings};
