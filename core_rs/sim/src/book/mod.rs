//! A slow, obvious ledger that says what the real one should have answered.
//!
//! Owns: an oracle of stock, limits, payments and ids written from the rules (docs/concepts), not
//! from the engine. It keeps facts only: what was brought in and taken out, and who has what. What
//! is available, held, paying or sold is added up from the reservations each time, so a unit cannot
//! get lost in a counter. A command is judged by gathering every reason to refuse it and taking
//! the one that wins. Must not: use anything of the engine but its vocabulary. Where next:
//! `claims.rs` and `payment.rs` for reservations, `stock.rs` and `timers.rs` for the rest,
//! `views.rs` for the comparison.

mod claims;
mod payment;
mod stock;
mod timers;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use lastunit_engine::{
    Action, Answer, AttemptState, Command, Counters, Event, EventBody, Level, Line, Millis,
    Outcome, ReleaseReason, Reply, Reserve, SalePolicy, SaleState, Sequence, State, Taken, Text,
    Units,
};

/// A call to act that a decision must leave in the journal, with its attempt.
pub(crate) type Call = (&'static str, Text);

/// What is wrong with a decision.
pub(crate) type Judged<T> = Result<T, String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) position: u32,
    pub(crate) is_offered: bool,
    pub(crate) supplied: Units,
    pub(crate) withdrawn: Units,
    pub(crate) written_off: Units,
    pub(crate) buffer: Units,
    pub(crate) quarantine: Units,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sku {
    pub(crate) pools: BTreeMap<Text, Pool>,
    pub(crate) level_epoch: i64,
    pub(crate) was_open: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Sale {
    pub(crate) opens_at: Option<Millis>,
    pub(crate) closes_at: Option<Millis>,
    pub(crate) policy: SalePolicy,
    pub(crate) revision: i64,
    pub(crate) state: SaleState,
    pub(crate) skus: BTreeMap<Text, Sku>,
}

impl Sale {
    /// The state as time has it: open from `opens_at` until before `closes_at`.
    pub(crate) fn state_at(&self, now: Millis) -> SaleState {
        let waits = matches!(
            self.state,
            SaleState::Scheduled | SaleState::Open | SaleState::Paused
        );
        if waits && self.closes_at.is_some_and(|closes_at| closes_at <= now) {
            return SaleState::Closed;
        }
        if self.state == SaleState::Scheduled && self.opens_at.is_none_or(|at| at <= now) {
            return SaleState::Open;
        }
        self.state
    }
}

/// Units of one line from one pool.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) taken: Taken,
    pub(crate) returned: Units,
    pub(crate) given_back: Units,
}

#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) sale_id: Text,
    pub(crate) asked: Reserve,
    pub(crate) first: Reply,
    pub(crate) state: State,
    pub(crate) reason: Option<ReleaseReason>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) created_at: Millis,
    pub(crate) expires_at: Millis,
    pub(crate) max_life_at: Millis,
    pub(crate) settle_by: Option<Millis>,
    pub(crate) attempts: Vec<Text>,
    pub(crate) is_release_requested: bool,
    pub(crate) is_retaken: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) reservation_id: Text,
    /// The command that began it; none if it became known by its money.
    pub(crate) begun: Option<Command>,
    pub(crate) begun_at: Millis,
    pub(crate) first: Reply,
    pub(crate) state: AttemptState,
}

/// A request that was done.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) command: Command,
    pub(crate) first: Reply,
    pub(crate) reservation_id: Option<Text>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Brake {
    pub(crate) is_on: bool,
    pub(crate) until: Option<Millis>,
    pub(crate) lag: Option<(Millis, Millis)>,
}

/// What a decision should be.
pub(crate) struct Verdict {
    pub(crate) reply: Reply,
    pub(crate) calls: Vec<Call>,
}

/// The oracle's ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) sequence: Sequence,
    pub(crate) time: Millis,
    pub(crate) epoch: i64,
    pub(crate) brake: Brake,
    pub(crate) sales: BTreeMap<Text, Sale>,
    pub(crate) reservations: BTreeMap<Text, Reservation>,
    pub(crate) attempts: BTreeMap<Text, Attempt>,
    pub(crate) requests: BTreeMap<Text, Done>,
    /// Whom a person was merged into.
    pub(crate) merged: BTreeMap<Text, Text>,
    /// Rows of the state machine met since they were last asked for.
    pub(crate) rows: Vec<&'static str>,
}

pub(crate) fn refuse(outcome: Outcome) -> Reply {
    Reply::of(outcome)
}

