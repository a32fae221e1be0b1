//! Unlocks encrypted volumes ("docs/disk-layout, section 5"): what the user knows becomes what LUKS was given; cryptsetup does
//! the work. Passwords are never logged, echoed or stored.

pub mod candidates;
pub mod crypt;
pub mod md5_crypt;
pub mod prompt;
