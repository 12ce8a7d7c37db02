//! The replay of a recording: in the order of time, once by what was recorded and once by another
//! policy.
//!
//! Owns: the order of arrivals (a recording has them in the order of their answers), the names over
//! all blocks, who waits for a lane, and the counting. Must not: hold all of a recording in memory.
//! Where next: `world.rs`.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use lastunit_admission::{Called, DoorPolicy, Lane, Nanos, WaitingLines};

use crate::arrival::{Outcome, ReportNote};
use crate::block::{Block, Blocks, Damage, Origin, Row, RowArrival};
use crate::question::Question;
use crate::tally::{CallerRow, LaneRow, Tally};
use crate::world::{Known, World};

/// How long after it came a call may be answered and still be replayed in its place: it may wait
/// for its lane for ten seconds. One that takes longer is decided when it is read.
const ANSWERED_WITHIN: Nanos = 20_000_000_000;

/// The latest time that is replayed, 292 years after a start: a forged one must leave room for what
/// is reckoned from it.
const TIME_MAX: Nanos = Nanos::MAX / 2;

/// Names that are kept apart; what comes after them is counted under one name.
const NAMES_MAX: usize = 1_000_000;
const OTHERS: &str = "(others)";

/// What is given instead of what was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How long a call is in flight, by lane in the order of [`Lane::ALL`]; None: as recorded, and
    /// for a call that was refused live as the last one that was let in before it.
    pub service: [Option<Nanos>; Lane::ALL.len()],
    /// Reservations that the order database persists in a second, in thousandths, reported as often
    /// as the policy says; None: at the pace and the times that were recorded.
    pub persisted_per_second: Option<u64>,
}

/// What a replay gives.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// By lane, first served first.
    pub lanes: Vec<LaneRow>,
    /// By caller, most arrivals first, as many as were asked for.
    pub callers: Vec<CallerRow>,
    /// How many callers there were.
    pub caller_count: usize,
    /// Starts of the server that were recorded.
    pub run_count: u64,
    /// From the first to the last arrival of each run, added up.
    pub span: Nanos,
    /// The machine's clock at the first arrival, microseconds since 1970.
    pub first_micros: i64,
    /// Blocks that were read.
    pub block_count: u64,
    /// Arrivals that the server did not keep, because it could not write fast enough.
    pub dropped_count: u64,
    /// Bytes that could not be read; whatever was in them is missing.
    pub damaged_bytes: u64,
    /// Bytes of blocks that were being written.
    pub unfinished_bytes: u64,
    /// A version of the form that this program does not read.
    pub unknown_version: Option<u16>,
    /// Reports of the order service.
    pub report_count: u64,
}

/// Waits for its place in the order of time.
#[derive(Debug)]
struct Item {
    at: Nanos,
    /// Among those of one moment: as they were read.
    order: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Arrival(Guest),
    Report(ReportNote),
}

/// One that came.
#[derive(Debug)]
struct Guest {
    arrival: RowArrival,
    /// Its caller, sale and SKUs, among the names of all blocks.
    places: Vec<u32>,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    /// The earliest is the greatest: a heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// A replay.
pub struct Simulation {
    policy: DoorPolicy,
    options: Options,
    world: World,
    lines: WaitingLines<Guest>,
    coming: BinaryHeap<Item>,
    order: u64,
    latest: Nanos,
    origin: Option<Origin>,
    first: Option<Nanos>,
    /// When the last one came.
    last: Nanos,
    /// How far this run was replayed.
    clock: Nanos,
    places: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
    /// By name; most names are of no caller.
    callers: HashMap<u32, [Tally; 2]>,
    lanes: [LaneRow; Lane::ALL.len()],
    forecast: Forecast,
}

impl Simulation {
    /// Starts with a policy that has been checked.
    #[must_use]
    pub fn new(policy: DoorPolicy, options: Options) -> Self {
        let lane = |lane| LaneRow {
            lane,
            live: Tally::default(),
            forecast: Tally::default(),
            in_flight_peak: 0,
            newly_refused: 0,
            newly_served: 0,
        };
        Self {
            world: World::new(&policy, &options),
            lines: WaitingLines::new(&policy.limits),
            policy,
            options,
            coming: BinaryHeap::new(),
            order: 0,
            latest: 0,
            origin: None,
            first: None,
            last: 0,
            clock: 0,
            places: HashMap::new(),
            names: Vec::new(),
            callers: HashMap::new(),
            lanes: Lane::ALL.map(lane),
            forecast: Forecast::default(),
        }
    }

