//! From disks to md arrays and physical volumes: fills the inventory.
