//! Mounts volumes read-only and copies files out, verified.
