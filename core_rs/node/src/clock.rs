//! Ledger time: milliseconds since the epoch that never go back.
//!
//! Owns: the only reading of the machine's clock that reaches the ledger. Must not: be read without
//! the node's lock, since the order of times is the order of decisions. Where next: `core.rs`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lastunit_engine::Millis;

/// Where ledger time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// The machine's clock, held back when it goes back.
    System,
    /// Set by `RehearsalService.SetClock`.
    Manual,
}

/// Ledger time of one node.
#[derive(Clone, Debug)]
pub(crate) struct LedgerClock {
    kind: ClockKind,
    last: Millis,
}

impl LedgerClock {
    /// Starts at `last`, the latest time that the journal knows.
    pub(crate) fn new(kind: ClockKind, last: Millis) -> Self {
        Self { kind, last }
    }

    /// Returns the time of the next decision: never less than the one before.
    pub(crate) fn now(&mut self) -> Millis {
        if self.kind == ClockKind::System {
            self.last = self.last.max(system_now());
        }
        self.last
    }

    /// Moves a manual clock; a time before the present one is left out.
    pub(crate) fn advance(&mut self, now: Millis) {
        self.last = self.last.max(now);
    }
}

/// Milliseconds since the epoch as the machine has them; a clock before 1970 counts as 1970.
pub(crate) fn system_now() -> Millis {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::stepped::simulated_now() {
        return simulated;
    }
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |it| {
        Millis::try_from(it.as_millis()).unwrap_or(Millis::MAX)
    })
}

/// The monotonic clock: deadlines and admission are measured with it, never ledger time.
pub(crate) fn instant_now() -> Instant {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::stepped::simulated_instant() {
        return simulated;
    }
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_that_went_back_is_held() {
        let ahead = system_now() + 3_600_000;
        let mut clock = LedgerClock::new(ClockKind::System, ahead);

        assert_eq!(ahead, clock.now());
    }

    #[test]
    fn manual_time_moves_only_forward_and_only_when_told() {
        let mut clock = LedgerClock::new(ClockKind::Manual, 500);
        clock.advance(400);
        assert_eq!(500, clock.now());

        clock.advance(900);
        assert_eq!(900, clock.now());
    }
}
