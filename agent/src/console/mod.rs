//! The menu for people and the protocol server for programs.
