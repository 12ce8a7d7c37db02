//! Owns forgetting: what ended long ago leaves the ledger, in portions, by journaled events.
//!
//! Must not forget what somebody may still owe or be owed (an open attempt, a refund due), and must
//! not make a late duplicate possible: a sale whose ids are forgotten never opens again, and one
//! that forgets while it is open takes only commands that name their own end (`not_after`). What
//! is asked about a forgotten id is answered as about one that never was. Next: `timers.rs`.

use alloc::vec::Vec;

use crate::arena::{NONE, Slot};
use crate::book::{book, is_counted};
use crate::command::Command;
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody};
use crate::ids::{Millis, Text};
use crate::limits::{FORGET_COUNT_MAX, FORGET_PORTION_COUNT_MAX, SPAN_MAX};
use crate::outcome::{AttemptState, Outcome, SaleState, State};
use crate::reply::Answer;
use crate::state::{Ledger, Sale};

impl Ledger {
    /// By the node's timer.
    pub(crate) fn decide_forget(&self, command: &Command, sale_id: &str, now: Millis) -> Verdict {
        let slot = self.sale_named(sale_id)?;
        let sale = self.sale_at(slot);
        let reservations = self.forgettable(sale, now).take(FORGET_COUNT_MAX);
        let reservation_ids: Vec<Text> = reservations
            .map(|slot| self.reservations[slot].reservation_id.clone())
            .collect();
        let requests = self.forgettable_requests(sale, now).take(FORGET_COUNT_MAX);
        let request_ids: Vec<Text> = requests
            .map(|slot| self.requests[slot].request_id.clone())
            .collect();
        if reservation_ids.is_empty() && request_ids.is_empty() {
            return Err(Refusal::of(Outcome::WrongState));
        }
        let body = EventBody::HistoryForgotten {
            reservation_ids,
            request_ids,
        };
        let draft = Draft::new(self, command, now).in_sale(&sale.sale_id);
        Ok(draft.accept_one(body, None, Answer::None))
    }

    /// When something of a sale is to be forgotten next.
    pub(crate) fn next_forget(&self, sale: &Sale) -> Option<Millis> {
        let reservation = self.forget_at(sale, sale.ended_first);
        let request = self.forget_request_at(sale, sale.request_first);
        reservation.into_iter().chain(request).min()
    }

    /// How many portions of a sale are due, up to a bound.
    pub(crate) fn due_portions(&self, sale: &Sale, now: Millis) -> usize {
        let bound = FORGET_COUNT_MAX * FORGET_PORTION_COUNT_MAX;
        let reservations = self.forgettable(sale, now).take(bound).count();
        let requests = self.forgettable_requests(sale, now).take(bound).count();
        reservations.max(requests).div_ceil(FORGET_COUNT_MAX)
    }

    /// The reservations of a sale that may be forgotten, in the order in which they ended.
    fn forgettable(&self, sale: &Sale, now: Millis) -> impl Iterator<Item = Slot> {
        let next = move |slot: Slot| {
            let is_due = self.forget_at(sale, slot).is_some_and(|time| time <= now);
            is_due.then_some(slot)
        };
        core::iter::successors(next(sale.ended_first), move |slot| {
            next(self.reservations[*slot].list_next)
        })
    }

    fn forgettable_requests(&self, sale: &Sale, now: Millis) -> impl Iterator<Item = Slot> {
        let next = move |slot: Slot| {
            let time = self.forget_request_at(sale, slot);
            time.is_some_and(|time| time <= now).then_some(slot)
        };
        core::iter::successors(next(sale.request_first), move |slot| {
            next(self.requests[*slot].next)
        })
    }

    /// When a reservation of the list of ended ones may be forgotten; none while its sale lives.
    fn forget_at(&self, sale: &Sale, slot: Slot) -> Option<Millis> {
        if slot == NONE {
            return None;
        }
        let reservation = &self.reservations[slot];
        if sale.policy.does_forget_while_open {
            // Its own `not_after` counts too: the policy may have been longer when it was made.
            let not_after = reservation.created_at + Millis::from(reservation.not_after_span);
            Some(not_after.max(reservation.ended_at + sale.policy.forget_after))
        } else {
            let ended_at = sale.ended_at?.max(reservation.ended_at);
            Some(ended_at + sale.policy.forget_after)
        }
    }

    /// Commands on a sale's stock are remembered until they are refused by its state: an archived
    /// sale takes none of them again.
    fn forget_request_at(&self, sale: &Sale, slot: Slot) -> Option<Millis> {
        if slot == NONE || sale.state != SaleState::Archived {
            return None;
        }
        let ended_at = sale.ended_at?.max(self.requests[slot].time);
        Some(ended_at + sale.policy.forget_after)
    }

