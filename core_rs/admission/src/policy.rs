//! What an operator sets, and the check of it.
//!
//! Owns: lanes, operations, what each costs, the ranges. Must not: hold state. Where next:
//! `admission.rs`, which applies it; the text form is read by the node's settings.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;

use crate::bucket::{BucketPolicy, Micros, TOKEN};
use crate::queue::QueuePolicy;

/// Highest rate, in milli-tokens a second: a million tokens a second, far above one machine.
pub const RATE_MAX: u64 = 1_000_000_000;
/// Highest burst, in micro-tokens: a hundred million tokens.
pub const BURST_MAX: Micros = 100_000_000 * TOKEN;
/// Highest cost of one operation, in micro-tokens: a thousand tokens.
pub const COST_MAX: Micros = 1_000 * TOKEN;
/// Most callers that have a bucket of their own; each costs about 250 bytes.
pub const CALLERS_MAX: u32 = 1_000_000;
/// Highest bound on calls in flight; each holds its request and reply in memory.
pub const CALLS_IN_FLIGHT_MAX: u32 = 1_000_000;

/// The order in which work is served: earlier ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Operators: few calls, never refused by a bucket.
    Control,
    /// What the provider or the buyer says of a reservation that exists: never refused by a bucket.
    Settlement,
    /// New claims on units.
    Reservation,
    /// Questions.
    Read,
}

impl Lane {
    /// All lanes, first served first.
    pub const ALL: [Self; 4] = [
        Self::Control,
        Self::Settlement,
        Self::Reservation,
        Self::Read,
    ];

    /// Stable name in settings, metrics and refusals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Settlement => "settlement",
            Self::Reservation => "reservation",
            Self::Read => "read",
        }
    }

    /// Whether a bucket may refuse it.
    #[must_use]
    pub fn is_refusable(self) -> bool {
        match self {
            Self::Control | Self::Settlement => false,
            Self::Reservation | Self::Read => true,
        }
    }

    /// Position in [`Lane::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Settlement => 1,
            Self::Reservation => 2,
            Self::Read => 3,
        }
    }
}

macro_rules! operations {
    ($($name:ident $lane:ident $cost:expr),* $(,)?) => {
        /// What a call does; decides its lane and its price.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Operation {
            $(#[doc = concat!("`", stringify!($name), "` of the contract.")] $name,)*
        }

        impl Operation {
            /// All operations, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name of the method, without its service.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The lane it is served in.
            #[must_use]
            pub fn lane(self) -> Lane {
                match self { $(Self::$name => Lane::$lane,)* }
            }

            /// What it costs unless the policy says otherwise, in micro-tokens.
            #[must_use]
            pub fn cost_default(self) -> Micros {
                match self { $(Self::$name => $cost,)* }
            }
        }
    };
}

/// A read takes no flush and changes nothing: a twentieth of a reservation.
const READ_COST: Micros = TOKEN / 20;
/// A page of up to a thousand reservations.
const LIST_COST: Micros = TOKEN;

operations! {
    Reserve Reservation TOKEN,
    BeginPayment Settlement 0,
    SettlePayment Settlement 0,
    Confirm Settlement 0,
    Release Settlement 0,
    Extend Settlement 0,
    Return Settlement 0,
    RecordRefund Settlement 0,
    GetReservation Read READ_COST,
    ListReservations Read LIST_COST,
    GetAvailability Read READ_COST,
    WatchAvailability Read LIST_COST,
    Admin Control 0,
}

/// What operations cost.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Costs {
    /// In micro-tokens, 0 to [`COST_MAX`]; those not named cost [`Operation::cost_default`].
    pub operations: BTreeMap<Operation, Micros>,
    /// Added for each line of a Reserve, in micro-tokens, 0 to [`COST_MAX`].
    pub per_line: Micros,
}

impl Costs {
    /// The price of every operation without its lines, in the order of [`Operation::ALL`].
    pub(crate) fn table(&self) -> [Micros; Operation::ALL.len()] {
        core::array::from_fn(|at| self.cost(Operation::ALL[at], 0))
    }

    /// Price of one call, in micro-tokens.
    #[must_use]
    pub fn cost(&self, operation: Operation, line_count: u32) -> Micros {
        let base = self.operations.get(&operation).copied();
        let base = base.unwrap_or_else(|| operation.cost_default());
        base.saturating_add(self.per_line.saturating_mul(i64::from(line_count)))
    }
}

