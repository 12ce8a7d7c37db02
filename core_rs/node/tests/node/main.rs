//! The node from outside: bytes in, bytes out, on disks that work, block and fail.
//!
//! One program, so that it is linked once. Where next: `support.rs` for the rig.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, with the line that met it"
)]

mod admission;
mod arrivals;
mod batches;
mod crashes;
mod damage;
mod door;
mod duplicates;
mod durability;
mod history;
mod lifecycle;
mod memory;
mod metrics;
mod policies;
mod recovery;
mod space;
mod storages;
mod streams;
mod support;
mod timers;
mod waiting;
