//! A second, plain bookkeeping of the events, from zero: it knows no index, no timer and no trick,
//! and says of each event whether it was allowed.

use std::collections::{BTreeMap, BTreeSet};

use lastunit_engine::{
    AttemptState, Disposition, Event, EventBody, Ledger, Millis, PaymentResult, ReleaseReason,
    SalePolicy, State, Taken, Text, Units,
};

/// Where a pool's units stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Available,
    Buffer,
    Standing(State),
    Quarantine,
    /// Out of the ledger: withdrawn, written off, or not supplied yet.
    Outside,
}

type Pool = (String, String, String);

struct Reservation {
    sale_id: String,
    person_id: String,
    state: State,
    expires_at: Millis,
    max_life_at: Millis,
    not_after: Option<Millis>,
    taken: Vec<Taken>,
    given_back: Units,
    returned: Units,
}

/// The books.
#[derive(Default)]
pub(crate) struct Model {
    units: BTreeMap<(Pool, Place), Units>,
    reservations: BTreeMap<String, Reservation>,
    attempts: BTreeMap<String, (String, AttemptState)>,
    policies: BTreeMap<String, SalePolicy>,
    merged_into: BTreeMap<String, String>,
    forgotten: Forgotten,
}

/// What the ledger was told to forget, and the books were not.
#[derive(Default)]
struct Forgotten {
    /// Reservations with their sale and their `not_after`.
    reservations: BTreeMap<String, (String, Option<Millis>)>,
    attempts: BTreeMap<String, AttemptState>,
    /// Sales that must not take a reservation again.
    final_sales: BTreeSet<String>,
}

impl Model {
    /// Books an event, and fails if it breaks a rule.
    pub(crate) fn book(&mut self, event: &Event) {
        let id = event.reservation_id.to_string();
        match &event.body {
            EventBody::SaleDefined(defined) => {
                self.policies
                    .insert(event.sale_id.to_string(), defined.policy.clone());
            }
            EventBody::Reserved(_) | EventBody::PaymentBegun(_) => self.book_claim(event),
            EventBody::Confirmed => {
                assert_eq!(State::Held, self.state(&id));
                self.go(&id, State::Confirmed);
            }
            EventBody::Released { release_reason } => {
                let allowed = match release_reason {
                    ReleaseReason::Unverified => State::Overdue,
                    _ => State::Held,
                };
                assert_eq!(
                    allowed,
                    self.state(&id),
                    "no clock and no caller ends a payment"
                );
                if *release_reason == ReleaseReason::Expired {
                    assert!(event.time >= self.reservations[&id].expires_at);
                }
                self.give_up(&id);
            }
            EventBody::Extended { expires_at, .. } => {
                let reservation = self.reservations.get_mut(&id).unwrap();
                assert!(*expires_at >= reservation.expires_at);
                assert!(*expires_at <= reservation.max_life_at);
                reservation.expires_at = *expires_at;
            }
            EventBody::BecameOverdue => {
                assert_eq!(State::Paying, self.state(&id));
                self.go(&id, State::Overdue);
            }
            EventBody::PaymentSettled(_) => self.settle(event),
            EventBody::PaymentNewsIgnored { .. }
            | EventBody::RefundBecameDue { .. }
            | EventBody::CancelAtProviderRequested { .. }
            | EventBody::AskProviderRequested { .. }
            | EventBody::RefundRecorded { .. } => self.book_note(event),
            EventBody::ReleaseRequested { .. } => {
                assert!(matches!(self.state(&id), State::Paying | State::Overdue));
            }
            EventBody::HistoryForgotten {
                reservation_ids, ..
            } => {
                for id in reservation_ids {
                    self.forget(event, id);
                }
                if !self.policies[event.sale_id.as_str()].does_forget_while_open {
                    self.forgotten.final_sales.insert(event.sale_id.to_string());
                }
            }
            _ => self.book_stock(event),
        }
    }

