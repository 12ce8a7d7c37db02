//! Owns the pairing of each enum of the contract with the engine's.
//!
//! Must not lose a value: each direction is an exhaustive match. The unspecified value of the
//! contract is `None` in Rust. Next: `command.rs`.

use lastunit_engine as engine;

use crate::contract;

macro_rules! leaves {
    ($name:ident, $to:ident, { $($value:ident),+ $(,)? }) => {
        /// The number on the wire.
        pub(crate) const fn $to(value: engine::$name) -> i32 {
            match value {
                $(engine::$name::$value => contract::$name::$value as i32,)+
            }
        }
    };
}

macro_rules! pair {
    ($name:ident, $to:ident, $from:ident, { $($value:ident),+ $(,)? }) => {
        leaves!($name, $to, { $($value),+ });

        /// The engine's value; `None` for the unspecified and for numbers not known.
        pub(crate) fn $from(number: i32) -> Option<engine::$name> {
            match contract::$name::try_from(number).ok()? {
                contract::$name::Unspecified => None,
                $(contract::$name::$value => Some(engine::$name::$value),)+
            }
        }
    };
}

leaves!(Outcome, outcome_number, {
    Ok, Conflict, UnknownSale, UnknownSku, UnknownPool, UnknownReservation, UnknownAttempt, TooLate,
    SaleNotOpen, SaleClosed, WrongState, NotAllowed, TooManyAttempts, CounterMismatch,
    NotEnoughUnits, LimitReached, SoldOut,
});
leaves!(Level, level_number, { Open, Low, HeldOut, PayingOut, Gone });
pair!(State, state_number, state, {
    Held, Paying, Overdue, Confirmed, Released, RefundDue, Refunded, Returned,
});
pair!(ReleaseReason, release_reason_number, release_reason, {
    Client, Expired, PaymentFailed, SaleCancelled, Operator, Unverified,
});
pair!(AttemptState, attempt_state_number, attempt_state, {
    Open, Succeeded, Failed, Cancelled, Applied, RefundDue, Refunded,
});
pair!(PaymentResult, payment_result_number, payment_result, { Succeeded, Failed, Cancelled });
pair!(SaleState, sale_state_number, sale_state, {
    Scheduled, Open, Paused, Closed, Cancelled, Archived,
});
pair!(Disposition, disposition_number, disposition, { Resell, Quarantine, WriteOff });
