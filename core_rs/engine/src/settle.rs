//! Owns SettlePayment: rows 9 to 12, 16 to 18 and 21. Money is the truth, never the clock.
//!
//! Must never refuse money: a success ends as APPLIED or REFUND_DUE in the same step, whatever the
//! reservation's state. Rank of truth: REFUNDED > SUCCEEDED > CANCELLED, FAILED > OPEN; news of no
//! higher rank is journaled as ignored. Next: `release.rs`.

use alloc::vec::Vec;

use crate::arena::Slot;
use crate::command::{Command, SettlePayment};
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::{Event, EventBody, PaymentSettled, Taken};
use crate::ids::Millis;
use crate::outcome::{AttemptState, Outcome, PaymentResult, ReleaseReason, SaleState, State};
use crate::pools::Source;
use crate::reply::Answer;
use crate::state::{Attempt, Ledger};

/// Where the news leads.
struct Settlement {
    attempt_state: AttemptState,
    state: State,
    expires_at: Option<Millis>,
    /// Units taken again for late money.
    taken: Vec<Taken>,
}

impl Settlement {
    fn of(attempt_state: AttemptState, state: State) -> Self {
        Self {
            attempt_state,
            state,
            expires_at: None,
            taken: Vec::new(),
        }
    }
}

impl Ledger {
    pub(crate) fn decide_settle_payment(
        &self,
        command: &Command,
        settle: &SettlePayment,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let attempt = self.attempt_named(&settle.reservation_id, &settle.attempt_id)?;
        let slot = self.reservation_named(&settle.reservation_id)?;
        let known = attempt.map(|attempt| self.attempts[attempt].state);
        let settlement = match (known, settle.payment_result) {
            (None, PaymentResult::Failed | PaymentResult::Cancelled) => {
                let state = self.reservations[slot].state;
                return Err(Refusal::of(Outcome::UnknownAttempt).in_state(state));
            }
            (
                None | Some(AttemptState::Open | AttemptState::Failed | AttemptState::Cancelled),
                PaymentResult::Succeeded,
            ) => self.succeed(slot),
            (Some(AttemptState::Open), PaymentResult::Failed) => {
                self.fail(slot, AttemptState::Failed, now)
            }
            (Some(AttemptState::Open), PaymentResult::Cancelled) => {
                self.fail(slot, AttemptState::Cancelled, now)
            }
            (Some(attempt_state), _) => {
                return Ok(self.ignore(command, settle, slot, attempt_state, now));
            }
        };
        let draft = Draft::new(self, command, now).on(slot);
        Ok(self.settle(draft, settle, slot, settlement, known.is_none()))
    }

    /// Rows 9, 16, 17, 18 and 21.
    fn succeed(&self, slot: Slot) -> Settlement {
        let reservation = &self.reservations[slot];
        match reservation.state {
            State::Held | State::Paying | State::Overdue => {
                Settlement::of(AttemptState::Applied, State::Confirmed)
            }
            State::Released => self.succeed_late(slot),
            State::Confirmed | State::RefundDue | State::Refunded | State::Returned => {
                Settlement::of(AttemptState::RefundDue, reservation.state)
            }
        }
    }

    /// Rows 17 and 18: late money takes units again, or is owed.
    fn succeed_late(&self, slot: Slot) -> Settlement {
        let sale = self.sale_at(self.reservations[slot].sale);
        let pieces = match sale.state {
            SaleState::Archived => None,
            _ => self.allocate(&self.needs_of(slot), Source::LateMoney).ok(),
        };
        match pieces {
            Some(pieces) => Settlement {
                taken: self.taken_of(&pieces),
                ..Settlement::of(AttemptState::Applied, State::Confirmed)
            },
            None => Settlement::of(AttemptState::RefundDue, State::RefundDue),
        }
    }

    /// Rows 10, 11 and 12. In the other states the units are not the attempt's: only it is closed.
    fn fail(&self, slot: Slot, attempt_state: AttemptState, now: Millis) -> Settlement {
        let reservation = &self.reservations[slot];
        let state = reservation.state;
        if !matches!(state, State::Paying | State::Overdue) {
            return Settlement::of(attempt_state, state);
        }
        let is_open = |attempt: &&Attempt| attempt.state == AttemptState::Open;
        if self.attempts_of(slot).filter(is_open).count() > 1 {
            return Settlement::of(attempt_state, state);
        }
        let sale = self.sale_at(reservation.sale);
        let may_try_again = state == State::Paying
            && now < reservation.max_life_at
            && !reservation.is_release_requested
            && sale.state != SaleState::Cancelled;
        if !may_try_again {
            return Settlement::of(attempt_state, State::Released);
        }
        let graced = reservation.expires_at.max(now + sale.policy.retry_grace);
        Settlement {
            expires_at: Some(graced.min(reservation.max_life_at)),
            ..Settlement::of(attempt_state, State::Held)
        }
    }

