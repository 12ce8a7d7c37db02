//! A policy that runs beside the live one and only counts.
//!
//! Owns: a door of its own that lives in its own world: it charges what it would have let in, not
//! what the live door let in. Must not: change an answer. Where next: `door.rs`.

use crate::bucket::Nanos;
use crate::door::{Answer, Ask, Chance, Door, DoorPolicy};
use crate::policy::Lane;
use crate::window::Report;

/// How often the two agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Let in by both.
    pub both_admitted: u64,
    /// Let in by the live policy; this one would have refused.
    pub only_live_admitted: u64,
    /// Refused by the live policy; this one would have let it in.
    pub only_shadow_admitted: u64,
    /// Refused by both.
    pub both_refused: u64,
}

/// A policy on trial.
#[derive(Clone, Debug)]
pub struct Shadow {
    door: Door,
    counts: ShadowCounts,
    /// Calls that the live policy let in and this one did not, or was not asked about, so that
    /// their end is not counted.
    strangers: [u32; 4],
}

impl Shadow {
    /// Starts a trial with empty books; `in_flight` calls of each lane were let in before it.
    #[must_use]
    pub fn new(policy: DoorPolicy, seed: u64, in_flight: [u32; 4], now: Nanos) -> Self {
        Self {
            door: Door::new(policy, seed, now),
            counts: ShadowCounts::default(),
            strangers: in_flight,
        }
    }

    /// Is told what the live policy answered, and notes what this one would have.
    ///
    /// A call that is hopeless is no matter of policy: no policy charges or refuses it.
    pub fn observe(&mut self, ask: &Ask<'_>, live: &Answer, now: Nanos) {
        if *live == Answer::Hopeless || ask.chance == Chance::Gone {
            return;
        }
        let lane = ask.call.operation.lane();
        let own = self.door.decide(ask, now);
        let (is_live, is_own) = (*live == Answer::Admitted, own == Answer::Admitted);
        let count = match (is_live, is_own) {
            (true, true) => &mut self.counts.both_admitted,
            (true, false) => &mut self.counts.only_live_admitted,
            (false, true) => &mut self.counts.only_shadow_admitted,
            (false, false) => &mut self.counts.both_refused,
        };
        *count += 1;
        if is_live && !is_own {
            self.strangers[lane.index()] += 1;
        }
        if !is_live && is_own {
            // Nobody will ever end a call that did not happen: it takes no time.
            self.door.finish(lane, 1);
        }
    }

    /// Is told that `count` calls of a lane are answered.
    pub fn finish(&mut self, lane: Lane, count: u32) {
        let strangers = &mut self.strangers[lane.index()];
        let own = count.saturating_sub(*strangers);
        *strangers = strangers.saturating_sub(count);
        self.door.finish(lane, own);
    }

    /// Is told what the order service reports.
    pub fn report(&mut self, report: &Report, now: Nanos) {
        // What is wrong with a report is the live door's to say.
        let _ = self.door.report(report, now);
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        self.counts
    }
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
