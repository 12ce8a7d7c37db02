//! The gate: open, queueing or closed, and when to come back; one for each sale.
//!
//! Owns: the signal for front ends, from measurements and the operator's hand. Must not: gate
//! whoever is inside: it speaks to those who have not come in yet, and payers are inside. Where
//! next: `door.rs` for what holds even if nobody listens to the gate.

use crate::bucket::Nanos;
use crate::policy::{PolicyError, require};

const SECOND: u128 = 1_000_000_000;
/// Longest that anybody is told to stay away: what is known now says nothing of later.
const COME_BACK_MAX: Nanos = 600_000_000_000;

/// Longest span that gates are judged by, a day.
pub const GATE_SPAN_MAX: Nanos = 86_400_000_000_000;

/// What front ends are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateState {
    /// Come in.
    Open,
    /// Wait outside; come back later.
    Queueing,
    /// Nobody new; come back much later.
    Closed,
}

/// Why the gate is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing presses.
    Calm,
    /// Calls in flight against their bound.
    InFlight,
    /// The queue against Qmax.
    QueueDepth,
    /// Callbacks lag, against half a reservation's life.
    CallbackLag,
    /// The order service does not report.
    NoReport,
    /// The operator's hand.
    Operator,
    /// The sale is not open yet.
    NotOpenYet,
}

impl Cause {
    /// Stable machine name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "CALM",
            Self::InFlight => "IN_FLIGHT",
            Self::QueueDepth => "QUEUE_DEPTH",
            Self::CallbackLag => "CALLBACK_LAG",
            Self::NoReport => "NO_REPORT",
            Self::Operator => "OPERATOR",
            Self::NotOpenYet => "NOT_OPEN_YET",
        }
    }
}

/// What an operator sets for a gate. Pressure is in thousandths of what can be borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Pressure at which it queues, 1 to `close_at`.
    pub queue_at: u32,
    /// Pressure at which it closes, up to 10,000.
    pub close_at: u32,
    /// Pressure at or under which it goes back a step, below `queue_at`.
    pub reopen_at: u32,
    /// How long the pressure must be that low for each step back, up to 1 h.
    pub dwell: Nanos,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            queue_at: 800,
            close_at: 1_000,
            reopen_at: 500,
            dwell: 1_000_000_000,
        }
    }
}

impl GatePolicy {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        let name = |part: &'static str| move || alloc::format!("gate.{part}");
        let is_queue_ok = (1..=self.close_at).contains(&self.queue_at);
        require(is_queue_ok, "must be 1 to gate.close_at", name("queue_at"))?;
        require(
            self.close_at <= 10_000,
            "must be up to 10,000",
            name("close_at"),
        )?;
        let is_reopen_ok = self.reopen_at < self.queue_at;
        require(
            is_reopen_ok,
            "must be below gate.queue_at",
            name("reopen_at"),
        )?;
        let is_dwell_ok = self.dwell <= 3_600_000_000_000;
        require(is_dwell_ok, "must be up to 1 h", name("dwell"))
    }
}

/// All that gates are judged by. The default bounds no queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateRules {
    /// The steps of the pressure.
    pub policy: GatePolicy,
    /// Reservations that can be paid in a second, in thousandths, up to a million a second; 0
    /// leaves the queue without a bound.
    pub settled_rate: u64,
    /// How long a payment takes from its begin to its news, of all but one in a hundred; up to a
    /// day.
    pub pay_p99: Nanos,
    /// What is left over at the end of a reservation's life, up to a day.
    pub margin: Nanos,
}

impl GateRules {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        let name = |part: &'static str| move || alloc::format!("gate.{part}");
        self.policy.check()?;
        require(
            self.settled_rate <= crate::RATE_MAX,
            "must be up to 1,000,000 a second",
            name("settled_per_second"),
        )?;
        let is_span = |span| span <= GATE_SPAN_MAX;
        require(
            is_span(self.pay_p99),
            "must be up to a day",
            name("pay_p99_seconds"),
        )?;
        require(
            is_span(self.margin),
            "must be up to a day",
            name("margin_seconds"),
        )
    }

    /// Most reservations of such a life that may wait to be paid, 0 for no bound. At least one, so
    /// that a life too short for any payment closes the gate instead of opening it for good.
    #[must_use]
    pub fn queue_count_max(&self, ttl: Nanos) -> u64 {
        match self.settled_rate {
            0 => 0,
            rate => queue_count_max(rate, ttl, self.pay_p99, self.margin).max(1),
        }
    }
}

/// What is measured and what the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateInputs {
    /// The operator's hand; None leaves it to the measurements.
    pub hand: Option<GateState>,
    /// Time until the sale opens; None once it is open.
    pub opens_in: Option<Nanos>,
    /// Calls in flight.
    pub in_flight: u64,
    /// Their bound; 0 is none.
    pub in_flight_max: u64,
    /// Reservations that wait to be persisted or paid.
    pub queue_count: u64,
    /// How many may, as [`queue_count_max`] says; 0 is no bound.
    pub queue_count_max: u64,
    /// How late payment news arrive.
    pub callback_lag: Nanos,
    /// How long a reservation lives; 0 leaves the lag out.
    pub reservation_ttl: Nanos,
    /// Whether the order service fails to report.
    pub is_report_stale: bool,
    /// What the order service persists, in thousandths a second; 0 is not known.
    pub drain: u64,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateView {
    /// Open, queueing or closed.
    pub state: GateState,
    /// Why.
    pub cause: Cause,
    /// The highest pressure, in thousandths.
    pub pressure: u32,
    /// When to come back; None if open.
    pub come_back: Option<Nanos>,
}