    /// Takes the next file of a recording, whole blocks and what is left of others.
    pub fn feed(&mut self, bytes: &[u8]) {
        for block in Blocks::new(bytes) {
            match block {
                Ok(block) => self.take(&block),
                Err(damage) => self.note_damage(damage),
            }
        }
    }

    /// Replays what is left, and gives the counts with as many callers as are wanted.
    #[must_use]
    pub fn finish(mut self, caller_limit: usize) -> Forecast {
        self.end_run();
        let mut callers: Vec<CallerRow> = self
            .callers
            .iter()
            .map(|(name, [live, forecast])| CallerRow {
                name: self.names[*name as usize].clone(),
                live: *live,
                forecast: *forecast,
            })
            .collect();
        callers.sort_by(|one, other| {
            let offered = other.live.offered().cmp(&one.live.offered());
            offered.then_with(|| one.name.cmp(&other.name))
        });
        self.forecast.caller_count = callers.len();
        callers.truncate(caller_limit);
        self.forecast.callers = callers;
        self.forecast.lanes = self.lanes.to_vec();
        self.forecast
    }

    fn note_damage(&mut self, damage: Damage) {
        let bytes = damage.bytes as u64;
        if damage.is_unfinished {
            self.forecast.unfinished_bytes += bytes;
        } else {
            self.forecast.damaged_bytes += bytes;
        }
        let version = self.forecast.unknown_version;
        self.forecast.unknown_version = version.or(damage.version);
    }

    fn take(&mut self, block: &Block<'_>) {
        self.forecast.block_count += 1;
        self.begin_run(block.origin);
        let names: Vec<u32> = block.names.iter().map(|name| self.place(name)).collect();
        for row in &block.rows {
            let (at, what) = match row {
                Row::Report(note) => (note.at.min(TIME_MAX), What::Report(*note)),
                Row::Arrival(arrival) => {
                    let mut places = vec![names[arrival.caller]];
                    places.extend(arrival.sale.map(|sale| names[sale]));
                    let skus = &block.skus[arrival.skus.clone()];
                    places.extend(skus.iter().map(|sku| names[*sku]));
                    let arrival = arrival.clone();
                    let came = arrival.at.min(TIME_MAX).saturating_sub(arrival.waited);
                    (came, What::Arrival(Guest { arrival, places }))
                }
            };
            self.latest = self.latest.max(at);
            self.order += 1;
            let order = self.order;
            self.coming.push(Item { at, order, what });
        }
        while let Some(item) = self.coming.peek() {
            if item.at.saturating_add(ANSWERED_WITHIN) > self.latest {
                break;
            }
            self.replay_next();
        }
    }

    /// Another start of the server had another door: the world begins anew, as the live one did.
    fn begin_run(&mut self, origin: Origin) {
        if self.origin.is_some_and(|held| held.run == origin.run) {
            self.origin = Some(origin);
            return;
        }
        self.end_run();
        self.origin = Some(origin);
        self.forecast.run_count += 1;
        self.world = World::new(&self.policy, &self.options);
        self.lines = WaitingLines::new(&self.policy.limits);
    }

    fn end_run(&mut self) {
        while !self.coming.is_empty() {
            self.replay_next();
        }
        self.call_until(Nanos::MAX);
        let peaks = self.world.peaks();
        for (row, peak) in self.lanes.iter_mut().zip(peaks) {
            row.in_flight_peak = row.in_flight_peak.max(peak);
        }
        let origin = self.origin.take();
        let dropped = origin.map_or(0, |it| it.dropped_count);
        self.forecast.dropped_count = self.forecast.dropped_count.saturating_add(dropped);
        let span = self.last.saturating_sub(self.first.unwrap_or(self.last));
        self.forecast.span = self.forecast.span.saturating_add(span);
        (self.latest, self.first, self.last, self.clock) = (0, None, 0, 0);
    }

