//! Owns what comes after a sale: Return (row 22) and RecordRefund (row 23).
//!
//! Must not touch money: a return moves units, a refund is the provider's and only noted here.
//! Next: `stock.rs`.

use alloc::vec::Vec;

use crate::arena::Slot;
use crate::book::book;
use crate::command::{Command, Return};
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody, Returned};
use crate::ids::{Millis, Units};
use crate::outcome::{AttemptState, Disposition, Outcome, State};
use crate::reply::Answer;
use crate::state::{Ledger, Piece};

impl Ledger {
    pub(crate) fn decide_return(&self, command: &Command, asked: &Return, now: Millis) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.reservation_named(&asked.reservation_id)?;
        let candidates = self.returnable(slot, asked)?;
        let reservation = &self.reservations[slot];
        if reservation.state != State::Confirmed {
            return Err(Refusal::wrong_state(reservation.state));
        }
        let rack = self.pool_at(candidates[0].pool).rack;
        let policy = &self.sale_at(reservation.sale).policy;
        let does_policy_give = policy.does_return_give_limit_back;
        if asked.give_limit_back == Some(true) && !does_policy_give {
            let refusal = Refusal::not_allowed("does_return_give_limit_back");
            return Err(refusal.on_rack(rack).in_state(State::Confirmed));
        }
        let Some(pieces) = choose_returned(&candidates, asked.units) else {
            let refusal = Refusal::of(Outcome::NotEnoughUnits);
            return Err(refusal.on_rack(rack).in_state(State::Confirmed));
        };

        let standing: Units = reservation
            .pieces
            .as_slice()
            .iter()
            .map(Piece::standing)
            .sum();
        let is_all = standing == asked.units;
        let state = if is_all {
            State::Returned
        } else {
            State::Confirmed
        };
        let body = EventBody::Returned(Returned {
            sku: asked.sku.clone(),
            pool: asked.pool.clone(),
            units: asked.units,
            disposition: asked.disposition,
            give_limit_back: asked.give_limit_back,
            is_limit_given_back: asked.give_limit_back.unwrap_or(does_policy_give),
            taken: self.taken_of(&pieces),
            state,
        });
        let answer = Answer::Returned {
            returned_units: asked.units,
        };
        Ok(Draft::new(self, command, now)
            .on(slot)
            .accept_one(body, Some(state), answer))
    }

    /// The pieces that a return may draw on; never empty.
    fn returnable(&self, slot: Slot, asked: &Return) -> Result<Vec<Piece>, Refusal> {
        let reservation = &self.reservations[slot];
        let unknown_sku = || Refusal::unknown_sku(&asked.sku).in_state(reservation.state);
        let rack = self
            .find_rack(reservation.sale, &asked.sku)
            .ok_or_else(unknown_sku)?;
        let mut pieces = reservation.pieces.as_slice().to_vec();
        pieces.retain(|piece| self.pool_at(piece.pool).rack == rack);
        if pieces.is_empty() {
            return Err(unknown_sku());
        }
        if let Some(pool) = &asked.pool {
            pieces.retain(|piece| self.pool_at(piece.pool).pool == *pool);
        }
        if pieces.is_empty() {
            let refusal = Refusal::of(Outcome::UnknownPool);
            return Err(refusal.on_rack(rack).in_state(reservation.state));
        }
        Ok(pieces)
    }

    pub(crate) fn decide_record_refund(
        &self,
        command: &Command,
        reservation_id: &str,
        attempt_id: &str,
        evidence: &crate::Text,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let attempt = self.attempt_named(reservation_id, attempt_id)?;
        let slot = self.reservation_named(reservation_id)?;
        let state = self.reservations[slot].state;
        let Some(attempt) = attempt else {
            return Err(Refusal::of(Outcome::UnknownAttempt).in_state(state));
        };
        let attempt = &self.attempts[attempt];
        if attempt.state != AttemptState::RefundDue {
            return Err(Refusal::wrong_state(state));
        }
        let is_due = |other: &crate::state::Attempt| other.state == AttemptState::RefundDue;
        let is_last = self.attempts_of(slot).filter(|other| is_due(other)).count() == 1;
        // Only a reservation that is all about the refund ends with it; a confirmed one that was
        // paid twice stays confirmed.
        let state = match state {
            State::RefundDue if is_last => State::Refunded,
            state => state,
        };
        let body = EventBody::RefundRecorded {
            attempt_id: attempt.attempt_id.clone(),
            evidence: evidence.clone(),
            state,
        };
        let draft = Draft::new(self, command, now).on(slot);
        Ok(draft.accept_one(body, Some(state), Answer::None))
    }

    pub(crate) fn apply_returned(&mut self, event: &Event, returned: &Returned) {
        let slot = self.reservation_of(event);
        let sale = self.reservations[slot].sale;
        let chosen = self.pieces_of(sale, &returned.taken, |_| false);
        self.rewrite(slot, returned.state, |reservation| {
            for back in &chosen {
                let piece = reservation
                    .pieces
                    .as_mut_slice()
                    .iter_mut()
                    .find(|piece| is_same_place(piece, back))
                    .expect("units go back to where they came from");
                piece.returned += back.units;
                if returned.is_limit_given_back {
                    piece.given_back += back.units;
                }
                assert!(
                    piece.returned <= piece.units,
                    "no more comes back than was sold"
                );
            }
        });
        let person = self.root_of(self.reservations[slot].person);
        for back in &chosen {
            let pool = &mut self.pools[back.pool as usize];
            let units = Units::from(back.units);
            match returned.disposition {
                Disposition::Resell => book(&mut pool.counters.available, units),
                Disposition::Quarantine => book(&mut pool.counters.quarantine, units),
                Disposition::WriteOff => book(&mut pool.counters.written_off, units),
            }
            let rack = pool.rack;
            if returned.is_limit_given_back {
                self.count(person, sale, rack, -units);
            }
            self.touch(rack);
        }
    }

    pub(crate) fn apply_refund_recorded(&mut self, event: &Event, attempt_id: &str, to: State) {
        let slot = self.reservation_of(event);
        let attempt = self
            .find_attempt(attempt_id)
            .expect("an event names a known attempt");
        let attempt = &mut self.attempts[attempt];
        assert_eq!(
            AttemptState::RefundDue,
            attempt.state,
            "only owed money goes back"
        );
        attempt.state = AttemptState::Refunded;
        if self.reservations[slot].state != to {
            self.rewrite(slot, to, |_| ());
        }
    }
}

fn is_same_place(left: &Piece, right: &Piece) -> bool {
    left.pool == right.pool
        && left.line_index == right.line_index
        && left.is_from_buffer == right.is_from_buffer
}

/// Chooses the units that come back, those taken last first; `None` if there are too few.
fn choose_returned(candidates: &[Piece], units: Units) -> Option<Vec<Piece>> {
    let mut missing = units;
    let mut chosen = Vec::new();
    for piece in candidates.iter().rev() {
        let back = missing.min(piece.standing());
        if back == 0 {
            continue;
        }
        missing -= back;
        let units = u32::try_from(back).expect("a piece has at most a million units");
        chosen.push(Piece {
            units,
            returned: 0,
            given_back: 0,
            ..*piece
        });
        if missing == 0 {
            return Some(chosen);
        }
    }
    None
}
