//! Owns the batch: many operations in one message, each decoded and answered by itself.
//!
//! Must not let one bad operation hinder another: the batch is taken apart as bytes first.
//! Next: `usual.rs` for the short way of the usual operations, `decode.rs` for the long one.

use bytes::Bytes;
use lastunit_engine::{Reply, Text};
use prost::Message;

use crate::check;
use crate::checks::EXCHANGE_REQUEST_OPERATIONS;
use crate::contract::operation;
use crate::decode::{Request, check_and_convert};
use crate::fault::Fault;
use crate::reply::{Place, REPLY_BYTES_TYPICAL, write_reply};
use crate::{Method, contract, usual, writer};

/// A batch of operations, to be decided in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The caller's mark, to be repeated in the response.
    pub exchange_id: i64,
    /// One operation each, or what is wrong with it; 1 to 4,096.
    pub operations: Vec<Result<Operation, Fault>>,
}

/// One call of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which method it calls; never a streaming one.
    pub method: Method,
    /// Its request: a command or a query.
    pub request: Request,
}

/// `ExchangeRequest` with its operations left as bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct RawRequest {
    #[prost(int64, tag = "1")]
    exchange_id: i64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    operations: Vec<Bytes>,
}

/// Takes a batch apart and decodes each operation by itself.
pub(crate) fn decode(bytes: &[u8], caller: &str) -> Result<Batch, Fault> {
    if let Some((exchange_id, operations)) = usual::split(bytes) {
        return batch(exchange_id, &operations, caller);
    }
    // One copy of the message; the operations are slices of it.
    let raw = RawRequest::decode(Bytes::copy_from_slice(bytes))
        .map_err(|error| Fault::malformed(&error))?;
    batch(raw.exchange_id, &raw.operations, caller)
}

fn batch(exchange_id: i64, operations: &[impl AsRef<[u8]>], caller: &str) -> Result<Batch, Fault> {
    check::check_length("operations", operations.len(), EXCHANGE_REQUEST_OPERATIONS)
        .map_err(Fault::invalid)?;
    // Every command of the batch shares it.
    let caller = Text::new(caller);
    let decode = |bytes: &[u8]| {
        usual::operation(bytes, &caller).map_or_else(|| decode_operation(bytes, &caller), Ok)
    };
    let operations = operations.iter();
    Ok(Batch {
        exchange_id,
        operations: operations.map(|bytes| decode(bytes.as_ref())).collect(),
    })
}

/// The long way, which knows every operation and says what is wrong with one.
pub(crate) fn decode_operation(bytes: &[u8], caller: &str) -> Result<Operation, Fault> {
    use operation::Request as Call;

    let operation = contract::Operation::decode(bytes).map_err(|error| Fault::malformed(&error))?;
    let Some(call) = operation.request else {
        // Also an operation that a newer contract knows: its field is ignored, nothing is left.
        return Err(missing_request());
    };
    let (method, request) = match call {
        Call::Reserve(call) => (Method::Reserve, check_and_convert(call, caller)),
        Call::BeginPayment(call) => (Method::BeginPayment, check_and_convert(call, caller)),
        Call::SettlePayment(call) => (Method::SettlePayment, check_and_convert(call, caller)),
        Call::Confirm(call) => (Method::Confirm, check_and_convert(call, caller)),
        Call::Release(call) => (Method::Release, check_and_convert(call, caller)),
        Call::Extend(call) => (Method::Extend, check_and_convert(call, caller)),
        Call::ReturnUnits(call) => (Method::Return, check_and_convert(call, caller)),
        Call::RecordRefund(call) => (Method::RecordRefund, check_and_convert(call, caller)),
        Call::GetReservation(call) => (Method::GetReservation, check_and_convert(call, caller)),
        Call::GetAvailability(call) => (Method::GetAvailability, check_and_convert(call, caller)),
    };
    request.map(|request| Operation { method, request })
}

fn missing_request() -> Fault {
    match check::check(&contract::Operation::default()) {
        Err(violations) => Fault::invalid(violations),
        Ok(()) => Fault::invalid(Vec::new()),
    }
}

/// The field of `Reply` that answers a method; none if no operation calls it.
const fn reply_field(method: Method) -> Option<u32> {
    match method {
        Method::Reserve => Some(1),
        Method::BeginPayment => Some(2),
        Method::SettlePayment => Some(3),
        Method::Confirm => Some(4),
        Method::Release => Some(5),
        Method::Extend => Some(6),
        Method::Return => Some(7),
        Method::RecordRefund => Some(8),
        Method::GetReservation => Some(9),
        Method::GetAvailability => Some(10),
        _ => None,
    }
}

/// The field of `Reply` that says what was wrong.
const FAULT_FIELD: u32 = 15;

/// The field of `ExchangeResponse` with the replies.
const REPLIES_FIELD: u32 = 2;

/// A response in the making: one reply for each operation of the batch, in its order.
#[derive(Clone, Debug)]
pub struct Replies {
    bytes: Vec<u8>,
}

impl Replies {
    /// Starts the response to the batch with this mark, with room for as many usual replies.
    #[must_use]
    pub fn new(exchange_id: i64, count: usize) -> Self {
        let mut bytes = Vec::with_capacity(count * (REPLY_BYTES_TYPICAL + 4));
        writer::number(&mut bytes, 1, exchange_id);
        Self { bytes }
    }

    /// Adds the reply to a command. A method that no operation calls is answered as a fault.
    pub fn add_reply(&mut self, method: Method, reply: &Reply, place: &Place) {
        let Some(field) = reply_field(method) else {
            return self.add_fault(&not_an_operation(method));
        };
        writer::message(&mut self.bytes, REPLIES_FIELD, |out| {
            writer::message(out, field, |out| write_reply(out, method, reply, place));
        });
    }

    /// Adds a response that is encoded already, such as that of a query.
    pub fn add_encoded(&mut self, method: Method, response: &[u8]) {
        match reply_field(method) {
            Some(field) => self.add(field, response),
            None => self.add_fault(&not_an_operation(method)),
        }
    }

    /// Adds what was wrong with an operation.
    pub fn add_fault(&mut self, fault: &Fault) {
        self.add(FAULT_FIELD, &fault.to_contract().encode_to_vec());
    }

    /// Ends the response.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn add(&mut self, field: u32, response: &[u8]) {
        writer::message(&mut self.bytes, REPLIES_FIELD, |out| {
            writer::bytes(out, field, response);
        });
    }
}

fn not_an_operation(method: Method) -> Fault {
    let message = format!(
        "{} is not an operation of a batch; call it by itself",
        method.name()
    );
    let fault = Fault::new(crate::Code::Unimplemented, "NOT_AN_OPERATION", message);
    fault.with_metadata("method", &method.name())
}
