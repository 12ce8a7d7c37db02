//! One decision: every limit is looked at, and all are charged or none.
//!
//! Owns: the state of all lanes and callers. Must not: read a clock. Where next: `bucket.rs`.

use crate::bucket::{Bucket, BucketStart, Denial, Micros, Nanos};
use crate::callers::{Callers, Whose};
use crate::policy::{Lane, Operation, Policy};
use crate::stats::{LaneStats, Stats};
use crate::verdict::{Limit, Refusal, Verdict, Violation, Violations};

/// When to come back if too many calls are in flight: no bucket says when one of them ends, and
/// most end with the next flush.
const IN_FLIGHT_RETRY: Nanos = 20_000_000;

/// One call that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What it does.
    pub operation: Operation,
    /// Lines of a Reserve, else 0.
    pub line_count: u32,
    /// Who calls.
    pub caller: &'a str,
}

#[derive(Clone, Debug)]
struct LaneState {
    bucket: Option<Bucket>,
    stats: LaneStats,
}

/// The state of admission.
///
/// ```
/// use lastunit_admission::{Admission, BucketPolicy, Call, Lane, Operation, Policy};
/// use lastunit_admission::{TOKEN, Verdict};
///
/// let mut policy = Policy::default();
/// policy.lane_mut(Lane::Reservation).bucket = Some(BucketPolicy { rate: 1_000, burst: TOKEN });
/// let mut admission = Admission::new(policy, 0);
/// let call = Call { operation: Operation::Reserve, line_count: 1, caller: "order-service" };
///
/// assert_eq!(admission.admit(&call, 0), Verdict::Admitted);
/// let Verdict::Refused(refusal) = admission.admit(&call, 250_000_000) else { panic!() };
/// assert_eq!(refusal.retry_after, Some(750_000_000));
/// ```
#[derive(Clone, Debug)]
pub struct Admission {
    policy: Policy,
    /// What each operation costs, without its lines: every call asks.
    costs: [Micros; Operation::ALL.len()],
    lanes: [LaneState; 4],
    callers: Callers,
}

impl Admission {
    /// Starts with a policy that [`Policy::check`] has passed.
    #[must_use]
    pub fn new(policy: Policy, now: Nanos) -> Self {
        let lanes = policy.lanes.map(|lane| LaneState {
            bucket: lane
                .bucket
                .map(|bucket| Bucket::new(bucket, BucketStart::Short, now)),
            stats: LaneStats::default(),
        });
        let callers = Callers::new(&policy, now);
        Self {
            costs: policy.costs.table(),
            policy,
            lanes,
            callers,
        }
    }

    /// Decides one call; charges every bucket it matches, or none.
    pub fn admit(&mut self, call: &Call<'_>, now: Nanos) -> Verdict {
        self.admit_beside(call, &Violations::default(), now)
    }

    /// Decides one call beside limits that somebody else keeps: they count as if they were here.
    pub(crate) fn admit_beside(
        &mut self,
        call: &Call<'_>,
        others: &Violations,
        now: Nanos,
    ) -> Verdict {
        let lane = call.operation.lane();
        let cost = self.cost(call);
        let in_flight_max = self.policy.lane(lane).calls_in_flight_max;
        let state = &mut self.lanes[lane.index()];
        let (caller, caller_limit) = match self.callers.find(call.caller, &self.policy, now) {
            Whose::Own(caller) => (caller, Limit::CallerRate),
            Whose::Shared(caller) => (caller, Limit::OverflowRate),
        };

        let mut rates = Violations::default();
        let is_sent_away = lane.is_refusable();
        let mut look = |bucket, limit| check(bucket, cost, now, limit, is_sent_away, &mut rates);
        look(&mut state.bucket, Limit::LaneRate);
        look(&mut caller.bucket, caller_limit);
        let is_overdrawn = rates.refusal(lane, cost).is_some();
        let mut violations = Violations::default();
        if state.stats.in_flight >= in_flight_max {
            let denial = Denial::NotNow {
                retry_after: IN_FLIGHT_RETRY,
            };
            violations.add(Limit::LaneInFlight, denial);
        }
        if lane.is_refusable() {
            violations.merge(&rates);
            violations.merge(others);
        }
        if let Some(refusal) = violations.refusal(lane, cost) {
            let is_never = refusal.retry_after.is_none();
            state.stats.count_refusal(refusal.first.limit, is_never);
            caller.stats.refused_count += 1;
            return Verdict::Refused(refusal);
        }

        for bucket in [&mut state.bucket, &mut caller.bucket]
            .into_iter()
            .flatten()
        {
            bucket.overdraw(cost);
        }
        caller.stats.admitted_count += 1;
        state.stats.count_admitted(cost, is_overdrawn);
        Verdict::Admitted
    }

