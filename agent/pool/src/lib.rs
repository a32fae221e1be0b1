//! The thin/tier pool engine.
