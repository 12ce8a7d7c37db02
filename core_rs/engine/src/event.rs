//! Owns the events: what happened, with every fact that `apply` needs.
//!
//! Must not leave anything to be decided later: an event holds the pools that were drawn on, the
//! instants that were set and the state that was reached. Next: `apply.rs`.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::{Line, SalePolicy};
use crate::ids::{Millis, Sequence, Text, Units};
use crate::outcome::{AttemptState, Disposition, PaymentResult, ReleaseReason, SaleState, State};

/// One thing that happened. The events of one command are one journal record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its position, gap-free from 1.
    pub sequence: Sequence,
    /// Ledger time; never less than that of the event before.
    pub time: Millis,
    /// The command's `request_id`; empty for Reserve, BeginPayment and timers.
    pub request_id: Text,
    /// The command's caller; empty for timers.
    pub caller: Text,
    /// The command's actor; empty unless administrative.
    pub actor: Text,
    /// The command's reason; empty unless administrative.
    pub reason: Text,
    /// The sale it happened in; empty if it is of the whole ledger.
    pub sale_id: Text,
    /// The reservation it happened to; empty if none.
    pub reservation_id: Text,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// A sale was defined or changed.
    SaleDefined(SaleDefined),
    /// A sale went to another state, by an operator or by time (then `request_id` is empty).
    SaleStateChanged {
        /// Where from, as ledger time has it.
        state_from: SaleState,
        /// Where to.
        state_to: SaleState,
    },
    /// A pool was defined or changed.
    PoolDefined(PoolDefined),
    /// Units came in.
    StockSupplied(StockBooked),
    /// Units went out.
    StockWithdrawn(StockBooked),
    /// The available units were set to a count.
    StockAdjusted {
        /// Which sku.
        sku: Text,
        /// Which pool.
        pool: Text,
        /// What was available.
        expected_available: Units,
        /// What is available now.
        available: Units,
    },
    /// Available units went to another pool: withdrawn there, supplied here.
    StockMoved {
        /// Which sku.
        sku: Text,
        /// Where from.
        source_pool: Text,
        /// Where to.
        target_pool: Text,
        /// How many.
        units: Units,
    },
    /// Units of the buffer became available.
    BufferPoured {
        /// Which sku.
        sku: Text,
        /// Which pool.
        pool: Text,
        /// How many.
        units: Units,
    },
    /// A reservation was made: HELD.
    Reserved(Reserved),
    /// An attempt was opened: PAYING.
    PaymentBegun(PaymentBegun),
    /// The provider's word was taken; `state` is where the reservation is now.
    ///
    /// This is the whole change: when units go back because the last attempt failed, no `Released`
    /// follows. `RefundBecameDue` and `CancelAtProviderRequested` may follow as calls to act.
    PaymentSettled(PaymentSettled),
    /// The provider's word was of no higher rank than what is known; nothing changed.
    PaymentNewsIgnored {
        /// Which attempt.
        attempt_id: Text,
        /// What the provider said.
        payment_result: PaymentResult,
        /// When it happened at the provider.
        occurred_at: Option<Millis>,
        /// The provider's number of the fact.
        evidence: Text,
        /// Where the attempt is and stays.
        attempt_state: AttemptState,
    },
    /// Held units were sold without a payment step: CONFIRMED.
    Confirmed,
    /// Units went back: RELEASED.
    Released {
        /// Why.
        release_reason: ReleaseReason,
    },
    /// A held reservation lives longer.
    Extended {
        /// What was asked for.
        extension: Millis,
        /// Until when.
        expires_at: Millis,
    },
    /// An open payment passed `settle_by`: OVERDUE.
    BecameOverdue,
    /// The buyer, an operator or the sale's end wants the units of an open payment back.
    ReleaseRequested {
        /// Who wants it.
        release_reason: ReleaseReason,
    },
    /// Call to act: cancel this attempt at the provider.
    CancelAtProviderRequested {
        /// Which attempt.
        attempt_id: Text,
    },
    /// Call to act: ask the provider about this attempt.
    AskProviderRequested {
        /// Which attempt.
        attempt_id: Text,
    },
    /// Call to act: this attempt's money must go back.
    RefundBecameDue {
        /// Which attempt.
        attempt_id: Text,
    },
    /// Money that was owed went back.
    RefundRecorded {
        /// Which attempt's money.
        attempt_id: Text,
        /// The provider's number of the refund.
        evidence: Text,
        /// Where the reservation is now.
        state: State,
    },
    /// Sold units came back.
    Returned(Returned),
    /// Two persons became one.
    PersonsMerged {
        /// Who was merged.
        source_person_id: Text,
        /// Into whom.
        target_person_id: Text,
    },
    /// Expiry is held back, or goes on.
    ExpiryBrakeSet {
        /// On or off.
        is_on: bool,
        /// When it ends by itself.
        until: Option<Millis>,
    },
    /// Every held reservation lives longer by the time the ledger was down.
    OutageCredited {
        /// How long it was down.
        outage: Millis,
    },
    /// What ended long ago in a sale was forgotten; sold units stay sold.
    HistoryForgotten {
        /// Reservations, with their attempts and requests.
        reservation_ids: Vec<Text>,
        /// Requests that named no reservation.
        request_ids: Vec<Text>,
    },
    /// The journal was opened.
    NodeOpened {
        /// Its epoch.
        epoch: i64,
    },
    /// Persons that were counted with others are counted apart from them, together among
    /// themselves. The last, because a snapshot tells bodies by their place here.
    PersonsSplit {
        /// Who went; the first is whom the others count as.
        person_ids: Vec<Text>,
    },
}