    /// Refuses a Reserve whose late duplicate could run again after it was forgotten.
    pub(crate) fn check_not_after(
        &self,
        sale: Slot,
        not_after: Option<Millis>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let policy = &self.sale_at(sale).policy;
        let latest = now + policy.forget_after.min(SPAN_MAX);
        if policy.does_forget_while_open && not_after.is_none_or(|instant| instant > latest) {
            return Err(Refusal::not_allowed("not_after_time"));
        }
        Ok(())
    }

    /// Says whether a repeat has another `not_after`, in a sale where that is compared.
    pub(crate) fn is_not_after_other(&self, slot: Slot, not_after: Option<Millis>) -> bool {
        let reservation = &self.reservations[slot];
        let span = reservation.not_after_span;
        let policy = &self.sale_at(reservation.sale).policy;
        let is_compared = policy.does_forget_while_open && span != 0 && span != u32::MAX;
        is_compared && not_after != Some(reservation.created_at + Millis::from(span))
    }

    /// Notes the last event of a reservation that has ended, or that it lives again.
    pub(crate) fn renew_end(&mut self, slot: Slot, now: Millis) {
        self.unlist_ended(slot);
        if self.has_ended(slot) {
            self.link(slot, |sale| (&mut sale.ended_first, &mut sale.ended_last));
            let reservation = &mut self.reservations[slot];
            (reservation.is_ended, reservation.ended_at) = (true, now);
        }
    }

    /// Takes a reservation out of the list of ended ones, if it is there.
    pub(crate) fn unlist_ended(&mut self, slot: Slot) {
        if self.reservations[slot].is_ended {
            self.unlink(slot, |sale| (&mut sale.ended_first, &mut sale.ended_last));
            let reservation = &mut self.reservations[slot];
            (reservation.is_ended, reservation.ended_at) = (false, 0);
        }
    }

    /// Says whether nothing is to come of a reservation: no unit is held, no payment is open and no
    /// money is owed.
    pub(crate) fn has_ended(&self, slot: Slot) -> bool {
        let may_come = |state| matches!(state, AttemptState::Open | AttemptState::RefundDue);
        match self.reservations[slot].state {
            State::Held | State::Paying | State::Overdue | State::RefundDue => false,
            State::Confirmed | State::Released | State::Refunded | State::Returned => self
                .attempts_of(slot)
                .all(|attempt| !may_come(attempt.state)),
        }
    }

    pub(crate) fn apply_history_forgotten(
        &mut self,
        event: &Event,
        reservation_ids: &[Text],
        request_ids: &[Text],
    ) {
        let sale = self
            .find_sale(&event.sale_id)
            .expect("an event names a known sale");
        for reservation_id in reservation_ids {
            let slot = self
                .find_reservation(reservation_id)
                .expect("an event names a known reservation");
            self.forget(slot);
        }
        for request_id in request_ids {
            let slot = self.sale_at(sale).request_first;
            assert_eq!(
                *request_id, self.requests[slot].request_id,
                "requests are forgotten in their order"
            );
            let next = self.requests[slot].next;
            self.forget_request(slot);
            let sale = &mut self.sales[sale as usize];
            sale.request_first = next;
            if next == NONE {
                sale.request_last = NONE;
            }
        }
        let sale = &mut self.sales[sale as usize];
        sale.is_final |= !sale.policy.does_forget_while_open;
    }

    /// Takes a reservation that has ended out of everything.
    fn forget(&mut self, slot: Slot) {
        assert!(
            self.reservations[slot].is_ended,
            "only what has ended is forgotten"
        );
        self.unlist_ended(slot);
        let state = self.reservations[slot].state;
        if is_counted(state) {
            self.count_units(slot, -1);
        }
        if state == State::Confirmed {
            for piece in self.reservations[slot].pieces.as_slice() {
                let pool = &mut self.pools[piece.pool as usize];
                book(&mut pool.forgotten_sold, piece.standing());
            }
        }
        let mut attempt = self.reservations[slot].first_attempt;
        while attempt != NONE {
            let forgotten = self.attempts.remove(attempt);
            self.attempt_index.remove(&forgotten.attempt_id, attempt);
            attempt = forgotten.next;
        }
        let mut request = self.reservations[slot].first_request;
        while request != NONE {
            let next = self.requests[request].next;
            self.forget_request(request);
            request = next;
        }
        self.unlink_person(slot);
        let forgotten = self.reservations.remove(slot);
        self.reservation_index
            .remove(&forgotten.reservation_id, slot);
    }

    fn forget_request(&mut self, slot: Slot) {
        let forgotten = self.requests.remove(slot);
        self.request_index.remove(&forgotten.request_id, slot);
    }
}

impl Sale {
    /// Notes when the sale's life ended, or that it lives again.
    pub(crate) fn note_end(&mut self, now: Millis) {
        match self.state {
            SaleState::Scheduled | SaleState::Open | SaleState::Paused => self.ended_at = None,
            SaleState::Closed | SaleState::Cancelled | SaleState::Archived => {
                self.ended_at.get_or_insert(now);
            }
        }
    }
}
