//! Builds the device-mapper stack: overlays, linear volumes, the patched thin pool, thin devices.
//!
//! A plan is a pure function of what was found ([`stack::plan`]); executing it is a separate step. Every device is built over
//! an overlay, so that no write can reach a source.

pub mod dm;
pub mod ioctl;
pub mod kernel_log;
pub mod names;
pub mod overlay;
pub mod plan;
pub mod pool_table;
pub mod stack;
#[cfg(test)]
mod test_inventory;
pub mod wire;
