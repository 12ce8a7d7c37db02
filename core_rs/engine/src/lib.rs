//! The stock ledger of lastunit as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod command;
mod event;
mod ids;
pub mod limits;
mod outcome;
mod reply;
mod view;

pub use command::*;
pub use event::*;
pub use ids::*;
pub use outcome::*;
pub use reply::*;
pub use view::*;

use alloc::vec::Vec;

/// The ledger. (Skeleton: the signatures are final, the bodies follow.)
#[derive(Debug, Default)]
pub struct Ledger {
    sequence: Sequence,
    time: Millis,
}

/// A snapshot that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are not a snapshot.
    Malformed,
    /// Another version wrote it.
    Version {
        /// The version found.
        found: u32,
    },
    /// It reads, but breaks an invariant.
    Inconsistent,
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "skeleton")]
#[expect(
    clippy::todo,
    unused_variables,
    clippy::must_use_candidate,
    reason = "skeleton"
)]
impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn decide(&self, command: &Command, now: Millis) -> Decision {
        todo!()
    }
    pub fn apply(&mut self, event: &Event) {
        todo!()
    }
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
    pub fn time(&self) -> Millis {
        self.time
    }
    pub fn next_due(&self) -> Option<Millis> {
        todo!()
    }
    pub fn due(&self, now: Millis, limit: usize) -> Vec<Command> {
        todo!()
    }
    pub fn reservation(&self, reservation_id: &str) -> Option<ReservationView> {
        todo!()
    }
    pub fn reservations(
        &self,
        filter: &ReservationFilter,
        after: u64,
        limit: usize,
    ) -> Option<ReservationPage> {
        todo!()
    }
    pub fn availability(&self, sale_id: &str, sku: &str) -> Option<AvailabilityView> {
        todo!()
    }
    /// Names of a sale's skus in order; `None` if there is no such sale.
    pub fn skus(&self, sale_id: &str) -> Option<Vec<Text>> {
        todo!()
    }
    pub fn sale(&self, sale_id: &str, now: Millis) -> Option<SaleView> {
        todo!()
    }
    pub fn audit(&self) -> Audit {
        todo!()
    }
    pub fn sizes(&self) -> Sizes {
        todo!()
    }
    pub fn to_snapshot(&self) -> Vec<u8> {
        todo!()
    }
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        todo!()
    }
}
