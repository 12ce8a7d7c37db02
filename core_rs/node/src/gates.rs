//! The gates of all sales: open, queueing or closed for those who have not come in yet.
//!
//! Owns: what is measured for a gate, the operator's hand, and what is shown. Must not: refuse a
//! call, or touch whoever is inside: a gate is a signal for front ends. Where next: `gate.rs` of
//! `lastunit-admission` for the rule, `gates_settings.rs` for what it is judged by.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use lastunit_admission::{
    DoorPolicy, Gate, GateInputs, GateRules, GateState, GateView, Lane, Nanos,
};
use lastunit_engine::{Millis, SaleQueue, SaleState, Text};
use serde_json::{Value, json};

use crate::clock::instant_now;
use crate::lane_lock::Urgency;
use crate::shared::Shared;

/// Sales that have a gate, in the order of their names; archived ones have none.
pub const GATE_COUNT_MAX: usize = 1_000;

/// How often the measurements are looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often numbers that change nothing of the state are shown anew.
const NUMBERS: Nanos = 1_000_000_000;
/// Over how long the drain is averaged.
const DRAIN_SPAN: Nanos = 5_000_000_000;
/// For how long a late payment counts, and how many there must be: one that was repeated for an
/// hour says nothing of those who pay now.
const LAG_SPAN: Nanos = 10_000_000_000;
const LAG_COUNT_MIN: usize = 5;
const LAG_COUNT_MAX: usize = 128;

const MILLISECOND: Nanos = 1_000_000;

/// A hand that cannot be laid on a gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// No gate of that name.
    #[error("there is no gate of sale {sale_id}: it is not defined, or archived")]
    UnknownSale {
        /// Whose gate was asked for.
        sale_id: String,
    },
    /// The node has stopped at a bug.
    #[error("the node does not serve")]
    NotServing,
}

/// The operator's hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hand {
    state: GateState,
    until: Option<Millis>,
}

/// What the ledger says of one sale.
#[derive(Clone, Copy, Debug)]
struct Sale {
    state: SaleState,
    opens_at: Option<Millis>,
    closes_at: Option<Millis>,
    ttl: Millis,
    queue: SaleQueue,
}

/// What was measured at one look, beside the sales.
#[derive(Clone, Copy, Debug, Default)]
struct Measures {
    now: Nanos,
    ledger_now: Millis,
    in_flight: u64,
    is_report_stale: bool,
    settlement_lag: Option<(Millis, Millis)>,
}

/// One gate and what it shows.
#[derive(Clone, Debug)]
struct Shown {
    gate: Gate,
    view: GateView,
    inputs: GateInputs,
    cause: &'static str,
    since: Millis,
    sale: Sale,
}

impl Shown {
    /// What front ends act on. A change of it is told at once.
    fn key(&self) -> impl PartialEq {
        let opens_at = self.sale.opens_at;
        let is_by_hand = self.inputs.hand.is_some();
        let state = (self.view.state, self.cause, is_by_hand);
        (
            state,
            opens_at,
            self.sale.state,
            self.sale.queue.is_sold_out,
        )
    }
}

#[derive(Default)]
struct State {
    /// Of the server's settings: they hold where the policy says nothing of gates.
    settings: GateRules,
    /// Of the admission policy in force.
    policy: Option<GateRules>,
    hands: BTreeMap<Text, Hand>,
    gates: BTreeMap<Text, Shown>,
    drain: Drain,
    lags: Lags,
    measures: Measures,
    shown_at: Nanos,
}

/// All gates of a node. The lock is held for arithmetic over the sales, never together with the
/// node's.
pub(crate) struct GateBoard {
    state: Mutex<State>,
    start: Instant,
    /// Calls of the reservation lane that may be in flight. Relaxed: a number of its own.
    in_flight_max: AtomicU64,
    /// Rises when something else is shown. Acquire and release pair with what is shown.
    version: AtomicU64,
    thread: OnceLock<Thread>,
    is_stopping: AtomicBool,
}

impl GateBoard {
    pub(crate) fn new(policy: &DoorPolicy) -> Self {
        let board = Self {
            state: Mutex::default(),
            start: instant_now(),
            in_flight_max: AtomicU64::new(0),
            version: AtomicU64::new(0),
            thread: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        };
        board.note_policy(policy);
        board
    }

