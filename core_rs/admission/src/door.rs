//! The whole decision of one call: every bucket it meets, the credit window, and whether there is
//! anything left to win.
//!
//! Owns: the order of the questions. Hopeless first: who asks for what is gone is told so at once
//! and pays nothing. Then all limits are looked at, and all are charged or none. Must not: read a
//! clock, know stock beyond the word of the caller. Where next: `admission.rs`, `window.rs`.

use alloc::vec::Vec;

use crate::admission::{Admission, Call};
use crate::bucket::{Bucket, Denial, Micros, Nanos};
use crate::gate::GateRules;
use crate::keyed::{Keyed, KeyedPolicy, Place};
use crate::policy::{Lane, Operation, Policy, PolicyError};
use crate::stats::Stats;
use crate::verdict::{Limit, Refusal, Verdict, Violations};
use crate::window::{Report, ReportError, Window, WindowPolicy, WindowStats};

/// Most SKUs of one call; as many as a reservation has lines.
pub const SKUS_MAX: usize = 32;

/// When to come back after a wait in vain, if the lane has room again: with the next calls.
const LATE_RETRY: Nanos = 20_000_000;

/// Whether a call can still win, as whoever knows the stock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// There are units, or some may come back.
    Possible,
    /// A SKU of it is GONE: sold, and nothing held or paying that could come back.
    Gone,
}

/// A call and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What, and by whom.
    pub call: Call<'a>,
    /// Its sale; empty if it has none.
    pub sale: &'a str,
    /// Its SKUs, each once; those past [`SKUS_MAX`] are not looked at.
    pub skus: &'a [&'a str],
    /// Whether it can still win.
    pub chance: Chance,
}

/// What is answered to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Let in and charged; [`Door::finish`] must follow once it is answered.
    Admitted,
    /// Not charged, and not counted among the calls in flight of its lane: the ledger's refusal
    /// (sold out) can be given at once. [`Door::finish_hopeless`] must follow once it is answered.
    Hopeless,
    /// Not let in and not charged: not now, or never.
    Refused(Refusal),
}

/// All that an operator sets for a door, and for the gates before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorPolicy {
    /// Lanes, callers, costs.
    pub limits: Policy,
    /// Buckets of sales; charged by Reserve.
    pub sales: KeyedPolicy,
    /// Buckets of SKUs; charged by Reserve, once for each SKU of it.
    pub skus: KeyedPolicy,
    /// The credit window; None: the order service does not report.
    pub window: Option<WindowPolicy>,
    /// What the gates are judged by; None leaves it to the server's settings. The door does not
    /// look at it.
    pub gate: Option<GateRules>,
}

impl DoorPolicy {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.limits.check()?;
        self.sales.check("sales")?;
        self.skus.check("skus")?;
        self.gate.as_ref().map_or(Ok(()), GateRules::check)?;
        self.window.as_ref().map_or(Ok(()), WindowPolicy::check)
    }
}

/// The state of the whole decision.
///
/// ```
/// use lastunit_admission::{Answer, Ask, BucketPolicy, Call, Chance, Door, DoorPolicy, Operation};
/// use lastunit_admission::TOKEN;
///
/// let mut policy = DoorPolicy::default();
/// policy.skus.each = Some(BucketPolicy { rate: 1_000, burst: TOKEN });
/// let mut door = Door::new(policy, 0x5eed, 0);
/// let call = Call { operation: Operation::Reserve, line_count: 1, caller: "order-service" };
/// let ask = Ask { call, sale: "s", skus: &["shoe"], chance: Chance::Possible };
///
/// assert_eq!(Answer::Admitted, door.decide(&ask, 0));
/// assert!(matches!(door.decide(&ask, 0), Answer::Refused(_)));
/// let gone = Ask { chance: Chance::Gone, ..ask };
/// assert_eq!(Answer::Hopeless, door.decide(&gone, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Door {
    admission: Admission,
    sales: Keyed,
    skus: Keyed,
    window: Option<Window>,
    hopeless_count: u64,
    hopeless_in_flight: u32,
    /// Of the SKUs of the call that is decided; kept for its room.
    places: Vec<Place>,
}