pub(crate) fn ok(state: Option<State>, answer: Answer) -> Reply {
    Reply {
        state,
        answer,
        ..Reply::of(Outcome::Ok)
    }
}

/// The reason that wins among several: the first in the order of outcomes.
pub(crate) fn strongest(reasons: &[Outcome]) -> Option<Outcome> {
    reasons.iter().copied().min()
}

impl Book {
    /// Decides a command, makes it so, and says what the reply and the calls to act should be.
    pub(crate) fn decide(&mut self, command: &Command, now: Millis, events: u32) -> Verdict {
        let now = now.max(self.time);
        let mut calls = Vec::new();
        let mut reply = self.reply(command, now, &mut calls);
        let is_done = reply.outcome == Outcome::Ok && !reply.replayed;
        if is_done {
            self.sequence += i64::from(events);
            self.time = now;
            reply.sequence = self.sequence;
            self.remember(command, &reply);
            self.note_openings();
        }
        self.note_rows(command, &reply);
        Verdict { reply, calls }
    }

    fn reply(&mut self, command: &Command, now: Millis, calls: &mut Vec<Call>) -> Reply {
        if let Some(reply) = self.recall(command) {
            return reply;
        }
        match &command.action {
            Action::Reserve(reserve) => self.reserve(reserve, now),
            Action::BeginPayment(begin) => self.begin_payment(command, begin, now),
            Action::SettlePayment(settle) => self.settle_payment(settle, now, calls),
            Action::Confirm { reservation_id } => self.confirm(reservation_id),
            Action::Release {
                reservation_id,
                release_reason,
            } => self.release(reservation_id, *release_reason, calls),
            Action::Extend {
                reservation_id,
                extension,
            } => self.extend(reservation_id, *extension, now),
            Action::Return(asked) => self.return_units(asked),
            Action::RecordRefund {
                reservation_id,
                attempt_id,
                ..
            } => self.record_refund(reservation_id, attempt_id),
            Action::ReleaseUnverified { reservation_id } => {
                self.release_unverified(reservation_id, calls)
            }
            Action::MergePersons {
                source_person_id,
                target_person_id,
            } => self.merge(source_person_id, target_person_id),
            Action::SplitPersons { person_ids } => self.split(person_ids),
            Action::SetExpiryBrake { is_on, until } => {
                (self.brake.is_on, self.brake.until) = (*is_on, *until);
                ok(None, Answer::None)
            }
            Action::Expire { reservation_id } => self.expire(reservation_id, now),
            Action::BecomeOverdue { reservation_id } => {
                self.become_overdue(reservation_id, now, calls)
            }
            Action::OpenSale { sale_id } => self.turn(sale_id, SaleState::Open, now),
            Action::CloseSale { sale_id } => self.turn(sale_id, SaleState::Closed, now),
            Action::CreditOutage { outage } => self.credit(*outage),
            Action::NoteNodeOpened { epoch } => {
                self.epoch = *epoch;
                ok(None, Answer::None)
            }
            _ => self.stock(command, now),
        }
    }

    /// The first answer again, or a conflict; none if the id is new. Ids come before everything.
    fn recall(&mut self, command: &Command) -> Option<Reply> {
        let again = |first: &Reply, state| Reply {
            replayed: true,
            state,
            ..first.clone()
        };
        match &command.action {
            Action::Reserve(asked) => {
                let found = self.reservations.get(&asked.reservation_id)?;
                let first = &found.asked;
                let is_same = (&first.sale_id, &first.person_id, &first.lines, first.ttl)
                    == (&asked.sale_id, &asked.person_id, &asked.lines, asked.ttl);
                Some(if is_same {
                    again(&found.first, Some(found.state))
                } else {
                    refuse(Outcome::Conflict)
                })
            }
            Action::BeginPayment(asked) => {
                let found = self.attempts.get(&asked.attempt_id)?;
                let state = self
                    .reservations
                    .get(&found.reservation_id)
                    .map(|it| it.state);
                if found.reservation_id != asked.reservation_id {
                    return Some(refuse(Outcome::Conflict));
                }
                Some(match &found.begun {
                    None => Reply {
                        state,
                        ..refuse(Outcome::WrongState)
                    },
                    Some(begun) if begun.action == command.action => again(&found.first, state),
                    Some(_) => refuse(Outcome::Conflict),
                })
            }
            _ => {
                let done = self.requests.get(&command.request_id)?;
                let reservation = done.reservation_id.as_ref();
                let state = reservation
                    .and_then(|id| self.reservations.get(id))
                    .map(|it| it.state);
                let is_same = (
                    &done.command.action,
                    &done.command.actor,
                    &done.command.reason,
                ) == (&command.action, &command.actor, &command.reason);
                Some(if is_same {
                    again(&done.first, state)
                } else {
                    refuse(Outcome::Conflict)
                })
            }
        }
    }

