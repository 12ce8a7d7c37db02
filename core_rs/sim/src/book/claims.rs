//! Reserve, Confirm, Release, Extend and Return, as the rules have them.
//!
//! Owns: who may have units, and from which pools. Must not: know money; `payment.rs` does.

use lastunit_engine::{
    Answer, Line, Millis, Outcome, ReleaseReason, Reply, Reserve, Return, SaleState, State, Taken,
    Text, Units,
};

use super::{Book, Call, Piece, Reservation, line, ok, refuse, strongest};

impl Book {
    pub(super) fn reserve(&mut self, asked: &Reserve, now: Millis) -> Reply {
        let Some(sale) = self.sales.get(&asked.sale_id) else {
            return refuse(Outcome::UnknownSale);
        };
        if asked
            .lines
            .iter()
            .any(|line| !sale.skus.contains_key(&line.sku))
        {
            return refuse(Outcome::UnknownSku);
        }
        let is_known = |line: &Line| match &line.pool {
            Some(pool) => sale.skus[&line.sku].pools.contains_key(pool),
            None => true,
        };
        if !asked.lines.iter().all(is_known) {
            return refuse(Outcome::UnknownPool);
        }
        let policy = sale.policy.clone();
        let mut reasons = Vec::new();
        if asked.not_after.is_some_and(|not_after| not_after < now) {
            reasons.push(Outcome::TooLate);
        }
        let taken = self.check_claim(
            &asked.sale_id,
            &asked.person_id,
            &asked.lines,
            now,
            &mut reasons,
        );
        if let Some(outcome) = strongest(&reasons) {
            return self.explain(refuse(outcome), &asked.sale_id, &asked.lines, now);
        }
        let ttl = asked
            .ttl
            .unwrap_or(policy.reservation_ttl)
            .min(policy.reservation_ttl);
        let max_life_at = now + policy.max_life;
        let expires_at = (now + ttl).min(max_life_at);
        let reply = ok(
            Some(State::Held),
            Answer::Reserved {
                expires_at,
                taken: taken.clone(),
            },
        );
        let made = Reservation {
            sale_id: asked.sale_id.clone(),
            asked: asked.clone(),
            first: reply.clone(),
            state: State::Held,
            reason: None,
            pieces: taken.into_iter().map(Piece::new).collect(),
            created_at: now,
            expires_at,
            max_life_at,
            settle_by: None,
            attempts: Vec::new(),
            is_release_requested: false,
            is_retaken: false,
        };
        self.reservations.insert(asked.reservation_id.clone(), made);
        reply
    }

    /// Gathers the reasons why a person may not have these lines; gives the pools if there are
    /// none.
    pub(super) fn check_claim(
        &self,
        sale_id: &Text,
        person: &Text,
        lines: &[Line],
        now: Millis,
        reasons: &mut Vec<Outcome>,
    ) -> Vec<Taken> {
        let sale = &self.sales[sale_id];
        match sale.state_at(now) {
            SaleState::Open => {}
            SaleState::Scheduled | SaleState::Paused => reasons.push(Outcome::SaleNotOpen),
            _ => reasons.push(Outcome::SaleClosed),
        }
        let is_barred = |line: &Line| {
            let pool = line.pool.as_ref();
            pool.is_some_and(|pool| !sale.skus[&line.sku].pools[pool].is_offered)
        };
        if lines.iter().any(is_barred) {
            reasons.push(Outcome::NotAllowed);
        }
        if self.is_past_limit(sale_id, person, lines) {
            reasons.push(Outcome::LimitReached);
        }
        let taken = self.draw(sale_id, lines, false);
        if taken.is_none() {
            reasons.push(Outcome::SoldOut);
        }
        taken.unwrap_or_default()
    }

    fn is_past_limit(&self, sale_id: &Text, person: &Text, lines: &[Line]) -> bool {
        let policy = &self.sales[sale_id].policy;
        let root = self.root(person);
        let theirs = || {
            let of_sale = self
                .reservations
                .values()
                .filter(|it| it.sale_id == *sale_id);
            of_sale.filter(|it| self.root(&it.asked.person_id) == root)
        };
        let has = |sku: Option<&Text>| -> Units {
            let counted = theirs().filter(|it| {
                !matches!(
                    it.state,
                    State::Released | State::RefundDue | State::Refunded
                )
            });
            let pieces = counted.flat_map(|it| &it.pieces);
            let pieces = pieces.filter(|it| sku.is_none_or(|sku| it.taken.sku == *sku));
            pieces.map(|it| it.taken.units - it.given_back).sum()
        };
        let asks = |sku: Option<&Text>| -> Units {
            let lines = lines
                .iter()
                .filter(|it| sku.is_none_or(|sku| it.sku == *sku));
            lines.map(|it| it.units).sum()
        };
        let unpaid = theirs()
            .filter(|it| matches!(it.state, State::Held | State::Paying | State::Overdue))
            .count() as u64;
        let past = |limit: Units, sku| limit > 0 && has(sku) + asks(sku) > limit;
        let unpaid_max = u64::from(policy.unpaid_reservations_per_person_max);
        lines
            .iter()
            .any(|line| past(policy.units_per_person_per_sku_max, Some(&line.sku)))
            || past(policy.units_per_person_max, None)
            || (unpaid_max > 0 && unpaid >= unpaid_max)
    }

