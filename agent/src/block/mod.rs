//! Read-only views over files, block devices and parts of them.
