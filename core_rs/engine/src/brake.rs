//! Owns the two guards on expiry: the brake and the outage credit; and the node's own notes.
//!
//! The brake is on while an operator says so, or for a minute after a settlement that came later
//! than the sale's `expiry_brake_lag`: then buyers who have paid may be waiting in the same queue.
//! Must not hold back anything but EXPIRE. Next: `timers.rs`.

use crate::arena::Slot;
use crate::command::Command;
use crate::draft::{Draft, Refusal, Verdict};
use crate::event::EventBody;
use crate::ids::Millis;
use crate::limits::BRAKE_HOLD;
use crate::outcome::Outcome;
use crate::reply::{Answer, Decision};
use crate::state::{Ledger, Sale};
use crate::view::BrakeView;

impl Ledger {
    /// What holds expiry back at `now`.
    #[must_use]
    pub fn brake(&self, now: Millis) -> BrakeView {
        let is_until_later = self.brake.until.is_none_or(|until| until > now);
        let is_on_by_operator = self.brake.is_on && is_until_later;
        let noted_at = self.brake.last_lag_at;
        let is_late = |sale: &Sale| {
            let lag = sale.policy.expiry_brake_lag;
            sale.ended_at.is_none() && lag > 0 && self.brake.last_lag > lag
        };
        let is_recent = noted_at.is_some_and(|noted_at| noted_at + BRAKE_HOLD > now);
        BrakeView {
            is_on_by_operator,
            is_on_by_lag: is_recent && self.sales.iter().any(is_late),
            last_lag: noted_at.map(|noted_at| (self.brake.last_lag, noted_at)),
        }
    }

    /// The first instant at which a sale's reservations may expire; `Millis::MAX` if nobody knows.
    pub(crate) fn brake_end(&self, sale: Slot) -> Millis {
        let explicit = match (self.brake.is_on, self.brake.until) {
            (false, _) => Millis::MIN,
            (true, None) => Millis::MAX,
            (true, Some(until)) => until,
        };
        let lag = self.sale_at(sale).policy.expiry_brake_lag;
        // A bound of 0 switches the guard off.
        let is_late = lag > 0 && self.brake.last_lag > lag;
        let automatic = match self.brake.last_lag_at {
            Some(noted_at) if is_late => noted_at + BRAKE_HOLD,
            _ => Millis::MIN,
        };
        explicit.max(automatic)
    }

    pub(crate) fn decide_set_expiry_brake(
        &self,
        command: &Command,
        is_on: bool,
        until: Option<Millis>,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let body = EventBody::ExpiryBrakeSet { is_on, until };
        Ok(Draft::new(self, command, now).accept_one(body, None, Answer::None))
    }

    pub(crate) fn decide_credit_outage(
        &self,
        command: &Command,
        outage: Millis,
        now: Millis,
    ) -> Decision {
        let body = EventBody::OutageCredited { outage };
        Draft::new(self, command, now).accept_one(body, None, Answer::None)
    }

    pub(crate) fn decide_note_node_opened(
        &self,
        command: &Command,
        epoch: i64,
        now: Millis,
    ) -> Verdict {
        if epoch <= self.epoch {
            return Err(Refusal::of(Outcome::CounterMismatch).by_limit("epoch"));
        }
        let body = EventBody::NodeOpened { epoch };
        Ok(Draft::new(self, command, now).accept_one(body, None, Answer::None))
    }
}