    fn settle(
        &self,
        mut draft: Draft<'_>,
        settle: &SettlePayment,
        slot: Slot,
        settlement: Settlement,
        unregistered_attempt: bool,
    ) -> crate::reply::Decision {
        let Settlement {
            attempt_state,
            state,
            expires_at,
            taken,
        } = settlement;
        let retaken = !taken.is_empty();
        let refund_due = attempt_state == AttemptState::RefundDue;
        draft.push(EventBody::PaymentSettled(PaymentSettled {
            attempt_id: settle.attempt_id.clone(),
            payment_result: settle.payment_result,
            occurred_at: settle.occurred_at,
            evidence: settle.evidence.clone(),
            attempt_state,
            state,
            expires_at,
            unregistered_attempt,
            retaken,
            taken,
        }));
        if refund_due {
            draft.push(EventBody::RefundBecameDue {
                attempt_id: settle.attempt_id.clone(),
            });
        }
        if attempt_state == AttemptState::Applied {
            self.push_cancels(&mut draft, slot, &settle.attempt_id);
        }
        let answer = Answer::PaymentSettled {
            attempt_state,
            ignored: false,
            retaken,
            refund_due,
            unregistered_attempt,
            expires_at,
        };
        draft.accept(Some(state), answer)
    }

    /// Asks the provider to cancel the attempts that are open, but for one.
    pub(crate) fn push_cancels(&self, draft: &mut Draft<'_>, slot: Slot, but: &str) {
        let open = self
            .attempts_of(slot)
            .filter(|attempt| attempt.state == AttemptState::Open);
        for attempt in open.filter(|attempt| attempt.attempt_id != but) {
            let attempt_id = attempt.attempt_id.clone();
            draft.push(EventBody::CancelAtProviderRequested { attempt_id });
        }
    }

    fn ignore(
        &self,
        command: &Command,
        settle: &SettlePayment,
        slot: Slot,
        attempt_state: AttemptState,
        now: Millis,
    ) -> crate::reply::Decision {
        let body = EventBody::PaymentNewsIgnored {
            attempt_id: settle.attempt_id.clone(),
            payment_result: settle.payment_result,
            occurred_at: settle.occurred_at,
            evidence: settle.evidence.clone(),
            attempt_state,
        };
        let state = self.reservations[slot].state;
        let answer = ignored_answer(attempt_state);
        Draft::new(self, command, now)
            .on(slot)
            .accept_one(body, Some(state), answer)
    }

    pub(crate) fn apply_payment_settled(&mut self, event: &Event, settled: &PaymentSettled) {
        let slot = self.reservation_of(event);
        let attempt = if settled.unregistered_attempt {
            self.push_unregistered(event, settled)
        } else {
            self.find_attempt(&settled.attempt_id)
                .expect("a registered attempt is known")
        };
        self.attempts[attempt].state = settled.attempt_state;
        if let Some(occurred_at) = settled.occurred_at {
            self.brake.last_lag = (event.time - occurred_at).max(0);
            self.brake.last_lag_at = Some(event.time);
        }
        match (self.reservations[slot].state, settled.state) {
            (from, to) if from == to => {}
            (State::Released, State::Confirmed) => {
                let settle_by = self.reservations[slot].settle_by;
                self.retake(slot, State::Confirmed, settle_by, &settled.taken);
            }
            (_, State::Held) => {
                let expires_at = settled.expires_at.expect("HELD comes with its end");
                self.rewrite(slot, State::Held, |reservation| {
                    reservation.expires_at = expires_at;
                });
            }
            (_, State::Released) => self.release(slot, ReleaseReason::PaymentFailed),
            (_, to) => self.rewrite(slot, to, |_| ()),
        }
    }
}

/// The answer to news of no higher rank.
pub(crate) fn ignored_answer(attempt_state: AttemptState) -> Answer {
    Answer::PaymentSettled {
        attempt_state,
        ignored: true,
        retaken: false,
        refund_due: attempt_state == AttemptState::RefundDue,
        unregistered_attempt: false,
        expires_at: None,
    }
}

/// The answer to news that was taken, as its event remembers it.
pub(crate) fn settled_answer(settled: &PaymentSettled) -> Answer {
    Answer::PaymentSettled {
        attempt_state: settled.attempt_state,
        ignored: false,
        retaken: settled.retaken,
        refund_due: settled.attempt_state == AttemptState::RefundDue,
        unregistered_attempt: settled.unregistered_attempt,
        expires_at: settled.expires_at,
    }
}
