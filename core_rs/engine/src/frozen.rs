//! Owns the frozen copy: the state as it was at one sequence, for work that takes long.
//!
//! A copy is taken in a step a chunk of entities and shares them with the ledger until that writes
//! them, so a snapshot or an audit of millions of reservations stops nobody. Must not carry what
//! follows from other fields: an audit builds it again. Next: `snapshot.rs`.

use crate::ids::{Millis, Sequence};
use crate::state::Ledger;
use crate::view::Audit;

/// The state of a ledger at one sequence; the ledger goes on meanwhile.
///
/// It may go to another thread. While it lives, the first change to each of its chunks copies that
/// chunk, so at worst memory holds the entities twice: drop it when it is done.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Without what `build_derived` builds.
    ledger: Ledger,
}

impl Ledger {
    /// The present state, for another thread; takes microseconds for each 100,000 reservations.
    #[must_use]
    pub fn freeze(&mut self) -> Frozen {
        Frozen {
            ledger: Self {
                sequence: self.sequence,
                time: self.time,
                epoch: self.epoch,
                brake: self.brake.clone(),
                sales: self.sales.iter().map(crate::state::Sale::written).collect(),
                racks: self.racks.iter().map(crate::state::Rack::written).collect(),
                pools: self.pools.clone(),
                reservations: self.reservations.freeze(),
                attempts: self.attempts.freeze(),
                persons: self.persons.freeze(),
                requests: self.requests.freeze(),
                ..Self::default()
            },
        }
    }
}

impl Frozen {
    /// Bytes in a piece of a snapshot: worth a write, small beside what memory must hold anyway.
    pub const PIECE_BYTES_MAX: usize = 64 * 1_024;

    /// The last event of the state.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.ledger.sequence
    }

    /// The time of the last event of the state.
    #[must_use]
    pub fn time(&self) -> Millis {
        self.ledger.time
    }

    /// Writes the state as bytes, in pieces of at most [`Frozen::PIECE_BYTES_MAX`]; equal states
    /// give equal bytes, and [`Ledger::from_snapshot`] reads them.
    ///
    /// # Errors
    /// The first error of `sink`; nothing more is written then.
    pub fn write_snapshot<E>(&self, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        crate::snapshot::write(&self.ledger, sink)
    }

    /// Checks every invariant that the written state can show, as [`Ledger::audit`] does.
    ///
    /// What the live ledger derives from it (look-ups, timers, usages) is built again here, so this
    /// says nothing of the live tables: [`Ledger::audit_slice`] walks those.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut ledger = self.ledger.clone();
        ledger.build_derived();
        ledger.audit()
    }
}
