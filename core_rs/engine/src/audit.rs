//! Owns the audit: every invariant that the state alone can show, counted from scratch.
//!
//! Must not trust a counter, an index or a list: it walks the entities and compares. Written to be
//! run on a live ledger, after a recovery and after every step of a model test. Next:
//! `audit_lists.rs`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::book::{is_counted, is_open, is_unpaid, place_of};
use crate::ids::Text;
use crate::outcome::{AttemptState, State};
use crate::state::{Ledger, Reservation, Scope, Usage, UsageKey};
use crate::view::{Audit, Counters, Finding, Oldest, PoolAudit};

/// What was found so far, and what was counted on the way.
pub(crate) struct Auditor<'a> {
    pub(crate) ledger: &'a Ledger,
    findings: Vec<Finding>,
    /// Standing units by pool, counted from the reservations.
    standing: Vec<Counters>,
    usages: BTreeMap<UsageKey, Usage>,
    /// Held pieces by rack and end.
    pub(crate) expiries: BTreeMap<(Slot, i64), u32>,
    late_held_count: u64,
}

impl Ledger {
    /// Checks every invariant that the state alone can show.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut auditor = Auditor {
            ledger: self,
            findings: Vec::new(),
            standing: vec![Counters::default(); self.pools.len()],
            usages: BTreeMap::new(),
            expiries: BTreeMap::new(),
            late_held_count: 0,
        };
        let reservation_counts = auditor.check_reservations();
        auditor.check_attempts();
        auditor.check_pools();
        auditor.check_usages();
        auditor.check_sales();
        auditor.check_ended();
        auditor.check_racks();
        auditor.check_persons();
        auditor.check_requests();
        let pools = self.pool_audits(&auditor.standing);
        Audit {
            findings: auditor.findings,
            pools,
            reservation_counts,
            oldest: self.oldest(),
            late_held_count: auditor.late_held_count,
            as_of_sequence: self.sequence,
        }
    }

    /// The reservation of each state that lasts too long, by the time at which it should end.
    fn oldest(&self) -> Vec<Oldest> {
        let mut oldest: [Option<(i64, &Reservation)>; State::ALL.len()] = Default::default();
        for reservation in self.reservations.iter() {
            let due_at = match reservation.state {
                State::Held | State::Paying | State::Overdue => due_of(reservation),
                State::RefundDue => Some(reservation.created_at),
                State::Confirmed | State::Released | State::Refunded | State::Returned => None,
            };
            let place = &mut oldest[reservation.state as usize];
            if let Some(due_at) = due_at
                && place.is_none_or(|(earliest, _)| due_at < earliest)
            {
                *place = Some((due_at, reservation));
            }
        }
        let view = |(_, reservation): (i64, &Reservation)| Oldest {
            state: reservation.state,
            reservation_id: reservation.reservation_id.clone(),
            created_at: reservation.created_at,
            due_at: due_of(reservation),
        };
        oldest.into_iter().flatten().map(view).collect()
    }

    fn pool_audits(&self, standing: &[Counters]) -> Vec<PoolAudit> {
        let mut audits = Vec::with_capacity(self.pools.len());
        for (sale_id, sale) in &self.sale_index {
            for (sku, rack) in &self.sale_at(*sale).racks {
                for pool in &self.rack_at(*rack).pools {
                    let counted = &standing[*pool as usize];
                    let pool = self.pool_at(*pool);
                    audits.push(PoolAudit {
                        sale_id: sale_id.clone(),
                        sku: sku.clone(),
                        pool: pool.pool.clone(),
                        counters: pool.counters,
                        forgotten_sold_units: pool.forgotten_sold,
                        leaked_units: leaked_units(&pool.counters, counted),
                    });
                }
            }
        }
        audits
    }

    /// Says whether every slot that a snapshot names exists, so that an audit can walk it.
    pub(crate) fn has_sound_slots(&self) -> bool {
        let counts = [self.sales.len(), self.racks.len(), self.pools.len()];
        let [sales, racks, pools] = counts.map(|count| move |slot: Slot| (slot as usize) < count);
        let is_reservation = |slot: Slot| self.reservations.get(slot).is_some();
        let reservations = |slot: Slot| slot == NONE || is_reservation(slot);
        let attempts = |slot: Slot| slot == NONE || self.attempts.get(slot).is_some();
        let requests = |slot: Slot| slot == NONE || self.requests.get(slot).is_some();
        let persons = |slot: Slot| self.persons.get(slot).is_some();
        let sound_sale = |slot: Slot| slot == NONE || sales(slot);
        self.sales.iter().all(|sale| {
            [
                sale.open_first,
                sale.open_last,
                sale.ended_first,
                sale.ended_last,
            ]
            .into_iter()
            .all(reservations)
                && requests(sale.request_first)
                && requests(sale.request_last)
        }) && self
            .racks
            .iter()
            .all(|rack| sales(rack.sale) && rack.pools.iter().all(|pool| pools(*pool)))
            && self.pools.iter().all(|pool| racks(pool.rack))
            && self.persons.iter().all(|person| {
                persons(person.root)
                    && persons(person.ring_next)
                    && reservations(person.first_reservation)
            })
            && self
                .attempts
                .iter()
                .all(|attempt| is_reservation(attempt.reservation) && attempts(attempt.next))
            && self.requests.iter().all(|request| {
                sound_sale(request.sale)
                    && reservations(request.reservation)
                    && requests(request.next)
            })
            && self.reservations.iter().all(|reservation| {
                sales(reservation.sale)
                    && persons(reservation.person)
                    && attempts(reservation.first_attempt)
                    && requests(reservation.first_request)
                    && reservations(reservation.list_previous)
                    && reservations(reservation.list_next)
                    && reservations(reservation.person_previous)
                    && reservations(reservation.person_next)
                    && !reservation.pieces.as_slice().is_empty()
                    && reservation.pieces.as_slice().iter().all(|piece| {
                        pools(piece.pool)
                            && piece.given_back <= piece.returned
                            && piece.returned <= piece.units
                    })
            })
    }
}

