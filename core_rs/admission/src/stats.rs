//! Counters of admission; they only grow, except what is in flight and what a bucket holds.
//!
//! Owns: the shapes. Must not: decide. Where next: `admission.rs`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::bucket::Micros;
use crate::policy::Lane;
use crate::verdict::Limit;
use crate::window::WindowStats;

/// Counters of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Calls let in.
    pub admitted_count: u64,
    /// Of these, calls that a bucket would have refused if it could refuse this lane.
    pub overdrawn_count: u64,
    /// Calls refused because too many were in flight.
    pub refused_in_flight_count: u64,
    /// Calls refused by the lane's bucket first.
    pub refused_lane_rate_count: u64,
    /// Calls refused by the caller's bucket first, the shared one included.
    pub refused_caller_rate_count: u64,
    /// Calls refused by the bucket of a sale first; only [`crate::Door`] has these.
    pub refused_sale_rate_count: u64,
    /// Calls refused by the bucket of a SKU first; only [`crate::Door`] has these.
    pub refused_sku_rate_count: u64,
    /// Calls refused by the credit window first; only [`crate::Door`] has one.
    pub refused_window_count: u64,
    /// Of all refused, those that can never be let in.
    pub refused_never_count: u64,
    /// Tokens charged, in micro-tokens.
    pub charged: u64,
    /// Calls let in and not answered yet.
    pub in_flight: u32,
    /// The most there ever were.
    pub in_flight_peak: u32,
    /// What the lane's bucket holds, in micro-tokens; None without a bucket.
    pub tokens: Option<Micros>,
}

impl LaneStats {
    pub(crate) fn count_admitted(&mut self, cost: Micros, is_overdrawn: bool) {
        self.admitted_count += 1;
        self.overdrawn_count += u64::from(is_overdrawn);
        self.charged = self
            .charged
            .saturating_add(u64::try_from(cost).unwrap_or(0));
        self.in_flight += 1;
        self.in_flight_peak = self.in_flight_peak.max(self.in_flight);
    }

    pub(crate) fn count_refusal(&mut self, limit: Limit, is_never: bool) {
        match limit {
            Limit::LaneInFlight => self.refused_in_flight_count += 1,
            Limit::LaneRate => self.refused_lane_rate_count += 1,
            Limit::CallerRate | Limit::OverflowRate => self.refused_caller_rate_count += 1,
            Limit::SaleRate => self.refused_sale_rate_count += 1,
            Limit::SkuRate => self.refused_sku_rate_count += 1,
            Limit::Window => self.refused_window_count += 1,
        }
        self.refused_never_count += u64::from(is_never);
    }
}

/// Counters of one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerStats {
    /// Calls let in.
    pub admitted_count: u64,
    /// Calls refused, whatever the limit.
    pub refused_count: u64,
}

/// Everything that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// By lane, first served first.
    pub lanes: Vec<(Lane, LaneStats)>,
    /// By caller, in the order of their names, as many as were asked for.
    pub callers: Vec<(Box<str>, CallerStats)>,
    /// How many callers are kept apart now.
    pub caller_count: u32,
    /// What callers did for whom there was no room.
    pub overflow: CallerStats,
    /// What callers did whose place was given to another.
    pub forgotten: CallerStats,
    /// Calls that were told at once that there is nothing left; neither admitted nor refused. Only
    /// [`crate::Door`] has these, and what follows.
    pub hopeless_count: u64,
    /// Of these, those not answered yet.
    pub hopeless_in_flight: u32,
    /// The credit window, if there is one.
    pub window: Option<WindowStats>,
    /// Sales with a bucket of their own now.
    pub sale_count: usize,
    /// SKUs with a bucket of their own now.
    pub sku_count: usize,
}
