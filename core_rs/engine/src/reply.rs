//! Owns the replies: what a caller is told, and nothing of how it was found.
//!
//! The node adds the place (sequences, epoch, durability). Next: `view.rs`.

use alloc::vec::Vec;

use crate::command::SalePolicy;
use crate::event::{Event, Taken};
use crate::ids::{Millis, Sequence, Text, Units};
use crate::outcome::{AttemptState, Level, Outcome, SaleState, State};

/// What `decide` found: the answer, and the events that make it true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer, to be told once the events are durable.
    pub reply: Reply,
    /// What happened; empty for refusals and repeats. All of them are applied, or none.
    pub events: Vec<Event>,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Done, or why not.
    pub outcome: Outcome,
    /// Whether this repeats the first answer to the same id and content.
    pub replayed: bool,
    /// With CONFLICT: the field that differs, such as `lines[1].units`.
    pub conflict_field: Option<Text>,
    /// The reservation's state, as left by this command or as found (also on a repeat).
    pub state: Option<State>,
    /// The sku that refused, or that is not known.
    pub sku: Option<Text>,
    /// The level of that sku.
    pub level: Option<Level>,
    /// The epoch of that level.
    pub level_epoch: i64,
    /// When to come back, if that is known.
    pub come_back_at: Option<Millis>,
    /// With LIMIT_REACHED or NOT_ALLOWED: which limit, named as in the policy or the request.
    pub limit: Option<Text>,
    /// The last event of this command, also on a repeat; 0 if it had no effect.
    pub sequence: Sequence,
    /// What this command answers with; [`Answer::None`] for refusals.
    pub answer: Answer,
}

/// What a command answers with, beside the common part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing more: a refusal, or a command that has no fields of its own.
    None,
    /// To Reserve.
    Reserved {
        /// Until when the units are held.
        expires_at: Millis,
        /// Where they came from, in order of line.
        taken: Vec<Taken>,
    },
    /// To BeginPayment.
    PaymentBegun {
        /// When the provider should have answered.
        settle_by: Millis,
        /// Whether units were taken again after an expiry.
        retaken: bool,
        /// How many attempts the reservation has had, this one included.
        attempt_count: u32,
    },
    /// To SettlePayment.
    PaymentSettled {
        /// Where the attempt is now.
        attempt_state: AttemptState,
        /// Whether the news was of no higher rank than what is known.
        ignored: bool,
        /// Whether units were taken again for late money.
        retaken: bool,
        /// Whether this attempt's money must go back.
        refund_due: bool,
        /// Whether nobody had registered this attempt.
        unregistered_attempt: bool,
        /// Until when the units are held, if the reservation went back to HELD.
        expires_at: Option<Millis>,
    },
    /// To Release: whether the units wait for the provider's acknowledgement of a cancel.
    Released {
        /// The units are still kept; they go back when the provider acknowledges.
        release_requested: bool,
    },
    /// To Extend.
    Extended {
        /// Until when the units are held.
        expires_at: Millis,
    },
    /// To Return.
    Returned {
        /// How many came back by this command.
        returned_units: Units,
    },
    /// To PutSale, SetSaleState, OpenSale and CloseSale.
    Sale(SaleView),
    /// To PutSale and SetSaleState when the sale is in the way: where it is and stays.
    SaleRefused {
        /// The state, judged by ledger time.
        state: SaleState,
    },
}

/// A sale as its operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleView {
    /// Which sale.
    pub sale_id: Text,
    /// Opens at this instant; none is at once.
    pub opens_at: Option<Millis>,
    /// Closes at this instant; none is never.
    pub closes_at: Option<Millis>,
    /// The rules.
    pub policy: SalePolicy,
    /// Rises by one with each PutSale.
    pub revision: i64,
    /// The state, judged by ledger time.
    pub state: SaleState,
}