    /// Why the lane itself, whoever calls, has no room for a call now: which limit, and how long
    /// until it may have. None if it has room, or never will. Counts and charges nothing.
    pub(crate) fn wait_for_lane(&mut self, call: &Call<'_>, now: Nanos) -> Option<(Limit, Nanos)> {
        let lane = call.operation.lane();
        let cost = self.cost(call);
        let in_flight_max = self.policy.lane(lane).calls_in_flight_max;
        let state = &mut self.lanes[lane.index()];
        if state.stats.in_flight >= in_flight_max {
            return Some((Limit::LaneInFlight, IN_FLIGHT_RETRY));
        }
        let bucket = state.bucket.as_mut().filter(|_| lane.is_refusable())?;
        bucket.refill(now);
        match bucket.check(cost) {
            Err(Denial::NotNow { retry_after }) => Some((Limit::LaneRate, retry_after)),
            Ok(()) | Err(Denial::Never) => None,
        }
    }

    /// Refuses a call that waited for its lane in vain; counts it.
    pub(crate) fn refuse_late(
        &mut self,
        call: &Call<'_>,
        limit: Limit,
        retry_after: Nanos,
        now: Nanos,
    ) -> Refusal {
        let lane = call.operation.lane();
        self.lanes[lane.index()].stats.count_refusal(limit, false);
        let (Whose::Own(caller) | Whose::Shared(caller)) =
            self.callers.find(call.caller, &self.policy, now);
        caller.stats.refused_count += 1;
        Refusal {
            lane,
            cost: self.cost(call),
            first: Violation {
                limit,
                denial: Denial::NotNow { retry_after },
            },
            violation_count: 1,
            retry_after: Some(retry_after),
        }
    }

    /// Most calls of a lane between being let in and being answered.
    pub(crate) fn in_flight_max(&self, lane: Lane) -> u32 {
        self.policy.lane(lane).calls_in_flight_max
    }

    /// Refuses a call because too many like it wait for their answer; counts it.
    pub(crate) fn refuse_full(&mut self, call: &Call<'_>) -> Refusal {
        let lane = call.operation.lane();
        let denial = Denial::NotNow {
            retry_after: IN_FLIGHT_RETRY,
        };
        let limit = Limit::LaneInFlight;
        self.lanes[lane.index()].stats.count_refusal(limit, false);
        Refusal {
            lane,
            cost: self.cost(call),
            first: Violation { limit, denial },
            violation_count: 1,
            retry_after: Some(IN_FLIGHT_RETRY),
        }
    }

    /// What a call costs by the policy, in micro-tokens.
    #[must_use]
    pub fn cost(&self, call: &Call<'_>) -> Micros {
        let lines = i64::from(call.line_count);
        let lines = self.policy.costs.per_line.saturating_mul(lines);
        self.costs[call.operation as usize].saturating_add(lines)
    }

    /// Says that `count` calls of a lane are answered.
    pub fn finish(&mut self, lane: Lane, count: u32) {
        let stats = &mut self.lanes[lane.index()].stats;
        debug_assert!(stats.in_flight >= count, "only what was let in can end");
        stats.in_flight = stats.in_flight.saturating_sub(count);
    }

    pub(crate) fn in_flight(&self) -> [u32; 4] {
        Lane::ALL.map(|lane| self.lanes[lane.index()].stats.in_flight)
    }

    /// Applies another policy; balances stay, as [`Bucket::set_policy`] says. A bucket that did not
    /// exist starts short.
    pub fn set_policy(&mut self, policy: Policy, now: Nanos) {
        for lane in Lane::ALL {
            let state = &mut self.lanes[lane.index()];
            match (&mut state.bucket, policy.lane(lane).bucket) {
                (Some(bucket), Some(policy)) => bucket.set_policy(policy, now),
                (bucket, policy) => {
                    *bucket = policy.map(|it| Bucket::new(it, BucketStart::Short, now));
                }
            }
        }
        self.callers.set_policy(&policy, now);
        self.costs = policy.costs.table();
        self.policy = policy;
    }

    /// Counters, with the first `caller_limit` callers by name.
    pub fn stats(&mut self, caller_limit: usize, now: Nanos) -> Stats {
        let lanes = Lane::ALL.map(|lane| {
            let state = &mut self.lanes[lane.index()];
            if let Some(bucket) = &mut state.bucket {
                bucket.refill(now);
            }
            let tokens = state.bucket.as_ref().map(Bucket::tokens);
            (
                lane,
                LaneStats {
                    tokens,
                    ..state.stats
                },
            )
        });
        Stats {
            lanes: lanes.into(),
            callers: self.callers.stats(caller_limit),
            caller_count: self.callers.len(),
            overflow: self.callers.overflow.stats,
            forgotten: self.callers.forgotten,
            hopeless_count: 0,
            hopeless_in_flight: 0,
            window: None,
            sale_count: 0,
            sku_count: 0,
        }
    }
}

fn check(
    bucket: &mut Option<Bucket>,
    cost: Micros,
    now: Nanos,
    limit: Limit,
    is_sent_away: bool,
    violations: &mut Violations,
) {
    let Some(bucket) = bucket else { return };
    bucket.refill(now);
    if let Err(mut denial) = bucket.check(cost) {
        // Who is let in all the same takes no place in line.
        if is_sent_away {
            denial = bucket.line_up(cost, denial);
        }
        violations.add(limit, denial);
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
