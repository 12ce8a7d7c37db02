//! The stock ledger of lastunit as a pure state machine: it sells the last unit exactly once.
//!
//! Owns every rule of the reservation's life. `decide` takes the state, a [`Command`] and the
//! time, and gives a [`Reply`] and [`Event`]s; `apply` folds events into the state. It reads no
//! clock, does no I/O, draws no random number, and no order of a hash map shows, so the same events
//! make the same state on every machine.
//!
//! ```
//! use lastunit_engine::{Action, Command, Ledger, Outcome};
//!
//! let mut ledger = Ledger::new();
//! let expire = Command::internal(Action::Expire { reservation_id: "order-1".into() });
//! let decision = ledger.decide(&expire, 1_000);
//! for event in &decision.events {
//!     ledger.apply(event);
//! }
//! assert_eq!(Outcome::UnknownReservation, decision.reply.outcome);
//! ```
//!
//! Where to read next: `command.rs`, `event.rs` and `reply.rs` are the vocabulary; `state.rs` is
//! what is remembered; `apply.rs` has the two doors; each rule is in the module of its command
//! (`reserve.rs`, `payment.rs`, `settle.rs`, `release.rs`, `returns.rs`, `stock.rs`, `sale.rs`,
//! `person.rs`, `brake.rs`); `book.rs` keeps the numbers; `audit.rs` checks them.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod apply;
mod arena;
mod audit;
mod audit_lists;
mod audit_slice;
mod book;
mod brake;
mod check;
mod command;
mod difference;
mod draft;
mod due_list;
mod event;
mod footprint;
mod forget;
mod frozen;
mod ids;
mod level;
pub mod limits;
mod memory;
mod outcome;
mod payment;
mod person;
mod pools;
mod query;
mod release;
mod reply;
mod reserve;
mod returns;
mod sale;
mod settle;
mod snapshot;
mod state;
mod stock;
mod table;
mod timers;
mod usage;
mod view;

pub use audit_slice::{AuditCursor, AuditSlice};
pub use command::{
    Action, BeginPayment, Command, Line, PutPool, PutSale, Reserve, Return, SalePolicy,
    SettlePayment, StockChange,
};
pub use event::{
    Event, EventBody, PaymentBegun, PaymentSettled, PoolDefined, Reserved, Returned, SaleDefined,
    StockBooked, Taken,
};
pub use frozen::Frozen;
pub use ids::{Millis, Sequence, Text, Units, is_id};
pub use outcome::{
    AttemptState, Disposition, Level, Outcome, PaymentResult, ReleaseReason, SaleState, State,
};
pub use reply::{Answer, Decision, Reply, SaleView};
pub use snapshot::SnapshotError;
pub use state::Ledger;
pub use view::{
    AttemptView, Audit, AvailabilityView, BrakeView, Counters, Finding, Oldest, PoolAudit,
    PoolView, ReservationFilter, ReservationPage, ReservationView, SaleQueue, SaleUnits, Sizes,
    TakenView,
};
