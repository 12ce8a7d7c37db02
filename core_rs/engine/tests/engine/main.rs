//! The engine's tests: text tables per command, every state with every command, random histories.
//!
//! `world.rs` runs a command and checks what must hold after any command; `script.rs` reads the
//! tables; the rest are the tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on is a failed test"
)]

mod boundaries;
mod history;
mod model;
mod pairs;
mod queries;
mod script;
mod snapshots;
mod tables;
mod words;
mod world;
