//! Owns the making of a decision: refusals on the way, and the events and the reply at the end.
//!
//! Must not change the ledger. Every look-up that can refuse is here, so that an unknown name is
//! refused alike everywhere. Next: `reserve.rs`.

use alloc::vec::Vec;

use crate::arena::Slot;
use crate::command::Command;
use crate::event::{Event, EventBody, Taken};
use crate::ids::{Millis, Sequence, Text, Units};
use crate::outcome::{Outcome, SaleState, State};
use crate::reply::{Answer, Decision, Reply};
use crate::state::{Ledger, Piece};

/// A decision, or why there is none.
pub(crate) type Verdict = Result<Decision, Refusal>;

/// Why a command has no effect.
#[derive(Debug)]
pub(crate) struct Refusal {
    outcome: Outcome,
    state: Option<State>,
    rack: Option<Slot>,
    /// The name of a sku that no rack has.
    unknown_sku: Option<Text>,
    come_back_at: Option<Millis>,
    limit: Option<&'static str>,
    conflict_field: Option<Text>,
    sale_state: Option<SaleState>,
}

impl Refusal {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            state: None,
            rack: None,
            unknown_sku: None,
            come_back_at: None,
            limit: None,
            conflict_field: None,
            sale_state: None,
        }
    }

    /// The same id with other content.
    pub(crate) fn conflict(field: Text, state: Option<State>) -> Self {
        Self {
            conflict_field: Some(field),
            state,
            ..Self::of(Outcome::Conflict)
        }
    }

    /// A sku that the sale, or the reservation, has none of.
    pub(crate) fn unknown_sku(sku: &Text) -> Self {
        Self {
            unknown_sku: Some(sku.clone()),
            ..Self::of(Outcome::UnknownSku)
        }
    }

    pub(crate) fn wrong_state(state: State) -> Self {
        Self::of(Outcome::WrongState).in_state(state)
    }

    pub(crate) fn not_allowed(limit: &'static str) -> Self {
        Self::of(Outcome::NotAllowed).by_limit(limit)
    }

    pub(crate) fn in_state(self, state: State) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// Of a command on a sale that is in the way itself.
    pub(crate) fn in_sale_state(self, state: SaleState) -> Self {
        Self {
            sale_state: Some(state),
            ..self
        }
    }

    pub(crate) fn on_rack(self, rack: Slot) -> Self {
        Self {
            rack: Some(rack),
            ..self
        }
    }

    pub(crate) fn rack(&self) -> Option<Slot> {
        self.rack
    }

    pub(crate) fn by_limit(self, limit: &'static str) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    pub(crate) fn until(self, come_back_at: Option<Millis>) -> Self {
        Self {
            come_back_at,
            ..self
        }
    }
}

/// A decision in the making: the events so far.
pub(crate) struct Draft<'a> {
    ledger: &'a Ledger,
    command: &'a Command,
    now: Millis,
    sale_id: Text,
    reservation_id: Text,
    events: Vec<Event>,
}

impl<'a> Draft<'a> {
    /// Of a command on the whole ledger.
    pub(crate) fn new(ledger: &'a Ledger, command: &'a Command, now: Millis) -> Self {
        let (sale_id, reservation_id) = (Text::default(), Text::default());
        Self {
            ledger,
            command,
            now,
            sale_id,
            reservation_id,
            events: Vec::new(),
        }
    }

    /// Of a command on a sale.
    pub(crate) fn in_sale(self, sale_id: &Text) -> Self {
        Self {
            sale_id: sale_id.clone(),
            ..self
        }
    }

    /// Of a command on a reservation that may be new.
    pub(crate) fn on_new(self, reservation_id: &Text) -> Self {
        Self {
            reservation_id: reservation_id.clone(),
            ..self
        }
    }

    /// Of a command on a reservation.
    pub(crate) fn on(self, slot: Slot) -> Self {
        let reservation = &self.ledger.reservations[slot];
        let sale_id = &self.ledger.sale_at(reservation.sale).sale_id;
        self.in_sale(sale_id).on_new(&reservation.reservation_id)
    }

    pub(crate) fn push(&mut self, body: EventBody) {
        let count = Sequence::try_from(self.events.len()).expect("a command makes few events");
        self.events.push(Event {
            sequence: self.ledger.sequence + count + 1,
            time: self.now,
            request_id: self.command.request_id.clone(),
            caller: self.command.caller.clone(),
            actor: self.command.actor.clone(),
            reason: self.command.reason.clone(),
            sale_id: self.sale_id.clone(),
            reservation_id: self.reservation_id.clone(),
            body,
        });
    }

    /// Ends the draft with one event.
    pub(crate) fn accept_one(
        mut self,
        body: EventBody,
        state: Option<State>,
        answer: Answer,
    ) -> Decision {
        self.push(body);
        self.accept(state, answer)
    }