/// Most reservations that may wait so that each is paid within its life:
/// `rate × (ttl − pay_p99 − margin)`, rounded down.
///
/// `rate` is in thousandths a second; 0 if nothing is left of the life.
#[must_use]
pub fn queue_count_max(rate: u64, ttl: Nanos, pay_p99: Nanos, margin: Nanos) -> u64 {
    let left = ttl.saturating_sub(pay_p99).saturating_sub(margin);
    let count = u128::from(rate) * u128::from(left) / (1_000 * SECOND);
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What a gate remembers between two looks: where it stands, and since when it is calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    state: GateState,
    calm_since: Option<Nanos>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: GateState::Open,
            calm_since: None,
        }
    }
}

impl Gate {
    /// The next gate and what it shows: a function of this one, the measurements and the time.
    ///
    /// It gets worse at once, and better by one step after each `dwell` of low pressure, so that it
    /// does not flap. The operator's hand goes before everything, and once it is taken away the
    /// gate goes on from where the hand left it.
    #[must_use]
    pub fn next(self, inputs: &GateInputs, policy: &GatePolicy, now: Nanos) -> (Self, GateView) {
        let (pressure, cause) = pressure(inputs, policy);
        let next = match (inputs.hand, inputs.opens_in) {
            (Some(state), _) => Self {
                state,
                calm_since: None,
            },
            (None, Some(_)) => Self {
                state: GateState::Closed,
                calm_since: None,
            },
            (None, None) => self.follow(pressure, policy, now),
        };
        let cause = match (inputs.hand, inputs.opens_in) {
            (Some(_), _) => Cause::Operator,
            (None, Some(_)) => Cause::NotOpenYet,
            (None, None) => cause,
        };
        let view = GateView {
            state: next.state,
            cause,
            pressure,
            come_back: come_back(next.state, inputs, policy),
        };
        (next, view)
    }

    fn follow(self, pressure: u32, policy: &GatePolicy, now: Nanos) -> Self {
        let asked = if pressure >= policy.close_at {
            GateState::Closed
        } else if pressure >= policy.queue_at {
            GateState::Queueing
        } else {
            GateState::Open
        };
        if asked > self.state {
            return Self {
                state: asked,
                calm_since: None,
            };
        }
        if pressure > policy.reopen_at || self.state == GateState::Open {
            return Self {
                calm_since: None,
                ..self
            };
        }
        let since = self.calm_since.unwrap_or(now);
        if now.saturating_sub(since) < policy.dwell {
            return Self {
                calm_since: Some(since),
                ..self
            };
        }
        let state = match self.state {
            GateState::Closed => GateState::Queueing,
            GateState::Queueing | GateState::Open => GateState::Open,
        };
        Self {
            state,
            calm_since: Some(now),
        }
    }
}

/// The highest of all pressures, and whose it is.
fn pressure(inputs: &GateInputs, policy: &GatePolicy) -> (u32, Cause) {
    let stale = if inputs.is_report_stale {
        policy.queue_at
    } else {
        0
    };
    let all = [
        (
            part(inputs.in_flight, inputs.in_flight_max),
            Cause::InFlight,
        ),
        (
            part(inputs.queue_count, inputs.queue_count_max),
            Cause::QueueDepth,
        ),
        (
            part(inputs.callback_lag, inputs.reservation_ttl / 2),
            Cause::CallbackLag,
        ),
        (stale, Cause::NoReport),
    ];
    let mut most = (0, Cause::Calm);
    for one in all {
        if one.0 > most.0 {
            most = one;
        }
    }
    most
}

fn part(value: u64, bound: u64) -> u32 {
    if bound == 0 {
        return 0;
    }
    let thousandths = u128::from(value) * 1_000 / u128::from(bound);
    u32::try_from(thousandths).unwrap_or(u32::MAX)
}

/// Closed: once the queue has drained to where the gate reopens. Queueing: once it has drained to
/// where it stops queueing. At least one dwell, because it takes that long to get better.
fn come_back(state: GateState, inputs: &GateInputs, policy: &GatePolicy) -> Option<Nanos> {
    let target = match state {
        GateState::Open => return None,
        GateState::Queueing => policy.queue_at,
        GateState::Closed => policy.reopen_at,
    };
    let kept = u128::from(inputs.queue_count_max) * u128::from(target) / 1_000;
    let excess = u128::from(inputs.queue_count).saturating_sub(kept);
    let wait = match inputs.drain {
        0 => 0,
        drain => excess * 1_000 * SECOND / u128::from(drain),
    };
    let wait = Nanos::try_from(wait)
        .unwrap_or(COME_BACK_MAX)
        .min(COME_BACK_MAX);
    Some(inputs.opens_in.unwrap_or(0).max(wait).max(policy.dwell))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
