//! One seed from its birth to its verdict.
//!
//! Owns: the catching of panics, which are violations like any other. Must not: print. Where next:
//! `main.rs` for many seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cover::Cover;
use crate::judge::Violation;
use crate::world::World;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Life {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// The same for two runs of one seed.
    pub digest: u64,
    /// Calls that reached the node.
    pub operations: u64,
    /// Times that the process ended before its time.
    pub crashes: u64,
    /// What was met.
    pub cover: Cover,
}

/// Lives through a seed; the trace goes to the standard error if it is asked for.
#[must_use]
pub fn live(seed: u64, is_traced: bool) -> Life {
    let mut world = World::new(seed, is_traced);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => Some(Violation::new("assertion", panic_text(panic.as_ref()))),
    };
    let counts = world.server.disk.counts();
    let cover = &mut world.cover;
    cover.add("disk device error", counts.device_errors);
    cover.add("disk short write", counts.short_writes);
    cover.add("disk full", counts.full);
    cover.add("disk read error", counts.read_errors);
    Life {
        violation,
        digest: world.trace.digest.value(),
        operations: world.operations,
        crashes: world.crashes,
        cover: world.cover,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}
