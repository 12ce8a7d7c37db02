//! skeleton

/// Records taken out of the open batch, to be written by one `write_and_sync`.
#[derive(Debug)]
#[must_use = "a batch that is not written leaves a hole that stops the journal"]
pub struct Batch {}
