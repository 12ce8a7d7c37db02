//! Owns the vocabulary of answers: outcomes, states and levels.
//!
//! Must not decide anything; the order of [`Outcome`] is the order in which refusals win.
//! Next: `reply.rs`.

use serde::{Deserialize, Serialize};

/// The engine's answer to one command, listed by falling precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, or done before (`replayed`).
    Ok,
    /// The id was used before with other content; `conflict_field` names the first that differs.
    Conflict,
    /// No such sale.
    UnknownSale,
    /// The sale has no such sku, or the reservation has none of it.
    UnknownSku,
    /// The sku has no such pool in this sale.
    UnknownPool,
    /// No such reservation.
    UnknownReservation,
    /// The reservation has no such attempt, and the news is not of money.
    UnknownAttempt,
    /// `not_after` has passed, or the reservation's longest life has or would.
    TooLate,
    /// Scheduled or paused: may come.
    SaleNotOpen,
    /// Closed, cancelled or archived: never.
    SaleClosed,
    /// The reservation or sale is in a state that this command does not leave.
    WrongState,
    /// Policy, or a bound of the ledger, forbids it; `limit` names which.
    NotAllowed,
    /// The reservation has had all the attempts its sale allows.
    TooManyAttempts,
    /// A compare-and-set found another value than expected.
    CounterMismatch,
    /// Fewer units there than were to be withdrawn, moved, poured or returned.
    NotEnoughUnits,
    /// The person would pass a limit; `limit` names which.
    LimitReached,
    /// Not enough units to sell now; `level` says whether some may come back.
    SoldOut,
}

impl Outcome {
    /// Every outcome, in order of precedence.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Conflict,
        Self::UnknownSale,
        Self::UnknownSku,
        Self::UnknownPool,
        Self::UnknownReservation,
        Self::UnknownAttempt,
        Self::TooLate,
        Self::SaleNotOpen,
        Self::SaleClosed,
        Self::WrongState,
        Self::NotAllowed,
        Self::TooManyAttempts,
        Self::CounterMismatch,
        Self::NotEnoughUnits,
        Self::LimitReached,
        Self::SoldOut,
    ];

    /// Says whether the same command may succeed later without anybody changing it.
    ///
    /// `true` is "not now", `false` is "never": the caller must change the command or give up.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            // Units, quota or opening time can come without the caller doing anything.
            Self::SaleNotOpen | Self::LimitReached | Self::SoldOut | Self::NotEnoughUnits => true,
            Self::Ok
            | Self::Conflict
            | Self::UnknownSale
            | Self::UnknownSku
            | Self::UnknownPool
            | Self::UnknownReservation
            | Self::UnknownAttempt
            | Self::TooLate
            | Self::SaleClosed
            | Self::WrongState
            | Self::NotAllowed
            | Self::TooManyAttempts
            | Self::CounterMismatch => false,
        }
    }

    /// The name on the wire, in logs and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Conflict => "CONFLICT",
            Self::UnknownSale => "UNKNOWN_SALE",
            Self::UnknownSku => "UNKNOWN_SKU",
            Self::UnknownPool => "UNKNOWN_POOL",
            Self::UnknownReservation => "UNKNOWN_RESERVATION",
            Self::UnknownAttempt => "UNKNOWN_ATTEMPT",
            Self::TooLate => "TOO_LATE",
            Self::SaleNotOpen => "SALE_NOT_OPEN",
            Self::SaleClosed => "SALE_CLOSED",
            Self::WrongState => "WRONG_STATE",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::TooManyAttempts => "TOO_MANY_ATTEMPTS",
            Self::CounterMismatch => "COUNTER_MISMATCH",
            Self::NotEnoughUnits => "NOT_ENOUGH_UNITS",
            Self::LimitReached => "LIMIT_REACHED",
            Self::SoldOut => "SOLD_OUT",
        }
    }
}

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name on the wire, in logs and in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

named_enum! {
    /// Where a reservation is in its life.
    State {
        /// Units are held until `expires_at`.
        Held = "HELD",
        /// A payment is open; no clock gives the units back.
        Paying = "PAYING",
        /// A payment is open past `settle_by`; the provider must be asked.
        Overdue = "OVERDUE",
        /// Sold.
        Confirmed = "CONFIRMED",
        /// Units went back.
        Released = "RELEASED",
        /// Money came and no unit was left for it.
        RefundDue = "REFUND_DUE",
        /// The money that was owed went back.
        Refunded = "REFUNDED",
        /// Every unit that was sold came back.
        Returned = "RETURNED",
    }
}

named_enum! {
    /// Why units went back.
    ReleaseReason {
        /// The buyer gave them back.
        Client = "CLIENT",
        /// The reservation's time ended.
        Expired = "EXPIRED",
        /// The last open attempt failed or was cancelled at the provider.
        PaymentFailed = "PAYMENT_FAILED",
        /// The sale was cancelled.
        SaleCancelled = "SALE_CANCELLED",
        /// An operator gave them back.
        Operator = "OPERATOR",
        /// An operator gave them back without the provider's word.
        Unverified = "UNVERIFIED",
    }
}

named_enum! {
    /// Where one attempt to pay is in its life.
    AttemptState {
        /// The provider has not said how it ended.
        Open = "OPEN",
        /// Money came and its reservation is not decided yet; never rests here.
        Succeeded = "SUCCEEDED",
        /// The provider says no money came.
        Failed = "FAILED",
        /// The provider acknowledged a cancel.
        Cancelled = "CANCELLED",
        /// The money paid for the reservation.
        Applied = "APPLIED",
        /// The money must go back.
        RefundDue = "REFUND_DUE",
        /// The money went back.
        Refunded = "REFUNDED",
    }
}

named_enum! {
    /// What the provider says happened to an attempt.
    PaymentResult {
        /// Money came.
        Succeeded = "SUCCEEDED",
        /// No money came and none will.
        Failed = "FAILED",
        /// The provider acknowledged the cancel; no money will come.
        Cancelled = "CANCELLED",
    }
}

named_enum! {
    /// Where a sale is in its life.
    SaleState {
        /// Opens by itself at its opening time.
        Scheduled = "SCHEDULED",
        /// Reservations are taken.
        Open = "OPEN",
        /// No new reservations for now; payments go on.
        Paused = "PAUSED",
        /// No new reservations; those that exist live out their time.
        Closed = "CLOSED",
        /// Called off; held reservations are released.
        Cancelled = "CANCELLED",
        /// Done; late money is refunded instead of re-taking a unit.
        Archived = "ARCHIVED",
    }
}

named_enum! {
    /// What buyers are told of a sku.
    Level {
        /// Units are offered.
        Open = "OPEN",
        /// Few units are left.
        Low = "LOW",
        /// None is left, but some are held and may come back.
        HeldOut = "HELD_OUT",
        /// None is left or held, but some wait for a payment.
        PayingOut = "PAYING_OUT",
        /// All are sold, or there are none.
        Gone = "GONE",
    }
}

named_enum! {
    /// What happens to returned units.
    Disposition {
        /// They are offered again.
        Resell = "RESELL",
        /// They wait for somebody to look at them.
        Quarantine = "QUARANTINE",
        /// They are gone.
        WriteOff = "WRITE_OFF",
    }
}
