//! Arrivals: what came to the door, kept compactly, and decided again by another policy.
//!
//! Owns: the form of a recording (version 2, `docs/reference/arrivals-format.md`), its reader, that
//! survives any bytes, and the replay of a recording in simulated time with the very code that
//! decides live.
//!
//! Must not: touch a file, read a clock, know a policy's text. Where next: `block.rs` for bytes,
//! `simulation.rs` for the replay; the node writes recordings (`recorder.rs`).
#![forbid(unsafe_code)]

mod arrival;
mod block;
mod database;
mod numbers;
mod question;
mod simulation;
mod tally;
mod world;

#[cfg(test)]
mod tests;

pub use arrival::{Draft, Outcome, ReportNote};
pub use block::{
    BLOCK_BYTES_MAX, Block, Blocks, Damage, Encoder, HEADER_BYTES, Origin, Row, RowArrival, VERSION,
};
pub use simulation::{Forecast, Options, Simulation};
pub use tally::{CallerRow, LaneRow, Tally};
