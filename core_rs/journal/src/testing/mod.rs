//! A disk in memory that fails on demand, for this crate's tests and for simulators of a node.
//!
//! Shipped only under the feature `testing`. Must not decide what a journal should do: it only
//! behaves as badly as real disks are known to.

mod content;
mod memory_storage;
mod random;

pub use content::{Fate, SECTOR_BYTES};
pub use memory_storage::{Fault, Image, MemoryStorage};
pub use random::{Random, seed_from_environment};