    fn replay_next(&mut self) {
        let Some(item) = self.coming.pop() else {
            return;
        };
        // Who was answered very late is decided when it is read: time does not go back.
        let now = item.at.max(self.clock);
        self.call_until(now);
        self.clock = now;
        match item.what {
            What::Report(note) => {
                self.forecast.report_count += 1;
                self.world.hear(&ReportNote { at: now, ..note });
            }
            What::Arrival(guest) => self.admit(guest, now),
        }
        self.last = now;
        if self.first.is_none() {
            self.first = Some(now);
            if self.forecast.first_micros == 0 {
                let start = self.origin.map_or(0, |it| it.start_micros);
                let micros = i64::try_from(now / 1_000).unwrap_or(i64::MAX);
                self.forecast.first_micros = start.saturating_add(micros);
            }
        }
    }

    /// Calls those who wait until then, each when its turn or its end comes.
    fn call_until(&mut self, end: Nanos) {
        while let Some(look) = self.lines.next_look() {
            let now = look.max(self.clock);
            if now > end {
                return;
            }
            self.clock = now;
            while let Some(called) = self.lines.call(now, false) {
                self.readmit(called, now);
            }
        }
    }

    /// One that comes: it is decided, or waits where the policy lets it.
    fn admit(&mut self, guest: Guest, now: Nanos) {
        let arrival = &guest.arrival;
        let lane = arrival.operation.lane();
        self.world.learn(arrival.operation, known(arrival));
        let question = Question::new(&self.names, &guest.places, arrival);
        let ask = question.ask();
        let may_wait = self.policy.limits.lane(lane).queue.is_some() && !question.is_hopeless();
        let has_to_wait =
            may_wait && (self.lines.len(lane) > 0 || self.world.wait_for_lane(&ask, now).is_some());
        if !has_to_wait {
            let outcome = self.world.decide(&ask, known(arrival), now);
            self.count(&guest, outcome, 0);
            return;
        }
        let Err(guest) = self.lines.push(guest, lane, now) else {
            return;
        };
        let question = Question::new(&self.names, &guest.places, &guest.arrival);
        let outcome = self.world.refuse_late(&question.ask(), now);
        self.count(&guest, outcome, 0);
    }

    /// One that waited: it is decided, refused for its long wait, or waits on.
    fn readmit(&mut self, called: Called<Guest>, now: Nanos) {
        let guest = &called.item;
        let question = Question::new(&self.names, &guest.places, &guest.arrival);
        let ask = question.ask();
        let outcome = if called.is_late {
            self.world.refuse_late(&ask, now)
        } else if let Some(wait) = self.world.wait_for_lane(&ask, now) {
            self.lines.put_back(called, wait, now);
            return;
        } else {
            self.world.decide(&ask, known(&guest.arrival), now)
        };
        self.count(&called.item, outcome, now - called.since);
    }

    fn count(&mut self, guest: &Guest, outcome: Outcome, waited: Nanos) {
        let Guest { arrival, places } = guest;
        let row = &mut self.lanes[arrival.operation.lane().index()];
        row.live.count(arrival.outcome, arrival.waited);
        row.forecast.count(outcome, waited);
        match (arrival.outcome.is_refused(), outcome.is_refused()) {
            (false, true) => row.newly_refused += 1,
            (true, false) => row.newly_served += 1,
            _ => {}
        }
        let [live, forecast] = self.callers.entry(places[0]).or_default();
        live.count(arrival.outcome, arrival.waited);
        forecast.count(outcome, waited);
    }

    fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        if self.names.len() >= NAMES_MAX && name != OTHERS {
            return self.place(OTHERS);
        }
        let place = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.places.insert(name.into(), place);
        place
    }
}

fn known(arrival: &RowArrival) -> Known {
    Known {
        live: arrival.outcome,
        service: arrival.service,
    }
}
