//! Owns the answers to queries: copies of the state that leave the ledger.
//!
//! Must not borrow from the ledger, so that the lock is short. Next: `query.rs`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::Line;
use crate::ids::{Millis, Sequence, Text, Units};
use crate::outcome::{AttemptState, Level, ReleaseReason, State};

/// Where a pool's units stand.
///
/// `supplied - withdrawn - written_off` equals the sum of the other seven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Ever brought in.
    pub supplied: Units,
    /// Ever taken out.
    pub withdrawn: Units,
    /// Ever written off.
    pub written_off: Units,
    /// Can be reserved.
    pub available: Units,
    /// Set aside for late payments.
    pub buffer: Units,
    /// In HELD reservations.
    pub held: Units,
    /// In PAYING reservations.
    pub paying: Units,
    /// In OVERDUE reservations.
    pub overdue: Units,
    /// Sold and not returned.
    pub sold: Units,
    /// Returned, to be looked at.
    pub quarantine: Units,
}

/// A pool and where its units stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Which pool.
    pub pool: Text,
    /// Where in the order of pools.
    pub position: u32,
    /// Its labels, in order of key.
    pub labels: Vec<(Text, Text)>,
    /// Whether its available units are for sale.
    pub is_offered: bool,
    /// Where its units stand.
    pub counters: Counters,
}

/// A sku in a sale: what buyers are told, and where its units stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailabilityView {
    /// Which sale.
    pub sale_id: Text,
    /// Which sku.
    pub sku: Text,
    /// What buyers are told.
    pub level: Level,
    /// Rises each time units are offered again after none were.
    pub level_epoch: i64,
    /// Sums over all pools.
    pub counters: Counters,
    /// The pools in their order.
    pub pools: Vec<PoolView>,
    /// When the first held units may come back.
    pub earliest_expire_at: Option<Millis>,
    /// The last event that changed a counter or a pool of this sku.
    pub changed_sequence: Sequence,
}

/// Units of one line taken from one pool, and how many of them came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenView {
    /// Which line, from 0.
    pub line_index: u32,
    /// What.
    pub sku: Text,
    /// From which pool.
    pub pool: Text,
    /// How many.
    pub units: Units,
    /// How many of them were returned.
    pub returned_units: Units,
}

/// One attempt to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptView {
    /// Which attempt.
    pub attempt_id: Text,
    /// At which provider.
    pub provider: Option<Text>,
    /// How much.
    pub amount_minor: Option<i64>,
    /// In which currency.
    pub currency: Option<Text>,
    /// Where it is.
    pub state: AttemptState,
    /// Whether it became known by its success only.
    pub is_unregistered: bool,
    /// When it began, or when its success became known.
    pub begun_at: Millis,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationView {
    /// Which reservation.
    pub reservation_id: Text,
    /// In which sale.
    pub sale_id: Text,
    /// For whom, as reserved.
    pub person_id: Text,
    /// Whom that person was merged into; the same if nobody.
    pub merged_person_id: Text,
    /// Where it is.
    pub state: State,
    /// Why it was released; also kept by REFUND_DUE and REFUNDED.
    pub release_reason: Option<ReleaseReason>,
    /// What was asked for.
    pub lines: Vec<Line>,
    /// Where the units came from (of a released one: had come from).
    pub taken: Vec<TakenView>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
    /// When it was made.
    pub created_at: Millis,
    /// Until when the units are, or were last, held.
    pub expires_at: Millis,
    /// When the provider should have answered; none before the first attempt.
    pub settle_by: Option<Millis>,
    /// Until when the units can be held at most.
    pub max_life_at: Millis,
    /// Whether somebody wants the units of the open payment back.
    pub release_requested: bool,
    /// Whether its units were given up and taken again.
    pub retaken: bool,
    /// The sequence of its `Reserved` event: reading the journal from there explains its life.
    pub created_sequence: Sequence,
}

