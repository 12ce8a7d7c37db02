//! The book's state in the form in which the ledger shows its own, and the rows that were met.
//!
//! Owns: the comparison of everything. Must not: compare what the rules leave open.

use lastunit_engine::{
    Action, AttemptView, AvailabilityView, Command, Counters, Ledger, Outcome, PoolView, Reply,
    ReservationView, SaleState, State, TakenView, Text,
};

use super::{Book, Judged, reservation_of};

impl Book {
    /// Compares everything that the ledger shows with what it should show.
    pub(crate) fn compare(&self, ledger: &Ledger) -> Judged<()> {
        let sizes = ledger.sizes();
        let counts = (
            sizes.reservation_count,
            sizes.attempt_count,
            sizes.request_count,
        );
        let expected = (
            self.reservations.len(),
            self.attempts.len(),
            self.requests.len(),
        );
        if counts != expected {
            return Err(format!(
                "there are {counts:?} reservations, attempts and requests, not \
                                {expected:?}"
            ));
        }
        if (ledger.sequence(), ledger.epoch()) != (self.sequence, self.epoch) {
            let found = (ledger.sequence(), ledger.epoch());
            return Err(format!(
                "sequence and epoch are {found:?}, not {:?}",
                (self.sequence, self.epoch)
            ));
        }
        for sale_id in self.sales.keys() {
            self.compare_sale(ledger, sale_id)?;
        }
        for id in self.reservations.keys() {
            self.compare_reservation(ledger, id)?;
        }
        Ok(())
    }

