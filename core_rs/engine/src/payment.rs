//! Owns BeginPayment: rows 3, 8, 19 and 20, and the list of a reservation's attempts.
//!
//! Must be durable before the provider is called; from then on no clock gives the units back.
//! Next: `settle.rs`.

use crate::arena::{NONE, Slot};
use crate::command::{BeginPayment, Command};
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody, PaymentBegun, PaymentSettled, Taken};
use crate::ids::{Millis, Text};
use crate::outcome::{AttemptState, Outcome, ReleaseReason, State};
use crate::pools::Source;
use crate::reply::Answer;
use crate::state::{Attempt, Ledger};

impl Ledger {
    pub(crate) fn decide_begin_payment(
        &self,
        command: &Command,
        begin: &BeginPayment,
        now: Millis,
    ) -> Verdict {
        if let Some(attempt) = self.attempt_named(&begin.reservation_id, &begin.attempt_id)? {
            return self.repeat_begin_payment(attempt, begin);
        }
        let slot = self.reservation_named(&begin.reservation_id)?;
        let reservation = &self.reservations[slot];
        let taken = match (reservation.state, reservation.release_reason) {
            (State::Held | State::Paying, _) => {
                self.check_begin(slot)?;
                None
            }
            (State::Released, Some(ReleaseReason::Expired)) => Some(self.retake_to_pay(slot, now)?),
            (state, _) => return Err(Refusal::wrong_state(state)),
        };

        let settle_by = now + self.sale_at(reservation.sale).policy.settle_by;
        let attempt_count = self.attempt_count(slot) + 1;
        let retaken = taken.is_some();
        let answer = Answer::PaymentBegun {
            settle_by,
            retaken,
            attempt_count,
        };
        let body = EventBody::PaymentBegun(PaymentBegun {
            attempt_id: begin.attempt_id.clone(),
            provider: begin.provider.clone(),
            amount_minor: begin.amount_minor,
            currency: begin.currency.clone(),
            settle_by,
            attempt_count,
            retaken,
            taken: taken.unwrap_or_default(),
        });
        Ok(Draft::new(self, command, now)
            .on(slot)
            .accept_one(body, Some(State::Paying), answer))
    }

    /// Rows 3 and 8. A held reservation past `expires_at` may still pay: its units are still there.
    fn check_begin(&self, slot: Slot) -> Result<(), Refusal> {
        self.check_not_cancelled(slot)?;
        let reservation = &self.reservations[slot];
        if reservation.is_release_requested {
            // The door at the provider is being closed; another one would keep the units for ever.
            return Err(Refusal::not_allowed("release_requested").in_state(reservation.state));
        }
        self.check_attempt_count(slot)
    }

    /// Rows 19 and 20: the buyer is told before paying whether there still are units.
    fn retake_to_pay(&self, slot: Slot, now: Millis) -> Result<alloc::vec::Vec<Taken>, Refusal> {
        let reservation = &self.reservations[slot];
        let needs = self.needs_of(slot);
        let retake = || {
            if now >= reservation.max_life_at {
                return Err(Refusal::of(Outcome::TooLate));
            }
            self.check_open(reservation.sale, now)?;
            self.check_offered(&needs)?;
            self.check_attempt_count(slot)?;
            self.check_limits(
                reservation.sale,
                Some(self.root_of(reservation.person)),
                &needs,
            )?;
            let pieces = self.allocate(&needs, Source::ForSale);
            pieces.map_err(|need| self.sold_out(&need, now))
        };
        let pieces = retake().map_err(|refusal| {
            let rack = refusal.rack().unwrap_or(needs[0].rack);
            refusal.on_rack(rack).in_state(reservation.state)
        })?;
        Ok(self.taken_of(&pieces))
    }

    fn check_attempt_count(&self, slot: Slot) -> Result<(), Refusal> {
        let reservation = &self.reservations[slot];
        let policy = &self.sale_at(reservation.sale).policy;
        if self.attempt_count(slot) >= policy.attempts_per_reservation_max {
            let limit = "attempts_per_reservation_max";
            return Err(Refusal::of(Outcome::TooManyAttempts)
                .by_limit(limit)
                .in_state(reservation.state));
        }
        Ok(())
    }

