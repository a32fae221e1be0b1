//! Mounts volumes read-only and copies files out, verified.
//!
//! A copy never follows a link out of its tree, writes under a temporary name, reads back what it wrote, and tells of every
//! byte it could not read. An unreadable block costs the file it belongs to, nothing else.

mod ahead;
mod attributes;
mod batch;
pub mod copy;
mod file;
pub mod image;
pub mod kind;
pub mod lost_found;
pub mod manifest;
pub mod mount;
pub mod names;
pub mod room;
pub mod target;
pub mod userland;
mod walk;