/// What is set for one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePolicy {
    /// None: no bucket.
    pub bucket: Option<BucketPolicy>,
    /// Most operations between being let in and being answered, 1 to [`CALLS_IN_FLIGHT_MAX`].
    pub calls_in_flight_max: u32,
    /// Where calls wait that the lane has no room for now; None: they are refused at once.
    pub queue: Option<QueuePolicy>,
}

/// All that an operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In the order of [`Lane::ALL`].
    pub lanes: [LanePolicy; 4],
    /// For each caller that is not named; None: they have no bucket.
    pub caller: Option<BucketPolicy>,
    /// For callers by name; None: that caller has no bucket.
    pub callers: BTreeMap<Box<str>, Option<BucketPolicy>>,
    /// Most callers that are kept apart, 1 to [`CALLERS_MAX`]; the rest share one bucket.
    pub callers_max: u32,
    /// What operations cost.
    pub costs: Costs,
}

impl Default for Policy {
    /// No buckets; bounds on calls in flight that fit a machine of two cores.
    fn default() -> Self {
        let lane = |calls_in_flight_max| LanePolicy {
            bucket: None,
            calls_in_flight_max,
            queue: None,
        };
        Self {
            lanes: [lane(64), lane(16_384), lane(16_384), lane(4_096)],
            caller: None,
            callers: BTreeMap::new(),
            callers_max: 10_000,
            costs: Costs::default(),
        }
    }
}

/// A policy that cannot be applied: which setting, and the range it must lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Setting, as in `lanes.reservation`.
    pub setting: Box<str>,
    /// What must hold.
    pub expected: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "admission.{}: {}", self.setting, self.expected)
    }
}

impl core::error::Error for PolicyError {}

impl Policy {
    /// What is set for a lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> &LanePolicy {
        &self.lanes[lane.index()]
    }

    /// What is set for a lane, to change it before the policy is applied.
    pub fn lane_mut(&mut self, lane: Lane) -> &mut LanePolicy {
        &mut self.lanes[lane.index()]
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        for lane in Lane::ALL {
            let policy = self.lane(lane);
            check_bucket(policy.bucket, || alloc::format!("lanes.{}", lane.name()))?;
            let is_bounded = (1..=CALLS_IN_FLIGHT_MAX).contains(&policy.calls_in_flight_max);
            require(
                is_bounded,
                "calls_in_flight_max must be 1 to 1,000,000",
                || alloc::format!("lanes.{}", lane.name()),
            )?;
            if let Some(queue) = &policy.queue {
                queue.check(lane.name())?;
            }
        }
        check_bucket(self.caller, || "callers.default".into())?;
        for (name, bucket) in &self.callers {
            check_bucket(*bucket, || alloc::format!("callers.{name}"))?;
        }
        require(
            (1..=CALLERS_MAX).contains(&self.callers_max),
            "must be 1 to 1,000,000",
            || "callers_max".into(),
        )?;
        require(
            self.callers.len() <= self.callers_max as usize,
            "must be at least the number of named callers",
            || "callers_max".into(),
        )?;
        self.check_costs()
    }

    fn check_costs(&self) -> Result<(), PolicyError> {
        for (operation, cost) in &self.costs.operations {
            require((0..=COST_MAX).contains(cost), "must be 0 to 1,000", || {
                alloc::format!("costs.{}", operation.name())
            })?;
        }
        require(
            (0..=COST_MAX).contains(&self.costs.per_line),
            "must be 0 to 1,000",
            || "costs.per_line".into(),
        )
    }
}

pub(crate) fn check_bucket(
    bucket: Option<BucketPolicy>,
    name: impl Fn() -> alloc::string::String,
) -> Result<(), PolicyError> {
    let Some(bucket) = bucket else { return Ok(()) };
    let is_rate_ok = (1..=RATE_MAX).contains(&bucket.rate);
    require(
        is_rate_ok,
        "rate_per_second must be 0.001 to 1,000,000",
        &name,
    )?;
    let is_burst_ok = (TOKEN..=BURST_MAX).contains(&bucket.burst);
    require(is_burst_ok, "burst must be 1 to 100,000,000", &name)
}

pub(crate) fn require(
    holds: bool,
    expected: &'static str,
    name: impl Fn() -> alloc::string::String,
) -> Result<(), PolicyError> {
    if holds {
        return Ok(());
    }
    Err(PolicyError {
        setting: name().into_boxed_str(),
        expected,
    })
}
