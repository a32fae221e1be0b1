//! The journal of one recovery: what was found, decided, done.
