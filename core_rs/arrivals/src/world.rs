//! A world in which another policy decided: its door, what is in flight there, and its order
//! database.
//!
//! Owns: simulated time of one run. Must not: look at what the live policy answered, but for what
//! no policy changes. Where next: `simulation.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lastunit_admission::{Answer, Ask, Door, DoorPolicy, Lane, Nanos, Operation, Report};

use crate::arrival::{Outcome, ReportNote};
use crate::database::Database;
use crate::simulation::Options;

/// The seed of tables by name; a replay gives the same answers each time.
const SEED: u64 = 0x05ee_da11;

/// A call that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    at: Nanos,
    lane: u8,
    is_hopeless: bool,
    /// Whether its credit comes back: the ledger granted nothing.
    gives_back: bool,
}

/// What a recording knows of one arrival beside the question itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) live: Outcome,
    pub(crate) service: Nanos,
}

/// One world.
#[derive(Clone, Debug)]
pub(crate) struct World {
    door: Door,
    options: Options,
    ends: BinaryHeap<Reverse<End>>,
    /// Asked only if somebody hears of it.
    has_window: bool,
    database: Database,
    heard: Option<ReportNote>,
    /// When the order service reports next; None: when it did live.
    next_report: Option<(Nanos, Nanos)>,
    /// What the last one let in of each lane took, for those that were refused live.
    services: [Nanos; Lane::ALL.len()],
    /// Whether the ledger granted the last reservation that was let in live.
    is_granted: bool,
}

impl World {
    pub(crate) fn new(policy: &DoorPolicy, options: &Options) -> Self {
        let interval = policy.window.map(|it| it.report_interval);
        let is_given = options.persisted_per_second.is_some();
        Self {
            door: Door::new(policy.clone(), SEED, 0),
            options: *options,
            ends: BinaryHeap::new(),
            has_window: policy.window.is_some(),
            database: Database::new(options.persisted_per_second),
            heard: None,
            next_report: interval.filter(|_| is_given).map(|every| (0, every)),
            services: [0; Lane::ALL.len()],
            is_granted: true,
        }
    }

    /// Hears what the order service reported live; its pace is taken over, not its count.
    pub(crate) fn hear(&mut self, note: &ReportNote) {
        if self.next_report.is_some() {
            return;
        }
        self.advance(note.at);
        if let Some(before) = self.heard.replace(*note) {
            let elapsed = note.at.saturating_sub(before.at);
            self.database.learn(&before.report, &note.report, elapsed);
        }
        self.tell(note.at);
    }

    fn tell(&mut self, now: Nanos) {
        let report: Report = self.database.report(now);
        // Its counter only grows, and its generation stays: there is nothing to refuse.
        let _ = self.door.report(&report, now);
    }

    /// Learns from an arrival what it tells of those that come after it.
    pub(crate) fn learn(&mut self, operation: Operation, known: Known) {
        if known.live.is_admitted() {
            self.services[operation.lane().index()] = known.service;
            if operation == Operation::Reserve {
                self.is_granted = known.live == Outcome::Granted;
            }
        }
    }

    /// How long until the lane of a call may have room for it; None if it has now, or never will.
    pub(crate) fn wait_for_lane(&mut self, ask: &Ask<'_>, now: Nanos) -> Option<Nanos> {
        self.advance(now);
        self.door.wait_for_lane(ask, now)
    }

    /// Refuses a call that waited too long, or for which there was no place to wait.
    pub(crate) fn refuse_late(&mut self, ask: &Ask<'_>, now: Nanos) -> Outcome {
        self.advance(now);
        let refusal = self.door.refuse_late(ask, now);
        Outcome::of(ask, &Answer::Refused(refusal))
    }

    /// Decides a call as the door of this world would have.
    pub(crate) fn decide(&mut self, ask: &Ask<'_>, known: Known, now: Nanos) -> Outcome {
        self.advance(now);
        let lane = ask.call.operation.lane();
        let is_reserve = ask.call.operation == Operation::Reserve;
        let mut outcome = Outcome::of(ask, &self.door.decide(ask, now));
        if outcome.is_refused() {
            return outcome;
        }
        if outcome == Outcome::NoEffect && self.is_granted {
            outcome = Outcome::Granted;
        }
        if is_reserve && outcome == Outcome::Granted && self.has_window {
            self.database.grant(now);
        }
        let service = match outcome {
            Outcome::Hopeless => known.service,
            _ => self.services[lane.index()],
        };
        let service = self.options.service[lane.index()].unwrap_or(service);
        self.ends.push(Reverse(End {
            at: now.saturating_add(service),
            lane: u8::try_from(lane.index()).unwrap_or(0),
            is_hopeless: outcome == Outcome::Hopeless,
            gives_back: is_reserve && outcome == Outcome::NoEffect,
        }));
        outcome
    }

    /// The most that were ever in flight, by lane.
    pub(crate) fn peaks(&mut self) -> [u32; Lane::ALL.len()] {
        let stats = self.door.stats(0, 0);
        Lane::ALL.map(|lane| stats.lanes[lane.index()].1.in_flight_peak)
    }

    /// Ends what ends until now, and reports what is due.
    fn advance(&mut self, now: Nanos) {
        while let Some(Reverse(end)) = self.ends.peek().copied() {
            if end.at > now {
                break;
            }
            self.report_until(end.at);
            self.ends.pop();
            if end.is_hopeless {
                self.door.finish_hopeless(1);
            } else {
                self.door.finish(Lane::ALL[usize::from(end.lane)], 1);
            }
            if end.gives_back {
                self.door.give_back(1);
            }
        }
        self.report_until(now);
    }

    fn report_until(&mut self, now: Nanos) {
        while let Some((at, every)) = self.next_report {
            if at > now {
                return;
            }
            self.tell(at);
            // A pause is not made up for report by report.
            let missed = (now - at) / every;
            let next = if missed > 100 { now } else { at };
            self.next_report = Some((next.saturating_add(every), every));
        }
    }
}