    /// No late duplicate of what was forgotten is taken for a new reservation.
    fn check_new(&self, event: &Event, not_after: Option<Millis>) {
        let sale_id = event.sale_id.as_str();
        assert!(!self.forgotten.final_sales.contains(sale_id), "{sale_id}");
        if self.policies[sale_id].does_forget_while_open {
            assert!(not_after.is_some_and(|not_after| event.time <= not_after));
        }
        let duplicate = (event.sale_id.to_string(), not_after);
        let before = self
            .forgotten
            .reservations
            .get(event.reservation_id.as_str());
        assert_ne!(
            Some(&duplicate),
            before,
            "{} ran again",
            event.reservation_id
        );
    }

    /// Only what has ended long ago and owes nothing is forgotten; its sold units stay.
    fn forget(&mut self, event: &Event, id: &str) {
        let reservation = self.reservations.remove(id).unwrap();
        let ended = [
            State::Confirmed,
            State::Released,
            State::Refunded,
            State::Returned,
        ];
        assert!(ended.contains(&reservation.state), "{id}");
        let own: Vec<String> = self.attempts.keys().cloned().collect();
        for attempt in own {
            if self.attempts[&attempt].0 == id {
                let (_, state) = self.attempts.remove(&attempt).unwrap();
                assert!(!matches!(
                    state,
                    AttemptState::Open | AttemptState::RefundDue
                ));
                self.forgotten.attempts.insert(attempt, state);
            }
        }
        let last = (event.sale_id.to_string(), reservation.not_after);
        self.forgotten.reservations.insert(id.into(), last);
    }

    /// A reservation that is made, or that pays and may take units again.
    fn book_claim(&mut self, event: &Event) {
        let id = event.reservation_id.to_string();
        match &event.body {
            EventBody::Reserved(reserved) => {
                self.check_new(event, reserved.not_after);
                let reservation = Reservation {
                    sale_id: event.sale_id.to_string(),
                    person_id: reserved.person_id.to_string(),
                    state: State::Held,
                    expires_at: reserved.expires_at,
                    max_life_at: reserved.max_life_at,
                    not_after: reserved.not_after,
                    taken: reserved.taken.clone(),
                    given_back: 0,
                    returned: 0,
                };
                assert!(self.reservations.insert(id.clone(), reservation).is_none());
                self.draw(&id, &reserved.taken, State::Held);
                self.check_limits(&id);
            }
            EventBody::PaymentBegun(begun) => {
                let owner = (id.clone(), AttemptState::Open);
                assert!(
                    self.attempts
                        .insert(begun.attempt_id.to_string(), owner)
                        .is_none()
                );
                if begun.retaken {
                    assert!(event.time < self.reservations[&id].max_life_at);
                    self.retake(&id, &begun.taken, State::Paying);
                    self.check_limits(&id);
                } else {
                    self.go(&id, State::Paying);
                }
            }
            _ => unreachable!(),
        }
    }

    /// What is said of an attempt.
    fn book_note(&mut self, event: &Event) {
        let id = event.reservation_id.to_string();
        match &event.body {
            EventBody::PaymentNewsIgnored {
                attempt_id,
                attempt_state,
                ..
            } => {
                assert_eq!((id, *attempt_state), self.attempts[attempt_id.as_str()]);
            }
            EventBody::RefundBecameDue { attempt_id } => {
                assert_eq!(
                    (id, AttemptState::RefundDue),
                    self.attempts[attempt_id.as_str()]
                );
            }
            EventBody::CancelAtProviderRequested { attempt_id }
            | EventBody::AskProviderRequested { attempt_id } => {
                assert_eq!((id, AttemptState::Open), self.attempts[attempt_id.as_str()]);
            }
            EventBody::RefundRecorded {
                attempt_id, state, ..
            } => {
                let attempt = self.attempts.get_mut(attempt_id.as_str()).unwrap();
                assert_eq!(AttemptState::RefundDue, attempt.1);
                attempt.1 = AttemptState::Refunded;
                self.go(&id, *state);
            }
            _ => unreachable!(),
        }
    }

