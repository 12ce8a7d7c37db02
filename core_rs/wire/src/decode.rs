//! Owns the door: bytes in, a checked request of the engine's words out.
//!
//! Must not let a request through that breaks a rule declared in the contract, and must not decide
//! anything else. Fields that the contract does not know are ignored.
//! Next: `command.rs`, `query.rs`.

use lastunit_engine::{Command, Millis, ReservationFilter, Sequence, Text};
use prost::Message;

use crate::check::{self, Check};
use crate::exchange::{self, Batch};
use crate::fault::{Code, Fault};
use crate::{Method, contract};

/// The most bytes of one message; what the transport is set to as well.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request that keeps every rule of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Changes the ledger.
    Command(Command),
    /// Looks at it.
    Query(Query),
    /// Many of these in one message.
    Batch(Batch),
    /// Sets ledger time; only for a node with a manual clock.
    SetClock {
        /// Milliseconds since the epoch, 0 or more.
        now: Millis,
    },
}

/// A question to the ledger or its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One reservation.
    GetReservation {
        /// Which.
        reservation_id: Text,
    },
    /// A page of reservations.
    ListReservations {
        /// Which ones.
        filter: ReservationFilter,
        /// Continue after this place of the listing; 0 is the beginning.
        after: u64,
        /// How many at most, 1 to 1,000.
        page_size: usize,
    },
    /// What there is of some skus.
    GetAvailability {
        /// In which sale.
        sale_id: Text,
        /// Which skus, at most 256; none is all.
        skus: Vec<Text>,
    },
    /// What there is, again and again.
    WatchAvailability {
        /// In which sale.
        sale_id: Text,
        /// Which skus, at most 256; none is all.
        skus: Vec<Text>,
        /// What the caller has seen, 0 or more.
        after_sequence: Sequence,
    },
    /// Every invariant.
    Audit,
    /// The life of one reservation.
    ExplainReservation {
        /// Which.
        reservation_id: Text,
    },
    /// Events of the journal.
    ReadEvents {
        /// The last one that the reader has, 0 or more.
        after_sequence: Sequence,
        /// Whether to wait for more.
        follow: bool,
        /// How many a message at most, 1 to 4,096.
        page_size: usize,
        /// The reader whose place is kept; empty keeps nothing.
        reader_id: Text,
    },
}

/// Turns a checked message into the engine's words.
pub(crate) trait IntoRequest {
    fn into_request(self, caller: &str) -> Result<Request, Fault>;
}

/// Decodes and checks one request.
///
/// # Errors
///
/// A fault with INVALID_ARGUMENT: MALFORMED_REQUEST if the bytes are not the method's request,
/// INVALID_FIELD naming up to 32 fields that break their rules; with RESOURCE_EXHAUSTED:
/// MESSAGE_TOO_LARGE past [`MESSAGE_BYTES_MAX`].
pub fn decode(method: Method, bytes: &[u8], caller: &str) -> Result<Request, Fault> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(too_large(bytes.len()));
    }
    match method {
        Method::Reserve => read::<contract::ReserveRequest>(bytes, caller),
        Method::BeginPayment => read::<contract::BeginPaymentRequest>(bytes, caller),
        Method::SettlePayment => read::<contract::SettlePaymentRequest>(bytes, caller),
        Method::Confirm => read::<contract::ConfirmRequest>(bytes, caller),
        Method::Release => read::<contract::ReleaseRequest>(bytes, caller),
        Method::Extend => read::<contract::ExtendRequest>(bytes, caller),
        Method::Return => read::<contract::ReturnRequest>(bytes, caller),
        Method::RecordRefund => read::<contract::RecordRefundRequest>(bytes, caller),
        Method::GetReservation => read::<contract::GetReservationRequest>(bytes, caller),
        Method::ListReservations => read::<contract::ListReservationsRequest>(bytes, caller),
        Method::GetAvailability => read::<contract::GetAvailabilityRequest>(bytes, caller),
        Method::WatchAvailability => read::<contract::WatchAvailabilityRequest>(bytes, caller),
        Method::Exchange => exchange::decode(bytes, caller).map(Request::Batch),
        Method::PutSale => read::<contract::PutSaleRequest>(bytes, caller),
        Method::SetSaleState => read::<contract::SetSaleStateRequest>(bytes, caller),
        Method::PutPool => read::<contract::PutPoolRequest>(bytes, caller),
        Method::SupplyStock => read::<contract::SupplyStockRequest>(bytes, caller),
        Method::WithdrawStock => read::<contract::WithdrawStockRequest>(bytes, caller),
        Method::AdjustStock => read::<contract::AdjustStockRequest>(bytes, caller),
        Method::MoveStock => read::<contract::MoveStockRequest>(bytes, caller),
        Method::PourBuffer => read::<contract::PourBufferRequest>(bytes, caller),
        Method::ReleaseUnverified => read::<contract::ReleaseUnverifiedRequest>(bytes, caller),
        Method::MergePersons => read::<contract::MergePersonsRequest>(bytes, caller),
        Method::SplitPersons => read::<contract::SplitPersonsRequest>(bytes, caller),
        Method::SetExpiryBrake => read::<contract::SetExpiryBrakeRequest>(bytes, caller),
        Method::Audit => read::<contract::AuditRequest>(bytes, caller),
        Method::ExplainReservation => read::<contract::ExplainReservationRequest>(bytes, caller),
        Method::ReadEvents => read::<contract::ReadEventsRequest>(bytes, caller),
        Method::SetClock => read::<contract::SetClockRequest>(bytes, caller),
    }
}

fn read<M>(bytes: &[u8], caller: &str) -> Result<Request, Fault>
where
    M: Message + Default + Check + IntoRequest,
{
    let message = M::decode(bytes).map_err(|error| Fault::malformed(&error))?;
    check_and_convert(message, caller)
}

/// Checks a decoded message, then turns it into the engine's words.
pub(crate) fn check_and_convert<M>(message: M, caller: &str) -> Result<Request, Fault>
where
    M: Check + IntoRequest,
{
    check::check(&message).map_err(Fault::invalid)?;
    message.into_request(caller)
}

fn too_large(bytes: usize) -> Fault {
    let message = format!(
        "the message has {bytes} bytes and {MESSAGE_BYTES_MAX} are the most; send less at once"
    );
    Fault::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
        .with_metadata("bytes", &bytes)
        .with_metadata("bytes_max", &MESSAGE_BYTES_MAX)
}