    /// Takes what a policy says of gates; they are judged by it from the next look on.
    pub(crate) fn note_policy(&self, policy: &DoorPolicy) {
        let most = policy.limits.lane(Lane::Reservation).calls_in_flight_max;
        self.in_flight_max.store(most.into(), Ordering::Relaxed);
        self.state().policy = policy.gate;
    }

    pub(crate) fn set_settings(&self, settings: GateRules) {
        self.state().settings = settings;
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// What is shown, if it has changed.
    pub(crate) fn json(&self, after_version: u64) -> Option<String> {
        let version = self.version.load(Ordering::Acquire);
        if version <= after_version {
            return None;
        }
        let state = self.state();
        let in_flight_max = self.in_flight_max.load(Ordering::Relaxed);
        let gates: Vec<Value> = state
            .gates
            .iter()
            .map(|(sale_id, shown)| shown.to_json(sale_id, &state, in_flight_max))
            .collect();
        Some(json!({"version": version, "gates": gates}).to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Nanos {
        let elapsed = instant_now().saturating_duration_since(self.start);
        Nanos::try_from(elapsed.as_nanos()).unwrap_or(Nanos::MAX)
    }
}

/// Looks after the gates until stopped.
pub(crate) fn run(shared: &Shared) {
    let board = &shared.gates;
    board.thread.get_or_init(thread::current);
    while !board.is_stopping.load(Ordering::Relaxed) {
        look(shared);
        thread::park_timeout(INTERVAL);
    }
}

/// Lays the operator's hand on a gate and looks at once.
pub(crate) fn set_hand(
    shared: &Shared,
    sale_id: &str,
    hand: Option<GateState>,
    until: Option<Millis>,
) -> Result<(), GateError> {
    let is_known = shared
        .lock(Urgency::Urgent)
        .map_err(|_| GateError::NotServing)?
        .ledger
        .sale_queue(sale_id)
        .is_some();
    if !is_known {
        let sale_id = sale_id.to_owned();
        return Err(GateError::UnknownSale { sale_id });
    }
    {
        let mut state = shared.gates.state();
        match hand {
            Some(hand) => state
                .hands
                .insert(sale_id.into(), Hand { state: hand, until }),
            None => state.hands.remove(sale_id),
        };
    }
    look(shared);
    Ok(())
}

/// Measures, and judges each gate.
fn look(shared: &Shared) {
    let Some((measures, sales)) = measure(shared) else {
        return;
    };
    let board = &shared.gates;
    let in_flight_max = board.in_flight_max.load(Ordering::Relaxed);
    let mut state = board.state();
    if state.judge(measures, in_flight_max, &sales) {
        board.version.fetch_add(1, Ordering::Release);
    }
}

/// The lock is taken once a sale, for as long as a look at its skus takes.
fn measure(shared: &Shared) -> Option<(Measures, BTreeMap<Text, Sale>)> {
    let stats = shared.turnstile.stats(0);
    let in_flight = stats
        .lanes
        .iter()
        .find(|(lane, _)| *lane == Lane::Reservation)
        .map_or(0, |(_, stats)| stats.in_flight.into());
    let mut core = shared.lock(Urgency::Background).ok()?;
    let (ids, ledger_now) = (core.ledger.sale_ids(), core.clock.now());
    let settlement_lag = core.ledger.brake(ledger_now).last_lag;
    drop(core);
    let mut sales = BTreeMap::new();
    for sale_id in ids {
        if sales.len() >= GATE_COUNT_MAX {
            break;
        }
        let core = shared.lock(Urgency::Background).ok()?;
        let found = core.ledger.sale(&sale_id, ledger_now);
        let queue = core.ledger.sale_queue(&sale_id);
        drop(core);
        let (Some(found), Some(queue)) = (found, queue) else {
            continue;
        };
        if found.state == SaleState::Archived {
            continue;
        }
        let sale = Sale {
            state: found.state,
            opens_at: found.opens_at,
            closes_at: found.closes_at,
            ttl: found.policy.reservation_ttl,
            queue,
        };
        sales.insert(sale_id, sale);
    }
    let measures = Measures {
        now: shared.gates.now(),
        ledger_now,
        in_flight,
        // Nobody is asked to report to a window that is not there.
        is_report_stale: stats.window.is_some_and(|window| window.is_stale),
        settlement_lag,
    };
    Some((measures, sales))
}

impl State {
    /// Judges every gate; says whether something else is to be shown.
    fn judge(
        &mut self,
        measures: Measures,
        in_flight_max: u64,
        sales: &BTreeMap<Text, Sale>,
    ) -> bool {
        let Measures {
            now, ledger_now, ..
        } = measures;
        let rules = self.policy.unwrap_or(self.settings);
        self.measures = measures;
        self.lags.note(measures.settlement_lag, now);
        // They wait for the same payments, whatever they bought.
        let queue_count = sales
            .values()
            .map(|sale| sale.queue.held_count + sale.queue.paying_count)
            .sum();
        let drained_count = sales.values().map(|sale| sale.queue.drained_count).sum();
        self.drain.note(drained_count, now);
        self.hands
            .retain(|_, hand| hand.until.is_none_or(|until| ledger_now < until));
        let shared = GateInputs {
            in_flight: measures.in_flight,
            in_flight_max,
            queue_count,
            callback_lag: nanos(self.lags.median()),
            is_report_stale: measures.is_report_stale,
            drain: self.drain.rate().unwrap_or(rules.settled_rate),
            ..GateInputs::default()
        };
        let mut gates = BTreeMap::new();
        let mut has_news = sales.len() != self.gates.len();
        for (sale_id, sale) in sales {
            let ttl = nanos(sale.ttl);
            let inputs = GateInputs {
                hand: self.hands.get(sale_id).map(|hand| hand.state),
                opens_in: sale.opens_in(ledger_now),
                queue_count_max: rules.queue_count_max(ttl),
                reservation_ttl: ttl,
                ..shared
            };
            let before = self.gates.get(sale_id);
            let next = Shown::next(before, *sale, inputs, &rules, &measures);
            has_news |= before.is_none_or(|before| before.key() != next.key());
            gates.insert(sale_id.clone(), next);
        }
        self.gates = gates;
        has_news |= now.saturating_sub(self.shown_at) >= NUMBERS;
        if has_news {
            self.shown_at = now;
        }
        has_news
    }
}

impl Sale {
    /// Time until it takes reservations; a paused one may at any moment.
    fn opens_in(&self, now: Millis) -> Option<Nanos> {
        match self.state {
            SaleState::Scheduled => {
                let left = self.opens_at.map_or(0, |opens_at| opens_at - now);
                Some(nanos(left))
            }
            SaleState::Open => None,
            _ => Some(0),
        }
    }

    /// Whether nobody will come in ever again, hand or no hand.
    fn is_over(&self) -> bool {
        !matches!(
            self.state,
            SaleState::Scheduled | SaleState::Open | SaleState::Paused
        )
    }
}

impl Shown {
    fn next(
        before: Option<&Self>,
        sale: Sale,
        inputs: GateInputs,
        rules: &GateRules,
        measures: &Measures,
    ) -> Self {
        // A sale that opens begins with an open gate, not with one that gets better by steps.
        let going_on =
            before.filter(|before| before.inputs.opens_in.is_none() || inputs.opens_in.is_some());
        let gate = going_on.map_or_else(Gate::default, |before| before.gate);
        let (gate, mut view) = gate.next(&inputs, &rules.policy, measures.now);
        let mut cause = view.cause.name();
        if sale.is_over() {
            view.state = GateState::Closed;
            view.come_back = None;
            cause = "SALE_ENDED";
        } else if sale.state == SaleState::Paused && inputs.hand.is_none() {
            cause = "SALE_PAUSED";
        } else if view.state == GateState::Open && inputs.hand.is_none() {
            cause = "CALM";
        }
        let is_same = before.filter(|before| before.view.state == view.state);
        Self {
            gate,
            view,
            inputs,
            cause,
            since: is_same.map_or(measures.ledger_now, |before| before.since),
            sale,
        }
    }

    fn to_json(&self, sale_id: &str, state: &State, in_flight_max: u64) -> Value {
        let hand = state.hands.get(sale_id);
        json!({
            "sale_id": sale_id,
            "state": state_name(self.view.state),
            "cause": self.cause,
            "since_ms": self.since,
            "as_of_ms": state.measures.ledger_now,
            "come_back_ms": self.view.come_back.map(|nanos| nanos / MILLISECOND),
            "pressure": f64::from(self.view.pressure) / 1_000.0,
            "queue_count": self.inputs.queue_count,
            "queue_count_max": self.inputs.queue_count_max,
            "held_count": self.sale.queue.held_count,
            "paying_count": self.sale.queue.paying_count,
            "callback_lag_ms": self.inputs.callback_lag / MILLISECOND,
            "reservation_ttl_ms": self.sale.ttl,
            "calls_in_flight": self.inputs.in_flight,
            "calls_in_flight_max": in_flight_max,
            "drain_per_second_milli": self.inputs.drain,
            "sale_state": sale_state_name(self.sale.state),
            "opens_ms": self.sale.opens_at,
            "closes_ms": self.sale.closes_at,
            "is_sold_out": self.sale.queue.is_sold_out,
            "hand": hand.map(|hand| state_name(hand.state)),
            "hand_until_ms": hand.and_then(|hand| hand.until),
        })
    }
}

/// How fast reservations stop waiting, averaged, in thousandths a second.
#[derive(Default)]
struct Drain {
    last: Option<(u64, Nanos)>,
    rate: u64,
}

impl Drain {
    fn note(&mut self, drained_count: u64, now: Nanos) {
        let Some((last_count, last)) = self.last else {
            self.last = Some((drained_count, now));
            return;
        };
        let span = now.saturating_sub(last);
        if span < MILLISECOND {
            return;
        }
        self.last = Some((drained_count, now));
        // Fewer than before if a sale was archived meanwhile.
        let count = u128::from(drained_count.saturating_sub(last_count));
        let present = count * 1_000 * 1_000_000_000 / u128::from(span);
        let weight = u128::from(span.min(DRAIN_SPAN));
        let whole = u128::from(DRAIN_SPAN);
        let mixed = (u128::from(self.rate) * (whole - weight) + present * weight) / whole;
        self.rate = u64::try_from(mixed).unwrap_or(u64::MAX);
    }

    fn rate(&self) -> Option<u64> {
        (self.rate > 0).then_some(self.rate)
    }
}

/// How late the payment news of the last seconds were.
#[derive(Default)]
struct Lags {
    recent: VecDeque<(Nanos, Millis)>,
    last: Option<(Millis, Millis)>,
    has_looked: bool,
}

impl Lags {
    fn note(&mut self, last: Option<(Millis, Millis)>, now: Nanos) {
        let oldest = now.saturating_sub(LAG_SPAN);
        self.recent.retain(|(seen, _)| *seen >= oldest);
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        let is_same = std::mem::replace(&mut self.last, last) == last;
        let Some((lag, _)) = last else { return };
        // What was there at the first look may be of yesterday.
        if is_first || is_same {
            return;
        }
        if self.recent.len() == LAG_COUNT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, lag));
    }

    /// The lag in the middle; 0 while there are too few.
    fn median(&self) -> Millis {
        if self.recent.len() < LAG_COUNT_MIN {
            return 0;
        }
        let mut lags: Vec<Millis> = self.recent.iter().map(|(_, lag)| *lag).collect();
        lags.sort_unstable();
        lags[lags.len() / 2]
    }
}

fn nanos(millis: Millis) -> Nanos {
    Nanos::try_from(millis)
        .unwrap_or(0)
        .saturating_mul(MILLISECOND)
}

fn state_name(state: GateState) -> &'static str {
    match state {
        GateState::Open => "open",
        GateState::Queueing => "queueing",
        GateState::Closed => "closed",
    }
}

fn sale_state_name(state: SaleState) -> &'static str {
    match state {
        SaleState::Scheduled => "scheduled",
        SaleState::Open => "open",
        SaleState::Paused => "paused",
        SaleState::Closed => "closed",
        SaleState::Cancelled => "cancelled",
        SaleState::Archived => "archived",
    }
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
