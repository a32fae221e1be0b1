//! Frames and messages of the serial control protocol, used by the agent and by remote clients.
//!
//! Three layers, each testable without the next: [`frame`] finds whole, undamaged frames in a stream of bytes; [`link`]
//! delivers messages once and in order over a line that loses, changes or repeats bytes; [`server`] and [`client`] run one
//! command at a time over that. Nothing here but [`client`] and [`transport`] does I/O or looks at a clock.
//! `docs/protocol.md` describes the same for writers of clients in other languages.

pub mod client;
pub mod frame;
pub mod link;
pub mod message;
pub mod server;
pub mod transport;

pub use client::{Client, ClientError, Output, Wish};
pub use message::{Exit, Greeting, Run, Secret, Stream};
pub use transport::Transport;

/// Version of the messages. The frame layout has its own number, [`frame::VERSION`].
pub const PROTOCOL: u32 = 1;