    fn book_stock(&mut self, event: &Event) {
        let path = |sku: &str, pool: &str| (event.sale_id.to_string(), sku.into(), pool.into());
        let place = |is_buffer| {
            if is_buffer {
                Place::Buffer
            } else {
                Place::Available
            }
        };
        match &event.body {
            EventBody::StockSupplied(b) => {
                let pool = path(&b.sku, &b.pool);
                self.shift(&pool, Place::Outside, place(b.is_buffer), b.units);
            }
            EventBody::StockWithdrawn(b) => {
                let pool = path(&b.sku, &b.pool);
                self.shift(&pool, place(b.is_buffer), Place::Outside, b.units);
            }
            EventBody::StockAdjusted {
                sku,
                pool,
                expected_available,
                available,
            } => {
                let more = available - expected_available;
                self.shift(&path(sku, pool), Place::Outside, Place::Available, more);
            }
            EventBody::StockMoved {
                sku,
                source_pool,
                target_pool,
                units,
            } => {
                self.shift(
                    &path(sku, source_pool),
                    Place::Available,
                    Place::Outside,
                    *units,
                );
                self.shift(
                    &path(sku, target_pool),
                    Place::Outside,
                    Place::Available,
                    *units,
                );
            }
            EventBody::BufferPoured { sku, pool, units } => {
                self.shift(&path(sku, pool), Place::Buffer, Place::Available, *units);
            }
            EventBody::Returned(_) => self.book_return(event),
            _ => self.book_rest(event),
        }
    }

    fn book_rest(&mut self, event: &Event) {
        match &event.body {
            EventBody::PersonsMerged {
                source_person_id,
                target_person_id,
            } => {
                let (source, target) = (self.root(source_person_id), self.root(target_person_id));
                if source != target {
                    self.merged_into.insert(source, target);
                }
            }
            EventBody::PersonsSplit { person_ids } => self.split(person_ids),
            EventBody::OutageCredited { outage } => {
                let held = self
                    .reservations
                    .values_mut()
                    .filter(|r| r.state == State::Held);
                for reservation in held {
                    reservation.expires_at += outage;
                    reservation.max_life_at += outage;
                }
            }
            _ => {}
        }
    }

    fn book_return(&mut self, event: &Event) {
        let EventBody::Returned(returned) = &event.body else {
            unreachable!()
        };
        let path = |sku: &str, pool: &str| (event.sale_id.to_string(), sku.into(), pool.into());
        let id = event.reservation_id.to_string();
        assert_eq!(State::Confirmed, self.state(&id));
        let to = match returned.disposition {
            Disposition::Resell => Place::Available,
            Disposition::Quarantine => Place::Quarantine,
            Disposition::WriteOff => Place::Outside,
        };
        for taken in &returned.taken {
            let pool = path(&taken.sku, &taken.pool);
            self.shift(&pool, Place::Standing(State::Confirmed), to, taken.units);
        }
        let reservation = self.reservations.get_mut(&id).unwrap();
        reservation.returned += returned.units;
        if returned.is_limit_given_back {
            reservation.given_back += returned.units;
        }
        let all: Units = reservation.taken.iter().map(|taken| taken.units).sum();
        assert!(reservation.returned <= all);
        assert_eq!(
            reservation.returned == all,
            returned.state == State::Returned
        );
        reservation.state = returned.state;
    }