impl Door {
    /// Starts with a policy that [`DoorPolicy::check`] has passed. `seed` is drawn at random, once:
    /// it keeps those who choose names from choosing collisions.
    #[must_use]
    pub fn new(policy: DoorPolicy, seed: u64, now: Nanos) -> Self {
        Self {
            admission: Admission::new(policy.limits, now),
            sales: Keyed::new(policy.sales, seed, now),
            skus: Keyed::new(policy.skus, seed.rotate_left(32), now),
            window: policy.window.map(|window| Window::new(window, now)),
            hopeless_count: 0,
            hopeless_in_flight: 0,
            places: Vec::with_capacity(SKUS_MAX),
        }
    }

    /// Decides one call; charges everything it meets, or nothing.
    pub fn decide(&mut self, ask: &Ask<'_>, now: Nanos) -> Answer {
        if ask.call.operation != Operation::Reserve {
            return answer(self.admission.admit(&ask.call, now));
        }
        if ask.chance == Chance::Gone {
            return self.turn_away(&ask.call);
        }
        let cost = self.admission.cost(&ask.call);
        let mut violations = Violations::default();
        let sale = self.sales.find(ask.sale, now);
        check(
            self.sales.bucket(sale),
            cost,
            now,
            Limit::SaleRate,
            &mut violations,
        );
        self.places.clear();
        for sku in ask.skus.iter().take(SKUS_MAX) {
            let place = self.skus.find(sku, now);
            self.places.push(place);
            check(
                self.skus.bucket(place),
                cost,
                now,
                Limit::SkuRate,
                &mut violations,
            );
        }
        if let Some(window) = &mut self.window
            && let Err(denial) = window.check(now)
        {
            violations.add(Limit::Window, denial);
        }
        let verdict = self.admission.admit_beside(&ask.call, &violations, now);
        if verdict == Verdict::Admitted {
            charge(self.sales.bucket(sale), cost);
            for place in &self.places {
                charge(self.skus.bucket(*place), cost);
            }
            if let Some(window) = &mut self.window {
                window.grant(now);
            }
        }
        answer(verdict)
    }

    /// How long until the lane of a call, whoever calls, may have room for it; None if it has room
    /// now or never will: then [`Door::decide`] says. Counts and charges nothing.
    pub fn wait_for_lane(&mut self, ask: &Ask<'_>, now: Nanos) -> Option<Nanos> {
        self.full_lane(ask, now).map(|(_, wait)| wait)
    }

    /// Refuses a call that waited for its lane and whose time is over, or for which there was no
    /// place to wait; counts it. It names the limit that it waited for.
    pub fn refuse_late(&mut self, ask: &Ask<'_>, now: Nanos) -> Refusal {
        // Room that came this very moment belongs to those who go on waiting.
        let (limit, wait) = self
            .full_lane(ask, now)
            .unwrap_or((Limit::LaneRate, LATE_RETRY));
        self.admission.refuse_late(&ask.call, limit, wait, now)
    }

    fn full_lane(&mut self, ask: &Ask<'_>, now: Nanos) -> Option<(Limit, Nanos)> {
        if let Some(full) = self.admission.wait_for_lane(&ask.call, now) {
            return Some(full);
        }
        if ask.call.operation != Operation::Reserve {
            return None;
        }
        match self.window.as_mut()?.check(now) {
            Err(Denial::NotNow { retry_after }) => Some((Limit::Window, retry_after)),
            Ok(()) | Err(Denial::Never) => None,
        }
    }