/// Which reservations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationFilter {
    /// In which sale.
    pub sale_id: Text,
    /// Of whom, or of anybody merged into the same person.
    pub person_id: Option<Text>,
    /// In which state.
    pub state: Option<State>,
}

/// A page of reservations, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationPage {
    /// The reservations; may be fewer than asked for, even none, while `next_after` is set.
    pub reservations: Vec<ReservationView>,
    /// Pass it as `after` for the next page; none at the end.
    pub next_after: Option<u64>,
}

/// One invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which invariant: `conservation`, `agreement`, `limits`, `money`, `timers`, `index`,
    /// `history` or `persons`.
    pub invariant: &'static str,
    /// Of what: `sale/sku/pool`, a reservation, a person.
    pub subject: Text,
    /// What was expected and what is there.
    pub detail: String,
}

/// The counters of one pool, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAudit {
    /// Which sale.
    pub sale_id: Text,
    /// Which sku.
    pub sku: Text,
    /// Which pool.
    pub pool: Text,
    /// Where its units stand.
    pub counters: Counters,
    /// Sold units whose reservations are forgotten; a part of `counters.sold`.
    pub forgotten_sold_units: Units,
    /// Units that the counters have and no reservation explains, or the other way round; 0 unless a
    /// finding of `agreement` names the pool.
    pub leaked_units: Units,
}

/// The reservation that has been in one state the longest beyond its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// HELD, PAYING, OVERDUE or REFUND_DUE.
    pub state: State,
    /// Which reservation.
    pub reservation_id: Text,
    /// When it was made.
    pub created_at: Millis,
    /// When it should have moved on; none of REFUND_DUE, of which the first made is the oldest.
    pub due_at: Option<Millis>,
}

/// The result of checking every invariant that the state alone can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// What does not hold, at most [`Audit::FINDING_COUNT_MAX`].
    pub findings: Vec<Finding>,
    /// Every pool, by sale, sku and pool.
    pub pools: Vec<PoolAudit>,
    /// Reservations counted by state, in the order of [`State::ALL`].
    pub reservation_counts: Vec<(State, u64)>,
    /// The oldest reservation of each state that should not last; those without one are left out.
    pub oldest: Vec<Oldest>,
    /// Reservations in HELD whose time had ended at the time of the state.
    pub late_held_count: u64,
    /// The state that was checked.
    pub as_of_sequence: Sequence,
}

impl Audit {
    /// Findings kept; a broken ledger has one cause and thousands of symptoms.
    pub const FINDING_COUNT_MAX: usize = 100;

    /// Says whether every invariant holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Where all units of one sale stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleUnits {
    /// Which sale.
    pub sale_id: Text,
    /// Summed over its pools.
    pub counters: Counters,
}

/// Whether expiry is held back, and how late payment news was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrakeView {
    /// Whether an operator holds it back.
    pub is_on_by_operator: bool,
    /// Whether late news holds it back in some sale that is not over.
    pub is_on_by_lag: bool,
    /// How late the last news was, and when it was taken; none before the first.
    pub last_lag: Option<(Millis, Millis)>,
}

/// What waits to be paid in one sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaleQueue {
    /// Reservations in HELD.
    pub held_count: u64,
    /// Reservations in PAYING.
    pub paying_count: u64,
    /// Reservations that were paid or given up since this process applies events: only the
    /// difference of two looks means something.
    pub drained_count: u64,
    /// Whether each sku is GONE, and any was ever there.
    pub is_sold_out: bool,
}

/// How much the ledger keeps, for the node's bound on memory and for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Sales ever defined.
    pub sale_count: usize,
    /// Pools ever defined.
    pub pool_count: usize,
    /// Reservations kept, in whatever state.
    pub reservation_count: usize,
    /// Reservations in HELD, PAYING or OVERDUE.
    pub live_reservation_count: usize,
    /// Persons known.
    pub person_count: usize,
    /// Attempts known.
    pub attempt_count: usize,
    /// Requests remembered for their repeats.
    pub request_count: usize,
}
