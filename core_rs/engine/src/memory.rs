//! Owns the memory of requests: the same id with the same content gets the first answer, with other
//! content a conflict that names the field (rows 26 and 27).
//!
//! The event of a request is what is remembered, so the memory survives a replay. Refusals leave no
//! event and are not remembered: their id may be tried again. Reserve and BeginPayment remember by
//! their reservation and attempt. Next: `difference.rs`.

use alloc::boxed::Box;

use crate::arena::{NONE, Slot};
use crate::command::Command;
use crate::difference::{Difference, Done, difference};
use crate::draft::Refusal;
use crate::event::{Event, EventBody};
use crate::ids::Text;
use crate::outcome::ReleaseReason;
use crate::reply::{Answer, Decision};
use crate::settle::{ignored_answer, settled_answer};
use crate::state::{Ledger, Remembered};

impl Ledger {
    /// The first answer, if this request was done before.
    pub(crate) fn recall(&self, command: &Command) -> Result<Option<Decision>, Refusal> {
        if command.request_id.is_empty() {
            return Ok(None);
        }
        let Some(slot) = self.find_request(&command.request_id) else {
            return Ok(None);
        };
        let remembered = &self.requests[slot];
        let reservation = remembered.reservation;
        let state = (reservation != NONE).then(|| self.reservations[reservation].state);
        if let Some(field) = self.difference_from(remembered, command) {
            return Err(Refusal::conflict(Text::new_static(field), state));
        }
        let answer = self.answer_again(remembered);
        Ok(Some(Self::repeat(remembered.sequence, state, answer)))
    }

    /// Remembers the event that answers a request; the calls to act that follow it only move its
    /// sequence. `reservation` is the one it happened to, or none.
    pub(crate) fn remember(&mut self, event: &Event, reservation: Slot) {
        let is_call_to_act = matches!(
            event.body,
            EventBody::CancelAtProviderRequested { .. }
                | EventBody::AskProviderRequested { .. }
                | EventBody::RefundBecameDue { .. }
        );
        if event.request_id.is_empty() {
            return;
        }
        let known = self.find_request(&event.request_id);
        if is_call_to_act {
            // The first answer told the last event of its command, and so does a repeat.
            let slot = known.expect("a call to act follows the event of its request");
            self.requests[slot].sequence = event.sequence;
            return;
        }
        assert!(known.is_none(), "a request is done once");
        let sale = self.find_sale(&event.sale_id).unwrap_or(NONE);
        let slot = self.requests.insert(Remembered {
            request_id: event.request_id.clone(),
            sequence: event.sequence,
            time: event.time,
            sale,
            reservation,
            next: NONE,
            body: Box::new(event.body.clone()),
        });
        self.request_index.insert(&event.request_id, slot);
        if reservation != NONE {
            let first = &mut self.reservations[reservation].first_request;
            self.requests[slot].next = core::mem::replace(first, slot);
        } else if sale != NONE {
            self.link_request(sale, slot);
        }
    }

    /// Puts a request at the end of its sale's list.
    fn link_request(&mut self, sale: Slot, slot: Slot) {
        let sale = &mut self.sales[sale as usize];
        let last = core::mem::replace(&mut sale.request_last, slot);
        if last == NONE {
            sale.request_first = slot;
        } else {
            self.requests[last].next = slot;
        }
    }

    fn answer_again(&self, remembered: &Remembered) -> Answer {
        match &*remembered.body {
            EventBody::PaymentSettled(settled) => settled_answer(settled),
            EventBody::PaymentNewsIgnored { attempt_state, .. } => ignored_answer(*attempt_state),
            EventBody::Released { release_reason }
                if *release_reason != ReleaseReason::Unverified =>
            {
                Answer::Released {
                    release_requested: false,
                }
            }
            EventBody::ReleaseRequested { .. } => Answer::Released {
                release_requested: true,
            },
            EventBody::Extended { expires_at, .. } => Answer::Extended {
                expires_at: *expires_at,
            },
            EventBody::Returned(returned) => Answer::Returned {
                returned_units: returned.units,
            },
            EventBody::SaleDefined(defined) => {
                Answer::Sale(defined.view(&self.sale_at(remembered.sale).sale_id))
            }
            EventBody::SaleStateChanged { state_to, .. } => {
                let mut view = self.sale_at(remembered.sale).view(self.time);
                view.state = *state_to;
                Answer::Sale(view)
            }
            _ => Answer::None,
        }
    }

    fn difference_from(&self, remembered: &Remembered, command: &Command) -> Difference {
        let sale_id = match remembered.sale {
            NONE => "",
            sale => self.sale_at(sale).sale_id.as_str(),
        };
        let reservation_id = match remembered.reservation {
            NONE => "",
            reservation => self.reservations[reservation].reservation_id.as_str(),
        };
        let done = Done {
            sale_id,
            reservation_id,
            body: &remembered.body,
        };
        difference(&done, command)
    }
}
