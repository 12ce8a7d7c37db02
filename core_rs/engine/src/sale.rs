//! Owns sales: PutSale, SetSaleState, and the timers that open and close them.
//!
//! Ledger time opens and closes a sale, not the timer: `state_at` judges, the timer only journals
//! what is so already. Must not release anything; a cancelled sale's reservations are `due`.
//! Next: `timers.rs`.

use alloc::collections::BTreeMap;

use crate::arena::{NONE, Slot};
use crate::command::{Command, PutSale};
use crate::draft::{Draft, Refusal, Verdict};
use crate::due_list::DueList;
use crate::event::{Event, EventBody, SaleDefined};
use crate::ids::{Millis, Text};
use crate::limits::SALE_COUNT_MAX;
use crate::outcome::{Outcome, SaleState};
use crate::reply::{Answer, SaleView};
use crate::state::{Ledger, Sale};

impl Sale {
    /// The state at `now`: open in `[opens_at, closes_at)`.
    pub(crate) fn state_at(&self, now: Millis) -> SaleState {
        state_at(self.state, self.opens_at, self.closes_at, now)
    }
}

/// The state that ledger time makes of a stored one.
fn state_at(
    stored: SaleState,
    opens_at: Option<Millis>,
    closes_at: Option<Millis>,
    now: Millis,
) -> SaleState {
    let is_past = closes_at.is_some_and(|closes_at| now >= closes_at);
    let is_begun = opens_at.is_none_or(|opens_at| now >= opens_at);
    match stored {
        SaleState::Scheduled | SaleState::Open | SaleState::Paused if is_past => SaleState::Closed,
        SaleState::Scheduled if is_begun => SaleState::Open,
        stored => stored,
    }
}

