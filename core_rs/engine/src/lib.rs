//! Placeholder until the crate's owner publishes it.