    pub(crate) fn compare_sale(&self, ledger: &Ledger, sale_id: &Text) -> Judged<()> {
        let sale = &self.sales[sale_id];
        let found = ledger
            .sale(sale_id, self.time)
            .map(|it| (it.state, it.revision));
        let expected = Some((sale.state_at(self.time), sale.revision));
        if found != expected {
            return Err(format!("sale {sale_id} is {found:?}, not {expected:?}"));
        }
        for sku in sale.skus.keys() {
            let expected = self.availability(sale_id, sku);
            let mut found = ledger
                .availability(sale_id, sku)
                .ok_or_else(|| format!("sku {sku} of sale {sale_id} is gone"))?;
            found.changed_sequence = 0;
            if found != expected {
                return Err(format!("sku {sku} shows {found:?}, not {expected:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn compare_reservation(&self, ledger: &Ledger, id: &Text) -> Judged<()> {
        let expected = self.reservation(id);
        let found = ledger.reservation(id);
        if found != expected {
            return Err(format!(
                "reservation {id} shows {found:?}, not {expected:?}"
            ));
        }
        Ok(())
    }

    /// What the ledger should show of a sku; without the sequence of its last change, which the
    /// rules leave open.
    pub(crate) fn availability(&self, sale_id: &Text, sku: &Text) -> AvailabilityView {
        let (level, level_epoch) = self.level(sale_id, sku);
        let mut counters = Counters::default();
        let mut pools = Vec::new();
        for (pool, is_offered) in self.pools_in_order(sale_id, sku) {
            let own = self.counters(sale_id, sku, &pool);
            counters.add(&own);
            let position = self.sales[sale_id].skus[sku].pools[&pool].position;
            pools.push(PoolView {
                pool,
                position,
                labels: Vec::new(),
                is_offered,
                counters: own,
            });
        }
        AvailabilityView {
            sale_id: sale_id.clone(),
            sku: sku.clone(),
            level,
            level_epoch,
            counters,
            pools,
            earliest_expire_at: self.first_end(sale_id, sku),
            changed_sequence: 0,
        }
    }

    /// What the ledger should show of a reservation.
    pub(crate) fn reservation(&self, id: &Text) -> Option<ReservationView> {
        let it = self.reservations.get(id)?;
        let taken = it.pieces.iter().map(|piece| TakenView {
            line_index: piece.taken.line_index,
            sku: piece.taken.sku.clone(),
            pool: piece.taken.pool.clone(),
            units: piece.taken.units,
            returned_units: piece.returned,
        });
        let attempts = it.attempts.iter().map(|id| {
            let attempt = &self.attempts[id];
            let begun = attempt.begun.as_ref().map(|command| match &command.action {
                Action::BeginPayment(begin) => begin,
                other => unreachable!("{other:?} began no payment"),
            });
            AttemptView {
                attempt_id: id.clone(),
                provider: begun.and_then(|it| it.provider.clone()),
                amount_minor: begun.and_then(|it| it.amount_minor),
                currency: begun.and_then(|it| it.currency.clone()),
                state: attempt.state,
                is_unregistered: begun.is_none(),
                begun_at: attempt.begun_at,
            }
        });
        Some(ReservationView {
            reservation_id: id.clone(),
            sale_id: it.sale_id.clone(),
            person_id: it.asked.person_id.clone(),
            merged_person_id: self.root(&it.asked.person_id),
            state: it.state,
            release_reason: it.reason,
            lines: it.asked.lines.clone(),
            taken: taken.collect(),
            attempts: attempts.collect(),
            created_at: it.created_at,
            expires_at: it.expires_at,
            settle_by: it.settle_by,
            max_life_at: it.max_life_at,
            release_requested: it.is_release_requested,
            retaken: it.is_retaken,
            created_sequence: it.first.sequence,
        })
    }

    /// Notes which row of the state machine a decision was.
    pub(super) fn note_rows(&mut self, command: &Command, reply: &Reply) {
        if reply.replayed {
            self.rows.push("row 26");
            return;
        }
        if reply.outcome == Outcome::Conflict {
            self.rows.push("row 27");
            return;
        }
        let found = reservation_of(&command.action).and_then(|id| self.reservations.get(id));
        let is_cancelled =
            found.is_some_and(|it| self.sales[&it.sale_id].state == SaleState::Cancelled);
        let is_closed = found.is_some_and(|it| self.sales[&it.sale_id].state == SaleState::Closed);
        let is_held = found.is_some_and(|it| it.state == State::Held);
        if is_closed && is_held {
            self.rows.push("row 24");
        }
        if reply.outcome == Outcome::WrongState {
            self.rows.push("row 28");
        }
        let row = match (&command.action, reply.outcome, &reply.answer) {
            (Action::Reserve(_), Outcome::Ok, _) => "row 1",
            (Action::Reserve(_), _, _) => "row 2",
            (Action::Confirm { .. }, Outcome::Ok, _) => "row 4",
            (Action::Release { .. }, Outcome::Ok, _) if is_cancelled => "row 25",
            (Action::Release { .. }, Outcome::Ok, answer) => match answer {
                lastunit_engine::Answer::Released {
                    release_requested: true,
                } => "row 14",
                _ => "row 5",
            },
            (Action::Expire { .. }, Outcome::Ok, _) => "row 6",
            (Action::Extend { .. }, Outcome::Ok, _) => "row 7",
            (Action::BecomeOverdue { .. }, Outcome::Ok, _) => "row 13",
            (Action::ReleaseUnverified { .. }, Outcome::Ok, _) => "row 15",
            (Action::Return(_), Outcome::Ok, _) => "row 22",
            (Action::RecordRefund { .. }, Outcome::Ok, _) => "row 23",
            _ => return self.note_money_rows(command, reply),
        };
        self.rows.push(row);
    }

    fn note_money_rows(&mut self, command: &Command, reply: &Reply) {
        use lastunit_engine::Answer;
        let found = reservation_of(&command.action).and_then(|id| self.reservations.get(id));
        let attempt_count = found.map_or(0, |it| it.attempts.len());
        let row = match (&command.action, reply.outcome, &reply.answer, reply.state) {
            (
                Action::BeginPayment(_),
                Outcome::Ok,
                Answer::PaymentBegun { retaken: true, .. },
                _,
            ) => "row 19",
            (Action::BeginPayment(_), Outcome::Ok, ..) => {
                let opens = found.map_or(0, |it| {
                    let state = |id: &Text| self.attempts[id].state;
                    let open = lastunit_engine::AttemptState::Open;
                    it.attempts.iter().filter(|id| state(id) == open).count()
                });
                if opens > 1 { "row 8" } else { "row 3" }
            }
            (Action::BeginPayment(_), _, _, Some(State::Released)) => "row 20",
            (
                Action::SettlePayment(_),
                Outcome::Ok,
                Answer::PaymentSettled {
                    ignored: false,
                    retaken,
                    refund_due,
                    unregistered_attempt,
                    ..
                },
                Some(state),
            ) => match state {
                State::Confirmed if *retaken => "row 17",
                State::Confirmed if !refund_due && *unregistered_attempt && attempt_count == 1 => {
                    "row 16"
                }
                State::RefundDue if *refund_due && attempt_count_due(self, found) == 1 => "row 18",
                _ if *refund_due => "row 21",
                State::Confirmed => "row 9",
                State::Paying | State::Overdue => "row 10",
                State::Held => "row 11",
                State::Released => "row 12",
                _ => return,
            },
            _ => return,
        };
        self.rows.push(row);
    }
}

fn attempt_count_due(book: &Book, found: Option<&super::Reservation>) -> usize {
    let due = lastunit_engine::AttemptState::RefundDue;
    found.map_or(0, |it| {
        it.attempts
            .iter()
            .filter(|id| book.attempts[*id].state == due)
            .count()
    })
}
