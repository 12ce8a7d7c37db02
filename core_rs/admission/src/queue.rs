//! A queue with a time limit: oldest first in calm, newest first in overload.
//!
//! Owns: the order, the bound and the end of waiting. In calm the order is fair. When even the
//! oldest has waited too long for a whole interval, most of the queue will be too late anyway:
//! serving the newest first lets some be in time instead of none. Must not: know what waits.
//! Where next: `lines.rs`.

use alloc::collections::VecDeque;

use crate::bucket::Nanos;
use crate::policy::{PolicyError, require};

/// Most that may wait in one queue: each is a request in memory.
pub const QUEUE_LENGTH_MAX: u32 = 65_536;

/// Longest that one may wait: callers have given up by then.
pub const QUEUE_WAIT_MAX: Nanos = 10_000_000_000;

/// What an operator sets for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Most that wait, 1 to [`QUEUE_LENGTH_MAX`].
    pub length_max: u32,
    /// Longest wait, 1 ms to [`QUEUE_WAIT_MAX`]; after it the call is answered with not now.
    pub wait_max: Nanos,
    /// A wait of the oldest that is no trouble: at or above it for a whole interval is overload.
    pub target: Nanos,
    /// How long the oldest must wait above the target before that is overload.
    pub interval: Nanos,
}

impl Default for QueuePolicy {
    /// The figures of CoDel, which suit waits of milliseconds.
    fn default() -> Self {
        Self {
            length_max: 4_096,
            wait_max: 1_000_000_000,
            target: 5_000_000,
            interval: 100_000_000,
        }
    }
}

impl QueuePolicy {
    /// Checks every range; `lane` names the setting.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self, lane: &str) -> Result<(), PolicyError> {
        let name = |part: &'static str| move || alloc::format!("lanes.{lane}.{part}");
        let is_length_ok = (1..=QUEUE_LENGTH_MAX).contains(&self.length_max);
        require(is_length_ok, "must be 1 to 65,536", name("waiting_max"))?;
        let is_wait_ok = (1_000_000..=QUEUE_WAIT_MAX).contains(&self.wait_max);
        require(is_wait_ok, "must be 1 ms to 10 s", name("wait_max_ms"))?;
        let is_target_ok = (1..=self.wait_max).contains(&self.target);
        require(
            is_target_ok,
            "must be 1 to wait_max_ms",
            name("wait_target_ms"),
        )?;
        let is_interval_ok = self.interval >= self.target;
        let expected = "must be at least wait_target_ms";
        require(is_interval_ok, expected, name("wait_interval_ms"))
    }
}

/// What came out of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popped<T> {
    /// Its turn; since when it waits.
    Served(T, Nanos),
    /// It waited too long: answer not now; since when it waits.
    Expired(T, Nanos),
}

#[derive(Clone, Copy, Debug)]
struct Waiting<T> {
    item: T,
    since: Nanos,
}

/// What waits in one lane.
#[derive(Clone, Debug)]
pub struct WaitQueue<T> {
    policy: QueuePolicy,
    /// Oldest in front.
    waiting: VecDeque<Waiting<T>>,
    /// Since when the oldest waits above the target; None while it does not.
    late_since: Option<Nanos>,
    last: Nanos,
}

impl<T> WaitQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(policy: QueuePolicy) -> Self {
        Self {
            policy,
            waiting: VecDeque::new(),
            late_since: None,
            last: 0,
        }
    }

    /// Adds one at the end.
    ///
    /// # Errors
    /// Gives it back if the queue is full: answer not now.
    pub fn push(&mut self, item: T, now: Nanos) -> Result<(), T> {
        self.look(now);
        if self.waiting.len() >= self.policy.length_max as usize {
            return Err(item);
        }
        let since = self.last;
        self.waiting.push_back(Waiting { item, since });
        Ok(())
    }

    /// Takes one out: what waited too long first, so that it is told soon; then the oldest in calm,
    /// the newest in overload.
    pub fn pop(&mut self, now: Nanos) -> Option<Popped<T>> {
        self.look(now);
        let oldest = self.waiting.front()?;
        if self.last - oldest.since >= self.policy.wait_max {
            let expired = self.waiting.pop_front();
            return expired.map(|it| Popped::Expired(it.item, it.since));
        }
        let next = if self.is_overloaded(now) {
            self.waiting.pop_back()
        } else {
            self.waiting.pop_front()
        };
        next.map(|it| Popped::Served(it.item, it.since))
    }

    /// Puts one back that came out as served and could not be: it waits on where it was.
    pub fn put_back(&mut self, item: T, since: Nanos, now: Nanos) {
        let is_oldest = self.waiting.front().is_none_or(|it| since <= it.since);
        let waiting = Waiting { item, since };
        if is_oldest {
            self.waiting.push_front(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
        self.look(now);
    }

    /// When the oldest will have waited too long; None if nothing waits.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Nanos> {
        let oldest = self.waiting.front()?;
        Some(oldest.since.saturating_add(self.policy.wait_max))
    }

    /// Whether the oldest has waited above the target for a whole interval.
    #[must_use]
    pub fn is_overloaded(&self, now: Nanos) -> bool {
        let late = |since| now.max(self.last) - since >= self.policy.interval;
        self.late_since.is_some_and(late)
    }

    /// How long the oldest waits; 0 if nothing does.
    #[must_use]
    pub fn delay(&self, now: Nanos) -> Nanos {
        let oldest = self.waiting.front();
        oldest.map_or(0, |it| now.max(self.last) - it.since)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sets another policy; what waits beyond a lower bound stays until it is served or expires.
    pub fn set_policy(&mut self, policy: QueuePolicy, now: Nanos) {
        self.policy = policy;
        self.look(now);
    }

    /// Moves the queue's time on and notes since when the oldest is late.
    fn look(&mut self, now: Nanos) {
        self.last = self.last.max(now);
        let oldest = self.waiting.front();
        let late_at = oldest.map(|it| it.since.saturating_add(self.policy.target));
        self.late_since = match late_at {
            Some(at) if at <= self.last => Some(self.late_since.unwrap_or(at)),
            _ => None,
        };
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
