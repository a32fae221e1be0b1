//! What was found, done and lost, as text.