    fn attempt_count(&self, slot: Slot) -> u32 {
        let count = self.attempts_of(slot).count();
        u32::try_from(count).expect("slots are 32 bits")
    }

    fn repeat_begin_payment(&self, slot: Slot, begin: &BeginPayment) -> Verdict {
        let attempt = &self.attempts[slot];
        let state = self.reservations[attempt.reservation].state;
        if attempt.is_unregistered {
            // Its money came before its begin: there is nothing left to begin.
            return Err(Refusal::wrong_state(state));
        }
        let field = match () {
            () if attempt.provider != begin.provider => "provider",
            () if attempt.amount_minor != begin.amount_minor => "amount_minor",
            () if attempt.currency != begin.currency => "currency",
            () => {
                let answer = Answer::PaymentBegun {
                    settle_by: attempt.settle_by,
                    retaken: attempt.is_retaken,
                    attempt_count: attempt.attempt_count,
                };
                return Ok(Self::repeat(attempt.sequence, Some(state), answer));
            }
        };
        Err(Refusal::conflict(Text::new_static(field), Some(state)))
    }

    pub(crate) fn apply_payment_begun(&mut self, event: &Event, begun: &PaymentBegun) {
        let slot = self.reservation_of(event);
        self.push_attempt(Attempt {
            attempt_id: begun.attempt_id.clone(),
            provider: begun.provider.clone(),
            amount_minor: begun.amount_minor,
            currency: begun.currency.clone(),
            sequence: event.sequence,
            begun_at: event.time,
            settle_by: begun.settle_by,
            attempt_count: begun.attempt_count,
            is_retaken: begun.retaken,
            is_unregistered: false,
            state: AttemptState::Open,
            reservation: slot,
            next: NONE,
        });
        if begun.retaken {
            self.retake(slot, State::Paying, begun.settle_by, &begun.taken);
        } else {
            self.rewrite(slot, State::Paying, |reservation| {
                reservation.settle_by = begun.settle_by;
            });
        }
    }

    /// Takes units again for a reservation that had lost its own.
    pub(crate) fn retake(&mut self, slot: Slot, to: State, settle_by: Millis, taken: &[Taken]) {
        let reservation = &self.reservations[slot];
        assert_eq!(
            State::Released,
            reservation.state,
            "only a released one lost its units"
        );
        let lines = self.lines_of(slot);
        let is_named = |line_index: u32| lines[line_index as usize].pool.is_some();
        let pieces = self.pieces_of(reservation.sale, taken, is_named);
        self.draw(&pieces);
        self.rewrite(slot, to, |reservation| {
            reservation.pieces.retake(pieces);
            reservation.settle_by = settle_by;
            reservation.release_reason = None;
            reservation.is_retaken = true;
        });
    }

    /// Records an attempt that became known by its success.
    pub(crate) fn push_unregistered(&mut self, event: &Event, settled: &PaymentSettled) -> Slot {
        let slot = self.reservation_of(event);
        let attempt_count = self.attempt_count(slot) + 1;
        self.push_attempt(Attempt {
            attempt_id: settled.attempt_id.clone(),
            provider: None,
            amount_minor: None,
            currency: None,
            sequence: event.sequence,
            begun_at: event.time,
            settle_by: 0,
            attempt_count,
            is_retaken: false,
            is_unregistered: true,
            state: AttemptState::Open,
            reservation: slot,
            next: NONE,
        })
    }

    fn push_attempt(&mut self, attempt: Attempt) -> Slot {
        assert!(
            self.find_attempt(&attempt.attempt_id).is_none(),
            "an attempt is known once"
        );
        let reservation = attempt.reservation;
        let slot = self.attempts.next_slot();
        self.attempt_index.insert(&attempt.attempt_id, slot);
        self.attempts.insert(attempt);
        let mut last = self.reservations[reservation].first_attempt;
        if last == NONE {
            self.reservations[reservation].first_attempt = slot;
            return slot;
        }
        while self.attempts[last].next != NONE {
            last = self.attempts[last].next;
        }
        self.attempts[last].next = slot;
        slot
    }
}
