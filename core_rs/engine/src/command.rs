//! Owns the commands: everything a caller, an operator or a timer can ask of the ledger.
//!
//! Must not know what a command does. The door checks fields against the contract, `check.rs`
//! checks them again. Next: `event.rs`.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Text, Units};
use crate::outcome::{Disposition, PaymentResult, ReleaseReason, SaleState};

/// One command with who asks and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The client's id of this command; empty for [`Action::Reserve`] (its id is the
    /// reservation's), for [`Action::BeginPayment`] (its id is the attempt's) and for timers.
    pub request_id: Text,
    /// Who called, as the door knows it; journaled, not compared on a repeat. Empty for timers.
    pub caller: Text,
    /// Who an administrative command is done for; empty elsewhere.
    pub actor: Text,
    /// Why an administrative command is done; empty elsewhere.
    pub reason: Text,
    /// What to do.
    pub action: Action,
}

impl Command {
    /// A command of the node's own, such as a timer: no id, no caller.
    #[must_use]
    pub fn internal(action: Action) -> Self {
        Self::from_caller("", "", action)
    }

    /// A command of a caller, without actor and reason.
    #[must_use]
    pub fn from_caller(request_id: &str, caller: &str, action: Action) -> Self {
        Self {
            request_id: request_id.into(),
            caller: caller.into(),
            actor: Text::default(),
            reason: Text::default(),
            action,
        }
    }
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Takes units for a person (rows 1 and 2).
    Reserve(Reserve),
    /// Registers an attempt to pay, before the provider is called (rows 3, 8, 19, 20).
    BeginPayment(BeginPayment),
    /// Records what the provider says (rows 9 to 12, 16 to 18, 21).
    SettlePayment(SettlePayment),
    /// Sells held units without a payment step (row 4).
    Confirm {
        /// Which reservation.
        reservation_id: Text,
    },
    /// Gives held units back, or asks the provider to cancel first (rows 5, 14, 25).
    Release {
        /// Which reservation.
        reservation_id: Text,
        /// CLIENT or OPERATOR; SALE_CANCELLED only from [`crate::Ledger::due`].
        release_reason: ReleaseReason,
    },
    /// Lets a held reservation live longer (row 7).
    Extend {
        /// Which reservation.
        reservation_id: Text,
        /// How long from now it shall live at least, 1 ms to 30 days.
        extension: Millis,
    },
    /// Takes sold units back (row 22).
    Return(Return),
    /// Notes that money which was owed went back (row 23).
    RecordRefund {
        /// Which reservation.
        reservation_id: Text,
        /// Which attempt's money.
        attempt_id: Text,
        /// The provider's number of the refund, 0 to 256 bytes.
        evidence: Text,
    },
    /// Defines a sale or changes it.
    PutSale(PutSale),
    /// Opens, pauses, closes, cancels or archives a sale.
    SetSaleState {
        /// Which sale.
        sale_id: Text,
        /// The state to go to.
        state: SaleState,
    },
    /// Defines a pool or changes it.
    PutPool(PutPool),
    /// Brings units in.
    SupplyStock(StockChange),
    /// Takes units out.
    WithdrawStock(StockChange),
    /// Sets the available units to a count that somebody made.
    AdjustStock {
        /// Which sale.
        sale_id: Text,
        /// Which sku.
        sku: Text,
        /// Which pool.
        pool: Text,
        /// What the caller believes is available now; another value is COUNTER_MISMATCH.
        expected_available: Units,
        /// What shall be available; the difference is booked as supplied or written off.
        available: Units,
    },
    /// Moves available units to another pool of the same sku.
    MoveStock {
        /// Which sale.
        sale_id: Text,
        /// Which sku.
        sku: Text,
        /// Where from.
        source_pool: Text,
        /// Where to; not the source.
        target_pool: Text,
        /// How many.
        units: Units,
    },
    /// Offers units of the buffer.
    PourBuffer {
        /// Which sale.
        sale_id: Text,
        /// Which sku.
        sku: Text,
        /// Which pool.
        pool: Text,
        /// How many.
        units: Units,
    },
    /// Gives an overdue reservation's units back without the provider's word (row 15).
    ReleaseUnverified {
        /// Which reservation.
        reservation_id: Text,
    },
    /// Joins two persons: limits count both as one from now on.
    MergePersons {
        /// Who is merged.
        source_person_id: Text,
        /// Into whom; not the source.
        target_person_id: Text,
    },
    /// Takes persons out of those they were joined with: limits count them apart from now on.
    SplitPersons {
        /// Who goes, together: 1 to 64, all different, all counted together now.
        person_ids: Vec<Text>,
    },
    /// Holds expiry back, or lets it go on.
    SetExpiryBrake {
        /// On or off.
        is_on: bool,
        /// When it ends by itself; none is until it is set off.
        until: Option<Millis>,
    },
    /// Timer: a held reservation's time ended (row 6).
    Expire {
        /// Which reservation.
        reservation_id: Text,
    },
    /// Timer: an open payment passed `settle_by` (row 13).
    BecomeOverdue {
        /// Which reservation.
        reservation_id: Text,
    },
    /// Timer: a scheduled sale's opening time came.
    OpenSale {
        /// Which sale.
        sale_id: Text,
    },
    /// Timer: a sale's closing time came.
    CloseSale {
        /// Which sale.
        sale_id: Text,
    },
    /// Timer: reservations of a sale ended so long ago that they are to be forgotten.
    Forget {
        /// Which sale.
        sale_id: Text,
    },
    /// The node, at recovery: adds the time it was down to every held reservation.
    CreditOutage {
        /// How long it was down, 1 ms to 30 days.
        outage: Millis,
    },
    /// The node, at each open of the journal.
    NoteNodeOpened {
        /// The journal's epoch, rising.
        epoch: i64,
    },
}

