//! Makes whole QNAP disks around genuine pools, for tests and the demo.