    /// Draws lines from pools: those that name one first, the others in the pools' order. Late
    /// money draws on buffers first.
    pub(super) fn draw(&self, sale_id: &Text, lines: &[Line], is_late: bool) -> Option<Vec<Taken>> {
        let mut left = std::collections::BTreeMap::new();
        let mut taken = Vec::new();
        let order = (0..lines.len()).filter(|it| lines[*it].pool.is_some());
        let order = order.chain((0..lines.len()).filter(|it| lines[*it].pool.is_none()));
        for index in order {
            let line = &lines[index];
            let mut missing = line.units;
            for is_from_buffer in if is_late {
                vec![true, false]
            } else {
                vec![false]
            } {
                for (pool, is_offered) in self.pools_in_order(sale_id, &line.sku) {
                    let is_other = line.pool.as_ref().is_some_and(|wanted| *wanted != pool);
                    if is_other || !(is_offered || is_from_buffer) {
                        continue;
                    }
                    let key = (line.sku.clone(), pool.clone(), is_from_buffer);
                    let there = left.entry(key).or_insert_with(|| {
                        let counters = self.counters(sale_id, &line.sku, &pool);
                        if is_from_buffer {
                            counters.buffer
                        } else {
                            counters.available
                        }
                    });
                    let units = missing.min(*there);
                    if units > 0 {
                        *there -= units;
                        missing -= units;
                        taken.push(Taken {
                            line_index: u32::try_from(index).expect("few lines"),
                            sku: line.sku.clone(),
                            pool,
                            units,
                            is_from_buffer,
                        });
                    }
                }
            }
            if missing > 0 {
                return None;
            }
        }
        taken.sort_by_key(|it| it.line_index);
        Some(taken)
    }

    /// Takes units again for a reservation that had lost its own.
    pub(super) fn take_again(&mut self, reservation_id: &Text, taken: Vec<Taken>) {
        let sale_id = self.reservations[reservation_id].sale_id.clone();
        let sale = self.sales.get_mut(&sale_id).expect("is known");
        for piece in taken.iter().filter(|it| it.is_from_buffer) {
            let sku = sale.skus.get_mut(&piece.sku).expect("is known");
            sku.pools.get_mut(&piece.pool).expect("is known").buffer -= piece.units;
            self.rows.push("retaken from buffer");
        }
        let reservation = self.reservations.get_mut(reservation_id).expect("is known");
        reservation.pieces = taken.into_iter().map(Piece::new).collect();
        reservation.reason = None;
        reservation.is_retaken = true;
    }

    /// The lines of a reservation.
    pub(super) fn lines_of(reservation: &Reservation) -> Vec<Line> {
        let lines = reservation.asked.lines.iter();
        lines
            .map(|it| line(&it.sku, it.pool.as_ref(), it.units))
            .collect()
    }

    /// Adds to a refusal what it must say of the sku: whichever of the lines it names is checked.
    fn explain(&self, mut reply: Reply, sale_id: &Text, lines: &[Line], now: Millis) -> Reply {
        reply.come_back_at = match reply.outcome {
            Outcome::SoldOut => self
                .first_end(sale_id, &lines[0].sku)
                .map(|end| end.max(now)),
            Outcome::SaleNotOpen => match self.sales[sale_id].state_at(now) {
                SaleState::Scheduled => self.sales[sale_id].opens_at,
                _ => None,
            },
            _ => None,
        };
        reply
    }

    /// When the first held units of a sku end.
    pub(crate) fn first_end(&self, sale_id: &Text, sku: &Text) -> Option<Millis> {
        let held = self
            .reservations
            .values()
            .filter(|it| it.state == State::Held);
        let held = held.filter(|it| it.sale_id == *sale_id);
        let held = held.filter(|it| it.pieces.iter().any(|piece| piece.taken.sku == *sku));
        held.map(|it| it.expires_at).min()
    }