/// One line of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What.
    pub sku: Text,
    /// From which pool; none takes from the offered pools in their order.
    pub pool: Option<Text>,
    /// How many, 1 to 1,000,000.
    pub units: Units,
}

/// See [`Action::Reserve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The reservation's id, chosen by the caller; also the id of the command.
    pub reservation_id: Text,
    /// In which sale.
    pub sale_id: Text,
    /// For whom; limits count this person and all merged into the same.
    pub person_id: Text,
    /// What, 1 to 32 lines, all or nothing.
    pub lines: Vec<Line>,
    /// How long to hold; none is the sale's `reservation_ttl`, and more than that is cut to it.
    pub ttl: Option<Millis>,
    /// After this instant the command has no effect: TOO_LATE. Compared on a repeat only if the
    /// sale forgets while it is open; elsewhere a retry may carry an instant of its own.
    pub not_after: Option<Millis>,
}

/// See [`Action::BeginPayment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginPayment {
    /// Which reservation.
    pub reservation_id: Text,
    /// The attempt's id, chosen by the caller, unique in the ledger; also the id of the command.
    pub attempt_id: Text,
    /// At which provider.
    pub provider: Option<Text>,
    /// How much, in minor units of the currency; kept, not interpreted.
    pub amount_minor: Option<i64>,
    /// In which currency; kept, not interpreted.
    pub currency: Option<Text>,
}

/// See [`Action::SettlePayment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlePayment {
    /// Which reservation.
    pub reservation_id: Text,
    /// Which attempt.
    pub attempt_id: Text,
    /// What the provider says.
    pub payment_result: PaymentResult,
    /// When it happened at the provider; feeds the expiry brake.
    pub occurred_at: Option<Millis>,
    /// The provider's number of the fact, 0 to 256 bytes.
    pub evidence: Text,
}

