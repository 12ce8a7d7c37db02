//! Deterministic simulation: the ledger's real code over a simulated clock, disk and network.
//!
//! Owns: seeds, worlds, faults, and the oracles that notice a broken promise. A seed is a whole
//! life of a sale with everything that can go wrong with it, in one thread, the same every time.
//! Must not: be shipped, or know a secret way around the node: it calls what clients call.
//!
//! Where next: `plan.rs` for what a seed is about, `world.rs` for how it runs, `book/mod.rs` for
//! what the answers are compared with, `docs/internals/simulation.md` for the whole.

#![forbid(unsafe_code)]

mod actors;
mod answers;
mod book;
mod cover;
mod dice;
mod disk;
mod faults;
mod judge;
mod meddlers;
mod plan;
mod provider;
mod recover;
mod request;
mod run;
mod server;
mod trace;
mod world;

pub use cover::{Cover, REQUIRED};
pub use judge::Violation;
pub use run::{Life, live};