/// Units of one line taken from one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Which line, from 0.
    pub line_index: u32,
    /// What.
    pub sku: Text,
    /// From which pool.
    pub pool: Text,
    /// How many.
    pub units: Units,
    /// From the pool's buffer instead of its available units.
    pub is_from_buffer: bool,
}

/// See [`EventBody::SaleDefined`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleDefined {
    /// Opens at this instant; none is at once.
    pub opens_at: Option<Millis>,
    /// Closes at this instant; none is never.
    pub closes_at: Option<Millis>,
    /// The rules.
    pub policy: SalePolicy,
    /// What the command expected.
    pub expected_revision: Option<i64>,
    /// The revision it has now, from 1.
    pub revision: i64,
    /// The state it is in now.
    pub state: SaleState,
}

/// See [`EventBody::PoolDefined`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDefined {
    /// Which sku.
    pub sku: Text,
    /// Which pool.
    pub pool: Text,
    /// Where in the order of pools.
    pub position: u32,
    /// Its labels, in order of key.
    pub labels: Vec<(Text, Text)>,
    /// Whether its available units are for sale.
    pub is_offered: bool,
}

/// See [`EventBody::StockSupplied`] and [`EventBody::StockWithdrawn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockBooked {
    /// Which sku.
    pub sku: Text,
    /// Which pool.
    pub pool: Text,
    /// How many.
    pub units: Units,
    /// In or out of the buffer.
    pub is_buffer: bool,
}

/// See [`EventBody::Reserved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// For whom.
    pub person_id: Text,
    /// What was asked for.
    pub lines: Vec<Line>,
    /// The ttl that was asked for.
    pub ttl: Option<Millis>,
    /// The `not_after` that was asked for.
    pub not_after: Option<Millis>,
    /// Until when the units are held.
    pub expires_at: Millis,
    /// Until when they can be held at most.
    pub max_life_at: Millis,
    /// Where they came from, in order of line.
    pub taken: Vec<Taken>,
}

/// See [`EventBody::PaymentBegun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentBegun {
    /// Which attempt.
    pub attempt_id: Text,
    /// At which provider.
    pub provider: Option<Text>,
    /// How much.
    pub amount_minor: Option<i64>,
    /// In which currency.
    pub currency: Option<Text>,
    /// When the provider should have answered.
    pub settle_by: Millis,
    /// How many attempts the reservation has had, this one included.
    pub attempt_count: u32,
    /// Whether units were taken again after an expiry.
    pub retaken: bool,
    /// Where they came from, if so.
    pub taken: Vec<Taken>,
}

/// See [`EventBody::PaymentSettled`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentSettled {
    /// Which attempt.
    pub attempt_id: Text,
    /// What the provider said.
    pub payment_result: PaymentResult,
    /// When it happened at the provider.
    pub occurred_at: Option<Millis>,
    /// The provider's number of the fact.
    pub evidence: Text,
    /// Where the attempt is now.
    pub attempt_state: AttemptState,
    /// Where the reservation is now.
    pub state: State,
    /// Until when the units are held, if the reservation went back to HELD.
    pub expires_at: Option<Millis>,
    /// Whether nobody had registered this attempt.
    pub unregistered_attempt: bool,
    /// Whether units were taken again for late money.
    pub retaken: bool,
    /// Where they came from, if so.
    pub taken: Vec<Taken>,
}

