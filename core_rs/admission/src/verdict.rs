//! What admission answers, and why.
//!
//! Owns: the names of the limits. Must not: know gRPC codes. Where next: `admission.rs`; the node
//! turns a refusal into a fault.

use crate::bucket::{Denial, Micros, Nanos};
use crate::policy::Lane;

/// The limits that can refuse, in the order in which they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Too many calls of this lane are in flight.
    LaneInFlight,
    /// The lane's bucket.
    LaneRate,
    /// The bucket of this caller.
    CallerRate,
    /// The bucket that callers share for whom there is no room.
    OverflowRate,
    /// The bucket of this sale.
    SaleRate,
    /// The bucket of one of the SKUs.
    SkuRate,
    /// The order service has as much before it as it can persist in time.
    Window,
}

impl Limit {
    /// All limits, in the order in which they are reported.
    pub const ALL: [Self; 7] = [
        Self::LaneInFlight,
        Self::LaneRate,
        Self::CallerRate,
        Self::OverflowRate,
        Self::SaleRate,
        Self::SkuRate,
        Self::Window,
    ];

    /// Stable machine name of the refusal.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LaneInFlight => "LANE_FULL",
            Self::LaneRate => "RATE_LANE",
            Self::CallerRate => "RATE_CALLER",
            Self::OverflowRate => "RATE_OVERFLOW",
            Self::SaleRate => "RATE_SALE",
            Self::SkuRate => "RATE_SKU",
            Self::Window => "WINDOW_FULL",
        }
    }
}

/// One limit that did not let the call in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub limit: Limit,
    /// Not now or never.
    pub denial: Denial,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The call's lane.
    pub lane: Lane,
    /// What the call would have cost, in micro-tokens.
    pub cost: Micros,
    /// The first violated limit: one that says never, else the first in the order of [`Limit`].
    pub first: Violation,
    /// How many limits were violated, 1 to 3; from [`crate::Door`] up to 37.
    pub violation_count: u8,
    /// The longest wait of all violated limits; None if waiting never helps.
    pub retry_after: Option<Nanos>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in and charged; [`crate::Admission::finish`] must follow once it is answered.
    Admitted,
    /// Not let in; nothing was charged.
    Refused(Refusal),
}

/// Gathers violations without allocating: a refusal is the common case of an overload.
#[derive(Default)]
pub(crate) struct Violations {
    first: Option<Violation>,
    count: u8,
    longest: Nanos,
}

impl Violations {
    pub(crate) fn add(&mut self, limit: Limit, denial: Denial) {
        self.count += 1;
        let violation = Violation { limit, denial };
        match (self.first, denial) {
            (None, _) => self.first = Some(violation),
            (
                Some(Violation {
                    denial: Denial::NotNow { .. },
                    ..
                }),
                Denial::Never,
            ) => {
                self.first = Some(violation);
            }
            _ => {}
        }
        if let Denial::NotNow { retry_after } = denial {
            self.longest = self.longest.max(retry_after);
        }
    }

    pub(crate) fn merge(&mut self, others: &Self) {
        let Some(other) = others.first else { return };
        self.add(other.limit, other.denial);
        self.count += others.count - 1;
        self.longest = self.longest.max(others.longest);
    }

    pub(crate) fn refusal(&self, lane: Lane, cost: Micros) -> Option<Refusal> {
        let first = self.first?;
        let retry_after = match first.denial {
            Denial::Never => None,
            Denial::NotNow { .. } => Some(self.longest),
        };
        Some(Refusal {
            lane,
            cost,
            first,
            violation_count: self.count,
            retry_after,
        })
    }
}
