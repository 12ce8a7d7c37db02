//! BeginPayment, SettlePayment, RecordRefund and the release without the provider's word.
//!
//! Owns: what money does. Money that came is applied to exactly one reservation or owed, never
//! lost, and no clock ends what has a payment open. Must not: look at a timer.

use lastunit_engine::{
    Answer, AttemptState, BeginPayment, Command, Millis, Outcome, PaymentResult, ReleaseReason,
    Reply, SaleState, SettlePayment, State, Text,
};

use super::{Attempt, Book, Call, ok, refuse, strongest};

impl Book {
    pub(super) fn begin_payment(
        &mut self,
        command: &Command,
        asked: &BeginPayment,
        now: Millis,
    ) -> Reply {
        let Some(found) = self.reservations.get(&asked.reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let (state, sale) = (found.state, &self.sales[&found.sale_id]);
        let mut reasons = Vec::new();
        let mut retaken = None;
        if found.attempts.len() as u64 >= u64::from(sale.policy.attempts_per_reservation_max) {
            reasons.push(Outcome::TooManyAttempts);
        }
        match (state, found.reason) {
            (State::Held | State::Paying, _) => {
                if sale.state == SaleState::Cancelled {
                    reasons.push(Outcome::SaleClosed);
                }
                if found.is_release_requested {
                    reasons.push(Outcome::NotAllowed);
                }
            }
            (State::Released, Some(ReleaseReason::Expired)) => {
                if now >= found.max_life_at {
                    reasons.push(Outcome::TooLate);
                }
                let (sale_id, person) = (&found.sale_id, &found.asked.person_id);
                let lines = Self::lines_of(found);
                let claim = self.check_claim(sale_id, person, &lines, now, &mut reasons);
                retaken = Some(claim);
            }
            _ => reasons = vec![Outcome::WrongState],
        }
        if let Some(outcome) = strongest(&reasons) {
            return Reply {
                state: Some(state),
                ..refuse(outcome)
            };
        }
        let settle_by = now + sale.policy.settle_by;
        let is_retaken = retaken.is_some();
        if let Some(taken) = retaken {
            self.take_again(&asked.reservation_id, taken);
        }
        let found = self
            .reservations
            .get_mut(&asked.reservation_id)
            .expect("is known");
        found.state = State::Paying;
        found.settle_by = Some(settle_by);
        found.attempts.push(asked.attempt_id.clone());
        let answer = Answer::PaymentBegun {
            settle_by,
            retaken: is_retaken,
            attempt_count: u32::try_from(found.attempts.len()).expect("few attempts"),
        };
        let reply = ok(Some(State::Paying), answer);
        let attempt = Attempt {
            reservation_id: asked.reservation_id.clone(),
            begun: Some(command.clone()),
            begun_at: now,
            first: reply.clone(),
            state: AttemptState::Open,
        };
        self.attempts.insert(asked.attempt_id.clone(), attempt);
        reply
    }

    pub(super) fn settle_payment(
        &mut self,
        asked: &SettlePayment,
        now: Millis,
        calls: &mut Vec<Call>,
    ) -> Reply {
        let known = self.attempts.get(&asked.attempt_id);
        if known.is_some_and(|it| it.reservation_id != asked.reservation_id) {
            return refuse(Outcome::Conflict);
        }
        let Some(found) = self.reservations.get(&asked.reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let is_money = asked.payment_result == PaymentResult::Succeeded;
        let before = known.map(|it| it.state);
        let is_unregistered = before.is_none();
        match before {
            None if !is_money => {
                return Reply {
                    state: Some(found.state),
                    ..refuse(Outcome::UnknownAttempt)
                };
            }
            None | Some(AttemptState::Open) => {}
            Some(AttemptState::Failed | AttemptState::Cancelled) if is_money => {}
            Some(rest) => return Self::ignore(found.state, rest),
        }
        if is_unregistered {
            self.register(asked, now);
        }
        if let Some(occurred_at) = asked.occurred_at {
            self.brake.lag = Some(((now - occurred_at).max(0), now));
        }
        if is_money {
            self.succeed(asked, is_unregistered, calls)
        } else {
            self.fail(asked, now)
        }
    }

    fn ignore(state: State, attempt_state: AttemptState) -> Reply {
        let answer = Answer::PaymentSettled {
            attempt_state,
            ignored: true,
            retaken: false,
            refund_due: attempt_state == AttemptState::RefundDue,
            unregistered_attempt: false,
            expires_at: None,
        };
        ok(Some(state), answer)
    }

    fn register(&mut self, asked: &SettlePayment, now: Millis) {
        let attempt = Attempt {
            reservation_id: asked.reservation_id.clone(),
            begun: None,
            begun_at: now,
            first: refuse(Outcome::WrongState),
            state: AttemptState::Open,
        };
        self.attempts.insert(asked.attempt_id.clone(), attempt);
        let found = self
            .reservations
            .get_mut(&asked.reservation_id)
            .expect("is known");
        found.attempts.push(asked.attempt_id.clone());
    }

    fn succeed(
        &mut self,
        asked: &SettlePayment,
        unregistered_attempt: bool,
        calls: &mut Vec<Call>,
    ) -> Reply {
        let id = &asked.reservation_id;
        let found = &self.reservations[id];
        let mut retaken = false;
        let (attempt_state, state) = match found.state {
            State::Held | State::Paying | State::Overdue => {
                (AttemptState::Applied, State::Confirmed)
            }
            State::Released => {
                let is_archived = self.sales[&found.sale_id].state == SaleState::Archived;
                let lines = Self::lines_of(found);
                let taken = self
                    .draw(&found.sale_id, &lines, true)
                    .filter(|_| !is_archived);
                retaken = taken.is_some();
                match taken {
                    Some(taken) => {
                        self.take_again(id, taken);
                        (AttemptState::Applied, State::Confirmed)
                    }
                    None => (AttemptState::RefundDue, State::RefundDue),
                }
            }
            state => (AttemptState::RefundDue, state),
        };
        self.attempts
            .get_mut(&asked.attempt_id)
            .expect("is known")
            .state = attempt_state;
        self.set_state(id, state);
        let refund_due = attempt_state == AttemptState::RefundDue;
        if refund_due {
            calls.push(("refund", asked.attempt_id.clone()));
        } else {
            calls.extend(self.open_attempts(id, "cancel"));
        }
        let answer = Answer::PaymentSettled {
            attempt_state,
            ignored: false,
            retaken,
            refund_due,
            unregistered_attempt,
            expires_at: None,
        };
        ok(Some(state), answer)
    }

    fn fail(&mut self, asked: &SettlePayment, now: Millis) -> Reply {
        let attempt_state = match asked.payment_result {
            PaymentResult::Cancelled => AttemptState::Cancelled,
            _ => AttemptState::Failed,
        };
        self.attempts
            .get_mut(&asked.attempt_id)
            .expect("is known")
            .state = attempt_state;
        let id = &asked.reservation_id;
        let is_last = self.open_attempts(id, "").next().is_none();
        let found = self.reservations.get_mut(id).expect("is known");
        let mut expires_at = None;
        if is_last && matches!(found.state, State::Paying | State::Overdue) {
            let sale = &self.sales[&found.sale_id];
            let may_retry = found.state == State::Paying
                && now < found.max_life_at
                && !found.is_release_requested
                && sale.state != SaleState::Cancelled;
            if may_retry {
                let graced = found.expires_at.max(now + sale.policy.retry_grace);
                found.expires_at = graced.min(found.max_life_at);
                found.state = State::Held;
                expires_at = Some(found.expires_at);
            } else {
                found.state = State::Released;
                found.reason = Some(ReleaseReason::PaymentFailed);
            }
        }
        let answer = Answer::PaymentSettled {
            attempt_state,
            ignored: false,
            retaken: false,
            refund_due: false,
            unregistered_attempt: false,
            expires_at,
        };
        ok(Some(found.state), answer)
    }

    /// A call to act for each attempt of a reservation that is open.
    pub(super) fn open_attempts(
        &self,
        reservation_id: &Text,
        call: &'static str,
    ) -> impl Iterator<Item = Call> {
        let attempts = self.reservations[reservation_id].attempts.iter();
        let open = attempts.filter(|id| self.attempts[*id].state == AttemptState::Open);
        let calls: Vec<Call> = open.map(|id| (call, id.clone())).collect();
        calls.into_iter()
    }

    pub(super) fn record_refund(&mut self, reservation_id: &Text, attempt_id: &Text) -> Reply {
        let known = self.attempts.get(attempt_id);
        if known.is_some_and(|it| it.reservation_id != *reservation_id) {
            return refuse(Outcome::Conflict);
        }
        let Some(found) = self.reservations.get(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let state = Some(found.state);
        let Some(attempt) = known else {
            return Reply {
                state,
                ..refuse(Outcome::UnknownAttempt)
            };
        };
        if attempt.state != AttemptState::RefundDue {
            return Reply {
                state,
                ..refuse(Outcome::WrongState)
            };
        }
        self.attempts.get_mut(attempt_id).expect("is known").state = AttemptState::Refunded;
        let found = &self.reservations[reservation_id];
        let is_due = |id: &Text| self.attempts[id].state == AttemptState::RefundDue;
        if found.state == State::RefundDue && !found.attempts.iter().any(is_due) {
            self.set_state(reservation_id, State::Refunded);
        }
        ok(Some(self.reservations[reservation_id].state), Answer::None)
    }

    pub(super) fn release_unverified(
        &mut self,
        reservation_id: &Text,
        calls: &mut Vec<Call>,
    ) -> Reply {
        let Some(found) = self.reservations.get(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let state = Some(found.state);
        if found.state != State::Overdue {
            return Reply {
                state,
                ..refuse(Outcome::WrongState)
            };
        }
        if !self.sales[&found.sale_id]
            .policy
            .is_unverified_release_allowed
        {
            return Reply {
                state,
                ..refuse(Outcome::NotAllowed)
            };
        }
        calls.extend(self.open_attempts(reservation_id, "cancel"));
        let found = self.reservations.get_mut(reservation_id).expect("is known");
        found.state = State::Released;
        found.reason = Some(ReleaseReason::Unverified);
        ok(Some(State::Released), Answer::None)
    }
}