    /// Answers who cannot win. As many of them as of those who can may wait for their answer; they
    /// have a count of their own, so that they take no place from the others.
    fn turn_away(&mut self, call: &Call<'_>) -> Answer {
        if self.hopeless_in_flight >= self.admission.in_flight_max(call.operation.lane()) {
            return Answer::Refused(self.admission.refuse_full(call));
        }
        self.hopeless_count += 1;
        self.hopeless_in_flight += 1;
        Answer::Hopeless
    }

    /// Says that `count` hopeless calls are answered, or were not hopeless after all.
    pub fn finish_hopeless(&mut self, count: u32) {
        debug_assert!(self.hopeless_in_flight >= count, "only what came can end");
        self.hopeless_in_flight = self.hopeless_in_flight.saturating_sub(count);
    }

    /// Says that `count` calls of a lane are answered.
    pub fn finish(&mut self, lane: Lane, count: u32) {
        self.admission.finish(lane, count);
    }

    /// Takes a report of the order service.
    ///
    /// # Errors
    /// What is wrong with it; nothing changed.
    pub fn report(&mut self, report: &Report, now: Nanos) -> Result<(), ReportError> {
        match &mut self.window {
            Some(window) => window.report(report, now),
            None => Ok(()),
        }
    }

    /// Says that `count` reservations ended without the order service having to persist them:
    /// refused by the ledger, released, expired.
    pub fn give_back(&mut self, count: u64) {
        if let Some(window) = &mut self.window {
            window.give_back(count);
        }
    }

    /// Applies another policy; balances stay, as [`Bucket::set_policy`] says, and so do the credits
    /// that are out.
    pub fn set_policy(&mut self, policy: DoorPolicy, now: Nanos) {
        self.admission.set_policy(policy.limits, now);
        self.sales.set_policy(policy.sales, now);
        self.skus.set_policy(policy.skus, now);
        match (&mut self.window, policy.window) {
            (Some(window), Some(policy)) => window.set_policy(policy, now),
            (window, policy) => *window = policy.map(|policy| Window::new(policy, now)),
        }
    }

    /// All counters, with the first `caller_limit` callers by name.
    pub fn stats(&mut self, caller_limit: usize, now: Nanos) -> Stats {
        let [sale_count, sku_count] = self.name_counts();
        Stats {
            hopeless_count: self.hopeless_count,
            hopeless_in_flight: self.hopeless_in_flight,
            window: self.window(now),
            sale_count,
            sku_count,
            ..self.admission.stats(caller_limit, now)
        }
    }

    /// Calls of each lane that were let in and are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> [u32; 4] {
        self.admission.in_flight()
    }

    /// Calls that were told at once that there is nothing left.
    #[must_use]
    pub fn hopeless_count(&self) -> u64 {
        self.hopeless_count
    }

    /// Where the credit window stands; None without one.
    #[must_use]
    pub fn window(&self, now: Nanos) -> Option<WindowStats> {
        self.window.as_ref().map(|window| window.stats(now))
    }

    /// What the buckets of a sale and of a SKU hold, in micro-tokens; None where there is none.
    pub fn tokens(&mut self, sale: &str, sku: &str, now: Nanos) -> [Option<Micros>; 2] {
        [self.sales.tokens(sale, now), self.skus.tokens(sku, now)]
    }

    /// How many sales and how many SKUs have a bucket of their own now.
    #[must_use]
    pub fn name_counts(&self) -> [usize; 2] {
        [self.sales.len(), self.skus.len()]
    }
}

fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Admitted => Answer::Admitted,
        Verdict::Refused(refusal) => Answer::Refused(refusal),
    }
}

fn check(
    bucket: Option<&mut Bucket>,
    cost: Micros,
    now: Nanos,
    limit: Limit,
    violations: &mut Violations,
) {
    let Some(bucket) = bucket else { return };
    bucket.refill(now);
    if let Err(denial) = bucket.check(cost) {
        violations.add(limit, bucket.line_up(cost, denial));
    }
}

fn charge(bucket: Option<&mut Bucket>, cost: Micros) {
    if let Some(bucket) = bucket {
        bucket.overdraw(cost);
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