    pub(super) fn confirm(&mut self, reservation_id: &Text) -> Reply {
        let Some(found) = self.reservations.get(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let state = found.state;
        if state != State::Held {
            return Reply {
                state: Some(state),
                ..refuse(Outcome::WrongState)
            };
        }
        if self.sales[&found.sale_id].state == SaleState::Cancelled {
            return Reply {
                state: Some(state),
                ..refuse(Outcome::SaleClosed)
            };
        }
        self.set_state(reservation_id, State::Confirmed);
        ok(Some(State::Confirmed), Answer::None)
    }

    pub(super) fn release(
        &mut self,
        reservation_id: &Text,
        reason: ReleaseReason,
        calls: &mut Vec<Call>,
    ) -> Reply {
        let Some(found) = self.reservations.get_mut(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        match found.state {
            State::Held => {
                found.state = State::Released;
                found.reason = Some(reason);
                ok(
                    Some(State::Released),
                    Answer::Released {
                        release_requested: false,
                    },
                )
            }
            State::Paying | State::Overdue => {
                let state = found.state;
                if !std::mem::replace(&mut found.is_release_requested, true) {
                    calls.extend(self.open_attempts(reservation_id, "cancel"));
                }
                ok(
                    Some(state),
                    Answer::Released {
                        release_requested: true,
                    },
                )
            }
            state => Reply {
                state: Some(state),
                ..refuse(Outcome::WrongState)
            },
        }
    }

    pub(super) fn extend(&mut self, reservation_id: &Text, span: Millis, now: Millis) -> Reply {
        let Some(found) = self.reservations.get_mut(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let state = Some(found.state);
        if found.state != State::Held {
            return Reply {
                state,
                ..refuse(Outcome::WrongState)
            };
        }
        if now + span > found.max_life_at {
            return Reply {
                state,
                ..refuse(Outcome::TooLate)
            };
        }
        if self.sales[&found.sale_id].state == SaleState::Cancelled {
            return Reply {
                state,
                ..refuse(Outcome::SaleClosed)
            };
        }
        found.expires_at = found.expires_at.max(now + span);
        ok(
            state,
            Answer::Extended {
                expires_at: found.expires_at,
            },
        )
    }

    pub(super) fn return_units(&mut self, asked: &Return) -> Reply {
        let Some(found) = self.reservations.get_mut(&asked.reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let with_state = |outcome| Reply {
            state: Some(found.state),
            ..refuse(outcome)
        };
        if found.pieces.iter().all(|it| it.taken.sku != asked.sku) {
            return with_state(Outcome::UnknownSku);
        }
        let is_asked = |piece: &Piece| {
            piece.taken.sku == asked.sku
                && asked
                    .pool
                    .as_ref()
                    .is_none_or(|pool| piece.taken.pool == *pool)
        };
        if !found.pieces.iter().any(is_asked) {
            return with_state(Outcome::UnknownPool);
        }
        if found.state != State::Confirmed {
            return with_state(Outcome::WrongState);
        }
        let does_give = self.sales[&found.sale_id]
            .policy
            .does_return_give_limit_back;
        if asked.give_limit_back == Some(true) && !does_give {
            return with_state(Outcome::NotAllowed);
        }
        let there: Units = found
            .pieces
            .iter()
            .filter(|it| is_asked(it))
            .map(Piece::standing)
            .sum();
        if there < asked.units {
            return with_state(Outcome::NotEnoughUnits);
        }
        let mut missing = asked.units;
        let mut back = Vec::new();
        for piece in found.pieces.iter_mut().rev().filter(|it| is_asked(it)) {
            let units = missing.min(piece.standing());
            missing -= units;
            piece.returned += units;
            if asked.give_limit_back.unwrap_or(does_give) {
                piece.given_back += units;
            }
            back.push((piece.taken.pool.clone(), units));
        }
        if found.pieces.iter().all(|it| it.standing() == 0) {
            found.state = State::Returned;
        }
        let (state, sale_id) = (found.state, found.sale_id.clone());
        self.book_returned(&sale_id, asked, &back);
        ok(
            Some(state),
            Answer::Returned {
                returned_units: asked.units,
            },
        )
    }

    pub(super) fn set_state(&mut self, reservation_id: &Text, state: State) {
        self.reservations
            .get_mut(reservation_id)
            .expect("is known")
            .state = state;
    }
}

impl Piece {
    fn new(taken: Taken) -> Self {
        Self {
            taken,
            returned: 0,
            given_back: 0,
        }
    }

    /// Units that did not come back.
    pub(super) fn standing(&self) -> Units {
        self.taken.units - self.returned
    }
}