    fn settle(&mut self, event: &Event) {
        let EventBody::PaymentSettled(settled) = &event.body else {
            unreachable!()
        };
        let id = event.reservation_id.to_string();
        let attempt_id = settled.attempt_id.to_string();
        let known = self.attempts.get(&attempt_id).cloned();
        assert_eq!(known.is_none(), settled.unregistered_attempt);
        if let Some((owner, state)) = known {
            assert_eq!(id, owner);
            let is_money = settled.payment_result == PaymentResult::Succeeded;
            let outranked = [AttemptState::Failed, AttemptState::Cancelled].contains(&state);
            assert!(
                state == AttemptState::Open || (is_money && outranked),
                "rank of truth"
            );
        }
        self.attempts
            .insert(attempt_id, (id.clone(), settled.attempt_state));
        let from = self.state(&id);
        match settled.payment_result {
            PaymentResult::Succeeded => {
                let applied = settled.attempt_state == AttemptState::Applied;
                assert!(
                    applied || settled.attempt_state == AttemptState::RefundDue,
                    "lost money"
                );
                assert_eq!(
                    applied,
                    settled.state == State::Confirmed && from != State::Confirmed
                );
                match (from, applied) {
                    (State::Released, true) => self.retake(&id, &settled.taken, State::Confirmed),
                    _ => self.go(&id, settled.state),
                }
            }
            PaymentResult::Failed | PaymentResult::Cancelled => match settled.state {
                State::Released if from != State::Released => {
                    let open = AttemptState::Open;
                    let mut others = self.attempts.values().filter(|(owner, _)| *owner == id);
                    assert!(
                        !others.any(|(_, state)| *state == open),
                        "its door is still open"
                    );
                    self.give_up(&id);
                }
                State::Held if from == State::Paying => {
                    self.go(&id, State::Held);
                    let expires_at = settled.expires_at.unwrap();
                    self.reservations.get_mut(&id).unwrap().expires_at = expires_at;
                }
                state => assert_eq!(from, state),
            },
        }
    }

    fn state(&self, id: &str) -> State {
        self.reservations[id].state
    }

    fn shift(&mut self, pool: &Pool, from: Place, to: Place, units: Units) {
        *self.units.entry((pool.clone(), from)).or_default() -= units;
        *self.units.entry((pool.clone(), to)).or_default() += units;
        for place in [from, to] {
            let left = self.units[&(pool.clone(), place)];
            assert!(
                left >= 0 || place == Place::Outside,
                "{pool:?} {place:?} has {left}"
            );
        }
    }

    /// Moves the units of a reservation from where its state has them to where another has.
    fn go(&mut self, id: &str, to: State) {
        let from = std::mem::replace(&mut self.reservations.get_mut(id).unwrap().state, to);
        let has_units = |state| {
            matches!(
                state,
                State::Held | State::Paying | State::Overdue | State::Confirmed
            )
        };
        if from == to || !has_units(from) {
            return;
        }
        for taken in self.reservations[id].taken.clone() {
            let pool = self.pool(id, &taken);
            let to = if has_units(to) {
                Place::Standing(to)
            } else {
                Place::Available
            };
            self.shift(&pool, Place::Standing(from), to, taken.units);
        }
    }

    fn give_up(&mut self, id: &str) {
        self.go(id, State::Released);
    }

    fn draw(&mut self, id: &str, taken: &[Taken], to: State) {
        for taken in taken {
            let from = if taken.is_from_buffer {
                Place::Buffer
            } else {
                Place::Available
            };
            let pool = self.pool(id, taken);
            self.shift(&pool, from, Place::Standing(to), taken.units);
        }
    }

    fn retake(&mut self, id: &str, taken: &[Taken], to: State) {
        assert_eq!(State::Released, self.state(id));
        let reservation = self.reservations.get_mut(id).unwrap();
        let sum = |taken: &[Taken]| taken.iter().map(|taken| taken.units).sum::<Units>();
        assert_eq!(sum(&reservation.taken), sum(taken), "as many as before");
        reservation.taken = taken.to_vec();
        reservation.state = to;
        self.draw(id, taken, to);
    }

    fn pool(&self, id: &str, taken: &Taken) -> Pool {
        let sale_id = self.reservations[id].sale_id.clone();
        (sale_id, taken.sku.to_string(), taken.pool.to_string())
    }

