//! The two consoles of the appliance: a prompt for people on one serial port, the protocol server for programs on another.
//! They share no byte. `docs/protocol.md` describes the protocol.

pub mod child;
pub mod port;
pub mod server;