impl Ledger {
    pub(crate) fn decide_put_sale(&self, command: &Command, put: &PutSale, now: Millis) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let sale = self.find_sale(&put.sale_id).map(|slot| self.sale_at(slot));
        let (stored, revision) = match sale {
            Some(sale) => (sale.state_at(now), sale.revision),
            None => (SaleState::Scheduled, 0),
        };
        let refuse = |refusal: Refusal| match sale {
            Some(_) => Err(refusal.in_sale_state(stored)),
            None => Err(refusal),
        };
        match stored {
            SaleState::Cancelled | SaleState::Archived => {
                return refuse(Refusal::of(Outcome::SaleClosed));
            }
            _ if sale.is_none() && self.sales.len() >= SALE_COUNT_MAX => {
                return Err(Refusal::not_allowed("sale_count"));
            }
            _ if sale.is_some_and(|sale| sale.policy.does_forget_while_open)
                && !put.policy.does_forget_while_open =>
            {
                return refuse(Refusal::not_allowed("policy.does_forget_while_open"));
            }
            _ if put.is_never_open() => return refuse(Refusal::not_allowed("closes_time")),
            _ if put
                .expected_revision
                .is_some_and(|expected| expected != revision) =>
            {
                return refuse(Refusal::of(Outcome::CounterMismatch));
            }
            _ => {}
        }
        let state = state_at(stored, put.opens_at, put.closes_at, now);
        let defined = SaleDefined {
            opens_at: put.opens_at,
            closes_at: put.closes_at,
            policy: put.policy.clone(),
            expected_revision: put.expected_revision,
            revision: revision + 1,
            state,
        };
        let answer = Answer::Sale(defined.view(&put.sale_id));
        let draft = Draft::new(self, command, now).in_sale(&put.sale_id);
        Ok(draft.accept_one(EventBody::SaleDefined(defined), None, answer))
    }

    pub(crate) fn decide_set_sale_state(
        &self,
        command: &Command,
        sale_id: &str,
        state_to: SaleState,
        now: Millis,
    ) -> Verdict {
        if let Some(decision) = self.recall(command)? {
            return Ok(decision);
        }
        let slot = self.sale_named(sale_id)?;
        let sale = self.sale_at(slot);
        let state_from = sale.state_at(now);
        if !can_go(state_from, state_to) {
            return Err(Refusal::of(Outcome::WrongState).in_sale_state(state_from));
        }
        if sale.is_final && state_to == SaleState::Open {
            // Ids of it are forgotten: a late duplicate would be taken for a new reservation.
            return Err(Refusal::of(Outcome::SaleClosed).in_sale_state(state_from));
        }
        if state_at(state_to, sale.opens_at, sale.closes_at, now) != state_to {
            // Ledger time would undo it at once: the sale's times must be changed first.
            let limit = if state_to == SaleState::Scheduled {
                "opens_time"
            } else {
                "closes_time"
            };
            return Err(Refusal::not_allowed(limit).in_sale_state(state_from));
        }
        if state_to == SaleState::Archived && self.has_live(slot) {
            return Err(Refusal::not_allowed("live_reservations").in_sale_state(state_from));
        }
        Ok(self.change_sale(command, slot, state_from, state_to, now))
    }

    /// By the node's timer.
    pub(crate) fn decide_open_sale(
        &self,
        command: &Command,
        sale_id: &str,
        now: Millis,
    ) -> Verdict {
        self.decide_sale_timer(command, sale_id, SaleState::Open, now)
    }

    /// By the node's timer.
    pub(crate) fn decide_close_sale(
        &self,
        command: &Command,
        sale_id: &str,
        now: Millis,
    ) -> Verdict {
        self.decide_sale_timer(command, sale_id, SaleState::Closed, now)
    }

    fn decide_sale_timer(
        &self,
        command: &Command,
        sale_id: &str,
        state_to: SaleState,
        now: Millis,
    ) -> Verdict {
        let slot = self.sale_named(sale_id)?;
        let sale = self.sale_at(slot);
        if sale.state == state_to || sale.state_at(now) != state_to {
            return Err(Refusal::of(Outcome::WrongState));
        }
        Ok(self.change_sale(command, slot, sale.state, state_to, now))
    }

    fn change_sale(
        &self,
        command: &Command,
        slot: Slot,
        state_from: SaleState,
        state_to: SaleState,
        now: Millis,
    ) -> crate::reply::Decision {
        let sale = self.sale_at(slot);
        let answer = Answer::Sale(SaleView {
            state: state_to,
            ..sale.view(now)
        });
        let body = EventBody::SaleStateChanged {
            state_from,
            state_to,
        };
        let draft = Draft::new(self, command, now).in_sale(&sale.sale_id);
        draft.accept_one(body, None, answer)
    }

    /// Says whether a sale has units in HELD, PAYING or OVERDUE.
    fn has_live(&self, sale: Slot) -> bool {
        self.sale_at(sale).racks.values().any(|rack| {
            let sum = self.sum_of(*rack, |_| true);
            sum.held + sum.paying + sum.overdue > 0
        })
    }

    pub(crate) fn apply_sale_defined(&mut self, event: &Event, defined: &SaleDefined) {
        let slot = match self.find_sale(&event.sale_id) {
            Some(slot) => slot,
            None => self.push_sale(&event.sale_id, defined),
        };
        let sale = &mut self.sales[slot as usize];
        assert_eq!(sale.revision + 1, defined.revision, "revisions have no gap");
        sale.opens_at = defined.opens_at;
        sale.closes_at = defined.closes_at;
        sale.policy = defined.policy.clone();
        sale.revision = defined.revision;
        sale.state = defined.state;
        sale.note_end(event.time);
        // The policy says what LOW is, so whoever watches must look again.
        let racks: alloc::vec::Vec<Slot> = sale.racks.values().copied().collect();
        for rack in racks {
            self.touch(rack);
        }
    }

    fn push_sale(&mut self, sale_id: &Text, defined: &SaleDefined) -> Slot {
        let slot = Slot::try_from(self.sales.len()).expect("limits keep sales far below 2^32");
        self.sales.push(Sale {
            sale_id: sale_id.clone(),
            opens_at: None,
            closes_at: None,
            policy: defined.policy.clone(),
            revision: 0,
            state: defined.state,
            open_first: NONE,
            open_last: NONE,
            ended_first: NONE,
            ended_last: NONE,
            request_first: NONE,
            request_last: NONE,
            ended_at: None,
            is_final: false,
            changed_sequence: 0,
            racks: BTreeMap::new(),
            expiries: DueList::default(),
            settlings: DueList::default(),
            overdues: DueList::default(),
            drained_count: 0,
        });
        self.sale_index.insert(sale_id.clone(), slot);
        slot
    }

    pub(crate) fn apply_sale_state_changed(&mut self, event: &Event, state_to: SaleState) {
        let slot = self
            .find_sale(&event.sale_id)
            .expect("an event names a known sale");
        let sale = &mut self.sales[slot as usize];
        sale.state = state_to;
        sale.note_end(event.time);
    }
}

/// Says whether an operator may bring a sale from one state to another. Staying is allowed but for
/// an archived one, so that a second operator with the same wish gets the same answer.
fn can_go(from: SaleState, to: SaleState) -> bool {
    use SaleState::{Archived, Cancelled, Closed, Open, Paused, Scheduled};
    match from {
        Scheduled | Paused => to != Archived,
        Open => matches!(to, Open | Paused | Closed | Cancelled),
        Closed => matches!(to, Open | Closed | Cancelled | Archived),
        Cancelled => matches!(to, Cancelled | Archived),
        Archived => false,
    }
}

impl PutSale {
    fn is_never_open(&self) -> bool {
        let opens_at = self.opens_at.unwrap_or(Millis::MIN);
        self.closes_at
            .is_some_and(|closes_at| closes_at <= opens_at)
    }
}

impl SaleDefined {
    pub(crate) fn view(&self, sale_id: &Text) -> SaleView {
        SaleView {
            sale_id: sale_id.clone(),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            policy: self.policy.clone(),
            revision: self.revision,
            state: self.state,
        }
    }
}

impl Sale {
    pub(crate) fn view(&self, now: Millis) -> SaleView {
        SaleView {
            sale_id: self.sale_id.clone(),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            policy: self.policy.clone(),
            revision: self.revision,
            state: self.state_at(now),
        }
    }
}