    fn split(&mut self, person_ids: &[Text]) {
        let root = self.root(&person_ids[0]);
        let mut everybody: BTreeSet<String> = self.merged_into.keys().cloned().collect();
        everybody.insert(root.clone());
        everybody.retain(|person_id| self.root(person_id) == root);
        let going: BTreeSet<String> = person_ids.iter().map(Text::to_string).collect();
        assert!(going.is_subset(&everybody), "who goes was with the others");
        let staying: BTreeSet<String> = everybody.difference(&going).cloned().collect();
        if staying.is_empty() {
            return;
        }
        let other_root = if staying.contains(&root) {
            Some(&root)
        } else {
            staying.first()
        };
        for (members, root) in [(&going, &*person_ids[0]), (&staying, other_root.unwrap())] {
            for member in members {
                self.merged_into.remove(member);
                if member != root {
                    self.merged_into.insert(member.clone(), root.into());
                }
            }
        }
    }

    fn root(&self, person_id: &str) -> String {
        let mut root = person_id;
        while let Some(next) = self.merged_into.get(root) {
            root = next;
        }
        root.into()
    }

    /// Whoever just reserved is within the limits of the sale.
    fn check_limits(&self, id: &str) {
        let reserved = &self.reservations[id];
        let policy = &self.policies[&reserved.sale_id];
        let person = self.root(&reserved.person_id);
        let of_person = self.reservations.values().filter(|other| {
            other.sale_id == reserved.sale_id && self.root(&other.person_id) == person
        });
        let (mut units, mut unpaid) = (0, 0);
        for other in of_person {
            let all: Units = other.taken.iter().map(|taken| taken.units).sum();
            match other.state {
                State::Held | State::Paying | State::Overdue => {
                    unpaid += 1;
                    units += all;
                }
                State::Confirmed | State::Returned => units += all - other.given_back,
                State::Released | State::RefundDue | State::Refunded => {}
            }
        }
        let is_within = |count: Units, bound: Units| bound == 0 || count <= bound;
        assert!(
            is_within(units, policy.units_per_person_max),
            "{id}: {units} units"
        );
        let unpaid_max = policy.unpaid_reservations_per_person_max.into();
        assert!(is_within(unpaid, unpaid_max), "{id}: {unpaid} unpaid");
    }

    /// The ledger's counters, states and attempts are those of the books.
    pub(crate) fn check(&self, ledger: &Ledger) {
        let at = |pool: &Pool, place| {
            self.units
                .get(&(pool.clone(), place))
                .copied()
                .unwrap_or_default()
        };
        for audited in ledger.audit().pools {
            let pool = (
                audited.sale_id.to_string(),
                audited.sku.to_string(),
                audited.pool.to_string(),
            );
            let counters = audited.counters;
            let standing = |state| at(&pool, Place::Standing(state));
            assert_eq!(at(&pool, Place::Available), counters.available, "{pool:?}");
            assert_eq!(at(&pool, Place::Buffer), counters.buffer, "{pool:?}");
            assert_eq!(standing(State::Held), counters.held, "{pool:?}");
            assert_eq!(standing(State::Paying), counters.paying, "{pool:?}");
            assert_eq!(standing(State::Overdue), counters.overdue, "{pool:?}");
            assert_eq!(standing(State::Confirmed), counters.sold, "{pool:?}");
            assert_eq!(
                at(&pool, Place::Quarantine),
                counters.quarantine,
                "{pool:?}"
            );
            assert_eq!(-at(&pool, Place::Outside), counters.present(), "{pool:?}");
        }
        for (id, reservation) in &self.reservations {
            let view = ledger.reservation(id).unwrap();
            assert_eq!(reservation.state, view.state, "{id}");
            assert_eq!(reservation.max_life_at, view.max_life_at, "{id}");
            for attempt in view.attempts {
                let expected = (id.clone(), attempt.state);
                assert_eq!(expected, self.attempts[attempt.attempt_id.as_str()], "{id}");
            }
        }
    }

    /// The attempt's state, if the books know it.
    pub(crate) fn attempt_state(&self, attempt_id: &str) -> Option<AttemptState> {
        let known = self.attempts.get(attempt_id).map(|(_, state)| *state);
        known.or_else(|| self.forgotten.attempts.get(attempt_id).copied())
    }
}
