//! Whether the node serves, and if not, why.
//!
//! Owns: the one word that every call looks at first. Must not: act on it. Where next: `node.rs`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where a node is in its life; it only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Calls are served.
    Serving = 0,
    /// No new calls; those that were let in are answered.
    Draining = 1,
    /// Flushed, sealed, the directory given back.
    Closed = 2,
    /// The journal failed: nothing can be acknowledged any more.
    JournalFailed = 3,
    /// A bug stopped a decision half way: the state in memory is not trusted any more.
    Poisoned = 4,
}

impl Phase {
    /// Stable name; empty while calls are served.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Serving => "",
            Self::Draining => "DRAINING",
            Self::Closed => "CLOSED",
            Self::JournalFailed => "JOURNAL_FAILED",
            Self::Poisoned => "NODE_POISONED",
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Serving,
            1 => Self::Draining,
            2 => Self::Closed,
            3 => Self::JournalFailed,
            _ => Self::Poisoned,
        }
    }
}

/// The phase, readable without a lock, with the cause of the last move beside it.
pub(crate) struct Life {
    /// SeqCst: pairs with the count of open calls, see `permit.rs`.
    phase: AtomicU8,
    /// Why; read only to explain, so its lock is of no consequence.
    cause: Mutex<String>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            cause: Mutex::new(String::new()),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::SeqCst))
    }

    pub(crate) fn cause(&self) -> String {
        self.cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Moves on to `phase`; returns whether this call moved it. A failed node stays failed.
    pub(crate) fn advance(&self, phase: Phase, cause: &str) -> bool {
        let mut text = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let is_moved = self.phase() < phase;
        if is_moved {
            cause.clone_into(&mut text);
            self.phase.store(phase as u8, Ordering::SeqCst);
        }
        is_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_never_gets_better_by_itself() {
        let life = Life::new();
        assert!(life.advance(Phase::Draining, "asked"));
        assert!(life.advance(Phase::JournalFailed, "disk"));
        assert!(!life.advance(Phase::Closed, "later"));

        assert_eq!(
            (Phase::JournalFailed, "disk".to_owned()),
            (life.phase(), life.cause())
        );
    }
}