    /// Ends the draft: the reply to a command that is done.
    pub(crate) fn accept(self, state: Option<State>, answer: Answer) -> Decision {
        let sequence = self
            .events
            .last()
            .expect("a command that is done leaves an event")
            .sequence;
        let reply = Reply {
            state,
            sequence,
            answer,
            ..Reply::of(Outcome::Ok)
        };
        Decision {
            reply,
            events: self.events,
        }
    }
}

impl Reply {
    /// A reply that says nothing but its outcome.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            replayed: false,
            conflict_field: None,
            state: None,
            sku: None,
            level: None,
            level_epoch: 0,
            come_back_at: None,
            limit: None,
            sequence: 0,
            answer: Answer::None,
        }
    }
}

impl Ledger {
    /// The decision that changes nothing.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Decision {
        let mut reply = Reply::of(refusal.outcome);
        reply.state = refusal.state;
        reply.come_back_at = refusal.come_back_at;
        reply.limit = refusal.limit.map(Text::new_static);
        reply.conflict_field = refusal.conflict_field;
        reply.sku = refusal.unknown_sku;
        if let Some(state) = refusal.sale_state {
            reply.answer = Answer::SaleRefused { state };
        }
        if let Some(rack) = refusal.rack {
            reply.sku = Some(self.rack_at(rack).sku.clone());
            reply.level = Some(self.level_of(rack));
            reply.level_epoch = self.rack_at(rack).level_epoch;
        }
        Decision {
            reply,
            events: Vec::new(),
        }
    }

    /// The decision that repeats a first answer.
    pub(crate) fn repeat(sequence: Sequence, state: Option<State>, answer: Answer) -> Decision {
        let reply = Reply {
            replayed: true,
            state,
            sequence,
            answer,
            ..Reply::of(Outcome::Ok)
        };
        Decision {
            reply,
            events: Vec::new(),
        }
    }

    pub(crate) fn sale_named(&self, sale_id: &str) -> Result<Slot, Refusal> {
        self.find_sale(sale_id)
            .ok_or_else(|| Refusal::of(Outcome::UnknownSale))
    }

    pub(crate) fn rack_named(&self, sale: Slot, sku: &Text) -> Result<Slot, Refusal> {
        self.find_rack(sale, sku)
            .ok_or_else(|| Refusal::unknown_sku(sku))
    }

    pub(crate) fn pool_named(&self, rack: Slot, pool: &str) -> Result<Slot, Refusal> {
        self.find_pool(rack, pool)
            .ok_or_else(|| Refusal::of(Outcome::UnknownPool).on_rack(rack))
    }

    pub(crate) fn reservation_named(&self, reservation_id: &str) -> Result<Slot, Refusal> {
        self.find_reservation(reservation_id)
            .ok_or_else(|| Refusal::of(Outcome::UnknownReservation))
    }

    /// The attempt of this reservation, `None` if nobody knows the id.
    ///
    /// An attempt belongs to one reservation for ever: its id on another one is a conflict.
    pub(crate) fn attempt_named(
        &self,
        reservation_id: &str,
        attempt_id: &str,
    ) -> Result<Option<Slot>, Refusal> {
        let Some(attempt) = self.find_attempt(attempt_id) else {
            return Ok(None);
        };
        let owner = &self.reservations[self.attempts[attempt].reservation];
        if owner.reservation_id == reservation_id {
            Ok(Some(attempt))
        } else {
            Err(Refusal::conflict(Text::new_static("reservation_id"), None))
        }
    }

    /// Refuses unless the sale takes reservations at `now`.
    pub(crate) fn check_open(&self, sale: Slot, now: Millis) -> Result<(), Refusal> {
        let sale = self.sale_at(sale);
        match sale.state_at(now) {
            SaleState::Open => Ok(()),
            SaleState::Scheduled => Err(Refusal::of(Outcome::SaleNotOpen).until(sale.opens_at)),
            SaleState::Paused => Err(Refusal::of(Outcome::SaleNotOpen)),
            SaleState::Closed | SaleState::Cancelled | SaleState::Archived => {
                Err(Refusal::of(Outcome::SaleClosed))
            }
        }
    }

    /// Refuses new steps towards a purchase in a sale that was called off (row 25).
    pub(crate) fn check_not_cancelled(&self, slot: Slot) -> Result<(), Refusal> {
        let reservation = &self.reservations[slot];
        match self.sale_at(reservation.sale).state {
            SaleState::Cancelled => {
                Err(Refusal::of(Outcome::SaleClosed).in_state(reservation.state))
            }
            _ => Ok(()),
        }
    }

    /// What an event says of these pieces.
    pub(crate) fn taken_of(&self, pieces: &[Piece]) -> Vec<Taken> {
        let taken = |piece: &Piece| {
            let pool = self.pool_at(piece.pool);
            Taken {
                line_index: u32::from(piece.line_index),
                sku: self.rack_at(pool.rack).sku.clone(),
                pool: pool.pool.clone(),
                units: Units::from(piece.units),
                is_from_buffer: piece.is_from_buffer,
            }
        };
        pieces.iter().map(taken).collect()
    }
}
