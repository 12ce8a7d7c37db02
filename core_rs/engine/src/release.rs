//! Owns the ends of a held reservation and what leads to them: Confirm (4), Release (5, 14, 25),
//! EXPIRE (6), Extend (7), OVERDUE (13) and ReleaseUnverified (15).
//!
//! Must not give a unit back while its payment is open, but for row 15, which a policy allows and a
//! person signs. Next: `returns.rs`.

use crate::arena::Slot;
use crate::command::Command;
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody};
use crate::ids::Millis;
use crate::outcome::{AttemptState, Outcome, ReleaseReason, SaleState, State};
use crate::reply::Answer;
use crate::state::Ledger;

impl Ledger {
    pub(crate) fn decide_confirm(&self, command: &Command, id: &str, now: Millis) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.reservation_named(id)?;
        self.check_held(slot)?;
        self.check_not_cancelled(slot)?;
        let draft = Draft::new(self, command, now).on(slot);
        Ok(draft.accept_one(EventBody::Confirmed, Some(State::Confirmed), Answer::None))
    }

    pub(crate) fn decide_release(
        &self,
        command: &Command,
        id: &str,
        release_reason: ReleaseReason,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.reservation_named(id)?;
        let reservation = &self.reservations[slot];
        let state = reservation.state;
        self.check_release_reason(slot, release_reason)?;
        let mut draft = Draft::new(self, command, now).on(slot);
        match state {
            State::Held => {
                let answer = Answer::Released {
                    release_requested: false,
                };
                let body = EventBody::Released { release_reason };
                Ok(draft.accept_one(body, Some(State::Released), answer))
            }
            State::Paying | State::Overdue => {
                draft.push(EventBody::ReleaseRequested { release_reason });
                // The stream keeps the first request to cancel; a second one would add nothing.
                if !reservation.is_release_requested {
                    self.push_cancels(&mut draft, slot, "");
                }
                Ok(draft.accept(
                    Some(state),
                    Answer::Released {
                        release_requested: true,
                    },
                ))
            }
            _ => Err(Refusal::wrong_state(state)),
        }
    }

    fn check_release_reason(&self, slot: Slot, reason: ReleaseReason) -> Result<(), Refusal> {
        let reservation = &self.reservations[slot];
        let is_cancelled = self.sale_at(reservation.sale).state == SaleState::Cancelled;
        let is_allowed = match reason {
            ReleaseReason::Client | ReleaseReason::Operator => true,
            ReleaseReason::SaleCancelled => is_cancelled,
            ReleaseReason::Expired | ReleaseReason::PaymentFailed | ReleaseReason::Unverified => {
                false
            }
        };
        // WRONG_STATE wins over NOT_ALLOWED.
        match reservation.state {
            State::Held | State::Paying | State::Overdue if !is_allowed => {
                Err(Refusal::not_allowed("release_reason").in_state(reservation.state))
            }
            _ => Ok(()),
        }
    }

    /// Row 6, by the node's timer. A stale timer finds WRONG_STATE and changes nothing.
    pub(crate) fn decide_expire(&self, command: &Command, id: &str, now: Millis) -> Verdict {
        let slot = self.reservation_named(id)?;
        self.check_held(slot)?;
        let reservation = &self.reservations[slot];
        if reservation.expires_at > now {
            return Err(Refusal::wrong_state(State::Held).until(Some(reservation.expires_at)));
        }
        let brake_end = self.brake_end(reservation.sale);
        if now < brake_end {
            let refusal = Refusal::not_allowed("expiry_brake").in_state(State::Held);
            return Err(refusal.until((brake_end < Millis::MAX).then_some(brake_end)));
        }
        let body = EventBody::Released {
            release_reason: ReleaseReason::Expired,
        };
        let answer = Answer::Released {
            release_requested: false,
        };
        let draft = Draft::new(self, command, now).on(slot);
        Ok(draft.accept_one(body, Some(State::Released), answer))
    }

    /// Row 7. At the limit it refuses and changes nothing: a caller that asks for five minutes must
    /// not promise a buyer five when two were left. It never shortens.
    pub(crate) fn decide_extend(
        &self,
        command: &Command,
        id: &str,
        extension: Millis,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.reservation_named(id)?;
        let reservation = &self.reservations[slot];
        if reservation.state == State::Held && now + extension > reservation.max_life_at {
            let refusal = Refusal::of(Outcome::TooLate).by_limit("max_life");
            return Err(refusal.in_state(State::Held));
        }
        self.check_not_cancelled_held(slot)?;
        self.check_held(slot)?;
        let expires_at = reservation.expires_at.max(now + extension);
        let body = EventBody::Extended {
            extension,
            expires_at,
        };
        let draft = Draft::new(self, command, now).on(slot);
        Ok(draft.accept_one(body, Some(State::Held), Answer::Extended { expires_at }))
    }

    /// Row 13, by the node's timer: the units stay, and the provider is asked.
    pub(crate) fn decide_become_overdue(
        &self,
        command: &Command,
        id: &str,
        now: Millis,
    ) -> Verdict {
        let slot = self.reservation_named(id)?;
        let reservation = &self.reservations[slot];
        if reservation.state != State::Paying {
            return Err(Refusal::wrong_state(reservation.state));
        }
        if reservation.settle_by > now {
            return Err(Refusal::wrong_state(State::Paying).until(Some(reservation.settle_by)));
        }
        let mut draft = Draft::new(self, command, now).on(slot);
        draft.push(EventBody::BecameOverdue);
        for attempt in self.attempts_of(slot) {
            if attempt.state == AttemptState::Open {
                let attempt_id = attempt.attempt_id.clone();
                draft.push(EventBody::AskProviderRequested { attempt_id });
            }
        }
        Ok(draft.accept(Some(State::Overdue), Answer::None))
    }

    /// Row 15. The open attempts are still cancelled at the provider: should money come all the
    /// same, it re-takes a unit or is owed.
    pub(crate) fn decide_release_unverified(
        &self,
        command: &Command,
        id: &str,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.reservation_named(id)?;
        let reservation = &self.reservations[slot];
        if reservation.state != State::Overdue {
            return Err(Refusal::wrong_state(reservation.state));
        }
        if !self
            .sale_at(reservation.sale)
            .policy
            .is_unverified_release_allowed
        {
            let refusal = Refusal::not_allowed("is_unverified_release_allowed");
            return Err(refusal.in_state(State::Overdue));
        }
        let mut draft = Draft::new(self, command, now).on(slot);
        draft.push(EventBody::Released {
            release_reason: ReleaseReason::Unverified,
        });
        self.push_cancels(&mut draft, slot, "");
        Ok(draft.accept(Some(State::Released), Answer::None))
    }

    fn check_held(&self, slot: Slot) -> Result<(), Refusal> {
        match self.reservations[slot].state {
            State::Held => Ok(()),
            state => Err(Refusal::wrong_state(state)),
        }
    }

    /// As [`Ledger::check_not_cancelled`], for a command that only a held reservation obeys.
    fn check_not_cancelled_held(&self, slot: Slot) -> Result<(), Refusal> {
        match self.reservations[slot].state {
            State::Held => self.check_not_cancelled(slot),
            _ => Ok(()),
        }
    }

    pub(crate) fn apply_confirmed(&mut self, event: &Event) {
        let slot = self.reservation_of(event);
        self.rewrite(slot, State::Confirmed, |_| ());
    }

    pub(crate) fn apply_released(&mut self, event: &Event, reason: ReleaseReason) {
        let slot = self.reservation_of(event);
        self.release(slot, reason);
    }

    /// Gives all units of a reservation back.
    pub(crate) fn release(&mut self, slot: Slot, reason: ReleaseReason) {
        self.rewrite(slot, State::Released, |reservation| {
            reservation.release_reason = Some(reason);
        });
        self.give_back(slot);
    }

    pub(crate) fn apply_release_requested(&mut self, event: &Event) {
        let slot = self.reservation_of(event);
        let state = self.reservations[slot].state;
        assert!(
            matches!(state, State::Paying | State::Overdue),
            "an open payment keeps the units"
        );
        self.rewrite(slot, state, |reservation| {
            reservation.is_release_requested = true;
        });
    }

    pub(crate) fn apply_extended(&mut self, event: &Event, expires_at: Millis) {
        let slot = self.reservation_of(event);
        self.rewrite(slot, State::Held, |reservation| {
            reservation.expires_at = expires_at;
        });
    }

    pub(crate) fn apply_became_overdue(&mut self, event: &Event) {
        let slot = self.reservation_of(event);
        self.rewrite(slot, State::Overdue, |_| ());
    }

    /// The reservation that an event happened to.
    pub(crate) fn reservation_of(&self, event: &Event) -> Slot {
        self.find_reservation(&event.reservation_id)
            .expect("an event names a known reservation")
    }
}
