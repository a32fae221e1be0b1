//! Builds the device-mapper stack: overlays, linear volumes, the patched thin pool, thin devices.
//!
//! A plan is a pure function of what was found ([`stack::plan`]); executing it is a separate step. Every device is built over
//! an overlay, so that no write can reach a source.

pub mod array;
pub mod bring_up;
mod deps;
pub mod dm;
pub mod execute;
pub mod fullness;
pub mod ground;
pub mod ioctl;
pub mod kernel_log;
pub mod lock;
pub mod md;
pub mod names;
pub mod new_metadata;
pub mod overlay;
pub mod plan;
pub mod pool_table;
mod repaired;
pub mod repaired_inodes;
pub mod scratch;
pub mod session;
pub mod signature;
pub mod stack;
pub mod sysfs;
#[cfg(test)]
mod test_inventory;
pub mod volume_overlay;
pub mod window;
pub mod wire;

/// Mark that the image puts into the appliance.
const APPLIANCE_MARK: &str = "/etc/tierlift-appliance";

/// Whether this is the appliance and not somebody's machine.
pub fn is_appliance() -> bool {
    std::path::Path::new(APPLIANCE_MARK).exists()
}