    fn remember(&mut self, command: &Command, reply: &Reply) {
        match &command.action {
            Action::Reserve(asked) => {
                if let Some(made) = self.reservations.get_mut(&asked.reservation_id) {
                    made.first = reply.clone();
                }
            }
            Action::BeginPayment(asked) => {
                if let Some(made) = self.attempts.get_mut(&asked.attempt_id) {
                    made.first = reply.clone();
                }
            }
            _ if command.request_id.is_empty() => {}
            action => {
                let done = Done {
                    command: command.clone(),
                    first: reply.clone(),
                    reservation_id: reservation_of(action).cloned(),
                };
                self.requests.insert(command.request_id.clone(), done);
            }
        }
    }

    /// Notes each sku that is offered again after it was not.
    fn note_openings(&mut self) {
        let ids: Vec<(Text, Text)> = self
            .sales
            .iter()
            .flat_map(|(sale, it)| it.skus.keys().map(|sku| (sale.clone(), sku.clone())))
            .collect();
        for (sale_id, sku_id) in ids {
            let is_open = self.offered(&sale_id, &sku_id) > 0;
            let sale = self.sales.get_mut(&sale_id).expect("was just listed");
            let sku = sale.skus.get_mut(&sku_id).expect("was just listed");
            if is_open && !sku.was_open {
                sku.level_epoch += 1;
            }
            sku.was_open = is_open;
        }
    }

    /// Where a pool's units stand, added up from who has them.
    pub(crate) fn counters(&self, sale_id: &str, sku: &str, pool_id: &str) -> Counters {
        let pool = &self.sales[sale_id].skus[sku].pools[pool_id];
        let mut counters = Counters {
            supplied: pool.supplied,
            withdrawn: pool.withdrawn,
            written_off: pool.written_off,
            buffer: pool.buffer,
            quarantine: pool.quarantine,
            ..Counters::default()
        };
        for reservation in self
            .reservations
            .values()
            .filter(|it| it.sale_id == sale_id)
        {
            for piece in &reservation.pieces {
                if piece.taken.sku == sku && piece.taken.pool == pool_id {
                    let units = piece.taken.units - piece.returned;
                    match reservation.state {
                        State::Held => counters.held += units,
                        State::Paying => counters.paying += units,
                        State::Overdue => counters.overdue += units,
                        State::Confirmed => counters.sold += units,
                        _ => {}
                    }
                }
            }
        }
        let present = counters.supplied - counters.withdrawn - counters.written_off;
        let elsewhere = counters.buffer
            + counters.held
            + counters.paying
            + counters.overdue
            + counters.sold
            + counters.quarantine;
        counters.available = present - elsewhere;
        counters
    }

    pub(crate) fn available(&self, sale_id: &str, sku: &str, pool: &str) -> Units {
        self.counters(sale_id, sku, pool).available
    }

    pub(crate) fn offered(&self, sale_id: &str, sku: &str) -> Units {
        let pools = self.sales[sale_id].skus[sku]
            .pools
            .iter()
            .filter(|(_, it)| it.is_offered);
        pools
            .map(|(pool, _)| self.available(sale_id, sku, pool))
            .sum()
    }

    /// What buyers should be told of a sku.
    pub(crate) fn level(&self, sale_id: &str, sku: &str) -> (Level, i64) {
        let sale = &self.sales[sale_id];
        let mut sum = Counters::default();
        for (pool, it) in &sale.skus[sku].pools {
            if it.is_offered {
                sum.add(&self.counters(sale_id, sku, pool));
            }
        }
        let present = sum.supplied - sum.withdrawn - sum.written_off;
        let level = if sum.available > 0 {
            let is_low = sum.available * 100 <= present * i64::from(sale.policy.low_level_percent);
            if is_low { Level::Low } else { Level::Open }
        } else if sum.held > 0 {
            Level::HeldOut
        } else if sum.paying + sum.overdue > 0 {
            Level::PayingOut
        } else {
            Level::Gone
        };
        (level, sale.skus[sku].level_epoch)
    }