impl Auditor<'_> {
    pub(crate) fn find(
        &mut self,
        invariant: &'static str,
        subject: impl Into<Text>,
        detail: String,
    ) {
        if self.findings.len() < Audit::FINDING_COUNT_MAX {
            self.findings.push(Finding {
                invariant,
                subject: subject.into(),
                detail,
            });
        }
    }

    fn check_reservations(&mut self) -> Vec<(State, u64)> {
        let mut counts: Vec<(State, u64)> = State::ALL.iter().map(|state| (*state, 0)).collect();
        let ledger = self.ledger;
        for (slot, reservation) in ledger.reservations.entries() {
            counts[reservation.state as usize].1 += 1;
            self.count_reservation(reservation);
            if ledger.find_reservation(&reservation.reservation_id) != Some(slot) {
                let detail = format!("slot {slot} is not found by its id");
                self.find("index", reservation.reservation_id.clone(), detail);
            }
            self.check_reservation(reservation);
            self.check_money_of(slot, reservation);
        }
        let live: u64 = counts
            .iter()
            .filter(|(state, _)| is_unpaid(*state))
            .map(|pair| pair.1)
            .sum();
        if live != ledger.live_count as u64 {
            let detail = format!("{live} are live, {} are counted", ledger.live_count);
            self.find("agreement", "reservations", detail);
        }
        counts
    }

    fn count_reservation(&mut self, reservation: &Reservation) {
        let state = reservation.state;
        let person = self.ledger.root_of(reservation.person);
        let is_kept = self.ledger.is_kept(person);
        let sale_key = UsageKey::new(person, Scope::Sale(reservation.sale));
        for piece in reservation.pieces.as_slice() {
            let rack = self.ledger.pool_at(piece.pool).rack;
            if let Some(place) = place_of(&mut self.standing[piece.pool as usize], state) {
                *place += piece.standing();
            }
            if is_kept && is_counted(state) {
                let rack_key = UsageKey::new(person, Scope::Rack(rack));
                self.usages.entry(rack_key).or_default().units += piece.counted();
                self.usages.entry(sale_key).or_default().units += piece.counted();
            }
            if state == State::Held {
                *self
                    .expiries
                    .entry((rack, reservation.expires_at))
                    .or_default() += 1;
            }
        }
        let is_late = state == State::Held && reservation.expires_at <= self.ledger.time;
        self.late_held_count += u64::from(is_late);
        if is_kept && is_unpaid(state) {
            self.usages.entry(sale_key).or_default().unpaid_count += 1;
        }
    }

    fn check_reservation(&mut self, reservation: &Reservation) {
        let subject = &reservation.reservation_id;
        let state = reservation.state;
        let pieces = reservation.pieces.as_slice();
        let standing: i64 = pieces.iter().map(crate::state::Piece::standing).sum();
        let returned: u32 = pieces.iter().map(|piece| piece.returned).sum();
        if (state == State::Returned) != (standing == 0) {
            let detail = format!("{} with {standing} units not returned", state.name());
            self.find("agreement", subject.clone(), detail);
        }
        if returned > 0 && !matches!(state, State::Confirmed | State::Returned) {
            let detail = format!("{} with {returned} units returned", state.name());
            self.find("agreement", subject.clone(), detail);
        }
        if state == State::Held && reservation.expires_at > reservation.max_life_at {
            self.find(
                "timers",
                subject.clone(),
                String::from("held past its longest life"),
            );
        }
        let has_reason = reservation.release_reason.is_some();
        let needs_reason = state == State::Released;
        if (needs_reason && !has_reason) || (has_reason && (is_unpaid(state) || is_sold(state))) {
            let detail = format!(
                "{} with reason {:?}",
                state.name(),
                reservation.release_reason
            );
            self.find("agreement", subject.clone(), detail);
        }
    }

    /// No lost money: an open payment keeps its units, and money that came is where it belongs.
    fn check_money_of(&mut self, slot: Slot, reservation: &Reservation) {
        let mut counts = [0_u32; AttemptState::ALL.len()];
        let mut total = 0;
        for attempt in self.ledger.attempts_of(slot) {
            counts[attempt.state as usize] += 1;
            total += 1;
            if attempt.reservation != slot || total > self.ledger.attempts.len() {
                let detail = format!("attempt {} is in another's list", attempt.attempt_id);
                self.find("money", reservation.reservation_id.clone(), detail);
                return;
            }
        }
        let of = |state: AttemptState| counts[state as usize];
        let (open, applied) = (of(AttemptState::Open), of(AttemptState::Applied));
        let (due, refunded) = (of(AttemptState::RefundDue), of(AttemptState::Refunded));
        let state = reservation.state;
        let holds = of(AttemptState::Succeeded) == 0
            && match state {
                State::Held => open + applied + due + refunded == 0,
                State::Paying | State::Overdue => open > 0 && applied + due + refunded == 0,
                State::Released => applied + due + refunded == 0,
                State::Confirmed | State::Returned => applied <= 1,
                State::RefundDue => applied == 0 && due > 0,
                State::Refunded => applied == 0 && refunded > 0,
            };
        if !holds {
            let detail = format!(
                "{} with {open} attempts open, {applied} applied, {due} due, {refunded} refunded",
                state.name()
            );
            self.find("money", reservation.reservation_id.clone(), detail);
        }
    }

    fn check_attempts(&mut self) {
        let ledger = self.ledger;
        for (slot, attempt) in ledger.attempts.entries() {
            if ledger.find_attempt(&attempt.attempt_id) != Some(slot) {
                let detail = format!("slot {slot} is not found by its id");
                self.find("index", attempt.attempt_id.clone(), detail);
            }
        }
        // A list that runs in a circle must not keep the audit for ever.
        let bound = ledger.attempts.len() + 1;
        let count_of = |slot: Slot| ledger.attempts_of(slot).take(bound).count();
        let listed: usize = ledger
            .reservations
            .entries()
            .map(|(slot, _)| count_of(slot))
            .sum();
        if listed != ledger.attempts.len() {
            let detail = format!("{listed} are listed, {} are kept", ledger.attempts.len());
            self.find("money", "attempts", detail);
        }
    }

    fn check_pools(&mut self) {
        let ledger = self.ledger;
        for (slot, pool) in (0..).zip(&ledger.pools) {
            let rack = ledger.rack_at(pool.rack);
            let sale = ledger.sale_at(rack.sale);
            let subject = Text::from(format!("{}/{}/{}", sale.sale_id, rack.sku, pool.pool));
            let counters = &pool.counters;
            if counters.present() != counters.placed() || counters.has_negative() {
                self.find("conservation", subject.clone(), format!("{counters:?}"));
            }
            let counted = &mut self.standing[slot as usize];
            counted.sold += pool.forgotten_sold;
            let counted = &*counted;
            let places = |of: &Counters| (of.held, of.paying, of.overdue, of.sold);
            if places(counters) != places(counted) {
                let detail = format!(
                    "held, paying, overdue, sold are {:?}, the reservations have {:?}",
                    places(counters),
                    places(counted)
                );
                self.find("agreement", subject.clone(), detail);
            }
            if rack.pools.iter().filter(|other| **other == slot).count() != 1 {
                self.find(
                    "index",
                    subject,
                    String::from("not once in its sku's pools"),
                );
            }
        }
    }

    fn check_usages(&mut self) {
        let is_empty = |usage: &Usage| *usage == Usage::default();
        let mut there: Vec<(UsageKey, Usage)> = self.ledger.usages.iter().collect();
        // The order of a hash map must not show, not even in findings.
        there.sort_unstable_by_key(|(key, _)| *key);
        let mut counted = core::mem::take(&mut self.usages);
        counted.retain(|_, usage| !is_empty(usage));
        let counted: Vec<(UsageKey, Usage)> = counted.into_iter().collect();
        if there.len() != counted.len() {
            let detail = format!(
                "{} usages are kept, {} are counted",
                there.len(),
                counted.len()
            );
            self.find("limits", "persons", detail);
        }
        for (kept, counted) in there
            .iter()
            .zip(&counted)
            .filter(|(kept, counted)| kept != counted)
        {
            let subject = self.ledger.persons[counted.0.person()].person_id.clone();
            self.find(
                "limits",
                subject,
                format!("{kept:?} is kept, {counted:?} is counted"),
            );
        }
    }

    /// Timers and the list of a sale's open reservations hold exactly those they should.
    fn check_sales(&mut self) {
        let ledger = self.ledger;
        let mut expected = vec![(0_usize, 0_usize, 0_usize); ledger.sales.len()];
        for (slot, reservation) in ledger.reservations.entries() {
            let sale = &ledger.sales[reservation.sale as usize];
            let counts = &mut expected[reservation.sale as usize];
            let has_timer = match reservation.state {
                State::Held => {
                    counts.0 += 1;
                    sale.expiries.contains(reservation.expires_at, slot)
                }
                State::Paying => {
                    counts.1 += 1;
                    sale.settlings.contains(reservation.settle_by, slot)
                }
                State::Overdue => {
                    counts.1 += 1;
                    sale.overdues.contains(reservation.settle_by, slot)
                }
                _ => true,
            };
            if is_open(reservation) {
                counts.2 += 1;
            }
            if !has_timer {
                let subject = reservation.reservation_id.clone();
                self.find("timers", subject, String::from("has no timer"));
            }
        }
        for (sale, expected) in ledger.sales.iter().zip(expected) {
            // A list that runs in a circle must not keep the audit for ever.
            let bound = ledger.reservations.len() + 1;
            let listed = ledger.open_of(sale).take(bound).filter(|slot| {
                let reservation = &ledger.reservations[*slot];
                is_open(reservation) && ledger.sale_at(reservation.sale).sale_id == sale.sale_id
            });
            let paying_count = sale.settlings.len() + sale.overdues.len();
            let there = (sale.expiries.len(), paying_count, listed.count());
            if there != expected {
                let detail = format!(
                    "timers of held, of paying and overdue, and the open list have {there:?}, \
                     not {expected:?}"
                );
                self.find("timers", sale.sale_id.clone(), detail);
            }
        }
    }
}

/// When a reservation should move on by the clock.
fn due_of(reservation: &Reservation) -> Option<i64> {
    match reservation.state {
        State::Held => Some(reservation.expires_at),
        State::Paying | State::Overdue => Some(reservation.settle_by),
        _ => None,
    }
}

/// The units by which the counters and the reservations differ.
fn leaked_units(counters: &Counters, counted: &Counters) -> i64 {
    let places = |of: &Counters| [of.held, of.paying, of.overdue, of.sold];
    let pairs = places(counters).into_iter().zip(places(counted));
    pairs.map(|(kept, counted)| (kept - counted).abs()).sum()
}

fn is_sold(state: State) -> bool {
    matches!(state, State::Confirmed | State::Returned)
}

impl Counters {
    fn has_negative(&self) -> bool {
        [
            self.supplied,
            self.withdrawn,
            self.written_off,
            self.available,
            self.buffer,
            self.held,
            self.paying,
            self.overdue,
            self.sold,
            self.quarantine,
        ]
        .iter()
        .any(|units| *units < 0)
    }
}
