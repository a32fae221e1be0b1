//! Builds the device-mapper stack: overlays, linear volumes, the patched thin pool, thin devices.