    /// Pools of a sku in the order in which lines draw on them.
    pub(crate) fn pools_in_order(&self, sale_id: &str, sku: &str) -> Vec<(Text, bool)> {
        let mut pools: Vec<_> = self.sales[sale_id].skus[sku].pools.iter().collect();
        pools.sort_by_key(|(name, pool)| (pool.position, (*name).clone()));
        pools
            .into_iter()
            .map(|(name, pool)| (name.clone(), pool.is_offered))
            .collect()
    }

    /// The person behind a person.
    pub(crate) fn root(&self, person: &Text) -> Text {
        let mut root = person;
        while let Some(next) = self.merged.get(root) {
            root = next;
        }
        root.clone()
    }

    fn merge(&mut self, source: &Text, target: &Text) -> Reply {
        if source == target {
            return refuse(Outcome::NotAllowed);
        }
        let (source, target) = (self.root(source), self.root(target));
        if source != target {
            self.merged.insert(source, target);
        }
        ok(None, Answer::None)
    }

    /// Everybody behind the same person, known by the merges alone.
    fn split(&mut self, person_ids: &[Text]) -> Reply {
        let root = self.root(&person_ids[0]);
        let strangers = person_ids.iter().filter(|it| self.root(it) != root);
        let are_distinct = person_ids.iter().collect::<BTreeSet<_>>().len() == person_ids.len();
        if strangers.count() > 0 || !are_distinct {
            return refuse(Outcome::NotAllowed);
        }
        let everybody = self.merged.keys().chain([&root]);
        let staying: BTreeSet<Text> = everybody
            .filter(|it| self.root(it) == root && !person_ids.contains(it))
            .cloned()
            .collect();
        let is_root_going = person_ids.contains(&root);
        let Some(smallest) = staying.first() else {
            return ok(None, Answer::None);
        };
        let other_root = if is_root_going { smallest } else { &root }.clone();
        let first = &person_ids[0];
        let going = person_ids.iter().map(|it| (it, first));
        for (person, root) in going.chain(staying.iter().map(|it| (it, &other_root))) {
            self.merged.remove(person);
            if person != root {
                self.merged.insert(person.clone(), root.clone());
            }
        }
        ok(None, Answer::None)
    }

    fn credit(&mut self, outage: Millis) -> Reply {
        for reservation in self
            .reservations
            .values_mut()
            .filter(|it| it.state == State::Held)
        {
            reservation.expires_at += outage;
            reservation.max_life_at += outage;
        }
        ok(None, Answer::None)
    }

    /// Checks the parts of an event that every event has.
    pub(crate) fn check_events(
        &self,
        now: Millis,
        command: &Command,
        events: &[Event],
    ) -> Judged<()> {
        for (place, event) in (1..).zip(events) {
            if event.sequence != self.sequence + place {
                return Err(format!(
                    "event {} follows {}",
                    event.sequence, self.sequence
                ));
            }
            if event.time != now.max(self.time) || event.request_id != command.request_id {
                return Err(format!("event {} is not of its command", event.sequence));
            }
        }
        Ok(())
    }
}

/// The calls to act in a row of events.
pub(crate) fn calls_of(events: &[Event]) -> Vec<Call> {
    let call = |event: &Event| match &event.body {
        EventBody::CancelAtProviderRequested { attempt_id } => Some(("cancel", attempt_id.clone())),
        EventBody::AskProviderRequested { attempt_id } => Some(("ask", attempt_id.clone())),
        EventBody::RefundBecameDue { attempt_id } => Some(("refund", attempt_id.clone())),
        _ => None,
    };
    events.iter().filter_map(call).collect()
}

/// The reservation that a command names.
pub(crate) fn reservation_of(action: &Action) -> Option<&Text> {
    match action {
        Action::Reserve(it) => Some(&it.reservation_id),
        Action::BeginPayment(it) => Some(&it.reservation_id),
        Action::SettlePayment(it) => Some(&it.reservation_id),
        Action::Return(it) => Some(&it.reservation_id),
        Action::Confirm { reservation_id }
        | Action::Release { reservation_id, .. }
        | Action::Extend { reservation_id, .. }
        | Action::RecordRefund { reservation_id, .. }
        | Action::ReleaseUnverified { reservation_id }
        | Action::Expire { reservation_id }
        | Action::BecomeOverdue { reservation_id } => Some(reservation_id),
        _ => None,
    }
}

/// A line of a reservation, or what is left of it after returns.
pub(crate) fn line(sku: &Text, pool: Option<&Text>, units: Units) -> Line {
    Line {
        sku: sku.clone(),
        pool: pool.cloned(),
        units,
    }
}
