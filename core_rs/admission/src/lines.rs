//! The queues of all lanes, and whose turn it is among them.
//!
//! Owns: who is called next, and when there is use in looking again. Settlement before reservations
//! before reads, and none below is starved. Must not: decide who is let in. Where next: `queue.rs`,
//! `turns.rs`.

use crate::bucket::Nanos;
use crate::policy::{Lane, Policy};
use crate::queue::{Popped, WaitQueue};
use crate::turns::Turns;

/// Turns that lanes get although those above them have work, in thousandths.
const SHARES: [u32; 4] = [0, 0, 200, 50];

/// A lane without room is looked at again after this at the soonest, and at the latest.
const LOOK_AGAIN: (Nanos, Nanos) = (100_000, 2_000_000);

/// One whose waiting ended for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called<T> {
    /// Who.
    pub item: T,
    /// Where it waited.
    pub lane: Lane,
    /// Since when it waits.
    pub since: Nanos,
    /// Whether it waited too long: it is refused.
    pub is_late: bool,
}

/// All that wait for their lanes.
#[derive(Clone, Debug)]
pub struct WaitingLines<T> {
    queues: [WaitQueue<T>; 4],
    /// Before this there is no use in asking for the lane.
    resume: [Nanos; 4],
    turns: Turns,
}

