//! What time may do, and what it must have done.
//!
//! Owns: the guards on expiry. Must not: end what has a payment open; only OVERDUE may come of
//! that, and it keeps the units.

use lastunit_engine::Action;
use lastunit_engine::{
    Answer, Command, Millis, Outcome, ReleaseReason, Reply, SaleState, State, Text,
};

use super::{Book, Call, ok, refuse, reservation_of};

/// How long one late settlement holds expiry back.
const BRAKE_HOLD: Millis = 60_000;

impl Book {
    /// Whether expiry is held back in a sale, by an operator or by late news.
    pub(crate) fn is_braked(&self, sale_id: &Text, now: Millis) -> bool {
        let is_set = self.brake.is_on && self.brake.until.is_none_or(|until| now < until);
        let lag_max = self.sales[sale_id].policy.expiry_brake_lag;
        let is_late = self.brake.lag.is_some_and(|(lag, noted_at)| {
            lag_max > 0 && lag > lag_max && now < noted_at + BRAKE_HOLD
        });
        is_set || is_late
    }

    pub(super) fn expire(&mut self, reservation_id: &Text, now: Millis) -> Reply {
        let Some(found) = self.reservations.get(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        if found.state != State::Held || found.expires_at > now {
            return Reply {
                state: Some(found.state),
                ..refuse(Outcome::WrongState)
            };
        }
        if self.is_braked(&found.sale_id, now) {
            return Reply {
                state: Some(found.state),
                ..refuse(Outcome::NotAllowed)
            };
        }
        let found = self
            .reservations
            .get_mut(reservation_id)
            .expect("was just found");
        found.state = State::Released;
        found.reason = Some(ReleaseReason::Expired);
        ok(
            Some(State::Released),
            Answer::Released {
                release_requested: false,
            },
        )
    }

    pub(super) fn become_overdue(
        &mut self,
        reservation_id: &Text,
        now: Millis,
        calls: &mut Vec<Call>,
    ) -> Reply {
        let Some(found) = self.reservations.get(reservation_id) else {
            return refuse(Outcome::UnknownReservation);
        };
        let is_past = found.settle_by.is_some_and(|settle_by| settle_by <= now);
        if found.state != State::Paying || !is_past {
            return Reply {
                state: Some(found.state),
                ..refuse(Outcome::WrongState)
            };
        }
        self.set_state(reservation_id, State::Overdue);
        calls.extend(self.open_attempts(reservation_id, "ask"));
        ok(Some(State::Overdue), Answer::None)
    }

    /// A sale that time opens or closes.
    pub(super) fn turn(&mut self, sale_id: &Text, to: SaleState, now: Millis) -> Reply {
        let Some(sale) = self.sales.get_mut(sale_id) else {
            return refuse(Outcome::UnknownSale);
        };
        if sale.state == to || sale.state_at(now) != to {
            return refuse(Outcome::WrongState);
        }
        sale.state = to;
        ok(None, Answer::Sale(sale.view(sale_id)))
    }

    /// The first thing that is due at `now` and not done; none after all timers ran.
    pub(crate) fn overdue_timer(&self, now: Millis) -> Option<String> {
        for (id, sale) in &self.sales {
            if sale.state_at(now) != sale.state {
                return Some(format!("sale {id} should have turned"));
            }
        }
        for (id, it) in &self.reservations {
            let is_cancelled = self.sales[&it.sale_id].state == SaleState::Cancelled;
            let problem = match it.state {
                State::Held if is_cancelled => "is held in a cancelled sale",
                State::Held if it.expires_at <= now && !self.is_braked(&it.sale_id, now) => {
                    "is held past its end"
                }
                State::Paying if it.settle_by.is_some_and(|settle_by| settle_by <= now) => {
                    "should be overdue"
                }
                State::Paying | State::Overdue if is_cancelled && !it.is_release_requested => {
                    "is not asked back in a cancelled sale"
                }
                _ => continue,
            };
            return Some(format!("reservation {id} {problem}"));
        }
        None
    }

    /// Whether a command without a client may be made by the node now.
    pub(crate) fn is_due(&self, command: &Command, now: Millis) -> bool {
        let found = reservation_of(&command.action).and_then(|id| self.reservations.get(id));
        match &command.action {
            Action::Expire { .. } => found.is_some_and(|it| {
                it.state == State::Held && it.expires_at <= now && !self.is_braked(&it.sale_id, now)
            }),
            Action::BecomeOverdue { .. } => found.is_some_and(|it| {
                it.state == State::Paying && it.settle_by.is_some_and(|at| at <= now)
            }),
            Action::Release {
                release_reason: ReleaseReason::SaleCancelled,
                ..
            } => found.is_some_and(|it| {
                self.sales[&it.sale_id].state == SaleState::Cancelled
                    && matches!(it.state, State::Held | State::Paying | State::Overdue)
            }),
            Action::OpenSale { sale_id } | Action::CloseSale { sale_id } => self
                .sales
                .get(sale_id)
                .is_some_and(|it| it.state_at(now) != it.state),
            _ => false,
        }
    }
}