/// See [`EventBody::Returned`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// What came back.
    pub sku: Text,
    /// The pool that was asked for.
    pub pool: Option<Text>,
    /// How many.
    pub units: Units,
    /// What happens to them.
    pub disposition: Disposition,
    /// What was asked for the person's limit.
    pub give_limit_back: Option<bool>,
    /// Whether the person may buy as many again.
    pub is_limit_given_back: bool,
    /// Which pools they go back to, those taken last first.
    pub taken: Vec<Taken>,
    /// Where the reservation is now.
    pub state: State,
}

impl EventBody {
    /// The state the reservation is in after this event, if the event says so.
    ///
    /// Folding a reservation's events with this explains its life: the state before an event is the
    /// state after the one before.
    #[must_use]
    pub fn state_after(&self) -> Option<State> {
        match self {
            Self::Reserved(_) | Self::Extended { .. } => Some(State::Held),
            Self::PaymentBegun(_) => Some(State::Paying),
            Self::PaymentSettled(settled) => Some(settled.state),
            Self::Confirmed => Some(State::Confirmed),
            Self::Released { .. } => Some(State::Released),
            Self::BecameOverdue => Some(State::Overdue),
            Self::RefundRecorded { state, .. } => Some(*state),
            Self::Returned(returned) => Some(returned.state),
            Self::SaleDefined(_)
            | Self::SaleStateChanged { .. }
            | Self::PoolDefined(_)
            | Self::StockSupplied(_)
            | Self::StockWithdrawn(_)
            | Self::StockAdjusted { .. }
            | Self::StockMoved { .. }
            | Self::BufferPoured { .. }
            | Self::PaymentNewsIgnored { .. }
            | Self::ReleaseRequested { .. }
            | Self::CancelAtProviderRequested { .. }
            | Self::AskProviderRequested { .. }
            | Self::RefundBecameDue { .. }
            | Self::PersonsMerged { .. }
            | Self::ExpiryBrakeSet { .. }
            | Self::OutageCredited { .. }
            | Self::HistoryForgotten { .. }
            | Self::NodeOpened { .. }
            | Self::PersonsSplit { .. } => None,
        }
    }

    /// The event's name, as the contract spells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SaleDefined(_) => "SaleDefined",
            Self::SaleStateChanged { .. } => "SaleStateChanged",
            Self::PoolDefined(_) => "PoolDefined",
            Self::StockSupplied(_) => "StockSupplied",
            Self::StockWithdrawn(_) => "StockWithdrawn",
            Self::StockAdjusted { .. } => "StockAdjusted",
            Self::StockMoved { .. } => "StockMoved",
            Self::BufferPoured { .. } => "BufferPoured",
            Self::Reserved(_) => "Reserved",
            Self::PaymentBegun(_) => "PaymentBegun",
            Self::PaymentSettled(_) => "PaymentSettled",
            Self::PaymentNewsIgnored { .. } => "PaymentNewsIgnored",
            Self::Confirmed => "Confirmed",
            Self::Released { .. } => "Released",
            Self::Extended { .. } => "Extended",
            Self::BecameOverdue => "BecameOverdue",
            Self::ReleaseRequested { .. } => "ReleaseRequested",
            Self::CancelAtProviderRequested { .. } => "CancelAtProviderRequested",
            Self::AskProviderRequested { .. } => "AskProviderRequested",
            Self::RefundBecameDue { .. } => "RefundBecameDue",
            Self::RefundRecorded { .. } => "RefundRecorded",
            Self::Returned(_) => "Returned",
            Self::PersonsMerged { .. } => "PersonsMerged",
            Self::ExpiryBrakeSet { .. } => "ExpiryBrakeSet",
            Self::OutageCredited { .. } => "OutageCredited",
            Self::HistoryForgotten { .. } => "HistoryForgotten",
            Self::NodeOpened { .. } => "NodeOpened",
            Self::PersonsSplit { .. } => "PersonsSplit",
        }
    }
}