/// See [`Action::Return`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// Which reservation.
    pub reservation_id: Text,
    /// What came back.
    pub sku: Text,
    /// Only units sold from this pool; none is any, those taken last first.
    pub pool: Option<Text>,
    /// How many, 1 to 1,000,000.
    pub units: Units,
    /// What happens to them.
    pub disposition: Disposition,
    /// Whether the person may buy as many again; none is as the policy says, and `true` against
    /// the policy is NOT_ALLOWED.
    pub give_limit_back: Option<bool>,
}

/// See [`Action::PutSale`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSale {
    /// Which sale.
    pub sale_id: Text,
    /// Opens at this instant; none is at once.
    pub opens_at: Option<Millis>,
    /// Closes at this instant (the first at which nobody can reserve); none is never.
    pub closes_at: Option<Millis>,
    /// The rules.
    pub policy: SalePolicy,
    /// Only if the sale has this revision; 0 is "must be new", another is COUNTER_MISMATCH.
    pub expected_revision: Option<i64>,
}

/// See [`Action::PutPool`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutPool {
    /// Which sale.
    pub sale_id: Text,
    /// Which sku.
    pub sku: Text,
    /// Which pool.
    pub pool: Text,
    /// Where in the order of pools, lowest first; equal positions go by name.
    pub position: u32,
    /// Place, channel, supplier, tier; at most 16, keys unique, kept in order of key.
    pub labels: Vec<(Text, Text)>,
    /// Whether its available units are for sale.
    pub is_offered: bool,
}

/// See [`Action::SupplyStock`] and [`Action::WithdrawStock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockChange {
    /// Which sale.
    pub sale_id: Text,
    /// Which sku.
    pub sku: Text,
    /// Which pool.
    pub pool: Text,
    /// How many.
    pub units: Units,
    /// In or out of the buffer instead of the available units.
    pub is_buffer: bool,
}

/// The rules of one sale. Spans are 1 ms to 30 days unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalePolicy {
    /// How long a reservation is held, and the most a caller may ask for.
    pub reservation_ttl: Millis,
    /// How long after BeginPayment the provider should have answered.
    pub settle_by: Millis,
    /// How long a buyer has at least to try again after a failed attempt; 0 or more.
    pub retry_grace: Millis,
    /// How long a reservation may be held in all.
    pub max_life: Millis,
    /// Most units of one sku for one person; 0 is no limit.
    pub units_per_person_per_sku_max: Units,
    /// Most units of all skus for one person; 0 is no limit.
    pub units_per_person_max: Units,
    /// Most reservations of one person that are not paid yet, at once; 0 is no limit.
    pub unpaid_reservations_per_person_max: u32,
    /// Most attempts to pay for one reservation, 1 to 16.
    pub attempts_per_reservation_max: u32,
    /// At or under this share of its units a sku is LOW, 0 to 100.
    pub low_level_percent: u32,
    /// Whether an operator may release an overdue reservation without the provider's word.
    pub is_unverified_release_allowed: bool,
    /// A settlement later than this holds expiry back; 0 or more.
    pub expiry_brake_lag: Millis,
    /// Whether a return may let the person buy as many again.
    pub does_return_give_limit_back: bool,
    /// How long what ended stays known, after its last event and after the sale's end; 1 ms to 400
    /// days.
    pub forget_after: Millis,
    /// Whether what ended is forgotten while the sale goes on, for a sale that never ends. Each
    /// Reserve then needs a `not_after`, so that no late duplicate makes a new reservation.
    pub does_forget_while_open: bool,
}

impl Default for SalePolicy {
    fn default() -> Self {
        Self {
            reservation_ttl: 600_000,
            settle_by: 900_000,
            retry_grace: 120_000,
            max_life: 1_800_000,
            units_per_person_per_sku_max: 0,
            units_per_person_max: 0,
            unpaid_reservations_per_person_max: 1,
            attempts_per_reservation_max: 4,
            low_level_percent: 10,
            is_unverified_release_allowed: false,
            expiry_brake_lag: 60_000,
            does_return_give_limit_back: false,
            forget_after: 7 * 24 * 3_600_000,
            does_forget_while_open: false,
        }
    }
}