impl<T> WaitingLines<T> {
    /// Empty queues.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let queue = |lane: Lane| WaitQueue::new(policy.lane(lane).queue.unwrap_or_default());
        Self {
            queues: Lane::ALL.map(queue),
            resume: [0; 4],
            turns: Turns::new(SHARES),
        }
    }

    /// Applies a policy; who waits where nobody may any more waits on.
    pub fn set_policy(&mut self, policy: &Policy, now: Nanos) {
        for lane in Lane::ALL {
            if let Some(queue) = policy.lane(lane).queue {
                self.queues[lane.index()].set_policy(queue, now);
            }
        }
        self.resume = [now; 4];
    }

    /// Adds one at the end of its lane.
    ///
    /// # Errors
    /// Gives it back if there is no place.
    pub fn push(&mut self, item: T, lane: Lane, now: Nanos) -> Result<(), T> {
        self.queues[lane.index()].push(item, now)
    }

    /// Calls the next one, if anybody's turn or end has come; `is_over` calls everybody, as late.
    pub fn call(&mut self, now: Nanos, is_over: bool) -> Option<Called<T>> {
        let is_due = Lane::ALL.map(|lane| {
            let at = lane.index();
            let expiry = self.queues[at].next_expiry();
            expiry.is_some_and(|expiry| is_over || expiry <= now || self.resume[at] <= now)
        });
        let lane = self.turns.next(is_due)?;
        let (item, since, is_late) = match self.queues[lane.index()].pop(now)? {
            Popped::Served(item, since) => (item, since, is_over),
            Popped::Expired(item, since) => (item, since, true),
        };
        Some(Called {
            item,
            lane,
            since,
            is_late,
        })
    }

    /// Puts one back for which there was no room after all: it waits on where it was, and its lane
    /// is asked again when `wait` says, though not too soon and not too late.
    pub fn put_back(&mut self, called: Called<T>, wait: Nanos, now: Nanos) {
        let at = called.lane.index();
        self.queues[at].put_back(called.item, called.since, now);
        self.resume[at] = now.saturating_add(wait.clamp(LOOK_AGAIN.0, LOOK_AGAIN.1));
    }

    /// When to look again; None if nobody waits.
    #[must_use]
    pub fn next_look(&self) -> Option<Nanos> {
        let look = |lane: Lane| {
            let at = lane.index();
            let expiry = self.queues[at].next_expiry()?;
            Some(expiry.min(self.resume[at]))
        };
        Lane::ALL.into_iter().filter_map(look).min()
    }

    /// How many wait for a lane.
    #[must_use]
    pub fn len(&self, lane: Lane) -> usize {
        self.queues[lane.index()].len()
    }

    /// Whether nobody waits for any lane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(WaitQueue::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueuePolicy;

    const MILLISECOND: Nanos = 1_000_000;

    fn lines() -> WaitingLines<u32> {
        let mut policy = Policy::default();
        for lane in [Lane::Settlement, Lane::Reservation] {
            policy.lane_mut(lane).queue = Some(QueuePolicy {
                length_max: 2,
                wait_max: 50 * MILLISECOND,
                ..QueuePolicy::default()
            });
        }
        WaitingLines::new(&policy)
    }

    fn called(item: u32, lane: Lane, since: Nanos, is_late: bool) -> Called<u32> {
        Called {
            item,
            lane,
            since,
            is_late,
        }
    }

    #[test]
    fn settlement_is_called_before_a_reservation_that_came_first() {
        let mut lines = lines();
        lines.push(1, Lane::Reservation, 1).expect("is a place");
        lines.push(2, Lane::Settlement, 2).expect("is a place");
        assert!(!lines.is_empty());

        let settlement = called(2, Lane::Settlement, 2, false);
        assert_eq!(Some(settlement), lines.call(3, false));
        let reservation = called(1, Lane::Reservation, 1, false);
        assert_eq!(Some(reservation), lines.call(3, false));
        assert_eq!(None, lines.call(3, false));
        assert!(lines.is_empty());
    }

    #[test]
    fn a_full_queue_gives_the_next_one_back() {
        let mut lines = lines();
        for item in [1, 2] {
            lines.push(item, Lane::Reservation, 0).expect("is a place");
        }

        assert_eq!(Err(3), lines.push(3, Lane::Reservation, 0));
        assert_eq!(Ok(()), lines.push(3, Lane::Settlement, 0));
        assert_eq!(2, lines.len(Lane::Reservation));
    }

    #[test]
    fn who_is_put_back_is_called_again_no_sooner_than_there_is_use_in_it() {
        for (wait, look) in [
            (0, 100_000),
            (MILLISECOND, MILLISECOND),
            (9 * MILLISECOND, 2 * MILLISECOND),
        ] {
            let mut lines = lines();
            lines.push(1, Lane::Reservation, 0).expect("is a place");
            let first = lines.call(0, false).expect("nobody asked before");
            lines.put_back(first, wait, 0);

            assert_eq!(Some(look), lines.next_look());
            assert_eq!(None, lines.call(look - 1, false));
            assert_eq!(Some(first), lines.call(look, false));
        }
    }

    #[test]
    fn whoever_waited_too_long_is_called_as_late_and_at_the_end_everybody_is() {
        let mut lines = lines();
        lines.push(1, Lane::Reservation, 0).expect("is a place");
        let first = lines.call(0, false).expect("nobody asked before");
        let end = 50 * MILLISECOND;
        lines.put_back(first, MILLISECOND, end - 1);
        lines.push(2, Lane::Reservation, end).expect("is a place");

        let late = called(1, Lane::Reservation, 0, true);
        assert_eq!(Some(late), lines.call(end, false));
        assert_eq!(None, lines.call(end, false));
        let over = called(2, Lane::Reservation, end, true);
        assert_eq!(Some(over), lines.call(end, true));
        assert_eq!(None, lines.next_look());
    }

    #[test]
    fn another_policy_has_every_lane_looked_at_again() {
        let mut lines = lines();
        lines.push(1, Lane::Reservation, 0).expect("is a place");
        let first = lines.call(0, false).expect("nobody asked before");
        lines.put_back(first, MILLISECOND, 0);
        let mut policy = Policy::default();
        policy.lane_mut(Lane::Reservation).queue = Some(QueuePolicy::default());
        lines.set_policy(&policy, 10);

        assert_eq!(Some(10), lines.next_look());
        assert_eq!(Some(first), lines.call(10, false));
        for item in 0..5 {
            lines.push(item, Lane::Reservation, 11).expect("is a place");
        }
    }
}
